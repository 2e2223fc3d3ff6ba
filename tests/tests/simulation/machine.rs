//! The machine under test: disk, store and router, and the ways it goes down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exposition::Value;
use router_core::time::Now;
use router_server::config::RouterConfig;
use router_server::embedded::{Disks, Fatal, Inline, Router, StartError, StartReport};
use router_server::health::Readiness;
use router_storage::disk::{DiskError, SimDisk};
use router_storage::log::{OpenError, ReadError, SegmentedLog};
use router_storage::store::{KvStore, MemoryKv, StoreError};
use wire_link::pipe::{Endpoint, pipe};

use crate::stepped::{Stepped, Thread};
use crate::watch::{Defect, Operation, Reader, Watch, WatchedDisk, WatchedKv};

type SimDisks = Stepped<Inline<SegmentedLog<WatchedDisk>, KvStore<WatchedKv>>>;
type SimRouter = Router<SimDisks>;

/// One router on its simulated disk and store. Every changing call on either has a number, and the machine can be told
/// at which one to go down.
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) kv: MemoryKv,
    pub(crate) config: RouterConfig,
    watch: Watch,
    router: Option<SimRouter>,
    /// What the router gives its jobs.
    disks: Option<SimDisks>,
    /// What the thread of a router waits for.
    woken: Arc<AtomicBool>,
    is_busy: bool,
    starts: u64,
    seed: u64,
}

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// What was not synced survives or not, sector by sector and batch by batch.
    Power,
    /// The process ends; the page cache stays.
    Kill,
}

/// What became of a start.
pub(crate) enum Start {
    Up(StartReport),
    /// The machine went down again.
    Down(Operation),
    /// The disk refused, as it was told to.
    Refused,
    /// The router does not start on what it wrote itself.
    Broken(String),
}

