//! The folds against a model that remembers everything, over a store of maps.

mod history;
mod model;
pub(crate) mod store;

use std::collections::BTreeMap;

use proptest::prelude::*;
use router_records::log::{AckInput, Delivered, DeviceInput, Input, LogRecord, StatusInput};
use router_records::row::Row;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, Seq, SessionNumber, UnixMs};
use wire_base::message::Target;
use wire_base::status::Status;

use self::history::histories;
use self::model::Model;
use self::store::MapStore;
use super::*;
use crate::dedupe::WindowConfig;
use crate::effects::{SendOutcome, StatusUpdate};
use crate::testing::{GENERATION, device, message_id_at, other_message_id, position, record, send, user};

/// Bounds so small that nearly everything is looked up.
const FORGETFUL: FoldsConfig = FoldsConfig {
    conversations: ConversationConfig {
        conversations_max: 0,
        outcomes_max: 0,
        window: WindowConfig {
            span_ms: 60_000,
            ids_max: 2,
        },
    },
    inboxes: InboxConfig {
        devices_max: 8,
        users_max: 0,
    },
    receipts_max: 0,
    last_sent_max: 1,
};

/// A driver reduced to its essence: folds groups of records and applies their rows.
struct Driver {
    folds: Folds,
    store: MapStore,
    /// By offset, of every run of a record.
    outcomes: BTreeMap<Offset, Vec<SendOutcome>>,
    messages: Vec<NewMessage>,
    updates: Vec<StatusUpdate>,
    lookups: Vec<Lookup>,
}

impl Driver {
    fn new(config: FoldsConfig) -> Self {
        Self::over(MapStore::default(), config, UnixMs(0))
    }

    fn over(store: MapStore, config: FoldsConfig, evicted: UnixMs) -> Self {
        Self {
            folds: Folds::new(config, GENERATION, evicted),
            store,
            outcomes: BTreeMap::new(),
            messages: Vec::new(),
            updates: Vec::new(),
            lookups: Vec::new(),
        }
    }

    /// Starts over a store that has the effects of the records before `from`, having seen the `observed` last of them.
    fn restarted(
        store: MapStore,
        config: FoldsConfig,
        log: &[LogRecord],
        from: usize,
        observed: usize,
    ) -> Self {
        let first = from.saturating_sub(observed);
        let evicted = if first == 0 {
            UnixMs(0)
        } else {
            time_at(log, first)
        };
        let mut driver = Self::over(store, config, evicted);
        // Where a record carries a clock that is behind, log time comes from before what is observed.
        driver
            .folds
            .log_time
            .advance(time_at(log, first.saturating_sub(1)));
        for (at, record) in log[..from].iter().enumerate().skip(first) {
            driver.folds.observe(Offset(at as u64), record);
        }
        driver
    }

    fn run(&mut self, log: &[LogRecord], from: usize, groups: &[usize]) {
        let mut start = from;
        for size in groups.iter().cycle() {
            let end = (start + size).min(log.len());
            self.group(log, start..end);
            start = end;
            if start == log.len() {
                return;
            }
        }
    }

    fn group(&mut self, log: &[LogRecord], range: std::ops::Range<usize>) {
        let mut effects = Effects::default();
        for at in range.clone() {
            let offset = Offset(at as u64);
            while let Some(lookup) = self.folds.missing(offset, &log[at]) {
                self.lookups.push(lookup);
                self.folds.handle_loaded(self.store.load(lookup));
            }
            self.folds.fold(offset, &log[at], &mut effects);
            // Memory is cut while the store is still behind.
            if let Some(applied) = range.start.checked_sub(1) {
                self.folds.evict(Some(Offset(applied as u64)));
            }
        }
        self.store.apply(&effects.rows);
        for (offset, outcome) in effects.outcomes {
            self.outcomes.entry(offset).or_default().push(outcome);
        }
        self.messages.extend(effects.messages);
        self.updates.extend(effects.updates);
        if let Some(last) = range.last() {
            self.folds.evict(Some(Offset(last as u64)));
        }
    }

