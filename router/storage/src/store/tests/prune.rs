//! Retention: a model of sends, steps, restarts and crashes; what a sweep looks at; and lists that are damaged.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use wire_base::ids::ConversationId;

use super::*;
use crate::check::check_store;
use crate::store::contract::sends::Sends;

on_both_engines!(retention_is_kept);

fn retention_is_kept<E: Engine>() {
    contract::keeps_retention(|| Over(E::new()));
}

#[derive(Clone, Debug)]
enum Step {
    /// Sends in one batch.
    Send(Vec<(u64, u64)>),
    /// The floor, in thousandths of what there is, and most messages.
    Prune(u64, usize),
    Persist,
    Reopen,
    Crash,
    /// The next batch is refused, and made or not.
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    let pair = (1..6_u64, 1..4_u64);
    prop_oneof![
        6 => prop::collection::vec(pair, 1..75).prop_map(Step::Send),
        6 => (0..1_001_u64, 0..70_usize).prop_map(|(below, max)| Step::Prune(below, max)),
        1 => Just(Step::Persist),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn exactly_what_is_past_retention_and_not_the_newest_is_gone(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let kv = MemoryKv::seeded(seed);
        let mut store = KvStore::open(kv.clone(), GENERATION).unwrap();
        let mut sends = Sends::new(GENERATION);
        // What a crash may leave.
        let mut since_persist = vec![sends.clone()];
        let mut is_refusing = false;
        let mut below = Offset(0);
        for step in steps {
            match step {
                Step::Send(pairs) => {
                    let rows: Vec<_> = pairs.iter().flat_map(|(from, to)| sends.send(*from, *to)).collect();
                    if std::mem::take(&mut is_refusing) {
                        kv.fail_applies(Some(KvFault::NoSpace));
                        prop_assert!(store.apply(&rows, sends.through()).is_err());
                        kv.fail_applies(None);
                        since_persist.push(sends.clone());
                    }
                    store.apply(&rows, sends.through()).unwrap();
                    since_persist.push(sends.clone());
                }
                Step::Prune(share, max) => {
                    // A floor never falls.
                    below = below.max(Offset(sends.through().0 * share / 1_000));
                    let before = sends.clone();
                    let next = sends.prune(below, max);
                    since_persist.push(sends.clone());
                    if std::mem::take(&mut is_refusing) {
                        kv.fail_applies(Some(KvFault::NoSpace));
                        prop_assert!(store.prune(below, max).is_err());
                        kv.fail_applies(None);
                        // It is tried again later, after whatever comes; which of the two it was shows.
                        if sends.disagreement(&store).is_some() {
                            sends = before;
                        }
                    } else {
                        prop_assert_eq!(store.prune(below, max).unwrap(), next);
                    }
                }
                Step::Persist => {
                    store.persist().unwrap();
                    since_persist = vec![sends.clone()];
                }
                Step::Reopen => {
                    drop(store);
                    kv.restart();
                    store = KvStore::open(kv.clone(), GENERATION).unwrap();
                }
                Step::Crash => {
                    drop(store);
                    kv.crash();
                    store = KvStore::open(kv.clone(), GENERATION).unwrap();
                    let left = since_persist.iter().find(|sends| {
                        store.flushed() == sends.last() && sends.disagreement(&store).is_none()
                    });
                    prop_assert!(left.is_some(), "no batch boundary");
                    sends = left.unwrap().clone();
                    since_persist = vec![sends.clone()];
                    below = store.prune_floor();
                }
                Step::Refuse => is_refusing = true,
            }
            prop_assert_eq!(sends.disagreement(&store), None);
        }
        let check = check_store(&kv).unwrap();
        prop_assert!(check.is_sound(), "{}", check);
    }
}

/// A [`MemoryKv`] that counts the rows that reads look at.
struct Counted {
    kv: MemoryKv,
    looked_at: Arc<AtomicUsize>,
}

impl Kv for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.looked_at.fetch_add(1, Relaxed);
        self.kv.get(key)
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.kv.scan(range, direction, &mut |key, value| {
            self.looked_at.fetch_add(1, Relaxed);
            visit(key, value)
        })
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        self.kv.apply(batch)
    }

    fn persist(&mut self) -> Result<(), KvError> {
        self.kv.persist()
    }
}

