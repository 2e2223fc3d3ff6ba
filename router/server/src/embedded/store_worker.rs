//! The store at work: takes rows in the order they come, and answers questions behind them. Runs on a thread of its own, or
//! inline.
//!
//! Rows are gathered until [`StoreJob::Flush`] and seen at once. Those that could not be written stay; what comes behind them
//! waits with them, and nothing is answered, until they are tried again.

use router_core::node::{Answer, ApplyTicket, Ask, Prune, Report, StoreFault};
use router_records::row::Row;
use router_storage::store::{Apply, Gathered, Retention, Store, StoreError};
use wire_base::ids::Offset;

use super::answers::answer;

/// Something for the store to do.
#[derive(Debug)]
pub enum StoreJob {
    /// See [`router_core::node::Intention::Apply`].
    Apply(Rows),
    /// Write what was gathered; before every sync and every step of a sweep this is done without being asked for.
    Flush,
    /// See [`router_core::node::Intention::RetryStore`].
    Retry,
    /// See [`router_core::node::Intention::Ask`].
    Ask(Ask),
    /// See [`router_core::node::Intention::Persist`].
    Persist,
    /// See [`router_core::node::Intention::Prune`].
    Prune(Prune),
    /// See [`super::Disks::close`]; nothing comes of it, and nothing after it.
    Close(Option<Option<Offset>>),
}

/// Rows of a run of records.
#[derive(Debug)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Row>,
    /// Through which record, and what the node wants back.
    pub ticket: ApplyTicket,
}

/// A store, and what waits for it.
pub(super) struct StoreWorker<S> {
    store: Gathered<S>,
    /// Rows could not be written.
    is_stuck: bool,
    /// Of rows that came since, to be reported when they are written.
    unreported: Vec<ApplyTicket>,
    has_failed_read: bool,
    /// The last one, for a start that cannot go on.
    error: Option<StoreError>,
}

impl<S: Store> StoreWorker<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store: Gathered::new(store),
            is_stuck: false,
            unreported: Vec::new(),
            has_failed_read: false,
            error: None,
        }
    }

    /// Does a job and reports what came of it, in one or several parts.
    pub(super) fn run(&mut self, job: StoreJob, done: &mut dyn FnMut(Report)) {
        match job {
            StoreJob::Apply(Rows { rows, ticket }) => {
                self.store.gather(rows, ticket.through);
                if self.is_stuck {
                    self.unreported.push(ticket);
                    return;
                }
                done(Report::Applied(ticket));
                if self.store.is_full() {
                    self.flush(done);
                }
            }
            StoreJob::Flush => self.flush(done),
            StoreJob::Retry => {
                let retried = self.try_flush(done).and_then(|()| {
                    let probed = self.store.probe();
                    probed.map_err(|error| self.report(error, "the store does not work again"))
                });
                done(Report::StoreRetried(retried));
            }
            StoreJob::Ask(ask) => {
                let answered = self.answer(&ask);
                done(Report::Answered(ask.id, answered));
            }
            StoreJob::Persist => {
                self.flush(done);
                // What was written is synced even if there is no room for more.
                let persisted = self.store.persist_written();
                let persisted =
                    persisted.map_err(|error| self.report(error, "the store could not be synced"));
                done(Report::Persisted(persisted));
            }
            StoreJob::Prune(step) => {
                self.flush(done);
                let pruned = self.prune(step);
                let pruned = pruned.map_err(|error| self.report(error, "old rows could not be deleted"));
                done(Report::Pruned(step, pruned));
            }
            StoreJob::Close(complete) => self.close(complete),
        }
    }

    /// Syncs the store, and notes that it is complete if it reaches what the log has, so that the next start may be one of
    /// another fold version. Not needed for safety.
    fn close(&mut self, complete: Option<Option<Offset>>) {
        let closed = self
            .store
            .flush()
            .and_then(|()| match complete == Some(self.store.flushed()) {
                true => self.store.complete_checkpoint(),
                false => self.store.persist(),
            });
        if let Err(error) = closed {
            tracing::warn!(%error, "the store could not be synced; the next start replays the log");
        }
    }

    /// Writes what was gathered, unless that waits to be tried again.
    fn flush(&mut self, done: &mut dyn FnMut(Report)) {
        if !self.is_stuck
            && let Err(fault) = self.try_flush(done)
        {
            done(Report::ApplyFailed(fault));
        }
    }

    fn try_flush(&mut self, done: &mut dyn FnMut(Report)) -> Result<(), StoreFault> {
        let flushed = self.store.flush();
        self.is_stuck = flushed.is_err();
        flushed.map_err(|error| {
            self.report(error, "the store could not write rows; the log has their records")
        })?;
        for ticket in self.unreported.drain(..) {
            done(Report::Applied(ticket));
        }
        Ok(())
    }

    fn answer(&mut self, ask: &Ask) -> Result<Answer, StoreFault> {
        if self.is_stuck {
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
        if self.is_stuck {
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
