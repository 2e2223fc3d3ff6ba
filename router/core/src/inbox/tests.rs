use wire_base::ids::UnixMs;

use super::*;
use crate::testing::{GENERATION, device, position, stamp, user};

fn fold() -> InboxFold {
    InboxFold::new(
        InboxConfig {
            devices_max: 2,
            users_max: 10,
        },
        GENERATION,
    )
}

fn entry(number: u64, peer: u64, seq: u64) -> NewEntry {
    NewEntry {
        user: user(number),
        index: FIRST_INDEX,
        conversation: ConversationId::direct(user(number), user(peer)),
        seq: Seq(seq),
        prev_seq: Seq(seq - 1),
    }
}

fn device_row(number: u32, acked: Position, session: u64) -> DeviceRow {
    DeviceRow {
        user: user(1),
        device: device(number),
        acked,
        session: SessionNumber(session),
        last_seen: UnixMs(1),
    }
}

fn ack(number: u32, session: u64, position: Position) -> AckInput {
    let session = SessionNumber(session);
    AckInput {
        user: user(1),
        device: device(number),
        session,
        position,
        delivered: Vec::new(),
    }
}

#[test]
fn positions_follow_the_log_and_are_all_after_the_start() {
    let mut fold = fold();
    let mut effects = Effects::default();
    assert_eq!(
        fold.fold_entry(Offset(0), &entry(1, 2, 1), &mut effects),
        Some(position(0, 1))
    );
    assert_eq!(
        fold.fold_entry(Offset(5), &entry(1, 3, 1), &mut effects),
        Some(position(5, 1))
    );
    assert!(position(0, 1) > Position::start(GENERATION));
    assert_eq!(fold.head(user(1)), position(5, 1));
    assert_eq!(fold.head(user(2)), Position::start(GENERATION));
}

#[test]
fn an_entry_that_the_user_has_is_dropped_and_the_next_links_to_the_one_sent() {
    let mut fold = fold();
    let mut effects = Effects::default();
    fold.fold_entry(Offset(1), &entry(1, 2, 4), &mut effects);
    assert_eq!(fold.fold_entry(Offset(2), &entry(1, 2, 4), &mut effects), None);
    assert_eq!(fold.fold_entry(Offset(3), &entry(1, 2, 3), &mut effects), None);
    fold.fold_entry(Offset(4), &entry(1, 2, 6), &mut effects);
    let links: Vec<_> = effects
        .rows
        .iter()
        .map(|row| match row {
            Row::Inbox(row) => (row.position, row.prev_seq, row.seq),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        links,
        [(position(1, 1), Seq(3), Seq(4)), (position(4, 1), Seq(4), Seq(6))]
    );
}

#[test]
fn the_last_seqs_kept_are_those_of_the_latest_conversations() {
    let mut fold = fold();
    let mut effects = Effects::default();
    for peer in 2..2 + SENT_MAX as u64 {
        fold.fold_entry(Offset(peer), &entry(1, peer, 1), &mut effects);
    }
    fold.fold_entry(Offset(20), &entry(1, 2, 2), &mut effects); // Used again: not the oldest any more.
    fold.fold_entry(Offset(21), &entry(1, 50, 1), &mut effects); // Drops conversation 3.
    let again = |fold: &mut InboxFold, peer, seq| {
        fold.fold_entry(Offset(30), &entry(1, peer, seq), &mut Effects::default())
    };
    assert_eq!(again(&mut fold, 2, 2), None);
    assert_eq!(again(&mut fold, 4, 1), None);
    assert!(again(&mut fold, 3, 1).is_some());
}

#[test]
fn an_ack_only_grows_and_stops_at_the_head() {
    let mut fold = fold();
    fold.handle_loaded(
        user(1),
        vec![device_row(1, position(3, 1), 5)],
        Some(position(8, 1)),
    );
    let mut acked = |session, to| {
        fold.fold_ack(stamp(9, 50), &ack(1, session, to), &mut Effects::default());
        fold.device(user(1), device(1))
            .map(|row| (row.acked, row.session.0))
            .unwrap()
    };
    assert_eq!(acked(6, position(2, 1)), (position(3, 1), 6));
    assert_eq!(acked(4, position(5, 1)), (position(5, 1), 6));
    assert_eq!(acked(6, position(99, 1)), (position(8, 1), 6));
    assert_eq!(
        acked(
            6,
            Position {
                generation: GENERATION - 1,
                ..position(99, 1)
            }
        ),
        (position(8, 1), 6)
    );
}

#[test]
fn the_head_of_an_entry_folded_before_the_user_was_loaded_is_not_lost() {
    let mut fold = fold();
    fold.fold_entry(Offset(7), &entry(1, 2, 1), &mut Effects::default());
    assert!(
        fold.is_missing(user(1)),
        "an entry does not need the devices, an ack does"
    );
    // The store does not have the entry yet.
    fold.handle_loaded(
        user(1),
        vec![device_row(1, position(3, 1), 5)],
        Some(position(4, 1)),
    );
    assert!(!fold.is_missing(user(1)));
    assert_eq!(fold.head(user(1)), position(7, 1));
}

#[test]
fn what_was_loaded_late_does_not_take_back_what_memory_has() {
    let mut fold = fold();
    fold.handle_loaded(
        user(1),
        vec![device_row(1, position(3, 1), 5)],
        Some(position(8, 1)),
    );
    fold.fold_ack(stamp(9, 50), &ack(1, 6, position(6, 1)), &mut Effects::default());
    fold.handle_loaded(
        user(1),
        vec![device_row(1, position(3, 1), 5)],
        Some(position(8, 1)),
    );
    assert_eq!(
        fold.device(user(1), device(1)).map(|row| row.acked),
        Some(position(6, 1))
    );
}

#[test]
fn one_device_too_many_is_refused_also_while_the_others_are_not_folded_yet() {
    let mut fold = fold();
    fold.handle_loaded(user(1), vec![device_row(1, position(3, 1), 5)], None);
    let admit = |fold: &mut InboxFold, number| {
        fold.admit_device(user(1), device(number))
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(admit(&mut fold, 1), Ok(Admission::Known));
    assert_eq!(admit(&mut fold, 2), Ok(Admission::New));
    assert_eq!(admit(&mut fold, 2), Ok(Admission::Known));
    assert_eq!(admit(&mut fold, 3), Err(Code::TooManyDevices));
    fold.cancel_device(user(1), device(2));
    assert_eq!(admit(&mut fold, 3), Ok(Admission::New));
    let hello = DeviceInput {
        user: user(1),
        device: device(3),
        session: SessionNumber(8),
    };
    fold.fold_device(stamp(9, 50), &hello, &mut Effects::default());
    assert_eq!(admit(&mut fold, 3), Ok(Admission::Known));
    assert_eq!(admit(&mut fold, 2), Err(Code::TooManyDevices));
}
