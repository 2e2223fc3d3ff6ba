//! The contract of the store: what was applied is read back, in order, and only what was asked for.

use super::*;

on_both_engines!(
    new_store_keeps_its_first_generation,
    every_kind_of_row_comes_back,
    flushed_offset_goes_with_the_rows,
    history_is_newest_first_and_bounded_by_count_and_bytes,
    inbox_is_read_strictly_after_a_position_and_in_its_order,
    lists_hold_what_belongs_to_their_owner,
    conversations_of_a_user_are_paged_by_id,
    rows_written_again_change_nothing,
    rows_of_another_version_are_refused,
    complete_checkpoint_ends_after_the_flushed_offset_of_then,
);

fn complete_checkpoint_ends_after_the_flushed_offset_of_then<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    assert_eq!(store.checkpoint_end(), None);
    for (flushed, end) in [(None, 0), (Some(Offset(7)), 8)] {
        if let Some(flushed) = flushed {
            store
                .apply(&[Row::Conversation(conversation_row(1, 3))], flushed)
                .unwrap();
            assert_eq!(
                store.checkpoint_end(),
                Some(Offset(0)),
                "another offset than the store's"
            );
        }
        store.complete_checkpoint().unwrap();
        assert_eq!(store.checkpoint_end(), Some(Offset(end)));
        drop(store);
        store = open_store(&engine);
        assert_eq!(store.checkpoint_end(), Some(Offset(end)));
    }
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

fn every_kind_of_row_comes_back<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let rows = [
        Row::Message(message_row(1, 3, 30, "hello")),
        Row::Dedupe(index_row(31, 1, 1, 30)),
        Row::Conversation(conversation_row(1, 3)),
        Row::Receipt(receipt_row(1, 2)),
        Row::UserConversation(user_conversation_row(1, 1)),
        Row::Inbox(inbox_row(2, position(GENERATION, 30, 1))),
        Row::Device(device_row(2, 1)),
        Row::Checkpoint(checkpoint_row(500, 30)),
    ];
    store.apply(&rows, Offset(30)).unwrap();
    let check = |store: &KvStore<E::Kv>| {
        assert_eq!(
            store.message(conversation(1), Seq(3)).unwrap(),
            Some(message_row(1, 3, 30, "hello"))
        );
        assert_eq!(
            store.index(message_id(31), user(1), conversation(1)).unwrap(),
            Some(index_row(31, 1, 1, 30))
        );
        assert_eq!(
            store.conversation(conversation(1)).unwrap(),
            Some(conversation_row(1, 3))
        );
        assert_eq!(
            store.receipt(conversation(1), user(2)).unwrap(),
            Some(receipt_row(1, 2))
        );
        assert_eq!(
            store.user_conversations(user(1), None, 9).unwrap(),
            [user_conversation_row(1, 1)]
        );
        assert_eq!(
            store.inbox_last(user(2)).unwrap(),
            Some(inbox_row(2, position(GENERATION, 30, 1)))
        );
        assert_eq!(store.device(user(2), device(1)).unwrap(), Some(device_row(2, 1)));
        assert_eq!(store.checkpoints().unwrap(), [checkpoint_row(500, 30)]);
        assert_eq!(store.message(conversation(1), Seq(4)).unwrap(), None);
        assert_eq!(
            store.index(message_id(31), user(2), conversation(1)).unwrap(),
            None
        );
        assert_eq!(store.conversation(conversation(2)).unwrap(), None);
        assert_eq!(store.receipt(conversation(1), user(1)).unwrap(), None);
        assert_eq!(store.device(user(2), device(2)).unwrap(), None);
    };
    check(&store);
    drop(store);
    check(&open_store(&engine));
}

fn flushed_offset_goes_with_the_rows<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    store
        .apply(&[Row::Conversation(conversation_row(1, 1))], Offset(0))
        .unwrap();
    assert_eq!(store.flushed(), Some(Offset(0)));
    store.apply(&[], Offset(u64::MAX - 1)).unwrap();
    store.persist().unwrap();
    drop(store);
    assert_eq!(open_store(&engine).flushed(), Some(Offset(u64::MAX - 1)));
}

fn history_is_newest_first_and_bounded_by_count_and_bytes<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let text = "x".repeat(100);
    let bytes = body(&text).len();
    let rows: Vec<_> = (1..=300)
        .map(|seq| Row::Message(message_row(5, seq, seq, &text)))
        .collect();
    store.apply(&rows, Offset(300)).unwrap();
    let others = [
        message_row(4, 900, 301, "before"),
        message_row(6, 1, 302, "after"),
    ];
    store.apply(&others.map(Row::Message), Offset(302)).unwrap();
    let page = |before: Option<u64>, limit, bytes_max| {
        let page = store
            .messages_before(conversation(5), before.map(Seq), limit, bytes_max)
            .unwrap();
        (
            page.rows.iter().map(|row| row.message.seq.0).collect::<Vec<_>>(),
            page.more,
        )
    };
    assert_eq!(page(None, 3, usize::MAX), (vec![300, 299, 298], true));
    assert_eq!(page(Some(298), 2, usize::MAX), (vec![297, 296], true));
    assert_eq!(page(Some(256), 1, usize::MAX), (vec![255], true));
    assert_eq!(page(Some(3), 2, usize::MAX), (vec![2, 1], false));
    assert_eq!(page(Some(4), 2, usize::MAX), (vec![3, 2], true));
    assert_eq!(page(Some(1), 2, usize::MAX), (vec![], false));
    assert_eq!(page(Some(u64::MAX), 1, usize::MAX), (vec![300], true));
    assert_eq!(page(None, 100, 3 * bytes), (vec![300, 299, 298], true));
    assert_eq!(page(None, 100, 3 * bytes - 1), (vec![300, 299], true));
    assert_eq!(page(None, 100, 0), (vec![300], true));
    assert_eq!(page(Some(2), 100, 0), (vec![1], false));
    let unknown = store.messages_before(conversation(7), None, 10, 10).unwrap();
    assert_eq!(unknown, MessagePage::default());
}

