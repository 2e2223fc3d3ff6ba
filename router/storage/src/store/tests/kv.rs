//! The contract of an engine.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

on_both_engines!(
    batch_is_seen_at_once_and_after_reopening,
    later_change_of_a_key_holds,
    scans_agree_with_an_ordered_map,
    scan_ends_where_the_visitor_says,
    unpersisted_batches_survive_a_killed_process,
);

fn batch_is_seen_at_once_and_after_reopening<E: Engine>() {
    let engine = E::new();
    let mut kv = engine.open();
    kv.apply(&batch(&[("a", Some("1")), ("b", Some(""))])).unwrap();
    assert_eq!(kv.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(kv.get(b"b").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(kv.get(b"c").unwrap(), None);
    kv.apply(&batch(&[("a", None), ("c", Some("3"))])).unwrap();
    assert_eq!(kv.get(b"a").unwrap(), None);
    kv.apply(&Batch::default()).unwrap();
    kv.persist().unwrap();
    drop(kv);
    assert_eq!(dump(&engine.open()), pairs(&[("b", ""), ("c", "3")]));
}

fn later_change_of_a_key_holds<E: Engine>() {
    let engine = E::new();
    let mut kv = engine.open();
    kv.apply(&batch(&[
        ("a", Some("1")),
        ("a", None),
        ("b", None),
        ("b", Some("2")),
    ]))
    .unwrap();
    assert_eq!(dump(&kv), pairs(&[("b", "2")]));
    drop(kv);
    assert_eq!(dump(&engine.open()), pairs(&[("b", "2")]));
}

fn scans_agree_with_an_ordered_map<E: Engine>() {
    let engine = E::new();
    let kv = std::cell::RefCell::new(engine.open());
    let key = || {
        prop::collection::vec(0..4_u8, 0..4).prop_map(|mut key| {
            key.insert(0, 7);
            key
        })
    };
    let change = (key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3)));
    let input = (
        prop::collection::vec(change, 0..30),
        key(),
        key(),
        0..4_u8,
        0..9_usize,
    );
    TestRunner::new(ProptestConfig::with_cases(300))
        .run(&input, |(changes, from, to, bounds, limit)| {
            let mut kv = kv.borrow_mut();
            // Each case starts empty, so that it shrinks and repeats by itself.
            let before = dump(&*kv)
                .into_iter()
                .map(|(key, _)| (key.to_vec(), None))
                .collect();
            kv.apply(&Batch { changes: before }).unwrap();
            let mut state = BTreeMap::new();
            kv.apply(&Batch {
                changes: changes.clone(),
            })
            .unwrap();
            for (key, value) in changes {
                match value {
                    Some(value) => state.insert(key, value),
                    None => state.remove(&key),
                };
            }
            let (from, to) = if from < to {
                (from, to)
            } else {
                (to, [&from[..], &[0]].concat())
            };
            let start = if bounds & 1 == 0 {
                Bound::Included(&from[..])
            } else {
                Bound::Excluded(&from[..])
            };
            let end = if bounds & 2 == 0 {
                Bound::Included(&to[..])
            } else {
                Bound::Excluded(&to[..])
            };
            let range: Vec<_> = state
                .range::<[u8], _>((start, end))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let reversed: Vec<_> = range.iter().rev().cloned().collect();
            for (direction, expected) in [(Direction::Forward, range), (Direction::Backward, reversed)] {
                let mut found = Vec::new();
                kv.scan((start, end), direction, &mut |key, value| {
                    if found.len() == limit {
                        return ControlFlow::Break(());
                    }
                    found.push((key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
                prop_assert_eq!(&found[..], &expected[..expected.len().min(limit)]);
            }
            Ok(())
        })
        .unwrap();
}

fn scan_ends_where_the_visitor_says<E: Engine>() {
    let engine = E::new();
    let mut kv = engine.open();
    kv.apply(&batch(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]))
        .unwrap();
    let mut visits = 0;
    kv.scan(
        (Bound::Unbounded, Bound::Unbounded),
        Direction::Backward,
        &mut |key, _| {
            visits += 1;
            if key == b"b" {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )
    .unwrap();
    assert_eq!(visits, 2);
}

fn unpersisted_batches_survive_a_killed_process<E: Engine>() {
    let engine = E::new();
    let mut kv = engine.open();
    for number in 0..100_u8 {
        kv.apply(&Batch {
            changes: vec![(vec![number], Some(vec![number; 500]))],
        })
        .unwrap();
    }
    drop(kv);
    assert_eq!(dump(&engine.open()).len(), 100);
}

fn batch(changes: &[(&str, Option<&str>)]) -> Batch {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Batch {
        changes: changes
            .iter()
            .map(|(key, value)| (bytes(key), value.map(bytes)))
            .collect(),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    pairs
        .iter()
        .map(|(key, value)| (bytes(key), bytes(value)))
        .collect()
}
