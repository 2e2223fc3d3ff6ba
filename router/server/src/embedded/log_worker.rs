//! The log at work: appends groups and says what came of it. Runs on a thread of its own, or inline.

use std::sync::Arc;
use std::time::Instant;

use router_core::node::{AppendId, Appended, Group, LogFault, Offsets, Report};
use router_storage::log::{self, AppendError, Log};
use wire_base::ids::Offset;

use crate::metrics::Counters;

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

/// A log with its buffer, and what is counted of it.
pub(super) struct LogWorker<L> {
    log: L,
    frame: log::Group,
    counters: Arc<Counters>,
}

impl<L: Log> LogWorker<L> {
    pub(super) fn new(log: L, counters: Arc<Counters>) -> Self {
        Self {
            log,
            frame: log::Group::new(),
            counters,
        }
    }

    pub(super) fn log(&self) -> &L {
        &self.log
    }

    pub(super) fn run(&mut self, job: LogJob) -> Report {
        match job {
            LogJob::Append { id, group } => {
                let started = Instant::now();
                self.frame.clear();
                group.records().for_each(|record| self.frame.push_bytes(record));
                let appended = self.log.append(&mut self.frame);
                if appended.is_ok() {
                    self.counters.commit.observe(started.elapsed());
                }
                let stats = self.log.stats();
                self.counters.copy_log(&stats);
                let newest = self.log.sections().next_back().map(|section| section.first);
                let outcome = judge(appended).map(|first| Appended {
                    offsets: Offsets::From(first),
                    log_bytes: stats.bytes,
                    is_new_segment: newest == Some(first),
                });
                Report::Appended(id, outcome)
            }
            LogJob::Probe => {
                let probed = self.log.probe();
                Report::LogProbed(judge(probed))
            }
            LogJob::Trim { below } => {
                let trimmed = self.log.truncate_below(below);
                if let Err(error) = &trimmed {
                    tracing::warn!(%error, "old segments of the log could not be deleted");
                }
                let is_done = trimmed.is_ok();
                Report::Trimmed { below, is_done }
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
