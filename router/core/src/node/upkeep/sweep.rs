//! Rows past retention, deleted a slice at a time: small slices as a rule, larger ones the further deletion is behind.

use wire_base::ids::Offset;

use crate::node::{Intention, Node, StoreFault};
use crate::retention;
use crate::topology::PartitionId;

/// One step of deleting everything that records below an offset have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The first record whose rows stay.
    pub below: Offset,
    /// Most messages to delete in this step, with all that belongs to them.
    pub messages_max: usize,
}

impl Node {
    /// Learns how a step of a sweep ended: which record is the oldest that is left; `None` at its end.
    pub fn handle_pruned(&mut self, step: Prune, outcome: Result<Option<Offset>, StoreFault>) {
        self.upkeep.is_sweeping = false;
        let (sweep, pause_ms) = match outcome {
            Ok(Some(oldest)) => (Some(self.next_slice(step, oldest)), SWEEP_PAUSE_MS),
            Ok(None) => {
                self.end_sweep(step.below);
                (None, SWEEP_CHECK_MS)
            }
            Err(StoreFault::NoSpace) => (Some(step), SWEEP_CHECK_MS),
            // Nothing was changed: what cannot be read is not deleted, and keeps nobody from sending.
            Err(StoreFault::Damaged) => {
                self.shared.stats.store_errors += 1;
                (None, SWEEP_CHECK_MS)
            }
            Err(fault @ (StoreFault::Stopped { .. } | StoreFault::Failed)) => {
                self.shared.handle_store_fault(fault);
                (None, SWEEP_CHECK_MS)
            }
        };
        self.upkeep.sweep = sweep;
        self.upkeep.sweep_due_ms = self.shared.now.mono_ms + pause_ms;
    }

    /// Deletes a slice of what is past retention, or looks whether there is any.
    pub(super) fn sweep_when_due(&mut self) {
        if self.upkeep.is_sweeping || self.upkeep.sweep_due_ms > self.shared.now.mono_ms {
            return;
        }
        self.upkeep.sweep_due_ms = self.shared.now.mono_ms + SWEEP_CHECK_MS;
        if !self.shared.condition.takes_records() {
            return;
        }
        if let Some(step) = self.upkeep.sweep.or_else(|| self.begin_sweep()) {
            self.shared.stats.sweep_steps += 1;
            self.upkeep.sweep = Some(step);
            self.upkeep.is_sweeping = true;
            self.shared.intentions.push_back(Intention::Prune(step));
        }
    }

    fn begin_sweep(&mut self) -> Option<Prune> {
        let partition = self.partitions.get_mut(&PartitionId::One)?;
        let now = partition.folds.stamp(self.shared.now.unix);
        let checkpoints = self.upkeep.checkpoints.make_contiguous();
        let expired = retention::expired(checkpoints, now, self.upkeep.config.retention_ms)?;
        let below = expired.offset;
        if below <= self.upkeep.swept {
            return None;
        }
        // Before anything is deleted: an id is refused from now on rather than taken for new, and a reader that is behind
        // is told rather than led past what is gone.
        let forgotten = retention::forgotten(checkpoints, below).unwrap_or(now);
        self.upkeep.forgotten = self.upkeep.forgotten.max(forgotten);
        partition.prune_floor = partition.prune_floor.max(below);
        // How much there is the store says once it has begun.
        let messages_max = slice_messages(0, self.upkeep.config.sweep_rows_max);
        Some(Prune { below, messages_max })
    }

    /// Returns the step after one that left everything from `oldest` on.
    fn next_slice(&self, step: Prune, oldest: Offset) -> Prune {
        let left = step.below.0.saturating_sub(oldest.0);
        let needed = slice_messages(left, self.upkeep.config.sweep_rows_max);
        // What was needed once is needed to the end: slices that shrank with what is left would never come to it.
        let messages_max = needed.max(step.messages_max);
        Prune { messages_max, ..step }
    }

    fn end_sweep(&mut self, below: Offset) {
        self.upkeep.swept = below;
        // The newest one below stays, as in the store.
        let checkpoints = &mut self.upkeep.checkpoints;
        while checkpoints.get(1).is_some_and(|second| second.offset < below) {
            checkpoints.pop_front();
        }
    }
}

/// Returns how many messages go at once while so many records are left: as many as it takes to come to the end in a quarter
/// of an hour, and at least so many `rows`.
fn slice_messages(records: u64, rows: usize) -> usize {
    let needed = (records / SWEEP_STEPS).min(SWEEP_MESSAGES_MAX as u64) as usize;
    needed.max(rows / MESSAGE_ROWS).max(1)
}

/// Pause between two slices of a sweep.
const SWEEP_PAUSE_MS: u64 = 10;
/// Pause before it is looked again whether anything is past retention.
const SWEEP_CHECK_MS: u64 = 600_000;
/// Slices of a quarter of an hour. Retention rounds to an hour, so that a sweep ends before the next one is due.
const SWEEP_STEPS: u64 = 15 * 60_000 / SWEEP_PAUSE_MS;
/// Most messages of a slice: 400,000 a second.
const SWEEP_MESSAGES_MAX: usize = 4_096;
/// Rows that go with a message: itself, the outcome of its send, two inbox entries.
const MESSAGE_ROWS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_as_large_as_what_is_left_demands() {
        assert_eq!(slice_messages(0, 1), 1);
        assert_eq!(slice_messages(90_000 * 64, 256), 64);
        assert_eq!(slice_messages(90_000 * 300, 256), 300);
        assert_eq!(slice_messages(u64::MAX, 256), 4_096);
    }
}
