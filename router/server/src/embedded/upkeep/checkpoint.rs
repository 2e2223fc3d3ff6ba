//! Checkpoints: where the log stood at which time, what retention is counted by.

use router_core::retention::{self, CHECKPOINT_MS};
use router_records::row::{CheckpointRow, Row};
use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};
use wire_base::ids::{Offset, UnixMs};

use super::super::{Fatal, Router};
use super::Upkeep;

impl Upkeep {
    /// Takes up the checkpoints of a store whose newest record is of `log_time`. Returns up to when it surely lived.
    pub(in super::super) fn read_checkpoints<S: Store>(
        &mut self,
        store: &S,
        log_time: UnixMs,
    ) -> Result<UnixMs, StoreError> {
        self.checkpoints = store.checkpoints()?;
        self.forgotten = retention::forgotten(&self.checkpoints, store.prune_floor()).unwrap_or(log_time);
        let noted = self.checkpoints.last().map(|row| row.time);
        Ok(log_time.max(noted.unwrap_or_default()))
    }

    /// Returns up to which log time ids of sends may be deleted.
    pub(in super::super) fn forgotten(&self) -> UnixMs {
        self.forgotten
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Notes where the log stands, once an hour, be there traffic or not: time that is not noted is not counted.
    pub(super) fn note_checkpoint(&mut self) -> Result<(), Fatal> {
        let time = self.folds.stamp(self.now.unix);
        let last = self.upkeep.checkpoints.last();
        if last.is_some_and(|last| time.0 < last.time.0.saturating_add(CHECKPOINT_MS))
            || !self.condition.takes_records()
        {
            return Ok(());
        }
        // Where everything is deleted already there is nothing that grows older.
        let Some(flushed) = self.store.flushed().filter(|offset| *offset >= self.upkeep.swept) else {
            return Ok(());
        };
        let offset = Offset(flushed.0 + 1);
        let checkpoint = CheckpointRow { time, offset };
        let mut rows = vec![Row::Checkpoint(checkpoint)];
        match self.store.hand_over(&mut rows, flushed) {
            Ok(()) => {
                self.upkeep.checkpoints.push(checkpoint);
                Ok(())
            }
            Err(error) => self.handle_write_error(&error),
        }
    }
}
