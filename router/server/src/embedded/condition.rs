//! What the router can do while the disk cannot: the states between ready and stopped, and the way back.

use router_core::prelog::Refusal;
use router_storage::disk::{Disk, DiskError};
use router_storage::log::AppendError;
use router_storage::store::{Store, StoreError};
use wire_base::code::Code;

use super::{Fatal, Router};
use crate::health::Readiness;

/// Whether records are taken, and what is waited for when they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Records are taken.
    Ready,
    /// The wall clock is not known, so that no record can be stamped; it is asked again at this time of the monotonic one.
    ClockUnset { retry_ms: u64 },
    /// The log had no room; it is asked again at this time of the monotonic clock.
    LogFull { retry_ms: u64 },
    /// The store had no room for a batch that the log has; the batch is tried again then.
    StoreFull { retry_ms: u64 },
    /// The store stopped, and is opened again then; the log has what it lacks.
    StoreStopped { retry_ms: u64 },
    /// What the log holds is unknown until it is read again.
    LogFailed,
    /// The store takes nothing until a restart. The log has what it lacks.
    StoreFailed,
}

impl Condition {
    /// Returns whether records are taken.
    pub(super) fn takes_records(self) -> bool {
        self == Self::Ready
    }

    /// Returns when to try again.
    pub(super) fn retry_ms(self) -> Option<u64> {
        match self {
            Self::ClockUnset { retry_ms }
            | Self::LogFull { retry_ms }
            | Self::StoreFull { retry_ms }
            | Self::StoreStopped { retry_ms } => Some(retry_ms),
            Self::Ready | Self::LogFailed | Self::StoreFailed => None,
        }
    }

    fn readiness(self) -> Readiness {
        match self {
            Self::Ready => Readiness::Ready,
            Self::ClockUnset { .. } => Readiness::ClockUnset,
            Self::LogFull { .. } => Readiness::LogFull,
            Self::StoreFull { .. } => Readiness::StoreFull,
            Self::StoreStopped { .. } => Readiness::StoreStopped,
            Self::LogFailed => Readiness::LogFailed,
            Self::StoreFailed => Readiness::StoreFailed,
        }
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Looks whether what stopped the router has passed.
    pub(super) fn retry_condition(&mut self) -> Result<(), Fatal> {
        if self
            .condition
            .retry_ms()
            .is_none_or(|retry_ms| retry_ms > self.now.mono_ms)
        {
            return Ok(());
        }
        if matches!(
            self.condition,
            Condition::LogFull { .. } | Condition::StoreFull { .. } | Condition::StoreStopped { .. }
        ) {
            self.make_room()?;
        }
        match self.condition {
            Condition::ClockUnset { .. } => {
                self.check_clock();
                Ok(())
            }
            Condition::LogFull { .. } => match self.log.probe_space() {
                Ok(()) => self.resume(),
                Err(error) => self.handle_append_error(&error),
            },
            Condition::StoreFull { .. } | Condition::StoreStopped { .. } => match self.settle_store() {
                Ok(()) => {
                    self.publish(&[]);
                    self.resume()
                }
                Err(error) => self.handle_write_error(&error),
            },
            Condition::Ready | Condition::LogFailed | Condition::StoreFailed => Ok(()),
        }
    }

    /// Takes records again, if the store proves that it works: it may have stopped while nobody wrote to it, most likely
    /// when the disk was full for both.
    fn resume(&mut self) -> Result<(), Fatal> {
        match self.store.probe() {
            Ok(()) => {
                self.set_condition(Condition::Ready);
                Ok(())
            }
            Err(error) => self.handle_write_error(&error),
        }
    }

    /// Has the store write what waits for it: first what it could not write, since look-ups fail until then.
    fn settle_store(&mut self) -> Result<(), StoreError> {
        self.store.settle()?;
        self.apply()
    }

    /// Takes note that the store could not write something that it was handed, though nobody has asked it since.
    pub(super) fn notice_store(&mut self) -> Result<(), Fatal> {
        match self.store.pending_error() {
            Some(error) if self.condition.takes_records() => self.handle_write_error(&error),
            _ => Ok(()),
        }
    }

    /// Takes note that the log refused.
    pub(super) fn handle_append_error(&mut self, error: &AppendError) -> Result<(), Fatal> {
        match error {
            AppendError::Failed(DiskError::Crashed) => return Err(Fatal::Crashed),
            AppendError::NoSpace => {
                self.counters.log_full.add(1);
                self.set_condition(Condition::LogFull {
                    retry_ms: self.now.mono_ms + RETRY_MS,
                });
            }
            AppendError::Failed(_) | AppendError::Stopped => {
                tracing::error!(%error, "nothing is acknowledged until restart");
                self.set_condition(Condition::LogFailed);
            }
        }
        Ok(())
    }

    /// Takes note that the store did not do what makes it hold all that the log has.
    pub(super) fn handle_write_error(&mut self, error: &StoreError) -> Result<(), Fatal> {
        if error.is_crash() {
            return Err(Fatal::Crashed);
        }
        self.counters.store_errors.add(1);
        self.set_condition(match error {
            StoreError::NoSpace => Condition::StoreFull { retry_ms: self.now.mono_ms + RETRY_MS },
            StoreError::Stopped { reopens, .. } => {
                tracing::warn!(%error, "nothing is acknowledged until it is opened again; the log keeps what it lacks");
                let pause_ms = RETRY_MS << reopens.min(&REOPEN_DOUBLINGS_MAX);
                Condition::StoreStopped { retry_ms: self.now.mono_ms + pause_ms }
            }
            _ => {
                tracing::error!(%error, "nothing is acknowledged until restart; the log keeps what the store lacks");
                Condition::StoreFailed
            }
        });
        Ok(())
    }

    /// Takes note that the store could not answer a question; only who asked is affected.
    pub(super) fn handle_read_error(&mut self, error: &StoreError) -> Result<(), Fatal> {
        if error.is_crash() {
            return Err(Fatal::Crashed);
        }
        // A client can repeat its question as often as it likes, so only the first failure makes a line.
        if self.counters.store_errors.get() == 0 {
            tracing::error!(%error, "a read of the store failed; see router_store_errors_total");
        }
        self.counters.store_errors.add(1);
        Ok(())
    }

    pub(super) fn set_condition(&mut self, condition: Condition) {
        let readiness = condition.readiness();
        if self.health.readiness() != readiness {
            tracing::warn!(%readiness, "readiness changed");
        }
        self.condition = condition;
        self.health.set(readiness);
    }
}

/// The answer while records are not taken.
pub(super) const UNAVAILABLE: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "the server cannot store messages now; the outcome is unknown, repeat it with the same message_id",
    retry_after_ms: Some(RETRY_MS as u32),
};
/// How often the disk is asked whether it has room again.
const RETRY_MS: u64 = 1_000;
/// The pause before a store is opened again doubles each time, this often: to 32 s.
const REOPEN_DOUBLINGS_MAX: u32 = 5;
