//! The log at work: appends groups and says what came of it. Runs on a thread of its own, or inline.

use std::time::{Duration, Instant};

use router_core::node::{AppendId, Appended, Group, LogFault, Offsets};
use router_storage::log::{self, AppendError, Log, LogStats};
use wire_base::ids::Offset;

/// Something for the log to do.
#[derive(Debug)]
pub enum LogJob {
    /// See [`router_core::node::Intention::Append`].
    Append {
        /// Its name.
        id: AppendId,
        /// Its records.
        group: Group,
    },
    /// See [`router_core::node::Intention::ProbeLog`].
    Probe,
    /// See [`router_core::node::Intention::TrimLog`].
    Trim {
        /// The first record that stays.
        below: Offset,
    },
}

/// What came of a [`LogJob`].
#[derive(Debug)]
pub enum LogDone {
    /// A group is in the log, or not.
    Appended {
        /// Its name.
        id: AppendId,
        /// Where it stands.
        outcome: Result<Appended, LogFault>,
        /// From its first byte to the end of its sync.
        took: Duration,
        /// Counts since the start.
        stats: LogStats,
    },
    /// Whether there is room again.
    Probed(Result<(), LogFault>),
    /// Segments are deleted, or not.
    Trimmed {
        /// The first record that stays.
        below: Offset,
        /// They are.
        is_done: bool,
    },
}

/// A log with its buffer.
pub(super) struct LogWorker<L> {
    log: L,
    frame: log::Group,
}

impl<L: Log> LogWorker<L> {
    pub(super) fn new(log: L) -> Self {
        Self {
            log,
            frame: log::Group::new(),
        }
    }

    pub(super) fn log(&self) -> &L {
        &self.log
    }

    pub(super) fn run(&mut self, job: LogJob) -> LogDone {
        match job {
            LogJob::Append { id, group } => {
                let started = Instant::now();
                self.frame.clear();
                group.records().for_each(|record| self.frame.push_bytes(record));
                let appended = self.log.append(&mut self.frame);
                let took = started.elapsed();
                let stats = self.log.stats();
                let newest = self.log.sections().next_back().map(|section| section.first);
                let outcome = judge(appended).map(|first| Appended {
                    offsets: Offsets::From(first),
                    log_bytes: stats.bytes,
                    is_new_segment: newest == Some(first),
                });
                LogDone::Appended {
                    id,
                    outcome,
                    took,
                    stats,
                }
            }
            LogJob::Probe => {
                let probed = self.log.probe();
                LogDone::Probed(judge(probed))
            }
            LogJob::Trim { below } => {
                let trimmed = self.log.truncate_below(below);
                if let Err(error) = &trimmed {
                    tracing::warn!(%error, "old segments of the log could not be deleted");
                }
                let is_done = trimmed.is_ok();
                LogDone::Trimmed { below, is_done }
            }
        }
    }
}

fn judge<T>(outcome: Result<T, AppendError>) -> Result<T, LogFault> {
    outcome.map_err(|error| match error {
        AppendError::NoSpace => LogFault::NoSpace,
        AppendError::Failed(_) | AppendError::Stopped => {
            tracing::error!(%error, "nothing is acknowledged until restart");
            LogFault::Failed
        }
    })
}
