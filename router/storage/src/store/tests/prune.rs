//! Retention: whatever the size of a step, the same rows go and the newest stay.

use std::collections::BTreeSet;

use super::*;

on_both_engines!(
    old_inbox_rows_go_and_the_newest_of_each_user_stays,
    old_messages_go_and_the_newest_of_each_conversation_stays,
    old_outcomes_go_whatever_their_message_id,
    old_checkpoints_go_but_the_newest_of_them,
    rows_that_cannot_be_read_stay_and_hold_up_nothing_else,
    step_over_unreadable_outcomes_is_bounded,
    step_looks_at_a_bounded_number_of_rows,
    prune_floor_never_falls_and_survives,
);

/// Users 1 to 6, each with the offsets of its entries.
const INBOXES: [(u64, &[u64]); 7] = [
    (1, &[1, 2, 3, 50]),
    (2, &[4]),
    (3, &[60, 61]),
    (255, &[5, 6]),
    (256, &[7, 70, 71]),
    (257, &[8, 9, 10, 11, 12, 13, 14, 15, 80]),
    (UserId::MAX, &[1, 2, 3]),
];
const BELOW: Offset = Offset(50);

fn old_inbox_rows_go_and_the_newest_of_each_user_stays<E: Engine>() {
    for rows_max in [1, 2, 3, 4, 7, 1_000] {
        let engine = E::new();
        let mut store = open_store(&engine);
        for (user, offsets) in INBOXES {
            let rows: Vec<_> = offsets
                .iter()
                .map(|offset| Row::Inbox(inbox_row(user, position(1, *offset, 1))))
                .collect();
            store.apply(&rows, Offset(90)).unwrap();
        }
        let steps = run(|from| store.prune_inbox(BELOW, from, rows_max).unwrap());
        assert!(rows_max < 1_000 || steps == 1);
        for (owner, offsets) in INBOXES {
            let kept = inbox(&store, owner).unwrap();
            let kept: Vec<_> = kept.iter().map(|row| row.position.offset.0).collect();
            assert_eq!(kept, kept_of(offsets), "user {owner}, {rows_max} rows a step");
        }
        assert_eq!(store.prune_floor(), BELOW);
    }
}

fn old_messages_go_and_the_newest_of_each_conversation_stays<E: Engine>() {
    let conversations =
        INBOXES.map(|(number, offsets)| (u128::MAX - u128::from(UserId::MAX) + u128::from(number), offsets));
    for rows_max in [1, 2, 3, 4, 7, 1_000] {
        let engine = E::new();
        let mut store = open_store(&engine);
        for (number, offsets) in conversations {
            let rows: Vec<_> = (1..)
                .zip(offsets)
                .map(|(seq, offset)| Row::Message(message_row(number, seq, *offset, "x")))
                .collect();
            store.apply(&rows, Offset(90)).unwrap();
        }
        run(|from| store.prune_messages(BELOW, from, rows_max).unwrap());
        for (number, offsets) in conversations {
            let page = messages(&store, number).unwrap();
            let kept: Vec<_> = page.iter().map(|row| row.offset.0).collect();
            assert_eq!(
                kept,
                kept_of(offsets),
                "conversation {number:x}, {rows_max} rows a step"
            );
        }
    }
}

fn rows_that_cannot_be_read_stay_and_hold_up_nothing_else<E: Engine>() {
    let inbox = |user, offset| Row::Inbox(inbox_row(user, position(1, offset, 1)));
    let outcome = |user: u64, offset| Row::Dedupe(index_row(u128::from(user * 10 + offset), user, 1, offset));
    let all = (1..=3).flat_map(|user| (1..=5).map(move |offset| (user, offset)));
    for rows_max in [1, 2, 3, 1_000] {
        let engine = E::new();
        let mut store = open_store(&engine);
        let mut batch = Batch::default();
        for (user, offset) in all.clone() {
            for row in [inbox(user, offset), outcome(user, offset)] {
                let (key, mut value) = row.encode();
                if (user, offset) == (2, 3) {
                    value[0] = 200;
                }
                batch.put(key, value);
            }
        }
        store.kv.apply(&batch).unwrap();
        run(|from| store.prune_inbox(BELOW, from, rows_max).unwrap());
        run(|from| store.prune_index(BELOW, from, rows_max).unwrap());
        let is_left = |row: Row| store.kv.get(&row.encode().0).unwrap().is_some();
        let inboxes: Vec<_> = all
            .clone()
            .filter(|(user, offset)| is_left(inbox(*user, *offset)))
            .collect();
        // Of the others the newest; of this one also what is next to the row in question.
        assert_eq!(
            inboxes,
            [(1, 5), (2, 2), (2, 3), (2, 4), (2, 5), (3, 5)],
            "{rows_max} rows a step"
        );
        let outcomes: Vec<_> = all
            .clone()
            .filter(|(user, offset)| is_left(outcome(*user, *offset)))
            .collect();
        assert_eq!(outcomes, [(2, 3)], "{rows_max} rows a step");
    }
}