    /// Folds one record as a group of its own and returns its effects.
    fn one(&mut self, offset: u64, record: &LogRecord) -> Effects {
        while let Some(lookup) = self.folds.missing(Offset(offset), record) {
            self.lookups.push(lookup);
            self.folds.handle_loaded(self.store.load(lookup));
        }
        let mut effects = Effects::default();
        self.folds.fold(Offset(offset), record, &mut effects);
        self.store.apply(&effects.rows);
        self.folds.evict(Some(Offset(offset)));
        effects
    }
}

fn time_at(log: &[LogRecord], at: usize) -> UnixMs {
    log.iter()
        .take(at + 1)
        .map(|record| record.time)
        .max()
        .unwrap_or_default()
}

fn groups() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..9, 1..6)
}

fn configs() -> impl Strategy<Value = FoldsConfig> {
    prop_oneof![Just(FORGETFUL), Just(FoldsConfig::default())]
}

proptest! {
    #[test]
    fn rows_outcomes_and_updates_are_those_of_a_model_that_remembers_everything(
        log in histories(), groups in groups(), config in configs(),
    ) {
        let mut driver = Driver::new(config);
        driver.run(&log, 0, &groups);
        let model = Model::of(&log);
        let outcomes: BTreeMap<_, _> = model.outcomes.iter().map(|(at, outcome)| (*at, vec![*outcome])).collect();
        prop_assert_eq!(&driver.outcomes, &outcomes);
        prop_assert_eq!(&driver.updates, &model.updates);
        prop_assert_eq!(&driver.store, &model.store);
    }

    #[test]
    fn seqs_are_dense_and_an_inbox_links_them_without_a_gap(log in histories(), groups in groups()) {
        let mut driver = Driver::new(FORGETFUL);
        driver.run(&log, 0, &groups);
        for row in driver.store.conversations.values() {
            let seqs: Vec<_> = driver.store.messages_of(row.conversation).map(|row| row.message.seq.0).collect();
            prop_assert_eq!(seqs, (1..=row.last_seq.0).collect::<Vec<_>>());
        }
        let mut last = BTreeMap::new();
        for row in driver.store.inbox.values() {
            let last = last.entry((row.user, row.conversation)).or_insert(Seq(0));
            prop_assert_eq!((row.prev_seq, row.seq), (*last, last.next()));
            *last = row.seq;
        }
    }

    #[test]
    fn two_folds_of_one_log_agree_whatever_their_memory_and_their_groups(
        log in histories(), groups in (groups(), groups()),
    ) {
        let (mut one, mut other) = (Driver::new(FoldsConfig::default()), Driver::new(FORGETFUL));
        one.run(&log, 0, &groups.0);
        other.run(&log, 0, &groups.1);
        prop_assert_eq!(one.store, other.store);
        prop_assert_eq!(one.outcomes, other.outcomes);
        prop_assert_eq!(one.messages, other.messages);
        prop_assert_eq!(one.updates, other.updates);
    }

    #[test]
    fn after_a_crash_the_replay_gives_the_same_rows_and_the_same_answers(
        log in histories(), groups in groups(), config in (configs(), configs()),
        (crash, reverted, observed) in (0usize..40, 0usize..40, 0usize..40),
    ) {
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);

        // The first owner gets as far as `crash`; what survives of its store is the batch at `kept`.
        let crash = crash.min(log.len());
        let kept = crash.saturating_sub(reverted);
        let mut first = Driver::new(config.0);
        first.run(&log[..kept], 0, &groups);
        let survived = first.store.clone();
        first.run(&log[..crash], kept, &groups);

        let mut second = Driver::restarted(survived, config.1, &log, kept, observed);
        second.run(&log, kept, &groups);
        prop_assert_eq!(&second.store, &whole.store);
        for (offset, outcomes) in first.outcomes.iter().chain(&second.outcomes) {
            prop_assert_eq!(outcomes, &whole.outcomes[offset], "{:?}", offset);
        }
        prop_assert_eq!(&second.messages[..], &whole.messages[whole.messages.len() - second.messages.len()..]);
    }

    #[test]
    fn records_that_the_store_is_ahead_of_are_done_and_answered_the_same(
        log in histories(), groups in groups(), config in configs(), (from, observed) in (0usize..40, 0usize..40),
    ) {
        // Only sends: positions and seqs of other records are bounded by a head that the store has moved on.
        let log: Vec<_> = log.into_iter().filter(|record| matches!(record.input, Input::Send(_))).collect();
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);
        let from = from.min(log.len());
        let mut again = Driver::restarted(whole.store.clone(), config, &log, from, observed);
        again.run(&log, from, &groups);
        prop_assert_eq!(again.store, whole.store);
        prop_assert!(again.messages.is_empty());
        prop_assert_eq!(again.outcomes, whole.outcomes.split_off(&Offset(from as u64)));
    }
}

