//! The store of the server and the tables of the tests answer alike, so that what holds over the one holds over the other.

use router_core::fold::{Folds, FoldsConfig, Lookup};
use router_core::node::Question;
use router_core::testing::{
    GENERATION, Tables, device, direct, message_id_at, position, record, send, send_key, user,
};
use router_records::log::{AckInput, Delivered, DeviceInput, Input, StatusInput};
use router_storage::store::{Apply, KvStore, MemoryKv};
use wire_base::ids::{Offset, Position, Seq, SessionNumber, UnixMs};
use wire_base::random::Random;
use wire_base::status::Status;

use super::answer;

const USERS: u64 = 4;
const RECORDS: u64 = 60;

#[test]
fn whatever_a_log_holds_store_and_tables_give_the_same_answers() {
    for seed in 0..50 {
        let mut random = Random::seeded(seed);
        let mut tables = Tables::default();
        let mut store = KvStore::open(MemoryKv::seeded(seed), 0).unwrap();
        let mut folds = Folds::new(FoldsConfig::default(), GENERATION, UnixMs(0));
        for offset in (0..RECORDS).map(Offset) {
            let record = record(offset.0 + 1, input(&mut random));
            while let Some(lookup) = folds.missing(offset, &record) {
                folds.handle_loaded(tables.load(lookup));
            }
            let mut effects = Default::default();
            folds.fold(offset, &record, &mut effects);
            effects.rows.iter().for_each(|row| tables.write(row));
            store.apply(&effects.rows, offset).unwrap();
        }
        for _ in 0..200 {
            let question = question(&mut random);
            let answered = answer(&store, &question).unwrap();
            assert_eq!(answered, tables.answer(&question), "seed {seed}: {question:?}");
        }
    }
}

fn any_user(random: &mut Random) -> u64 {
    1 + random.below(USERS)
}

fn input(random: &mut Random) -> Input {
    let (of, other) = (any_user(random), any_user(random));
    let id = message_id_at(random.below(3), random.below(3));
    let (seq, conversation) = (Seq(1 + random.below(5)), direct(of, other));
    match random.below(8) {
        0 => Input::Device(DeviceInput {
            user: user(of),
            device: device(1),
            session: SessionNumber(random.below(9)),
        }),
        1 => Input::Ack(AckInput {
            user: user(of),
            device: device(1),
            session: SessionNumber(1),
            position: any_position(random),
            delivered: vec![Delivered {
                conversation,
                seq,
                message_id: id,
            }],
        }),
        2 => Input::Status(StatusInput {
            user: user(of),
            device: device(1),
            conversation,
            status: Status::Read,
            seq,
            message_id: id,
        }),
        _ => Input::Send(send(of, other, id, &"x".repeat(1 + random.index(20)))),
    }
}

fn any_position(random: &mut Random) -> Position {
    position(random.below(RECORDS), 1)
}

fn question(random: &mut Random) -> Question {
    let (of, other) = (any_user(random), any_user(random));
    let conversation = direct(of, other);
    let (limit, bytes_max) = (1 + random.index(9), random.index(80));
    let before = random.coin().then(|| Seq(random.below(9)));
    let message_id = message_id_at(random.below(3), random.below(3));
    match random.below(10) {
        0 => Question::Lookup(Lookup::Conversation(conversation)),
        1 => Question::Lookup(Lookup::Dedupe(send_key(of, other, message_id))),
        2 => Question::Lookup(Lookup::Receipt(conversation, user(of))),
        3 => Question::Lookup(Lookup::User(user(of))),
        4 => Question::Inbox {
            user: user(of),
            after: any_position(random),
            limit,
            bytes_max,
            oldest: any_position(random),
        },
        5 => Question::Messages {
            conversation,
            before,
            limit,
            bytes_max,
        },
        6 => Question::History {
            conversation,
            before,
            limit,
            bytes_max,
        },
        7 => Question::Named { message_id, limit },
        8 => Question::Conversations {
            user: user(of),
            after: random.coin().then_some(conversation),
            limit,
        },
        _ => Question::Summaries((1..=USERS).map(|other| direct(of, other)).collect()),
    }
}
