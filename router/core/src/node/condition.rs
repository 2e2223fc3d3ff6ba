//! What the node can do while a disk cannot: the states between ready and stopped, and the way back.

use wire_base::code::Code;

use super::{Intention, Node, Notice, Shared};
use crate::admission::Refusal;

/// Whether records are taken, and what is waited for when they are not. Times are on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Records are taken.
    Ready,
    /// The wall clock is not known, so that no record can be stamped; it is asked again then.
    ClockUnset {
        /// When.
        retry_ms: u64,
    },
    /// The log had no room; it is asked again then.
    LogFull {
        /// When.
        retry_ms: u64,
    },
    /// The store had no room for rows that the log has; they are tried again then.
    StoreFull {
        /// When.
        retry_ms: u64,
    },
    /// The store stopped, and is opened again then; the log has what it lacks.
    StoreStopped {
        /// When.
        retry_ms: u64,
    },
    /// What the log holds is unknown until it is read again.
    LogFailed,
    /// The store takes nothing until a restart. The log has what it lacks.
    StoreFailed,
}

/// Why the log did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// No room: nothing of the group is in the log.
    NoSpace,
    /// What became of the group is not known.
    Failed,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// No room; the rows wait in the driver.
    NoSpace,
    /// A row cannot be understood; nothing was changed.
    Damaged,
    /// It stopped, and is opened again by the next retry.
    Stopped {
        /// How often it was since it last worked.
        reopens: u32,
    },
    /// It takes nothing more, or cannot be read.
    Failed,
}

impl Condition {
    /// Returns whether records are taken.
    pub fn takes_records(self) -> bool {
        self == Self::Ready
    }

    pub(super) fn retry_ms(self) -> Option<u64> {
        match self {
            Self::ClockUnset { retry_ms }
            | Self::LogFull { retry_ms }
            | Self::StoreFull { retry_ms }
            | Self::StoreStopped { retry_ms } => Some(retry_ms),
            Self::Ready | Self::LogFailed | Self::StoreFailed => None,
        }
    }
}

impl Node {
    /// Learns whether the log takes groups again. If so, the store has to prove that it works: it may have stopped while
    /// nobody wrote to it, most likely when the disk was full for both.
    pub fn handle_log_probed(&mut self, outcome: Result<(), LogFault>) {
        match (self.shared.condition, outcome) {
            (Condition::LogFull { .. }, Ok(())) => {
                return self.shared.intentions.push_back(Intention::RetryStore);
            }
            (Condition::LogFull { .. }, Err(fault)) => self.shared.handle_log_fault(fault),
            _ => {}
        }
        self.shared.is_retrying = false;
    }

    /// Learns whether the store has written what waited, and proved to work.
    pub fn handle_store_retried(&mut self, outcome: Result<(), StoreFault>) {
        self.shared.is_retrying = false;
        if self.shared.condition.retry_ms().is_none()
            || matches!(self.shared.condition, Condition::ClockUnset { .. })
        {
            return;
        }
        match outcome {
            Ok(()) => self.shared.set_condition(Condition::Ready),
            Err(fault) => {
                self.shared.stats.store_errors += 1;
                let condition = self.shared.condition_after(fault);
                self.shared.set_condition(condition);
            }
        }
        self.shared.check_clock();
    }

    /// Asks again for what stopped the node, when it is time.
    pub(super) fn retry_condition(&mut self) {
        let now_ms = self.shared.now.mono_ms;
        if self.shared.is_retrying
            || self
                .shared
                .condition
                .retry_ms()
                .is_none_or(|retry_ms| retry_ms > now_ms)
        {
            return;
        }
        let retry_ms = now_ms + RETRY_MS;
        match self.shared.condition {
            Condition::LogFull { .. } => {
                self.make_room();
                self.shared.condition = Condition::LogFull { retry_ms };
                self.shared.intentions.push_back(Intention::ProbeLog);
            }
            Condition::StoreFull { .. } => {
                self.make_room();
                self.shared.condition = Condition::StoreFull { retry_ms };
                self.shared.intentions.push_back(Intention::RetryStore);
            }
            Condition::StoreStopped { .. } => {
                self.make_room();
                self.shared.condition = Condition::StoreStopped { retry_ms };
                self.shared.intentions.push_back(Intention::RetryStore);
            }
            _ if self.shared.clock.is_set() => return self.shared.set_condition(Condition::Ready),
            _ => return self.shared.condition = Condition::ClockUnset { retry_ms },
        }
        self.shared.is_retrying = true;
    }
}

