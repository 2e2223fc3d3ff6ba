//! Syncs of the store: when one begins, and what its end allows.

use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};

use super::super::condition::Condition;
use super::super::{Fatal, Router};

impl<D: Disk, S: Store> Router<D, S> {
    pub(super) fn persist_when_due(&mut self) -> Result<(), Fatal> {
        if self.condition == Condition::StoreFailed {
            // A sync that succeeds after one that failed proves nothing: the pages in between may be gone. The log keeps
            // everything until a restart.
            self.upkeep.persist_due_ms = None;
            return Ok(());
        }
        if self.upkeep.is_persisting {
            return self.finish_persist();
        }
        let now_ms = self.now.mono_ms;
        let interval_ms = u64::from(self.config.store_persist_interval_ms);
        if self.store.flushed() == self.upkeep.persisted {
            self.upkeep.persist_due_ms = None;
            return Ok(());
        }
        let due_ms = *self.upkeep.persist_due_ms.get_or_insert(now_ms + interval_ms);
        let log_bytes = self.log.stats().bytes;
        let has_much = log_bytes - self.upkeep.persisted_log_bytes >= self.config.store_persist_bytes;
        if due_ms > now_ms && !has_much {
            return Ok(());
        }
        self.counters.store_persists.add(1);
        self.upkeep.persisted_log_bytes = log_bytes;
        self.upkeep.is_persisting = true;
        self.store.begin_persist();
        self.finish_persist()
    }

    fn finish_persist(&mut self) -> Result<(), Fatal> {
        let Some(outcome) = self.store.poll_persisted() else {
            self.upkeep.persist_due_ms = Some(self.now.mono_ms + PERSIST_CHECK_MS);
            return Ok(());
        };
        self.upkeep.is_persisting = false;
        match outcome {
            Ok(through) => {
                self.upkeep.persisted = through;
                self.upkeep.persist_due_ms = None;
                self.trim_log()
            }
            Err(StoreError::NoSpace) => {
                // The log keeps everything until it works.
                self.counters.store_errors.add(1);
                let interval_ms = u64::from(self.config.store_persist_interval_ms);
                self.upkeep.persist_due_ms = Some(self.now.mono_ms + interval_ms);
                Ok(())
            }
            Err(error) => {
                self.upkeep.persist_due_ms = None;
                self.handle_write_error(&error)
            }
        }
    }
}

/// How often a store that is being synced is asked whether it is.
const PERSIST_CHECK_MS: u64 = 50;
