//! What the coordinator and its workers tell each other: the phase of the run one way, counts and latencies the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use runtime::Engine;

use crate::clock::Ns;
use crate::measure::Recorder;
use crate::traffic::Traffic;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are opened, nothing is sent.
    Ramp,
    /// The schedule runs.
    Run,
    /// Nothing new is sent; what is under way may arrive.
    Grace,
    /// Connections are closed.
    Finish,
}

/// Set by the coordinator, read by every worker.
#[derive(Debug)]
pub(crate) struct Course {
    phase: AtomicU8,
    start: AtomicU64,
}

impl Course {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Ramp as u8),
            start: AtomicU64::new(Ns::NEVER.0),
        }
    }

    /// Lets the schedule start at `start`.
    pub(crate) fn run_from(&self, start: Ns) {
        self.start.store(start.0, Ordering::Relaxed);
        self.enter(Phase::Run);
    }

    /// Enters a later phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Ramp,
            1 => Phase::Run,
            2 => Phase::Grace,
            _ => Phase::Finish,
        }
    }

    /// Returns when the schedule starts or started; never before [`Course::run_from`].
    pub(crate) fn start(&self) -> Ns {
        Ns(self.start.load(Ordering::Relaxed))
    }
}

/// Written by one worker several times a second, read by the coordinator.
#[derive(Debug)]
pub(crate) struct Board(Mutex<Published>);

/// A worker's state as last published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) engine: Option<Engine>,
    pub(crate) traffic: Traffic,
    pub(crate) counts: Counts,
    /// Latencies since the coordinator last took them.
    pub(crate) interval: Recorder,
}

/// A worker's state in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Clients whose first attempt is over.
    pub(crate) settled: u32,
    /// Clients live now.
    pub(crate) live: u32,
    /// Attempts that failed so far.
    pub(crate) failed: u64,
    /// Nothing is left of this worker's schedule.
    pub(crate) exhausted: bool,
    /// CPU time of the worker's thread.
    pub(crate) cpu_ns: u64,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Published {
            engine: None,
            traffic: Traffic::default(),
            counts: Counts::default(),
            interval: Recorder::new(),
        }))
    }

    /// Lets `look` read or change what is published.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Published) -> T) -> T {
        // A worker that panicked is reported when it is joined; its last numbers are still good.
        look(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