impl Shared {
    /// Stops taking records while it is not known what time to stamp them with: one from a wrong clock would be kept too
    /// long, or not long enough, when the clock is right again.
    pub(super) fn check_clock(&mut self) {
        if !self.clock.is_set() && self.condition.takes_records() {
            let retry_ms = self.now.mono_ms + RETRY_MS;
            self.set_condition(Condition::ClockUnset { retry_ms });
        }
    }

    pub(super) fn handle_log_fault(&mut self, fault: LogFault) {
        let retry_ms = self.now.mono_ms + RETRY_MS;
        self.stats.log_full += u64::from(fault == LogFault::NoSpace);
        self.set_condition(match fault {
            LogFault::NoSpace => Condition::LogFull { retry_ms },
            LogFault::Failed => Condition::LogFailed,
        });
    }

    pub(super) fn handle_store_fault(&mut self, fault: StoreFault) {
        self.stats.store_errors += 1;
        let condition = self.condition_after(fault);
        // When it is tried again is settled already: whoever asks meanwhile must not put that off.
        if std::mem::discriminant(&self.condition) != std::mem::discriminant(&condition) {
            self.set_condition(condition);
        }
    }

    fn condition_after(&self, fault: StoreFault) -> Condition {
        let retry_ms = self.now.mono_ms + RETRY_MS;
        match fault {
            StoreFault::NoSpace => Condition::StoreFull { retry_ms },
            StoreFault::Stopped { reopens } => Condition::StoreStopped {
                retry_ms: self.now.mono_ms + (RETRY_MS << reopens.min(REOPEN_DOUBLINGS_MAX)),
            },
            StoreFault::Damaged | StoreFault::Failed => Condition::StoreFailed,
        }
    }

    pub(super) fn set_condition(&mut self, condition: Condition) {
        // A failed disk is not healed by what another one reports.
        if matches!(self.condition, Condition::LogFailed | Condition::StoreFailed) {
            return;
        }
        if std::mem::discriminant(&self.condition) != std::mem::discriminant(&condition) {
            self.notice(Notice::ConditionChanged(condition));
        }
        self.condition = condition;
    }
}

/// The answer while records are not taken.
pub(super) const UNAVAILABLE: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "the server cannot store messages now; the outcome is unknown, repeat it with the same message_id",
    retry_after_ms: Some(RETRY_MS as u32),
};
/// The answer to what belongs to a slot that this node does not own, or not yet, or not any more.
pub(super) const NOT_OWNED: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "another server takes this over; the outcome is unknown, repeat it with the same message_id",
    retry_after_ms: Some(RETRY_MS as u32),
};
/// What a session is told that ends with the ownership of its user's slot.
pub(super) const TAKEN_OVER: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "another server takes this over; connect again",
    retry_after_ms: None,
};
/// The answer while so much waits for the log of a slot that no more may.
pub(super) const BUSY: Refusal = Refusal {
    code: Code::Busy,
    reason: "too many messages wait to be stored; send it again later",
    retry_after_ms: Some(RETRY_MS as u32),
};
/// How often a disk is asked whether it has room again.
pub(super) const RETRY_MS: u64 = 1_000;
/// The pause before a store is opened again doubles each time, this often: to 32 s.
const REOPEN_DOUBLINGS_MAX: u32 = 5;