proptest! {
    /// A cluster's store takes rows one by one: what is written once may be ahead of the states of conversations.
    #[test]
    fn rows_that_a_lost_owner_wrote_ahead_count_as_absent_and_are_written_the_same(
        log in histories(), groups in groups(), config in configs(), (from, observed) in (0usize..40, 0usize..40),
    ) {
        let log: Vec<_> = log.into_iter().filter(|record| matches!(record.input, Input::Send(_))).collect();
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);
        let from = from.min(log.len());
        let mut before = Driver::new(FoldsConfig::default());
        before.run(&log[..from], 0, &[1]);

        let store = MapStore { conversations: before.store.conversations, ..whole.store.clone() };
        let mut again = Driver::restarted(store, config, &log, from, observed);
        again.run(&log, from, &groups);
        prop_assert_eq!(again.store, whole.store);
        prop_assert_eq!(again.outcomes, whole.outcomes.split_off(&Offset(from as u64)));
    }
}

#[test]
fn a_first_message_makes_the_conversation_for_both_and_one_entry_each() {
    let mut driver = Driver::new(FoldsConfig::default());
    let effects = driver.one(
        7,
        &record(5_000, Input::Send(send(2, 1, message_id_at(5_000, 1), "hi"))),
    );
    let conversation = ConversationId::direct(user(1), user(2));
    let kinds: Vec<_> = effects.rows.iter().map(store::kind).collect();
    assert_eq!(
        kinds,
        [
            "user_conversation",
            "user_conversation",
            "message",
            "index",
            "conversation",
            "inbox",
            "inbox"
        ]
    );
    assert_eq!(
        effects.messages[0].entries,
        [(user(1), position(7, 1)), (user(2), position(7, 2))]
    );
    assert_eq!(driver.store.conversations[&conversation].last_offset, Offset(7));
    assert_eq!(
        effects.outcomes,
        [(
            Offset(7),
            SendOutcome::Sent {
                message_id: message_id_at(5_000, 1),
                conversation,
                seq: Seq(1),
                timestamp: UnixMs(5_000),
                duplicate: false
            }
        )]
    );
    let effects = driver.one(
        8,
        &record(5_001, Input::Send(send(1, 2, message_id_at(5_001, 1), "ho"))),
    );
    assert_eq!(effects.rows.len(), 5, "the second message makes no conversation");
}

#[test]
fn a_message_to_oneself_makes_one_entry() {
    let mut driver = Driver::new(FoldsConfig::default());
    let effects = driver.one(
        3,
        &record(5_000, Input::Send(send(1, 1, message_id_at(5_000, 1), "note"))),
    );
    assert_eq!(effects.messages[0].entries, [(user(1), position(3, 1))]);
    assert_eq!(driver.store.user_conversations.len(), 1);
}

