//! A store whose thread writes later, as the one on disk does: what is answered does not depend on when.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use router_core::sessions::SessionsConfig;
use router_core::testing::{
    Gateway, START, connection, decode, encode, history_of, link_hello, page_texts, send_of, session_open,
    text_of, user,
};
use router_core::time::Now;
use router_server::config::RouterConfig;
use router_server::embedded::{Router, Threads};
use router_server::health::Readiness;
use router_storage::disk::SimDisk;
use router_storage::store::{Batch, Direction, KeyRange, Kv, KvError, KvFault, KvStore, MemoryKv, Visit};
use wire_base::code::Code;
use wire_base::ids::DeviceId;
use wire_link::pipe::{Endpoint, pipe};
use wire_link::{FromRouter, LinkKind, RequestId, SessionRef, ToRouter};

/// A router over what outlives it, and a gateway's end of a link.
struct Late<K: Kv + Send + 'static = MemoryKv> {
    router: Router<Threads>,
    link: Endpoint,
    gateway: Gateway,
    now: Now,
    store: PhantomData<K>,
}

impl<K: Kv + Clone + Send + 'static> Late<K> {
    /// `seed` is that of the message ids that the router makes.
    fn start(disk: &SimDisk, kv: &K, seed: u64) -> Self {
        let config = RouterConfig {
            sends_per_s: Some(0),
            store_gather_ms: 0, // Rows that wait have tests of their own.
            log_segment_bytes: 1 << 20,
            ..RouterConfig::default()
        };
        let now = START;
        let (link, theirs) = pipe(config.link_pipe_bytes);
        let store = KvStore::open(kv.clone(), 7).unwrap();
        let (router, _) = Router::open(disk.clone(), store, &config, seed, now).unwrap();
        let mut router = router.with_threads(thread::current()).unwrap();
        router.add_link(theirs);
        let mut late = Self {
            router,
            link,
            gateway: Gateway::new(SessionsConfig::default().window_bytes_max),
            now,
            store: PhantomData,
        };
        assert!(
            late.ask(&ToRouter::Hello(link_hello(LinkKind::Gateway)))
                .is_none()
        );
        late
    }

    /// Ticks as log and store report, until there is an answer, or nothing more to come.
    fn ask(&mut self, question: &ToRouter) -> Option<FromRouter> {
        self.gateway.said(question);
        self.link
            .try_send(encode(std::slice::from_ref(question)))
            .unwrap();
        let mut answers = Vec::new();
        self.tick_until("an answer, or rest", |late, is_at_rest| {
            answers = late.hear();
            !answers.is_empty() || is_at_rest
        });
        answers.into_iter().next()
    }

    /// Ticks until it is `done`, which is told whether nothing is under way.
    fn tick_until(&mut self, what: &str, mut done: impl FnMut(&mut Self, bool) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let is_busy = self.router.tick(self.now).unwrap().is_busy;
            let is_at_rest = !is_busy && self.router.is_quiet();
            if done(self, is_at_rest) {
                return;
            }
            assert!(Instant::now() < deadline, "never came: {what}");
            if !is_busy {
                thread::park_timeout(Duration::from_millis(5));
            }
        }
    }

    /// Ticks until the router is in a state, as its thread does: no sooner than it says, and it says when.
    fn wait_for(&mut self, readiness: Readiness) {
        self.tick_until(&readiness.to_string(), |late, _| {
            late.now.mono_ms = late.router.poll_timeout().unwrap_or(0).max(late.now.mono_ms);
            late.router.health().readiness() == readiness
        });
    }

    /// Returns what the router said since.
    fn hear(&mut self) -> Vec<FromRouter> {
        let batches = std::iter::from_fn(|| self.link.try_recv().unwrap());
        let records: Vec<_> = batches.flat_map(decode).collect();
        records.iter().for_each(|record| self.gateway.heard(record));
        records
    }

    /// Opens a session of device 1.
    fn open(&mut self, user_id: u64, slot: u32) -> Option<FromRouter> {
        self.ask(&ToRouter::SessionOpen(session_open(slot, user_id, 1)))
    }

    fn close(&mut self, user_id: u64, slot: u32) {
        let session = SessionRef {
            connection: connection(slot),
            user: user(user_id),
            device: DeviceId::DEFAULT,
        };
        assert!(self.ask(&ToRouter::SessionClose(session)).is_none());
    }

    /// Sends from user 1 to user 2.
    fn send(&mut self, text: &str) -> Result<u64, Code> {
        self.send_to(2, text)
    }

    fn send_to(&mut self, receiver: u64, text: &str) -> Result<u64, Code> {
        let send = send_of(RequestId(1), (1, DeviceId::API), receiver, None, text);
        match self.ask(&ToRouter::Send(send)) {
            Some(FromRouter::Sent(sent)) => Ok(sent.seq.0),
            Some(FromRouter::Rejected(rejected)) => Err(rejected.code),
            other => panic!("not an answer to a send: {other:?}"),
        }
    }

    /// Returns the newest texts, oldest first.
    fn history(&mut self) -> Result<Vec<String>, Code> {
        let history = history_of(RequestId(2), 2, 1, 10);
        match self.ask(&ToRouter::History(history)) {
            Some(FromRouter::HistoryPage(page)) => {
                Ok(page_texts(&page).into_iter().map(|(_, text)| text).collect())
            }
            Some(FromRouter::Failed(failed)) => Err(failed.code),
            other => panic!("not an answer to a question: {other:?}"),
        }
    }
}

