//! A thread before a store: nothing read is behind, and no failure is forgotten.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;

fn started(kv: &MemoryKv) -> WriteBehind<KvStore<MemoryKv>> {
    WriteBehind::start(KvStore::open(kv.clone(), 1).unwrap()).unwrap()
}

/// Hands over the batch of one record: a message, and the conversation as of it.
fn hand_over(store: &mut impl Store, offset: u64) -> Result<(), StoreError> {
    let mut rows = vec![
        Row::Message(message_row(1, offset, offset, "x")),
        Row::Conversation(conversation_row(1, offset)),
    ];
    let handed = store.hand_over(&mut rows, Offset(offset));
    assert_eq!(rows.is_empty(), handed.is_ok(), "taken if and only if it is");
    handed
}

#[test]
fn a_read_sees_everything_that_was_handed_over() {
    let mut store = started(&MemoryKv::seeded(1));
    for offset in 1..=500 {
        hand_over(&mut store, offset).unwrap();
        assert_eq!(store.flushed(), Some(Offset(offset)));
        if offset % 7 == 0 {
            let newest = store.conversation(conversation(1)).unwrap();
            assert_eq!(newest, Some(conversation_row(1, offset)));
        }
    }
}

#[test]
fn what_waits_is_written_before_the_store_is_dropped() {
    let kv = MemoryKv::seeded(2);
    let mut store = started(&kv);
    for offset in 1..=100 {
        hand_over(&mut store, offset).unwrap();
    }
    drop(store);
    assert_eq!(KvStore::open(kv, 1).unwrap().flushed(), Some(Offset(100)));
}

#[test]
fn a_complete_checkpoint_holds_what_was_handed_over_or_is_none() {
    let kv = MemoryKv::seeded(4);
    let mut store = started(&kv);
    hand_over(&mut store, 1).unwrap();
    store.complete_checkpoint().unwrap();
    assert_eq!(store.checkpoint_end(), Some(Offset(2)));
    kv.fail_applies(Some(KvFault::NoSpace));
    hand_over(&mut store, 2).unwrap();
    store.complete_checkpoint().unwrap_err();
    assert_eq!(store.checkpoint_end(), Some(Offset(2)));
    drop(store);
    kv.fail_applies(None);
    assert_eq!(started(&kv).checkpoint_end(), Some(Offset(2)));
}