#[test]
fn a_sweep_looks_at_what_it_deletes_and_at_nothing_else() {
    for live in [10, 20_000] {
        let looked_at = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            kv: MemoryKv::seeded(1),
            looked_at: Arc::clone(&looked_at),
        };
        let mut store = KvStore::open(counted, GENERATION).unwrap();
        let mut sends = Sends::new(GENERATION);
        // 3,200 old messages in 50 lists and 100 conversations, of which two have no newer message.
        for list in 0..50 {
            let pairs = (0..64).map(|n| 1 + (list * 64 + n) % 100);
            let rows: Vec<_> = pairs.flat_map(|n| sends.send(2 * n, 2 * n + 1)).collect();
            store.apply(&rows, sends.through()).unwrap();
        }
        let below = Offset(sends.through().0 + 1);
        for _ in 0..live / 98 + 1 {
            let rows: Vec<_> = (3..=100).flat_map(|n| sends.send(2 * n, 2 * n + 1)).collect();
            store.apply(&rows, sends.through()).unwrap();
        }
        for (messages_max, steps) in [(640, 1), (320, 8)] {
            for _ in 0..steps {
                looked_at.store(0, Relaxed);
                store.prune(below, messages_max).unwrap();
                sends.prune(below, messages_max);
                let lists = messages_max / 64 + 1;
                // Each conversation once, and the heads of the readers of what is kept.
                let most = lists + 100 + 2 * 2;
                let looked_at = looked_at.load(Relaxed);
                assert!(
                    looked_at <= most,
                    "{looked_at} rows for {messages_max} messages, {live} live"
                );
            }
        }
        assert_eq!(store.prune(below, 1).unwrap(), None);
        assert_eq!(sends.disagreement(&store), None);
    }
}

#[test]
fn a_write_looks_at_heads_only_where_one_may_be_kept() {
    let looked_at = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        kv: MemoryKv::seeded(1),
        looked_at: Arc::clone(&looked_at),
    };
    let mut store = KvStore::open(counted, GENERATION).unwrap();
    let mut sends = Sends::new(GENERATION);
    let look = |store: &mut KvStore<_>, sends: &mut Sends, from, to| {
        looked_at.store(0, Relaxed);
        let rows = sends.send(from, to);
        store.apply(&rows, sends.through()).unwrap();
        looked_at.load(Relaxed)
    };
    assert_eq!(look(&mut store, &mut sends, 1, 2), 0, "nothing was ever kept");
    store.prune(Offset(1), 10).unwrap();
    assert_eq!(look(&mut store, &mut sends, 2, 1), 2, "both heads are old");
    assert_eq!(look(&mut store, &mut sends, 1, 2), 0, "the message before is not");
    assert_eq!(
        look(&mut store, &mut sends, 1, 3),
        1,
        "a new conversation, one of whose members has no entry"
    );
}

#[test]
fn what_cannot_be_read_stays_and_holds_up_nothing_else() {
    let mut kv = MemoryKv::seeded(1);
    let mut store = KvStore::open(kv.clone(), GENERATION).unwrap();
    let mut sends = Sends::new(GENERATION);
    for pairs in [[(1, 2), (1, 2)], [(3, 4), (3, 4)], [(5, 6), (5, 6)]] {
        let rows: Vec<_> = pairs
            .iter()
            .flat_map(|(from, to)| sends.send(*from, *to))
            .collect();
        store.apply(&rows, sends.through()).unwrap();
    }
    let of = |a, b| ConversationId::direct(user(a), user(b));
    let mut batch = Batch::default();
    batch.put(list_key(Offset(0)), [200]);
    batch.put(ConversationRow::encode_key(of(3, 4), ()), [200]);
    batch.put(MessageRow::encode_key(of(5, 6), Seq(1)), [200]);
    kv.apply(&batch).unwrap();
    for mut store in [store, KvStore::open(kv.clone(), GENERATION).unwrap()] {
        store.prune(Offset(6), 100).unwrap();
        let left = |a, b| {
            let keys = [1, 2].map(|seq| MessageRow::encode_key(of(a, b), Seq(seq)));
            keys.map(|key| kv.get(&key).unwrap().is_some())
        };
        assert_eq!(left(1, 2), [true, true], "nobody knows what the list named");
        assert_eq!(left(3, 4), [false, true], "the last one, which may be the newest");
        assert_eq!(left(5, 6), [false, true], "nobody has to read what is deleted");
    }
}