#[test]
fn history_has_what_was_sent_before_though_the_store_writes_it_later() {
    let mut late = Late::start(&SimDisk::seeded(1), &MemoryKv::seeded(1), 1);
    for seq in 1..=200 {
        assert_eq!(late.send(&seq.to_string()), Ok(seq));
        assert_eq!(*late.history().unwrap().last().unwrap(), seq.to_string());
    }
}

#[test]
fn messages_whose_rows_find_no_room_later_come_when_there_is_room() {
    let kv = MemoryKv::seeded(2);
    let mut late = Late::start(&SimDisk::seeded(2), &kv, 1);
    kv.fail_applies(Some(KvFault::NoSpace));
    assert_eq!(late.send("a"), Ok(1), "it is in the log");
    assert_eq!(
        late.history(),
        Err(Code::Unavailable),
        "a page without it would be a lie"
    );
    assert_eq!(late.send("b"), Err(Code::Unavailable));
    assert_eq!(late.router.health().readiness(), Readiness::StoreFull);
    kv.fail_applies(None);
    late.wait_for(Readiness::Ready);
    assert_eq!(late.history(), Ok(vec!["a".into()]));
    assert_eq!(late.send("c"), Ok(2));
}

#[test]
fn a_look_up_that_the_full_store_refuses_does_not_keep_it_full() {
    let kv = MemoryKv::seeded(3);
    let mut late = Late::start(&SimDisk::seeded(3), &kv, 1);
    kv.fail_applies(Some(KvFault::NoSpace));
    assert_eq!(late.send("a"), Ok(1));
    // Of a conversation that is not in memory: its state is looked up before anything is handed over.
    assert_eq!(late.send_to(3, "b"), Err(Code::Unavailable));
    late.wait_for(Readiness::StoreFull);
    kv.fail_applies(None);
    late.wait_for(Readiness::Ready);
    assert!(late.send_to(3, "c").is_ok());
}

#[test]
fn a_store_that_fills_up_while_nobody_writes_is_noticed_and_recovers_by_itself() {
    let kv = MemoryKv::seeded(4);
    let mut late = Late::start(&SimDisk::seeded(4), &kv, 1);
    kv.fail_applies(Some(KvFault::NoSpace));
    assert_eq!(late.send("a"), Ok(1));
    assert_eq!(late.history(), Err(Code::Unavailable));
    late.wait_for(Readiness::StoreFull);
    kv.fail_applies(None);
    late.wait_for(Readiness::Ready);
    assert_eq!(late.history(), Ok(vec!["a".into()]));
}

#[test]
fn a_store_that_stopped_is_opened_again_by_itself_and_lacks_nothing() {
    let kv = MemoryKv::seeded(7);
    let mut late = Late::start(&SimDisk::seeded(7), &kv, 1);
    kv.fail_applies(Some(KvFault::Stopped));
    assert_eq!(late.send("a"), Ok(1), "it is in the log");
    assert_eq!(late.history(), Err(Code::Unavailable));
    assert_eq!(late.send("b"), Err(Code::Unavailable));
    assert_eq!(late.router.health().readiness(), Readiness::StoreStopped);
    late.now.mono_ms += 2_000;
    assert_eq!(late.history(), Err(Code::Unavailable));
    assert_eq!(late.router.health().readiness(), Readiness::StoreStopped);
    kv.fail_applies(None);
    late.wait_for(Readiness::Ready);
    assert_eq!(late.history(), Ok(vec!["a".into()]));
    assert_eq!(late.send("c"), Ok(2));
}

#[test]
fn a_log_that_has_room_again_is_not_enough_while_the_store_has_stopped() {
    let (disk, kv) = (SimDisk::seeded(8), MemoryKv::seeded(8));
    let mut late = Late::start(&disk, &kv, 1);
    assert_eq!(late.send("a"), Ok(1));
    late.history().unwrap();
    disk.set_space_left(Some(0));
    assert_eq!(late.send("b"), Err(Code::Unavailable));
    assert_eq!(late.router.health().readiness(), Readiness::LogFull);
    // Nobody writes to the store, so that nobody knows.
    kv.fail_applies(Some(KvFault::Stopped));
    disk.set_space_left(None);
    late.wait_for(Readiness::StoreStopped);
    kv.fail_applies(None);
    late.wait_for(Readiness::Ready);
    assert_eq!(late.send("c"), Ok(2));
}

