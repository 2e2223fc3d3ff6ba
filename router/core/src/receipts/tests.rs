use super::*;
use crate::testing::{conversation, device, other_message_id, user};

fn receipt(row: &Conversation, number: u64, delivered: u64, read: u64) -> ReceiptRow {
    let (delivered, read) = (Seq(delivered), Seq(read));
    ReceiptRow {
        conversation: row.id,
        user: user(number),
        delivered,
        read,
    }
}

fn mark(row: &Conversation, number: u64, status: Status, seq: u64) -> StatusInput {
    StatusInput {
        conversation: row.id,
        user: user(number),
        device: device(1),
        status,
        seq: Seq(seq),
        message_id: other_message_id(seq),
    }
}

/// (delivered, read) as rows have them.
type Watermark = (u64, u64);

/// Folds marks of user 1 one after the other; returns the watermarks and the updates of each.
fn fold_all(row: &Conversation, marks: &[(Status, u64)]) -> (Vec<Watermark>, Vec<(Status, u64)>) {
    let mut fold = ReceiptFold::new(10);
    fold.handle_loaded(row.id, user(1), None);
    let mut effects = Effects::default();
    for (at, (status, seq)) in marks.iter().enumerate() {
        fold.fold(Offset(at as u64), row, &mark(row, 1, *status, *seq), &mut effects);
    }
    let watermarks = effects.rows.iter().map(|row| match row {
        Row::Receipt(row) => (row.delivered.0, row.read.0),
        other => panic!("{other:?}"),
    });
    (
        watermarks.collect(),
        effects
            .updates
            .iter()
            .map(|update| (update.status, update.seq.0))
            .collect(),
    )
}

#[test]
fn unread_counts_the_others_messages_after_own_read_and_own_send() {
    for (sent, read, expected) in [
        // user 1's newest, user 2's newest; user 1 read up to; unread of user 1
        ((0, 3), 0, 3),
        ((0, 3), 2, 1),
        ((4, 7), 0, 3),
        ((4, 7), 6, 1),
        ((7, 4), 0, 0),
        ((4, 7), 7, 0),
    ] {
        let row = conversation(1, 2, sent);
        assert_eq!(
            unread(&row, Some(&receipt(&row, 1, read, read)), user(1)),
            expected,
            "{sent:?} read {read}"
        );
    }
}

#[test]
fn unread_without_a_receipt_of_the_other_side_of_a_stranger_and_of_oneself() {
    let row = conversation(1, 2, (4, 7));
    assert_eq!(unread(&row, None, user(1)), 3);
    assert_eq!(unread(&row, None, user(2)), 0);
    assert_eq!(unread(&row, None, user(3)), 0);
    assert_eq!(unread(&conversation(1, 1, (7, 7)), None, user(1)), 0);
}

#[test]
fn what_several_have_read_is_what_the_last_of_them_has() {
    let row = conversation(1, 2, (9, 9));
    let receipts = [receipt(&row, 1, 7, 2), receipt(&row, 2, 5, 3)];
    let of = |users: &[u64]| {
        let (delivered, read) = watermarks(&receipts, users.iter().map(|number| user(*number)));
        (delivered.0, read.0)
    };
    assert_eq!(
        [of(&[1]), of(&[1, 2]), of(&[1, 3]), of(&[])],
        [(7, 2), (5, 2), (0, 0), (0, 0)]
    );
}

#[test]
fn watermarks_only_grow_and_read_takes_delivered_along() {
    let row = conversation(1, 2, (0, 9));
    let marks = [
        (Status::Delivered, 4),
        (Status::Delivered, 3),
        (Status::Read, 2),
        (Status::Read, 6),
        (Status::Delivered, 6),
        (Status::Read, 1),
    ];
    let (watermarks, updates) = fold_all(&row, &marks);
    assert_eq!(watermarks, [(4, 0), (4, 2), (6, 6)]);
    assert_eq!(
        updates,
        [(Status::Delivered, 4), (Status::Read, 2), (Status::Read, 6)]
    );
}

#[test]
fn a_mark_beyond_the_last_seq_stops_there_and_names_no_message() {
    let (watermarks, updates) = fold_all(&conversation(1, 2, (0, 5)), &[(Status::Read, 50)]);
    assert_eq!(watermarks, [(5, 5)]);
    assert_eq!(updates, []);
}

#[test]
fn the_other_side_is_told_and_of_a_read_the_own_other_devices_too() {
    let row = conversation(1, 2, (0, 5));
    let told = |status| {
        update(&mark(&row, 1, status, 1), &row.membership).map(|update| (update.told, update.except))
    };
    assert_eq!(told(Status::Delivered), Some((vec![user(2)], None)));
    assert_eq!(told(Status::Read), Some((vec![user(2)], Some(device(1)))));
}

#[test]
fn in_a_conversation_with_oneself_only_a_read_is_news() {
    let row = conversation(1, 1, (5, 5));
    let told = |status| {
        update(&mark(&row, 1, status, 1), &row.membership).map(|update| (update.told, update.except))
    };
    assert_eq!(told(Status::Delivered), None);
    assert_eq!(told(Status::Read), Some((vec![], Some(device(1)))));
}

#[test]
fn a_row_that_was_loaded_late_does_not_take_back_what_memory_has() {
    let row = conversation(1, 2, (0, 9));
    let mut fold = ReceiptFold::new(10);
    fold.handle_loaded(row.id, user(1), Some(receipt(&row, 1, 2, 2)));
    let mut effects = Effects::default();
    fold.fold(Offset(1), &row, &mark(&row, 1, Status::Read, 5), &mut effects);
    fold.handle_loaded(row.id, user(1), Some(receipt(&row, 1, 2, 2)));
    effects.clear();
    fold.fold(Offset(2), &row, &mark(&row, 1, Status::Read, 4), &mut effects);
    assert_eq!(effects, Effects::default());
}