fn step_over_unreadable_outcomes_is_bounded<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let mut batch = Batch::default();
    for number in 1..=20 {
        let (key, mut value) = Row::Dedupe(index_row(number, 1, 1, 1)).encode();
        value[0] = 200;
        batch.put(key, value);
    }
    store.kv.apply(&batch).unwrap();
    let steps = run(|from| store.prune_index(BELOW, from, 4).unwrap());
    assert_eq!(steps, 5);
}

fn old_outcomes_go_whatever_their_message_id<E: Engine>() {
    for rows_max in [1, 2, 5, 1_000] {
        let engine = E::new();
        let mut store = open_store(&engine);
        // One message id with many rows, and many with one.
        let many = (1..40).map(|sender| index_row(7, sender, 1, sender * 3));
        let rows: Vec<_> = many
            .chain((1..40).map(|id| index_row(id, 100, 1, 100 - id as u64)))
            .collect();
        store
            .apply(
                &rows.iter().copied().map(Row::Dedupe).collect::<Vec<_>>(),
                Offset(120),
            )
            .unwrap();
        let steps = run(|from| store.prune_index(BELOW, from, rows_max).unwrap());
        assert_eq!(steps, rows.len().div_ceil(rows_max));
        for row in rows {
            let found = store.get(row.message_id, (row.sender, row.conversation)).unwrap();
            assert_eq!(found, Some(row).filter(|row| row.offset >= BELOW));
        }
    }
}

fn old_checkpoints_go_but_the_newest_of_them<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let rows = [10, 20, 30, 50, 60].map(|offset| Row::Checkpoint(checkpoint_row(offset * 1_000, offset)));
    store.apply(&rows, Offset(70)).unwrap();
    store.prune_checkpoints(BELOW).unwrap();
    let kept = |store: &KvStore<E::Kv>| {
        all::<CheckpointRow>(store, ())
            .unwrap()
            .iter()
            .map(|row| row.offset.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&store), [30, 50, 60]);
    store.prune_checkpoints(BELOW).unwrap();
    assert_eq!(kept(&store), [30, 50, 60]);
    store.prune_checkpoints(Offset(1_000)).unwrap();
    assert_eq!(kept(&store), [60]);
}

fn step_looks_at_a_bounded_number_of_rows<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let rows: Vec<_> = (1..=500)
        .map(|offset| Row::Inbox(inbox_row(1, position(1, offset, 1))))
        .collect();
    store.apply(&rows, Offset(500)).unwrap();
    assert_eq!(
        store.prune_inbox(Offset(1_000), None, 100).unwrap(),
        Some(user(1))
    );
    assert_eq!(inbox(&store, 1).unwrap().len(), 401);
    assert_eq!(
        run(|from| store.prune_inbox(Offset(1_000), from, 100).unwrap()),
        5
    );
    assert_eq!(inbox(&store, 1).unwrap().len(), 1);
}

fn prune_floor_never_falls_and_survives<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    store.prune_inbox(Offset(9), None, 10).unwrap();
    store.prune_inbox(Offset(4), None, 10).unwrap();
    assert_eq!(store.prune_floor(), Offset(9));
    store.persist().unwrap();
    drop(store);
    assert_eq!(open_store(&engine).prune_floor(), Offset(9));
}

/// What is at or above the bound, and the newest anyway.
fn kept_of(offsets: &[u64]) -> Vec<u64> {
    let newest = offsets.last().copied();
    offsets
        .iter()
        .copied()
        .filter(|offset| *offset >= BELOW.0 || Some(*offset) == newest)
        .collect()
}

/// Takes steps to the end and returns how many; none may begin where an earlier one ended up without progress.
fn run<T: Copy>(mut step: impl FnMut(Option<T>) -> Option<T>) -> usize {
    let mut from = None;
    for steps in 1..10_000 {
        from = step(from);
        if from.is_none() {
            return steps;
        }
    }
    panic!("retention makes no progress");
}

#[test]
fn tokens_of_steps_are_distinct_places() {
    // A step must end somewhere after it began, or `run` above would hide a loop that happens to end.
    let engine = InMemory::new();
    let mut store = open_store(&engine);
    for (user, offsets) in INBOXES {
        let rows: Vec<_> = offsets
            .iter()
            .map(|offset| Row::Inbox(inbox_row(user, position(1, *offset, 1))))
            .collect();
        store.apply(&rows, Offset(90)).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut from = None;
    loop {
        let before = engine.0.contents().len();
        from = store.prune_inbox(BELOW, from, 2).unwrap();
        let Some(user) = from else { break };
        let deleted = before - engine.0.contents().len();
        assert!(seen.insert(user) || deleted > 0, "{user:?}");
    }
}
