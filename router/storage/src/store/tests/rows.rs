//! The contract of the store, over both engines, and what is particular to a store over an engine.

use super::*;

on_both_engines!(
    reads_and_apply_are_kept,
    new_store_keeps_its_first_generation,
    rows_of_another_version_are_refused,
    rows_written_again_change_no_byte,
);

fn reads_and_apply_are_kept<E: Engine>() {
    contract::keeps_reads_and_apply(|| Over(E::new()));
}

fn new_store_keeps_its_first_generation<E: Engine>() {
    let engine = E::new();
    let store = KvStore::open(engine.open(), 5).unwrap();
    assert_eq!(
        (store.generation(), store.flushed(), store.prune_floor()),
        (5, None, Offset(0))
    );
    drop(store);
    assert_eq!(KvStore::open(engine.open(), 6).unwrap().generation(), 5);
}

/// An engine that stopped and is opened anew when first asked, with or without the batches since its last persist.
struct Reopened {
    kv: MemoryKv,
    is_stopped: bool,
}

impl Kv for Reopened {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.kv.scan(range, direction, visit)
    }

    fn make_writable(&mut self) -> Result<bool, KvError> {
        Ok(std::mem::take(&mut self.is_stopped))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        self.kv.apply(batch)
    }

    fn persist(&mut self) -> Result<(), KvError> {
        self.kv.persist()
    }
}

#[test]
fn an_engine_opened_anew_that_lost_rows_takes_no_more() {
    let lost = (0..16).filter(|seed| {
        let kv = MemoryKv::seeded(*seed);
        let mut store = KvStore::open(
            Reopened {
                kv: kv.clone(),
                is_stopped: false,
            },
            1,
        )
        .unwrap();
        for offset in 1..=3 {
            store
                .apply(&[Row::Conversation(conversation_row(1, offset))], Offset(offset))
                .unwrap();
        }
        kv.crash();
        store.kv.is_stopped = true;
        let kept = KvStore::open(kv.clone(), 1).unwrap().flushed();
        let next = store.apply(&[Row::Conversation(conversation_row(1, 4))], Offset(4));
        assert_eq!(next.is_ok(), kept == Some(Offset(3)), "seed {seed}: {next:?}");
        let is_refused = next.is_err();
        if is_refused {
            // Rows behind the gap would hide it.
            assert!(
                store
                    .apply(&[Row::Conversation(conversation_row(1, 4))], Offset(4))
                    .is_err()
            );
            assert!(store.persist().is_err() && store.probe().is_err());
            assert_eq!(KvStore::open(kv, 1).unwrap().flushed(), kept);
        }
        is_refused
    });
    assert!((1..16).contains(&lost.count()));
}

fn rows_written_again_change_no_byte<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let rows = [
        Row::Message(message_row(1, 1, 1, "a")),
        Row::Inbox(inbox_row(1, position(1, 1, 1))),
    ];
    store.apply(&rows, Offset(1)).unwrap();
    let once = dump(&store.kv);
    store.apply(&rows, Offset(1)).unwrap();
    assert_eq!(dump(&store.kv), once);
}

fn rows_of_another_version_are_refused<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    store
        .apply(&[Row::Conversation(conversation_row(1, 1))], Offset(1))
        .unwrap();
    let (key, mut value) = Row::Conversation(conversation_row(1, 1)).encode();
    value[0] = 200;
    store
        .kv
        .apply(&Batch {
            changes: vec![(key.clone(), Some(value))],
        })
        .unwrap();
    let error = store.get::<ConversationRow>(conversation(1), ()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { key, .. } if key.starts_with("03") && key.ends_with("01")),
        "{error}"
    );
    let mut identity = store.kv.get(&IDENTITY_KEY).unwrap().unwrap();
    identity[0] = 1;
    store
        .kv
        .apply(&Batch {
            changes: vec![(IDENTITY_KEY.to_vec(), Some(identity))],
        })
        .unwrap();
    drop(store);
    let error = KvStore::open(engine.open(), 1).err().unwrap();
    assert!(
        matches!(
            error,
            StoreError::Schema {
                found: 1,
                expected: 2
            }
        ),
        "{error}"
    );
}