#[test]
fn a_repeated_send_gets_the_first_seq_and_time_and_other_content_is_a_conflict() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.one(1, &record(5_000, Input::Send(send(1, 2, id, "hi"))));
    driver.one(
        2,
        &record(6_000, Input::Send(send(1, 2, message_id_at(6_000, 1), "between"))),
    );
    let repeat = driver.one(3, &record(9_000, Input::Send(send(1, 2, id, "hi"))));
    assert!(repeat.rows.is_empty() && repeat.messages.is_empty());
    assert!(matches!(
        repeat.outcomes[0].1,
        SendOutcome::Sent {
            seq: Seq(1),
            timestamp: UnixMs(5_000),
            duplicate: true,
            ..
        }
    ));
    let other = driver.one(4, &record(9_001, Input::Send(send(1, 2, id, "ho"))));
    assert!(other.rows.is_empty());
    assert!(matches!(
        other.outcomes[0].1,
        SendOutcome::Rejected {
            code: Code::Conflict,
            ..
        }
    ));
    // The other user's id is its own.
    let theirs = driver.one(5, &record(9_002, Input::Send(send(2, 1, id, "ho"))));
    assert!(matches!(
        theirs.outcomes[0].1,
        SendOutcome::Sent {
            seq: Seq(3),
            duplicate: false,
            ..
        }
    ));
}

#[test]
fn a_usual_send_is_folded_without_a_look_up_and_an_unprovable_one_asks_the_index() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.one(
        1,
        &record(5_000, Input::Send(send(1, 2, message_id_at(5_000, 1), "a"))),
    );
    driver.lookups.clear();
    driver.one(
        2,
        &record(70_000, Input::Send(send(1, 2, message_id_at(70_000, 1), "b"))),
    );
    assert_eq!(driver.lookups, []);
    driver.one(
        3,
        &record(70_000, Input::Send(send(1, 2, other_message_id(1), "c"))),
    );
    assert!(matches!(driver.lookups[..], [Lookup::Dedupe(_)]));
}

#[test]
fn a_retry_is_answered_from_memory() {
    let mut driver = Driver::new(FoldsConfig::default());
    let input = Input::Send(send(1, 2, message_id_at(70_000, 1), "a"));
    driver.one(1, &record(70_000, input.clone()));
    driver.lookups.clear();
    let effects = driver.one(2, &record(70_100, input));
    assert!(matches!(
        effects.outcomes[0].1,
        SendOutcome::Sent { duplicate: true, .. }
    ));
    assert_eq!(driver.lookups, []);
}

#[test]
fn what_was_loaded_late_does_not_take_back_what_memory_has() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.one(
        1,
        &record(70_000, Input::Send(send(1, 2, message_id_at(70_000, 1), "a"))),
    );
    let conversation = ConversationId::direct(user(1), user(2));
    driver
        .folds
        .handle_loaded(Loaded::Conversation(conversation, None));
    let effects = driver.one(
        2,
        &record(70_000, Input::Send(send(1, 2, message_id_at(70_000, 2), "b"))),
    );
    assert_eq!(effects.messages[0].message.seq, Seq(2));
}

#[test]
fn time_stamps_never_go_back_when_the_clock_does() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.one(
        1,
        &record(9_000, Input::Send(send(1, 2, message_id_at(9_000, 1), "a"))),
    );
    let effects = driver.one(
        2,
        &record(4_000, Input::Send(send(1, 2, message_id_at(4_000, 1), "b"))),
    );
    assert_eq!(effects.messages[0].message.timestamp, UnixMs(9_000));
    assert_eq!(driver.folds.stamp(UnixMs(1)), UnixMs(9_000));
}

