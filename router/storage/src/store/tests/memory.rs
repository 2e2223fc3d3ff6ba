//! What is particular to the twin in memory: faults and crashes at will.

use std::collections::BTreeSet;

use super::*;
use crate::sim::is_crash;

#[test]
fn crash_leaves_every_boundary_at_or_after_the_last_persist() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let kv = MemoryKv::seeded(seed);
        let mut store = KvStore::open(kv.clone(), 1).unwrap();
        for offset in 0..4 {
            store.apply(&rows(offset), Offset(offset)).unwrap();
            if offset == 1 {
                store.persist().unwrap();
            }
        }
        kv.crash();
        let store = KvStore::open(kv, 1).unwrap();
        let flushed = store.flushed().unwrap().0;
        for offset in 0..4 {
            let row = store.get::<MessageRow>(conversation(1), Seq(offset)).unwrap();
            assert_eq!(row.is_some(), offset <= flushed, "rows and offset are one batch");
        }
        assert_eq!(
            store.get::<ConversationRow>(conversation(1), ()).unwrap(),
            Some(conversation_row(1, flushed))
        );
        seen.insert(flushed);
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn what_a_crash_left_is_not_lost_by_the_next_one() {
    for seed in 0..50 {
        let kv = MemoryKv::seeded(seed);
        let mut store = KvStore::open(kv.clone(), 1).unwrap();
        for offset in 0..4 {
            store.apply(&rows(offset), Offset(offset)).unwrap();
        }
        kv.crash();
        let left = kv.contents();
        kv.crash();
        assert_eq!(kv.contents(), left, "seed {seed}");
    }
}

#[test]
fn crash_at_an_operation_stops_everything_until_power_returns() {
    let kv = MemoryKv::seeded(1);
    let mut store = KvStore::open(kv.clone(), 1).unwrap();
    kv.crash_at(1);
    store.apply(&rows(0), Offset(0)).unwrap();
    assert!(is_crash(&store.persist().unwrap_err()));
    let message = store.get::<MessageRow>(conversation(1), Seq(0));
    assert!(is_crash(&message.unwrap_err()));
    assert!(is_crash(&inbox(&store, 1).unwrap_err()));
    assert!(kv.is_down());
    kv.crash();
    let mut store = KvStore::open(kv, 1).unwrap();
    store.apply(&rows(1), Offset(1)).unwrap();
}

#[test]
fn batch_of_the_operation_that_crashed_is_there_or_not() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let kv = MemoryKv::seeded(seed);
            let mut store = KvStore::open(kv.clone(), 1).unwrap();
            kv.crash_at(0);
            store.apply(&rows(0), Offset(0)).unwrap_err();
            kv.crash();
            KvStore::open(kv, 1).unwrap().flushed()
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([None, Some(Offset(0))]));
}

#[test]
fn injected_faults_come_back_as_their_kind_until_lifted() {
    let kv = MemoryKv::seeded(1);
    let mut store = KvStore::open(kv.clone(), 1).unwrap();
    kv.fail_applies(Some(KvFault::NoSpace));
    assert!(matches!(
        store.apply(&rows(0), Offset(0)),
        Err(StoreError::NoSpace)
    ));
    assert_eq!(store.flushed(), None);
    store.persist().unwrap();
    kv.fail_applies(Some(KvFault::Failed));
    assert!(matches!(
        store.apply(&rows(0), Offset(0)),
        Err(StoreError::Failed(_))
    ));
    kv.fail_applies(None);
    store.apply(&rows(0), Offset(0)).unwrap();
    kv.fail_persists(Some(KvFault::Failed));
    assert!(matches!(store.persist(), Err(StoreError::Failed(_))));
    kv.fail_persists(None);
    store.persist().unwrap();
    kv.crash();
    assert_eq!(KvStore::open(kv, 1).unwrap().flushed(), Some(Offset(0)));
}

fn rows(offset: u64) -> [Row; 2] {
    [
        Row::Message(message_row(1, offset, offset, "x")),
        Row::Conversation(conversation_row(1, offset)),
    ]
}
