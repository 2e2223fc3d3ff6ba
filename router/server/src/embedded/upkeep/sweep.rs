//! Rows past retention, deleted a slice at a time.

use router_core::retention;
use router_storage::disk::Disk;
use router_storage::store::{IndexKey, Store, StoreError};
use wire_base::ids::{ConversationId, Offset, Seq, UserId};

use super::super::{Fatal, Router};

/// A pass over everything that is past retention; one step a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    below: Offset,
    stage: Stage,
}

/// Inboxes go first: as long as an entry can be read, so can its message.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Inboxes(Option<UserId>),
    Messages(Option<(ConversationId, Seq)>),
    Index(Option<IndexKey>),
    Checkpoints,
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Deletes a slice of what is past retention, or looks whether there is any.
    pub(super) fn sweep_step(&mut self) -> Result<(), Fatal> {
        let step = match self.upkeep.sweep {
            Some(sweep) => self.sweep_slice(sweep),
            None => Ok(self.begin_sweep()),
        };
        let (sweep, pause_ms) = match step {
            Ok(Some(sweep)) => (Some(sweep), SWEEP_PAUSE_MS),
            Ok(None) => (None, SWEEP_CHECK_MS),
            Err(StoreError::NoSpace) => (self.upkeep.sweep, SWEEP_CHECK_MS),
            // Nothing was changed: what cannot be read is not deleted, and keeps nobody from sending.
            Err(error @ StoreError::Damaged { .. }) => {
                self.handle_read_error(&error)?;
                (None, SWEEP_CHECK_MS)
            }
            Err(error) => {
                self.handle_write_error(&error)?;
                (None, SWEEP_CHECK_MS)
            }
        };
        self.upkeep.sweep = sweep;
        self.upkeep.sweep_due_ms = self.now.mono_ms + pause_ms;
        Ok(())
    }

    fn begin_sweep(&mut self) -> Option<Sweep> {
        let kept_ms = u64::from(self.config.retention_days) * 24 * 3_600_000;
        let now = self.folds.stamp(self.now.unix);
        let expired = retention::expired(&self.upkeep.checkpoints, now, kept_ms)?;
        let below = expired.offset;
        if below <= self.upkeep.swept {
            return None;
        }
        // Before anything is deleted: an id is refused from now on rather than taken for new.
        let forgotten = retention::forgotten(&self.upkeep.checkpoints, below).unwrap_or(now);
        self.upkeep.forgotten = self.upkeep.forgotten.max(forgotten);
        Some(Sweep {
            below,
            stage: Stage::Inboxes(None),
        })
    }

    /// Does one step and returns the next; `None` at the end.
    fn sweep_slice(&mut self, sweep: Sweep) -> Result<Option<Sweep>, StoreError> {
        let Sweep { below, stage } = sweep;
        let rows_max = self.config.sweep_rows_max;
        self.counters.sweep_steps.add(1);
        let next = match stage {
            Stage::Inboxes(from) => match self.store.prune_inbox(below, from, rows_max)? {
                Some(from) => Stage::Inboxes(Some(from)),
                None => Stage::Messages(None),
            },
            Stage::Messages(from) => match self.store.prune_messages(below, from, rows_max)? {
                Some(from) => Stage::Messages(Some(from)),
                None => Stage::Index(None),
            },
            Stage::Index(from) => match self.store.prune_index(below, from, rows_max)? {
                Some(from) => Stage::Index(Some(from)),
                None => Stage::Checkpoints,
            },
            Stage::Checkpoints => {
                self.store.prune_checkpoints(below)?;
                self.upkeep.checkpoints = self.store.checkpoints()?;
                self.upkeep.swept = below;
                return Ok(None);
            }
        };
        Ok(Some(Sweep { below, stage: next }))
    }
}

/// Pause between two slices of a sweep.
const SWEEP_PAUSE_MS: u64 = 10;
/// Pause before it is looked again whether anything is past retention.
pub(super) const SWEEP_CHECK_MS: u64 = 600_000;