#[test]
fn while_the_store_is_full_hello_is_for_known_devices_that_are_in_memory() {
    let kv = MemoryKv::seeded(8);
    let mut late = Late::start(&SimDisk::seeded(8), &kv, 1);
    assert!(matches!(late.open(2, 1), Some(FromRouter::SessionOpened(_))));
    late.close(2, 1);
    late.tick_until("rest", |_, is_at_rest| is_at_rest);
    kv.fail_applies(Some(KvFault::NoSpace));
    assert_eq!(late.send("a"), Ok(1));
    assert_eq!(late.history(), Err(Code::Unavailable));
    late.wait_for(Readiness::StoreFull);
    for (user, slot) in [(9, 2), (2, 3)] {
        let is_known = user == 2;
        match late.open(user, slot) {
            Some(FromRouter::SessionOpened(_)) => assert!(is_known),
            Some(FromRouter::SessionRefused(refused)) => {
                assert!(!is_known && refused.code == Code::Unavailable);
            }
            other => panic!("not an answer to an open: {other:?}"),
        }
    }
    assert!(late.hear().is_empty(), "its backlog waits");
    kv.fail_applies(None);
    let mut texts = Vec::new();
    late.wait_for(Readiness::Ready);
    late.tick_until("the backlog", |late, _| {
        late.now.mono_ms = late.router.poll_timeout().unwrap_or(0).max(late.now.mono_ms);
        texts.extend(late.hear().iter().filter_map(text_delivered));
        !texts.is_empty()
    });
    assert_eq!(texts, ["a"]);
}

fn text_delivered(record: &FromRouter) -> Option<String> {
    match record {
        FromRouter::Deliver(deliver) => Some(text_of(&deliver.message.body)),
        _ => None,
    }
}

#[test]
fn a_store_that_cannot_be_written_is_not_started_on() {
    let disk = SimDisk::seeded(5);
    let mut late = Late::start(&disk, &MemoryKv::seeded(5), 1);
    late.send("a").unwrap();
    drop(late);
    disk.restart();
    // The store is gone, and the new one takes no rows.
    let kv = MemoryKv::seeded(6);
    let store = KvStore::open(kv.clone(), 7).unwrap();
    kv.fail_applies(Some(KvFault::Failed));
    assert!(Router::open(disk, store, &RouterConfig::default(), 2, START).is_err());
}

#[test]
fn a_crash_takes_nothing_that_was_answered_and_not_yet_written() {
    for seed in 0..20 {
        let (disk, kv) = (SimDisk::seeded(seed), MemoryKv::seeded(seed));
        let mut late = Late::start(&disk, &kv, 1);
        let fault = if seed % 2 == 0 {
            KvFault::NoSpace
        } else {
            KvFault::Failed
        };
        late.send("a").unwrap();
        late.history().unwrap();
        kv.fail_applies(Some(fault));
        assert_eq!(late.send("b"), Ok(2));
        drop(late);
        disk.crash();
        kv.crash();
        let mut late = Late::start(&disk, &kv, 2);
        assert_eq!(late.history(), Ok(vec!["a".into(), "b".into()]), "seed {seed}");
        assert_eq!(late.send("c"), Ok(3));
    }
}

/// A [`MemoryKv`] whose syncs last as long as the test holds the gate.
#[derive(Clone)]
struct SlowSync {
    kv: MemoryKv,
    gate: Arc<Mutex<()>>,
}

impl Kv for SlowSync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.kv.scan(range, direction, visit)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        self.kv.apply(batch)
    }

    fn persist(&mut self) -> Result<(), KvError> {
        let _open = self.gate.lock().unwrap();
        self.kv.persist()
    }
}

#[test]
fn the_log_keeps_what_was_handed_over_while_the_store_was_synced() {
    let disk = SimDisk::seeded(7);
    let store = SlowSync {
        kv: MemoryKv::seeded(7),
        gate: Arc::default(),
    };
    let mut late = Late::start(&disk, &store, 1);
    assert_eq!(late.send("before"), Ok(1));
    late.history().unwrap();
    let closed = store.gate.lock().unwrap();
    late.now.mono_ms += 6_000;
    late.router.tick(late.now).unwrap();
    // Three segments of the log and more are handed over, and find no room once the sync is over.
    let long = "x".repeat(10_000);
    for seq in 2..=350 {
        assert_eq!(late.send(&long), Ok(seq));
    }
    store.kv.fail_applies(Some(KvFault::NoSpace));
    drop(closed);
    while late.router.health().readiness() != Readiness::StoreFull {
        late.router.tick(late.now).unwrap();
        std::thread::yield_now();
    }
    for _ in 0..4 {
        late.now.mono_ms += 3_600_000;
        late.now.unix.0 += 3_600_000;
        late.router.tick(late.now).unwrap();
    }
    drop(late);
    disk.crash();
    store.kv.crash();
    let mut late = Late::start(&disk, &store, 2);
    assert_eq!(late.send("after"), Ok(351));
}
