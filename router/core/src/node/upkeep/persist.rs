//! Syncs of the store: when one begins, and what its end allows.

use wire_base::ids::Offset;

use crate::node::{Condition, Intention, Node, StoreFault};

impl Node {
    /// Learns how a sync of the store ended: through which record it surely has everything.
    pub fn handle_persisted(&mut self, outcome: Result<Option<Offset>, StoreFault>) {
        self.upkeep.is_persisting = false;
        match outcome {
            Ok(through) => {
                self.upkeep.persisted = through;
                self.trim_log();
            }
            Err(StoreFault::NoSpace | StoreFault::Stopped { .. })
                if !self.shared.condition.takes_records() =>
            {
                self.upkeep.persist_due_ms =
                    Some(self.shared.now.mono_ms + self.upkeep.config.persist_interval_ms);
            }
            Err(StoreFault::NoSpace) => {
                // The log keeps everything until it works.
                self.shared.stats.store_errors += 1;
                self.upkeep.persist_due_ms =
                    Some(self.shared.now.mono_ms + self.upkeep.config.persist_interval_ms);
            }
            Err(fault) => self.shared.handle_store_fault(fault),
        }
    }

    pub(super) fn persist_when_due(&mut self) {
        // A sync that succeeds after one that failed proves nothing: the pages in between may be gone. The log keeps
        // everything until a restart.
        let is_over = self.shared.condition == Condition::StoreFailed;
        let has_news = self.handed() != self.upkeep.persisted;
        if is_over || self.upkeep.is_persisting || !has_news {
            self.upkeep.persist_due_ms = None;
            return;
        }
        let config = self.upkeep.config;
        let now_ms = self.shared.now.mono_ms;
        let due_ms = *self
            .upkeep
            .persist_due_ms
            .get_or_insert(now_ms + config.persist_interval_ms);
        let has_much = self.upkeep.log_bytes - self.upkeep.persisted_log_bytes >= config.persist_bytes;
        if due_ms > now_ms && !has_much {
            return;
        }
        self.shared.stats.store_persists += 1;
        self.upkeep.persisted_log_bytes = self.upkeep.log_bytes;
        self.upkeep.is_persisting = true;
        self.upkeep.persist_due_ms = None;
        self.shared.intentions.push_back(Intention::Persist);
    }

    /// Has the store synced as soon as may be.
    pub(super) fn hasten_persist(&mut self) {
        self.upkeep.persist_due_ms = Some(self.shared.now.mono_ms);
    }
}