fn inbox_is_read_strictly_after_a_position_and_in_its_order<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let positions = [
        (1, 9, 1),
        (2, 0, 1),
        (2, 0, 2),
        (2, 255, 1),
        (2, 256, 1),
        (2, 256, 256),
    ];
    let positions = positions.map(|(generation, offset, index)| position(generation, offset, index));
    let rows: Vec<_> = positions
        .iter()
        .rev()
        .map(|position| Row::Inbox(inbox_row(7, *position)))
        .collect();
    store.apply(&rows, Offset(256)).unwrap();
    store
        .apply(
            &[6, 8].map(|other| Row::Inbox(inbox_row(other, positions[2]))),
            Offset(256),
        )
        .unwrap();
    let after = |position, limit| -> Vec<Position> {
        store
            .inbox_after(user(7), position, limit)
            .unwrap()
            .iter()
            .map(|row| row.position)
            .collect()
    };
    assert_eq!(after(Position::default(), 100), positions);
    for (index, at) in positions.iter().enumerate() {
        assert_eq!(after(*at, 100), positions[index + 1..]);
        assert_eq!(
            after(*at, 2),
            positions[index + 1..(index + 3).min(positions.len())]
        );
    }
    assert_eq!(after(Position::start(2), 1), positions[1..2]);
    assert_eq!(after(positions[0], 0), []);
    assert_eq!(
        store.inbox_first(user(7)).unwrap().unwrap().position,
        positions[0]
    );
    assert_eq!(store.inbox_last(user(7)).unwrap().unwrap().position, positions[5]);
    assert_eq!(store.inbox_first(user(9)).unwrap(), None);
    assert_eq!(store.inbox_last(user(5)).unwrap(), None);
}

fn lists_hold_what_belongs_to_their_owner<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let devices =
        [(1, 2), (2, 1), (2, 300), (3, 1)].map(|(user, device)| Row::Device(device_row(user, device)));
    let index = [(1, 1, 1), (2, 1, 9), (2, 5, 1), (2, 5, 2), (3, 1, 1)]
        .map(|(id, sender, conversation)| Row::Dedupe(index_row(id, sender, conversation, 1)));
    let checkpoints = [3, 1, 2].map(|time| Row::Checkpoint(checkpoint_row(time, time * 10)));
    store.apply(&devices, Offset(1)).unwrap();
    store.apply(&index, Offset(1)).unwrap();
    store.apply(&checkpoints, Offset(1)).unwrap();
    assert_eq!(
        store.devices(user(2)).unwrap(),
        [device_row(2, 1), device_row(2, 300)]
    );
    assert_eq!(store.devices(user(4)).unwrap(), []);
    let two = [
        index_row(2, 1, 9, 1),
        index_row(2, 5, 1, 1),
        index_row(2, 5, 2, 1),
    ];
    assert_eq!(store.index_by_message(message_id(2), 10).unwrap(), two);
    assert_eq!(store.index_by_message(message_id(2), 2).unwrap(), two[..2]);
    assert_eq!(
        store.checkpoints().unwrap(),
        [1, 2, 3].map(|time| checkpoint_row(time, time * 10))
    );
}

fn conversations_of_a_user_are_paged_by_id<E: Engine>() {
    let engine = E::new();
    let mut store = open_store(&engine);
    let rows: Vec<_> = [(1, 1), (2, 3), (2, 256), (2, 1), (3, 1)]
        .map(|(user, conversation)| Row::UserConversation(user_conversation_row(user, conversation)))
        .to_vec();
    store.apply(&rows, Offset(1)).unwrap();
    let page = |after: Option<u128>, limit| -> Vec<_> {
        let rows = store
            .user_conversations(user(2), after.map(conversation), limit)
            .unwrap();
        rows.iter().map(|row| row.conversation).collect()
    };
    assert_eq!(page(None, 10), [1, 3, 256].map(conversation));
    assert_eq!(page(None, 2), [1, 3].map(conversation));
    assert_eq!(page(Some(3), 2), [256].map(conversation));
    assert_eq!(page(Some(2), 1), [3].map(conversation));
    assert_eq!(page(Some(256), 2), []);
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

fn rows_written_again_change_nothing<E: Engine>() {
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
    let error = store.conversation(conversation(1)).unwrap_err();
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