impl Machine {
    pub(crate) fn new(seed: u64, config: RouterConfig, defect: Option<Defect>) -> Self {
        let mut disk = SimDisk::seeded(seed ^ 0xd15c);
        // Half of the disks can; more than some sectors cost time and show nothing new.
        if seed.is_multiple_of(2) && config.log_segment_bytes <= PREALLOCATED_BYTES_MAX {
            disk = disk.with_preallocation();
        }
        Self {
            disk,
            kv: MemoryKv::seeded(seed ^ 0x5708e),
            config,
            watch: Watch::new(defect),
            router: None,
            disks: None,
            woken: Arc::new(AtomicBool::new(false)),
            is_busy: false,
            starts: 0,
            seed,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.router.is_some()
    }

    /// Starts the router on what disk and store hold.
    pub(crate) fn start(&mut self, now: Now) -> Start {
        self.starts += 1;
        match self.try_start(now) {
            Ok((router, report)) => {
                self.router = Some(router);
                self.is_busy = true;
                Start::Up(report)
            }
            Err(error) => self.judge(&error),
        }
    }

    fn judge(&self, error: &StartError) -> Start {
        if let Some(operation) = self.watch.went_down_in() {
            return Start::Down(operation);
        }
        match error {
            StartError::Read(ReadError::Failed(cause))
                if matches!(cause.downcast_ref(), Some(DiskError::Io { .. })) =>
            {
                Start::Refused
            }
            StartError::Log(OpenError::Disk(DiskError::NoSpace { .. } | DiskError::Io { .. }))
            | StartError::Store(StoreError::NoSpace | StoreError::Stopped { .. } | StoreError::Failed(_)) => {
                Start::Refused
            }
            error => Start::Broken(error.to_string()),
        }
    }

    fn try_start(&mut self, now: Now) -> Result<(SimRouter, StartReport), StartError> {
        let created = (now.unix.0 / 1_000) as u32;
        let store = KvStore::open(WatchedKv::new(self.kv.clone(), self.watch.clone()), created)?;
        let disk = WatchedDisk::new(self.disk.clone(), self.watch.clone());
        let seed = self.seed.wrapping_mul(31).wrapping_add(self.starts);
        let (router, report) = Router::open(disk, store, &self.config, seed, now)?;
        let watch = self.watch.clone();
        let mut disks = None;
        let router = router.try_with_disks(|inline| {
            let stepped = Stepped::new(inline, watch);
            disks = Some(stepped.clone());
            Ok::<_, StartError>(stepped)
        })?;
        self.disks = disks;
        let woken = Arc::clone(&self.woken);
        router.set_waker(&(Arc::new(move || woken.store(true, Ordering::Relaxed)) as _));
        Ok((router, report))
    }

    /// Opens a link and returns the client's end of it. Panics while the router is down.
    pub(crate) fn add_link(&mut self) -> Endpoint {
        let (ours, theirs) = pipe(self.config.link_pipe_bytes);
        self.router
            .as_mut()
            .expect("links are opened to a router that is up")
            .add_link(theirs);
        ours
    }

    /// Returns whether the thread of a router would run now: something woke it, it said that it is not done, or the
    /// time came that it asked for. Ticking only then shows a wake-up or a deadline that it forgot.
    pub(crate) fn needs_tick(&self, now: Now) -> bool {
        let Some(router) = &self.router else { return false };
        let is_due = router.poll_timeout().is_some_and(|due_ms| due_ms <= now.mono_ms);
        let is_reported = self.disks.as_ref().is_some_and(Disks::has_done);
        self.is_busy || is_due || is_reported || self.woken.load(Ordering::Relaxed)
    }

    /// Lets the router run once.
    ///
    /// Errors: the machine went down in this operation.
    pub(crate) fn tick(&mut self, now: Now) -> Result<(), Operation> {
        self.woken.store(false, Ordering::Relaxed);
        let router = self.router.as_mut().expect("only a router that is up ticks");
        match router.tick(now) {
            Ok(progress) => {
                self.is_busy = progress.is_busy;
                Ok(())
            }
            Err(Fatal::Crashed) => Err(self
                .watch
                .went_down_in()
                .expect("only an operation takes the machine down")),
        }
    }

    /// Lets a thread do its next job.
    ///
    /// Errors: the machine went down in this operation.
    pub(crate) fn step(&mut self, thread: Thread) -> Result<(), Operation> {
        if let Some(disks) = &self.disks {
            disks.step(thread);
        }
        self.watch.went_down_in().map_or(Ok(()), Err)
    }

    /// Returns how many jobs a thread has.
    pub(crate) fn jobs(&self, thread: Thread) -> usize {
        self.disks.as_ref().map_or(0, |disks| disks.jobs(thread))
    }

    /// Takes the machine down, router and all. What its threads had not done is lost.
    pub(crate) fn go_down(&mut self, outage: Outage) {
        self.router = None;
        self.disks = None;
        match outage {
            Outage::Power => {
                self.disk.crash();
                self.kv.crash();
            }
            Outage::Kill => {
                self.disk.restart();
                self.kv.restart();
            }
        }
        self.watch.boot();
    }

    /// Lets so many more changing calls of disk and store through, and goes down in the next one.
    pub(crate) fn crash_after(&self, operations: u64) {
        self.watch.crash_after(operations);
    }

    /// Fails every so many-th read of disk or store, through every boot, until lifted with `None`.
    pub(crate) fn fail_reads(&self, failing: Option<(Reader, u64)>) {
        self.watch.fail_reads(failing);
    }

    /// Returns how many changing calls there were.
    pub(crate) fn operations(&self) -> u64 {
        self.watch.operations()
    }

    /// Returns how often each of them was made.
    pub(crate) fn calls(&self) -> BTreeMap<Operation, u64> {
        self.watch.calls()
    }

    /// Returns the number of the last sync of the disk that was reported as done.
    pub(crate) fn last_sync(&self) -> u64 {
        self.watch.last_sync()
    }

    /// Returns a counter or gauge; 0 while the router is down.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let Some(router) = &self.router else { return 0 };
        let sample = router
            .metrics()
            .samples()
            .into_iter()
            .find(|sample| sample.name == name)
            .expect("a metric");
        match sample.value {
            Value::Counter(count) => count,
            Value::Gauge(value) => value as u64,
            Value::Seconds(_) | Value::Histogram(_) => panic!("{name} is no single whole number"),
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.router
            .as_ref()
            .map_or(Readiness::Stopped, |router| router.health().readiness())
    }
}

const PREALLOCATED_BYTES_MAX: u64 = 16 << 10;