#[test]
fn a_batch_without_room_stays_first_in_line_and_is_told_to_writers_and_readers() {
    let kv = MemoryKv::seeded(3);
    let mut store = started(&kv);
    kv.fail_applies(Some(KvFault::NoSpace));
    hand_over(&mut store, 1).unwrap();
    let read = store.conversation(conversation(1));
    assert!(matches!(read, Err(StoreError::NoSpace)), "{read:?}");
    for _ in 0..3 {
        let second = hand_over(&mut store, 2);
        assert!(matches!(second, Err(StoreError::NoSpace)), "{second:?}");
    }
    assert_eq!(store.flushed(), Some(Offset(1)), "the second was not taken");
    kv.fail_applies(None);
    hand_over(&mut store, 2).unwrap();
    let rows = store
        .messages_before(conversation(1), None, 10, usize::MAX)
        .unwrap()
        .rows;
    assert_eq!(
        rows.iter().map(|row| row.message.seq.0).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[test]
fn a_store_that_failed_is_told_each_time() {
    let kv = MemoryKv::seeded(4);
    let mut store = started(&kv);
    kv.fail_applies(Some(KvFault::Failed));
    hand_over(&mut store, 1).unwrap();
    for _ in 0..3 {
        assert!(matches!(store.devices(user(1)), Err(StoreError::Failed(_))));
        assert!(matches!(hand_over(&mut store, 2), Err(StoreError::Failed(_))));
        assert!(matches!(
            store.prune_checkpoints(Offset(1)),
            Err(StoreError::Failed(_))
        ));
    }
}

#[test]
fn a_raised_prune_floor_is_told_at_once() {
    let kv = MemoryKv::seeded(8);
    let mut store = started(&kv);
    hand_over(&mut store, 1).unwrap();
    assert_eq!(store.prune_floor(), Offset(0));
    store.prune_inbox(Offset(1), None, 10).unwrap();
    assert_eq!(store.prune_floor(), Offset(1));
    hand_over(&mut store, 2).unwrap();
    store.prune_inbox(Offset(2), None, 10).unwrap();
    assert_eq!(store.prune_floor(), Offset(2));
    kv.fail_applies(Some(KvFault::NoSpace));
    assert!(store.prune_inbox(Offset(3), None, 10).is_err());
    assert_eq!(store.prune_floor(), Offset(2), "nothing was deleted");
    drop(store);
    kv.fail_applies(None);
    assert!(
        started(&kv).prune_floor() >= Offset(2),
        "also of a store that had one"
    );
}

#[test]
fn a_store_that_stopped_is_tried_again_and_keeps_the_order() {
    let kv = MemoryKv::seeded(9);
    let mut store = started(&kv);
    kv.fail_applies(Some(KvFault::Stopped));
    hand_over(&mut store, 1).unwrap();
    for _ in 0..3 {
        assert!(matches!(store.devices(user(1)), Err(StoreError::Stopped { .. })));
        assert!(matches!(store.probe(), Err(StoreError::Stopped { .. })));
    }
    kv.fail_applies(None);
    store.probe().unwrap();
    hand_over(&mut store, 2).unwrap();
    assert_eq!(
        store.conversation(conversation(1)).unwrap(),
        Some(conversation_row(1, 2))
    );
}

#[test]
fn a_persist_says_how_far_it_goes_and_holds_up_nobody() {
    let kv = MemoryKv::seeded(5);
    let mut store = started(&kv);
    hand_over(&mut store, 1).unwrap();
    store.begin_persist();
    hand_over(&mut store, 2).unwrap();
    assert_eq!(persisted(&mut store).unwrap(), Some(Offset(1)));
    assert!(store.poll_persisted().is_none(), "told once");
    kv.fail_persists(Some(KvFault::Failed));
    store.begin_persist();
    assert!(matches!(persisted(&mut store), Err(StoreError::Failed(_))));
    kv.crash();
    assert!(KvStore::open(kv, 1).unwrap().flushed() >= Some(Offset(1)));
}

fn persisted(store: &mut impl Store) -> Result<Option<Offset>, StoreError> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(outcome) = store.poll_persisted() {
            return outcome;
        }
        assert!(Instant::now() < end, "it never ends");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_writer_waits_when_many_bytes_do() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let kv = Gated(MemoryKv::seeded(6), gate.clone());
    let mut store = WriteBehind::start(KvStore::open(kv, 1).unwrap()).unwrap();
    let handed = Arc::new(AtomicU64::new(0));
    let count = handed.clone();
    let text = "x".repeat(8_000);
    let writer = std::thread::spawn(move || {
        for offset in 1..=10_000 {
            let row = Row::Message(message_row(1, offset, offset, &text));
            store.hand_over(&mut vec![row], Offset(offset)).unwrap();
            count.store(offset, Ordering::SeqCst);
        }
        store.message(conversation(1), Seq(10_000)).unwrap()
    });
    let mut before = 0;
    let stands_at = loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = handed.load(Ordering::SeqCst);
        assert!(!writer.is_finished(), "it waits");
        if now > 0 && now == std::mem::replace(&mut before, now) {
            break now;
        }
    };
    assert!(
        (4_000..=4_200).contains(&stands_at),
        "32 MiB are taken: {stands_at}"
    );
    drop(closed);
    assert!(writer.join().unwrap().is_some(), "and then the rest");
}

/// Writes only while its gate is open.
struct Gated(MemoryKv, Arc<Mutex<()>>);

impl Kv for Gated {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(key)
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.0.scan(range, direction, visit)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        let is_first = batch.changes.len() == 1; // The generation.
        let _open = (!is_first).then(|| self.1.lock().expect("a poisoned gate panics"));
        self.0.apply(batch)
    }

    fn persist(&mut self) -> Result<(), KvError> {
        self.0.persist()
    }
}

#[test]
fn a_store_that_panics_fails_whoever_waits_for_it() {
    let gate = Arc::new(Mutex::new(()));
    let kv = Gated(MemoryKv::seeded(7), gate.clone());
    let mut store = WriteBehind::start(KvStore::open(kv, 1).unwrap()).unwrap();
    let broken = std::thread::spawn(move || {
        let _held = gate.lock().unwrap();
        panic!("as asked for by this test");
    });
    assert!(broken.join().is_err());
    hand_over(&mut store, 1).unwrap();
    assert!(matches!(store.devices(user(1)), Err(StoreError::Failed(_))));
}
