//! Whether the router takes messages, and if not, why: written by the router, read by the admin listener.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A handle on the router's state; clones see the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<AtomicU8>);

/// What the router can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Replays its log.
    Starting = 0,
    /// Takes messages.
    Ready = 1,
    /// The log had no room for the last write; tried again every second.
    LogFull = 2,
    /// The store had no room for the last batch; tried again every second.
    StoreFull = 3,
    /// An fsync or a write of the log failed: what is on the disk is not known, so only a restart helps.
    LogFailed = 4,
    /// The store failed: the log has what it lacks, and a restart folds it again.
    StoreFailed = 5,
    /// The router has ended.
    Stopped = 6,
    /// The store stopped: it is opened again after a second, and then at longer and longer intervals.
    StoreStopped = 7,
    /// The wall clock is far from the newest record, or was never set; looked at again every second.
    ClockUnset = 8,
}

impl Health {
    /// Returns a handle that says [`Readiness::Starting`].
    pub fn starting() -> Self {
        Self(Arc::new(AtomicU8::new(Readiness::Starting as u8)))
    }

    /// Returns what the router can do now.
    pub fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Relaxed) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            2 => Readiness::LogFull,
            3 => Readiness::StoreFull,
            4 => Readiness::LogFailed,
            5 => Readiness::StoreFailed,
            7 => Readiness::StoreStopped,
            8 => Readiness::ClockUnset,
            _ => Readiness::Stopped,
        }
    }

    /// Returns whether messages are taken.
    pub fn is_ready(&self) -> bool {
        self.readiness() == Readiness::Ready
    }

    pub(crate) fn set(&self, readiness: Readiness) {
        self.0.store(readiness as u8, Ordering::Relaxed);
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "the router replays its log",
            Self::Ready => "ready",
            Self::LogFull => "the disk of the log is full; service resumes when space returns",
            Self::StoreFull => "the disk of the store is full; service resumes when space returns",
            Self::LogFailed => "a write or fsync of the log failed; restart to read what the disk holds",
            Self::StoreStopped => "the store stopped; service resumes when it was opened again",
            Self::StoreFailed => "the store failed; restart to fold the log again",
            Self::ClockUnset => {
                "the clock of this machine is not set, or far from the newest record; service begins when it is set, or has stood for a minute"
            }
            Self::Stopped => "the router has stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_it_was_set() {
        let health = Health::starting();
        let reader = health.clone();
        for state in [
            Readiness::Starting,
            Readiness::Ready,
            Readiness::LogFull,
            Readiness::StoreFull,
            Readiness::LogFailed,
            Readiness::StoreStopped,
            Readiness::StoreFailed,
            Readiness::Stopped,
            Readiness::ClockUnset,
        ] {
            health.set(state);
            assert_eq!(reader.readiness(), state);
            assert_eq!(reader.is_ready(), state == Readiness::Ready);
        }
    }
}
