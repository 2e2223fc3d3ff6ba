//! What goes on beside the traffic: syncs of the store, checkpoints, and deletion of what nobody needs any more.

mod checkpoint;
mod persist;
mod sweep;
mod trim;

use std::collections::VecDeque;

use router_records::row::CheckpointRow;
use wire_base::ids::{Offset, UnixMs};

pub use self::sweep::Prune;

use self::trim::SegmentAge;
use super::Node;
use crate::retention;
use crate::time::Now;

/// How long things are kept, and when the store is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepConfig {
    /// How long messages, inbox entries and ids of sends are stored, in ms.
    pub retention_ms: u64,
    /// How long the log keeps what the store already holds, in ms.
    pub log_retention_ms: u64,
    /// How much of it is kept even when a disk is full: what dedupe reads at a start, in ms.
    pub dedupe_ms: u64,
    /// How often the store is synced, in ms.
    pub persist_interval_ms: u64,
    /// Log bytes after which it is synced before that.
    pub persist_bytes: u64,
    /// Rows deleted in one step of a sweep that keeps up.
    pub sweep_rows_max: usize,
}

/// What was synced and deleted, and when it is done again. Deadlines are on the monotonic clock.
#[derive(Debug)]
pub(super) struct Upkeep {
    config: UpkeepConfig,
    /// When the store is synced; `None` while it is, and while it has nothing new.
    persist_due_ms: Option<u64>,
    is_persisting: bool,
    /// What the store surely has after a crash.
    persisted: Option<Offset>,
    log_bytes: u64,
    /// Bytes of the log when the last sync of the store began.
    persisted_log_bytes: u64,
    /// Segments of the log that have a record, oldest first.
    segments: VecDeque<SegmentAge>,
    trim_due_ms: u64,
    is_trimming: bool,
    /// Where the log stood at which time, oldest first.
    checkpoints: VecDeque<CheckpointRow>,
    /// Up to which log time ids of sends may be deleted.
    forgotten: UnixMs,
    sweep: Option<Prune>,
    is_sweeping: bool,
    sweep_due_ms: u64,
    /// Everything made by records below this was looked at and deleted since the start.
    swept: Offset,
}

impl Upkeep {
    /// Returns the upkeep of a store that was just synced.
    pub(super) fn new(
        config: UpkeepConfig,
        persisted: Option<Offset>,
        segments: Vec<(Offset, UnixMs)>,
        checkpoints: Vec<CheckpointRow>,
        now: Now,
    ) -> Self {
        let seen = |(first, time)| SegmentAge::new(first, time, now);
        Self {
            config,
            persist_due_ms: Some(now.mono_ms + config.persist_interval_ms),
            is_persisting: false,
            persisted,
            log_bytes: 0,
            persisted_log_bytes: 0,
            segments: segments.into_iter().map(seen).collect(),
            trim_due_ms: now.mono_ms,
            is_trimming: false,
            checkpoints: checkpoints.into(),
            forgotten: UnixMs(0),
            sweep: None,
            is_sweeping: false,
            sweep_due_ms: now.mono_ms,
            swept: Offset(0),
        }
    }

    /// Takes up what is known once the log is folded up to `log_time`.
    pub(super) fn begin(&mut self, prune_floor: Offset, log_time: UnixMs) {
        let checkpoints = self.checkpoints.make_contiguous();
        self.forgotten = retention::forgotten(checkpoints, prune_floor).unwrap_or(log_time);
    }

    /// Returns the time of the newest checkpoint, 0 when there is none.
    pub(super) fn newest_checkpoint(&self) -> UnixMs {
        self.checkpoints.back().map_or(UnixMs(0), |row| row.time)
    }

    /// Returns up to which log time ids of sends may be deleted.
    pub(super) fn forgotten(&self) -> UnixMs {
        self.forgotten
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let sweep = (!self.is_sweeping).then_some(self.sweep_due_ms);
        let trim = (!self.is_trimming).then_some(self.trim_due_ms);
        [self.persist_due_ms, sweep, trim].into_iter().flatten().min()
    }

    /// Returns the first record that the store may lose in a crash.
    pub(super) fn unpersisted(&self) -> Offset {
        self.persisted.map_or(Offset(0), |offset| Offset(offset.0 + 1))
    }
}

impl Node {
    /// Does what is due.
    pub(super) fn keep_up(&mut self) {
        self.persist_when_due();
        self.trim_when_due();
        self.note_checkpoint();
        self.sweep_when_due();
    }
}
