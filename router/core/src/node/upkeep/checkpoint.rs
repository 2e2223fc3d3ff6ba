//! Checkpoints: where the log stood at which time, what retention is counted by.

use router_records::row::{CheckpointRow, Row};
use wire_base::ids::Offset;

use crate::node::Node;
use crate::retention::CHECKPOINT_MS;
use crate::topology::PartitionId;

impl Node {
    /// Notes where the log stands, once an hour, be there traffic or not: time that is not noted is not counted.
    pub(super) fn note_checkpoint(&mut self) {
        let Some(partition) = self.partitions.get_mut(&PartitionId::One) else {
            return;
        };
        let time = partition.folds.stamp(self.shared.now.unix);
        let last = self.upkeep.checkpoints.back();
        let is_early = last.is_some_and(|last| time.0 < last.time.0.saturating_add(CHECKPOINT_MS));
        if is_early || !self.shared.condition.takes_records() {
            return;
        }
        // Where everything is deleted already there is nothing that grows older.
        let Some(through) = partition
            .pending
            .handed()
            .filter(|offset| *offset >= self.upkeep.swept)
        else {
            return;
        };
        let row = CheckpointRow {
            time,
            offset: Offset(through.0 + 1),
        };
        self.upkeep.checkpoints.push_back(row);
        partition.apply(&mut self.shared, vec![Row::Checkpoint(row)], through);
    }
}
