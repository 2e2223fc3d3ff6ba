//! The store at work: writes rows in the order they come, and answers questions behind them. Runs on a thread of its own, or
//! inline.
//!
//! Rows that could not be written stay first in line; what comes behind them waits with them, and nothing is answered, until
//! they are tried again.

use std::collections::VecDeque;

use router_core::node::{Answer, ApplyTicket, Ask, AskId, Prune, StoreFault};
use router_records::row::Row;
use router_storage::store::{Store, StoreError};
use wire_base::ids::Offset;

use super::answers::answer;
use super::coalescer::Coalescer;

/// Something for the store to do.
#[derive(Debug)]
pub enum StoreJob {
    /// See [`router_core::node::Intention::Apply`].
    Apply(Rows),
    /// See [`router_core::node::Intention::RetryStore`].
    Retry,
    /// See [`router_core::node::Intention::Ask`].
    Ask(Ask),
    /// See [`router_core::node::Intention::Persist`].
    Persist,
    /// See [`router_core::node::Intention::Prune`].
    Prune(Prune),
}

/// Rows that are written as one.
#[derive(Debug)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Row>,
    /// Through which record, and what the node wants back.
    pub ticket: ApplyTicket,
}

/// What came of a [`StoreJob`].
#[derive(Debug)]
pub enum StoreDone {
    /// Rows are written.
    Applied(ApplyTicket),
    /// Rows are not written, and wait.
    ApplyFailed(StoreFault),
    /// Whether everything that waited is written.
    Retried(Result<(), StoreFault>),
    /// A question is answered, or not.
    Answered(AskId, Result<Answer, StoreFault>),
    /// The store has everything up to a record, surely, or not.
    Persisted(Result<Option<Offset>, StoreFault>),
    /// A step of a sweep is done, or not: the oldest record that is left to be gone through.
    Pruned(Prune, Result<Option<Offset>, StoreFault>),
}

/// A store, and what waits for it.
pub(super) struct StoreWorker<S> {
    store: S,
    waiting: VecDeque<Rows>,
    coalescer: Coalescer,
    has_failed_read: bool,
    /// The last one, for a start that cannot go on.
    error: Option<StoreError>,
}

impl<S: Store> StoreWorker<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store,
            waiting: VecDeque::new(),
            coalescer: Coalescer::default(),
            has_failed_read: false,
            error: None,
        }
    }

    /// Does a job and reports what came of it, in one or several parts.
    pub(super) fn run(&mut self, job: StoreJob, done: &mut dyn FnMut(StoreDone)) {
        match job {
            StoreJob::Apply(mut rows) => {
                self.coalescer.coalesce(&mut rows.rows);
                let is_first = self.waiting.is_empty();
                self.waiting.push_back(rows);
                if is_first && let Err(fault) = self.write_waiting(done) {
                    done(StoreDone::ApplyFailed(fault));
                }
            }
            StoreJob::Retry => {
                let retried = self.write_waiting(done).and_then(|()| {
                    let probed = self.store.probe();
                    probed.map_err(|error| self.report(error, "the store does not work again"))
                });
                done(StoreDone::Retried(retried));
            }
            StoreJob::Ask(ask) => {
                let answered = self.answer(&ask);
                done(StoreDone::Answered(ask.id, answered));
            }
            StoreJob::Persist => {
                let persisted = self.store.persist().map(|()| self.store.flushed());
                let persisted =
                    persisted.map_err(|error| self.report(error, "the store could not be synced"));
                done(StoreDone::Persisted(persisted));
            }
            StoreJob::Prune(step) => {
                let pruned = self.prune(step);
                let pruned = pruned.map_err(|error| self.report(error, "old rows could not be deleted"));
                done(StoreDone::Pruned(step, pruned));
            }
        }
    }

    /// Syncs the store, and notes that it is complete if it reaches what the log has, so that the next start may be one of
    /// another fold version. Not needed for safety.
    pub(super) fn close(&mut self, complete: Option<Option<Offset>>) {
        let is_complete = self.waiting.is_empty() && complete == Some(self.store.flushed());
        let closed = match is_complete {
            true => self.store.complete_checkpoint(),
            false => self.store.persist(),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the store could not be synced; the next start replays the log");
        }
    }

    fn write_waiting(&mut self, done: &mut dyn FnMut(StoreDone)) -> Result<(), StoreFault> {
        while let Some(rows) = self.waiting.front() {
            if let Err(error) = self.store.apply(&rows.rows, rows.ticket.through) {
                tracing::warn!(%error, "the store could not write rows; the log has their records");
                return Err(self.judge(error));
            }
            if let Some(Rows { ticket, .. }) = self.waiting.pop_front() {
                done(StoreDone::Applied(ticket));
            }
        }
        Ok(())
    }

    fn answer(&mut self, ask: &Ask) -> Result<Answer, StoreFault> {
        if !self.waiting.is_empty() {
            return Err(StoreFault::NoSpace);
        }
        answer(&self.store, &ask.question).map_err(|error| {
            // A client can repeat its question as often as it likes, so only the first failure makes a line.
            if !std::mem::replace(&mut self.has_failed_read, true) {
                tracing::error!(%error, "a read of the store failed; see router_store_errors_total");
            }
            self.judge(error)
        })
    }

    /// Returns the last error, once.
    pub(super) fn take_error(&mut self) -> Option<StoreError> {
        self.error.take()
    }

    fn prune(&mut self, step: Prune) -> Result<Option<Offset>, StoreError> {
        if !self.waiting.is_empty() {
            return Err(StoreError::NoSpace);
        }
        let oldest = self.store.prune(step.below, step.messages_max)?;
        if oldest.is_none() {
            self.store.prune_checkpoints(step.below)?;
        }
        Ok(oldest)
    }

    fn report(&mut self, error: StoreError, what: &'static str) -> StoreFault {
        tracing::warn!(%error, "{what}");
        self.judge(error)
    }

    fn judge(&mut self, error: StoreError) -> StoreFault {
        let fault = match &error {
            StoreError::NoSpace => StoreFault::NoSpace,
            StoreError::Stopped { reopens, .. } => StoreFault::Stopped { reopens: *reopens },
            StoreError::Damaged { .. } => StoreFault::Damaged,
            _ => StoreFault::Failed,
        };
        self.error = Some(error);
        fault
    }
}
