//! [`Retention`]: in whatever steps, the same rows go; the newest stay until another one replaces them.

use router_records::row::{CheckpointRow, Row};
use wire_base::ids::Offset;

use super::Place;
use super::samples::checkpoint_row;
use super::sends::Sends;
use crate::store::{Apply, Direction, Limits, Range, Reads, Retention, Store};

/// Holds a store to [`Retention`]; `place` makes an empty place.
pub fn keeps_retention<P: Place>(place: impl Fn() -> P) {
    for messages_max in [0, 7, 64, 65, 1_000] {
        rows_of_old_messages_go(&place(), messages_max);
    }
    the_newest_goes_when_it_is_replaced(&place());
    a_sweep_goes_on_after_a_restart(&place());
    prune_floor_never_falls_and_survives(&place());
    old_checkpoints_go_but_the_newest_of_them(&place());
}

/// Sends of some users, more often of those with small numbers, in batches of several; returns the model.
fn write(store: &mut impl Store, sends: &mut Sends, count: u64) {
    for batch in 0..count.div_ceil(70) {
        let mut rows = Vec::new();
        for n in batch * 70..count.min((batch + 1) * 70) {
            let (sender, receiver) = (1 + n * n % 7, 1 + n % 5);
            rows.extend(sends.send(sender, receiver));
            if n % 3 == 0 {
                sends.skip();
            }
        }
        store.apply(&rows, sends.through()).unwrap();
    }
}

fn agree(sends: &Sends, store: &mut impl Store) {
    // What is replaced goes when what replaces it is written.
    store.persist().unwrap();
    assert_eq!(sends.disagreement(store), None);
}

fn rows_of_old_messages_go(place: &impl Place, messages_max: usize) {
    let mut store = place.open();
    let mut sends = Sends::new(store.generation());
    write(&mut store, &mut sends, 150);
    agree(&sends, &mut store);
    for below in [0, 101, 102, 180].map(Offset) {
        loop {
            let next = store.prune(below, messages_max).unwrap();
            assert_eq!(next, sends.prune(below, messages_max), "below {below:?}");
            agree(&sends, &mut store);
            if next.is_none() {
                break;
            }
        }
        assert_eq!(store.prune_floor(), below);
        write(&mut store, &mut sends, 9);
        agree(&sends, &mut store);
    }
}

fn send(store: &mut impl Apply, sends: &mut Sends, pairs: &[(u64, u64)]) {
    let rows: Vec<_> = pairs
        .iter()
        .flat_map(|(from, to)| sends.send(*from, *to))
        .collect();
    store.apply(&rows, sends.through()).unwrap();
}

fn the_newest_goes_when_it_is_replaced(place: &impl Place) {
    let mut store = place.open();
    let mut sends = Sends::new(store.generation());
    send(&mut store, &mut sends, &[(1, 2), (2, 1), (3, 4), (5, 5)]);
    let below = Offset(4);
    assert_eq!(store.prune(below, 10).unwrap(), sends.prune(below, 10));
    agree(&sends, &mut store);
    // An entry of a new conversation replaces a head, and leaves the message of the old one.
    send(&mut store, &mut sends, &[(1, 3)]);
    agree(&sends, &mut store);
    send(&mut store, &mut sends, &[(2, 1), (1, 2), (5, 5), (5, 5)]);
    agree(&sends, &mut store);
    send(&mut store, &mut sends, &[(4, 3)]);
    agree(&sends, &mut store);
}

fn a_sweep_goes_on_after_a_restart(place: &impl Place) {
    let mut store = place.open();
    let mut sends = Sends::new(store.generation());
    write(&mut store, &mut sends, 100);
    let below = Offset(110);
    loop {
        let next = store.prune(below, 30).unwrap();
        assert_eq!(next, sends.prune(below, 30));
        store.persist().unwrap();
        drop(store);
        store = place.open();
        agree(&sends, &mut store);
        assert_eq!(store.prune_floor(), below);
        // What is kept as the newest and what is not gone through yet are told apart as before.
        write(&mut store, &mut sends, 3);
        agree(&sends, &mut store);
        if next.is_none() {
            break;
        }
    }
}

fn prune_floor_never_falls_and_survives(place: &impl Place) {
    let mut store = place.open();
    assert_eq!(store.prune_floor(), Offset(0));
    store.prune(Offset(9), 10).unwrap();
    store.prune(Offset(4), 10).unwrap();
    assert_eq!(store.prune_floor(), Offset(9));
    store.persist().unwrap();
    drop(store);
    assert_eq!(place.open().prune_floor(), Offset(9));
}

fn old_checkpoints_go_but_the_newest_of_them(place: &impl Place) {
    let mut store = place.open();
    let rows = [10, 20, 30, 50, 60].map(|offset| Row::Checkpoint(checkpoint_row(offset * 1_000, offset)));
    store.apply(&rows, Offset(70)).unwrap();
    for (below, kept) in [(50, &[30, 50, 60][..]), (50, &[30, 50, 60]), (1_000, &[60])] {
        store.prune_checkpoints(Offset(below)).unwrap();
        let all = Range::<CheckpointRow>::of(());
        let rows = store.scan(all, Direction::Forward, Limits::rows(9)).unwrap().rows;
        let offsets: Vec<_> = rows.iter().map(|row| row.offset.0).collect();
        assert_eq!(offsets, kept);
    }
}
