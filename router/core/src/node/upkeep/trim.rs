//! Segments of the log that nobody needs any more.
//!
//! Time alone makes them so: a log that is full of them takes no record that could be the occasion.

use wire_base::ids::{Offset, UnixMs};

use crate::node::{AppendId, Appended, Intention, Node, Offsets};
use crate::time::Now;
use crate::topology::PartitionId;

/// How old a segment is, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentAge {
    first: Offset,
    /// Log time of its first record.
    time: UnixMs,
    /// When the router first saw it, on the monotonic clock. After a wrong clock, log time may stand still for long.
    seen_ms: u64,
}

impl SegmentAge {
    pub(super) fn new(first: Offset, time: UnixMs, now: Now) -> Self {
        Self {
            first,
            time,
            seen_ms: now.mono_ms,
        }
    }

    fn is_older_than(&self, kept_ms: u64, now: Now) -> bool {
        self.time.0.saturating_add(kept_ms) <= now.unix.0 || self.seen_ms + kept_ms <= now.mono_ms
    }
}

impl Node {
    /// Learns that segments below an offset are deleted, or could not be.
    pub fn handle_trimmed(&mut self, below: Offset, is_done: bool) {
        self.upkeep.is_trimming = false;
        if is_done {
            while let Some(segment) = self.upkeep.segments.front()
                && segment.first < below
            {
                self.upkeep.segments.pop_front();
            }
        }
    }

    /// Takes note of what the one log holds after a group: its bytes since the start, and whether a segment was begun with it.
    pub(in crate::node) fn note_log(&mut self, id: AppendId, appended: &Appended) {
        let Some(partition) = self.partitions.get(&PartitionId::One) else {
            return;
        };
        self.upkeep.log_bytes = appended.log_bytes;
        if let (true, Offsets::From(first)) = (appended.is_new_segment, &appended.offsets)
            && let Some(time) = partition.appending_time(id)
        {
            let begun = SegmentAge::new(*first, time, self.shared.now);
            self.upkeep.segments.push_back(begun);
        }
    }

    pub(super) fn trim_when_due(&mut self) {
        if self.upkeep.trim_due_ms <= self.shared.now.mono_ms {
            self.trim_log();
        }
    }

    /// Deletes what is past the retention of the log.
    pub(super) fn trim_log(&mut self) {
        self.upkeep.trim_due_ms = self.shared.now.mono_ms + TRIM_CHECK_MS;
        self.trim_log_to(self.upkeep.config.log_retention_ms);
    }

    /// Deletes all that may be deleted because a disk is full, and has the store synced so that more may be.
    ///
    /// What dedupe reads at a start is kept as long as there is room for it to matter.
    pub(in crate::node) fn make_room(&mut self) {
        self.hasten_persist();
        self.trim_log_to(self.upkeep.config.dedupe_ms);
    }

    /// Deletes segments that the store surely has and that are older than so long.
    fn trim_log_to(&mut self, kept_ms: u64) {
        let (now, unpersisted) = (self.shared.now, self.upkeep.unpersisted());
        // What a segment holds is no younger than the first record of the next one.
        let may_end_at = |next: &&SegmentAge| next.is_older_than(kept_ms, now) && next.first <= unpersisted;
        let below = self.upkeep.segments.iter().skip(1).take_while(may_end_at).last();
        if let Some(below) = below.map(|next| next.first)
            && !self.upkeep.is_trimming
        {
            self.upkeep.is_trimming = true;
            self.shared.intentions.push_back(Intention::TrimLog { below });
        }
    }
}

/// How often it is looked whether segments have become too old.
const TRIM_CHECK_MS: u64 = 300_000;
