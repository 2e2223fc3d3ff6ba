//! Checkpoints: where the log stood at which time, what retention is counted by.

use router_records::row::{CheckpointRow, Row};
use wire_base::ids::Offset;

use crate::node::Node;
use crate::retention::CHECKPOINT_MS;

impl Node {
    /// Notes where the log stands, once an hour, be there traffic or not: time that is not noted is not counted.
    pub(super) fn note_checkpoint(&mut self) {
        let time = self.folds.stamp(self.now.unix);
        let last = self.upkeep.checkpoints.back();
        let is_early = last.is_some_and(|last| time.0 < last.time.0.saturating_add(CHECKPOINT_MS));
        if is_early || !self.condition.takes_records() {
            return;
        }
        // Where everything is deleted already there is nothing that grows older.
        let Some(through) = self
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
        self.apply(vec![Row::Checkpoint(row)], through);
    }
}
