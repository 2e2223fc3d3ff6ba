//! Rows that wait in memory: nobody can tell.

use std::ops::Bound;

use proptest::prelude::*;
use router_records::row::DeviceRow;

use super::*;

on_both_engines!(gathered_rows_keep_the_contracts);

/// A store before which rows are gathered.
struct Before<E>(E);

impl<E: Engine> Place for Before<E> {
    type Store = Gathered<KvStore<E::Kv>>;

    fn open(&self) -> Self::Store {
        Gathered::new(open_store(&self.0))
    }
}

fn gathered_rows_keep_the_contracts<E: Engine>() {
    contract::keeps_reads_and_apply(|| Before(E::new()));
    contract::keeps_retention(|| Before(E::new()));
}

#[derive(Clone, Debug)]
enum Step {
    /// A message of this seq, with so long a text.
    Message(u64, usize),
    /// A device, and when it was last seen.
    Device(u32, u64),
    Flush,
    /// Messages between two seqs, with limits.
    Page(Option<u64>, Option<u64>, bool, usize, usize),
    /// Devices after one.
    Devices(Option<u32>, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let seq = || prop::option::of(0..12_u64);
    prop_oneof![
        4 => (0..12_u64, 1..60_usize).prop_map(|(seq, bytes)| Step::Message(seq, bytes)),
        4 => (1..5_u32, 0..9_u64).prop_map(|(device, seen)| Step::Device(device, seen)),
        1 => Just(Step::Flush),
        4 => (seq(), seq(), any::<bool>(), 0..6_usize, 0..200_usize)
            .prop_map(|(after, before, is_forward, rows, bytes)| Step::Page(after, before, is_forward, rows, bytes)),
        2 => (prop::option::of(1..5_u32), 0..4_usize).prop_map(|(after, rows)| Step::Devices(after, rows)),
    ]
}

/// What a gathered store says, held against the whole truth: as much of it as is said, and no end that is none.
fn is_part<T: PartialEq + std::fmt::Debug>(said: Page<T>, truth: &Page<T>) -> Result<(), TestCaseError> {
    prop_assert!(truth.rows.starts_with(&said.rows), "{:?} of {:?}", said, truth);
    prop_assert!(said.more || said == *truth, "{:?} of {:?}", said, truth);
    prop_assert_eq!(said.rows.is_empty(), truth.rows.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn what_waits_is_read_as_what_is_written(steps in prop::collection::vec(step(), 1..60)) {
        let mut written = KvStore::open(MemoryKv::seeded(1), GENERATION).unwrap();
        let mut gathered = Gathered::new(KvStore::open(MemoryKv::seeded(1), GENERATION).unwrap());
        for (offset, step) in (1..).zip(steps) {
            let row: Row = match step {
                Step::Message(seq, bytes) => message_row(1, seq, seq, &"x".repeat(bytes)).into(),
                Step::Device(device, seen) => DeviceRow {
                    last_seen: wire_base::ids::UnixMs(seen),
                    ..device_row(1, device)
                }
                .into(),
                Step::Flush => {
                    gathered.flush().unwrap();
                    continue;
                }
                Step::Page(after, before, is_forward, rows, bytes) => {
                    let range = Range::<MessageRow>::of(conversation(1));
                    let range = range.after(after.map(Seq)).before(before.map(Seq));
                    if let (Bound::Excluded(from), Bound::Excluded(to)) = (range.from, range.to)
                        && from >= to
                    {
                        continue;
                    }
                    let direction = if is_forward { Direction::Forward } else { Direction::Backward };
                    let limits = Limits { rows, bytes };
                    let truth = written.scan(range, direction, limits).unwrap();
                    is_part(gathered.scan(range, direction, limits).unwrap(), &truth)?;
                    continue;
                }
                Step::Devices(after, rows) => {
                    let range = Range::<DeviceRow>::of(user(1)).after(after.map(device));
                    let truth = written.scan(range, Direction::Forward, Limits::rows(rows)).unwrap();
                    let said = gathered.scan(range, Direction::Forward, Limits::rows(rows)).unwrap();
                    prop_assert_eq!(said, truth);
                    continue;
                }
            };
            written.apply(std::slice::from_ref(&row), Offset(offset)).unwrap();
            gathered.gather(vec![row], Offset(offset));
            prop_assert_eq!(gathered.flushed(), written.flushed());
            for seq in (0..12).map(Seq) {
                let row: Option<MessageRow> = written.get(conversation(1), seq).unwrap();
                prop_assert_eq!(gathered.get(conversation(1), seq).unwrap(), row);
            }
        }
    }
}

#[test]
fn rows_are_written_together_and_overwritten_ones_not_at_all() {
    let kv = MemoryKv::seeded(1);
    let mut store = Gathered::new(KvStore::open(kv.clone(), GENERATION).unwrap());
    let operations = kv.operations();
    for offset in 1..=100 {
        let rows = [
            conversation_row(1, offset).into(),
            message_row(1, offset, offset, "x").into(),
        ];
        store.gather(rows.to_vec(), Offset(offset));
        assert!(!store.is_full());
    }
    assert_eq!(
        (kv.operations(), KvStore::open(kv.clone(), 1).unwrap().flushed()),
        (operations, None)
    );
    store.flush().unwrap();
    store.flush().unwrap();
    assert_eq!(kv.operations(), operations + 1, "in one batch");
    let written = KvStore::open(kv, 1).unwrap();
    assert_eq!(written.flushed(), Some(Offset(100)));
    assert_eq!(messages(&written, 1).unwrap().len(), 100);
    let text = "x".repeat(9_000);
    for offset in 101..600 {
        store.gather(vec![message_row(1, offset, offset, &text).into()], Offset(offset));
    }
    assert!(store.is_full());
}

#[test]
fn rows_that_cannot_be_written_wait_on() {
    let kv = MemoryKv::seeded(3);
    let mut store = Gathered::new(KvStore::open(kv.clone(), GENERATION).unwrap());
    kv.fail_applies(Some(KvFault::NoSpace));
    for offset in 1..=3 {
        store.gather(vec![message_row(1, offset, offset, "x").into()], Offset(offset));
        assert!(matches!(store.flush(), Err(StoreError::NoSpace)));
        assert_eq!(messages(&store, 1).unwrap().len() as u64, offset);
    }
    assert_eq!(
        store.persist_written().unwrap(),
        None,
        "what is written can be synced"
    );
    kv.fail_applies(None);
    store.flush().unwrap();
    assert_eq!(messages(&KvStore::open(kv, 1).unwrap(), 1).unwrap().len(), 3);
}