#[test]
fn an_ack_moves_the_device_and_tells_each_sender_once() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.one(1, &record(5_000, Input::Send(send(1, 2, id, "hi"))));
    let conversation = ConversationId::direct(user(1), user(2));
    let ack = Input::Ack(AckInput {
        user: user(2),
        device: device(4),
        session: SessionNumber(9),
        position: position(99, 1),
        delivered: vec![Delivered {
            conversation,
            seq: Seq(1),
            message_id: id,
        }],
    });
    let effects = driver.one(2, &record(6_000, ack.clone()));
    let Row::Device(row) = effects.rows[0] else {
        panic!("the device comes first")
    };
    assert_eq!(
        (row.acked, row.session),
        (position(1, 1), SessionNumber(9)),
        "at most the head"
    );
    assert_eq!(
        effects.updates,
        [StatusUpdate {
            conversation,
            user: user(2),
            status: Status::Delivered,
            seq: Seq(1),
            message_id: id,
            told: vec![user(1)],
            except: None
        }]
    );
    assert_eq!(driver.one(3, &record(6_001, ack)).updates, []);
}

#[test]
fn a_read_is_one_update_and_goes_to_the_readers_other_devices_too() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.one(1, &record(5_000, Input::Send(send(1, 2, id, "hi"))));
    let status = |status| {
        Input::Status(StatusInput {
            user: user(2),
            device: device(4),
            conversation: ConversationId::direct(user(1), user(2)),
            status,
            seq: Seq(1),
            message_id: id,
        })
    };
    let updates = driver.one(2, &record(6_000, status(Status::Read))).updates;
    assert_eq!(updates.len(), 1);
    assert_eq!(
        (updates[0].told.as_slice(), updates[0].except),
        (&[user(1)][..], Some(device(4)))
    );
    // Read implied it.
    assert_eq!(
        driver.one(3, &record(6_001, status(Status::Delivered))),
        Effects::default()
    );
}

#[test]
fn marks_of_strangers_and_of_unknown_conversations_move_nothing() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.one(1, &record(5_000, Input::Send(send(1, 2, id, "hi"))));
    for (who, others) in [(3, 2), (1, 3)] {
        let status = StatusInput {
            user: user(who),
            device: device(1),
            conversation: ConversationId::direct(user(1), user(others)),
            status: Status::Read,
            seq: Seq(1),
            message_id: id,
        };
        assert_eq!(
            driver.one(2, &record(6_000, Input::Status(status))),
            Effects::default()
        );
    }
}

#[test]
fn a_device_is_registered_before_every_entry() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.one(
        1,
        &record(5_000, Input::Send(send(1, 2, message_id_at(5_000, 1), "hi"))),
    );
    let hello = DeviceInput {
        user: user(2),
        device: device(4),
        session: SessionNumber(7),
    };
    driver.one(2, &record(6_000, Input::Device(hello)));
    let row = driver.store.devices[&(user(2), device(4))];
    assert_eq!(
        (row.acked, row.session, row.last_seen),
        (Position::start(GENERATION), SessionNumber(7), UnixMs(6_000))
    );
}

#[test]
fn a_send_to_a_group_is_refused_and_changes_nothing_not_even_under_the_id_of_a_direct_conversation() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.one(1, &record(5_000, Input::Send(send(1, 2, id, "hi"))));
    let direct = ConversationId::direct(user(1), user(2));
    for (offset, group, content) in [
        (2, ConversationId::direct(user(8), user(9)), "to a group"),
        (3, direct, "to a group"),
        (4, direct, "hi"),
    ] {
        let mut send = send(1, 2, id, content);
        send.draft.target = Target::Group(group);
        let effects = driver.one(offset, &record(6_000, Input::Send(send)));
        assert!(
            matches!(
                effects.outcomes[..],
                [(
                    Offset(at),
                    SendOutcome::Rejected {
                        code: Code::Forbidden,
                        ..
                    }
                )] if at == offset
            ),
            "{effects:?}"
        );
        assert_eq!((effects.rows.len(), effects.messages.len()), (0, 0));
    }
}
