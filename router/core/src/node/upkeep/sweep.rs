//! Rows past retention, deleted a slice at a time.

use wire_base::ids::{ConversationId, MessageId, Offset, Seq, UserId};

use crate::node::{Intention, Node, StoreFault};
use crate::retention;
use crate::topology::PartitionId;

/// One step of deleting everything that records below an offset have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The first record whose rows stay.
    pub below: Offset,
    /// What is deleted in this step.
    pub stage: PruneStage,
    /// Rows to look at.
    pub rows_max: usize,
}

/// Inboxes go first: as long as an entry can be read, so can its message. Each stage says where its next step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneStage {
    /// Entries, except the newest of each user.
    Inboxes(Option<UserId>),
    /// Messages, except the newest of each conversation.
    Messages(Option<(ConversationId, Seq)>),
    /// Outcomes of sends.
    Index(Option<(MessageId, UserId, ConversationId)>),
    /// Checkpoints, except the newest of them.
    Checkpoints,
}

impl Node {
    /// Learns how a step of a sweep ended: with which stage it goes on; `None` at its end.
    pub fn handle_pruned(&mut self, step: Prune, outcome: Result<Option<PruneStage>, StoreFault>) {
        self.upkeep.is_sweeping = false;
        let (sweep, pause_ms) = match outcome {
            Ok(Some(stage)) => (Some(Prune { stage, ..step }), SWEEP_PAUSE_MS),
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
        Some(Prune {
            below,
            stage: PruneStage::Inboxes(None),
            rows_max: self.upkeep.config.sweep_rows_max,
        })
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

/// Pause between two slices of a sweep.
const SWEEP_PAUSE_MS: u64 = 10;
/// Pause before it is looked again whether anything is past retention.
const SWEEP_CHECK_MS: u64 = 600_000;
