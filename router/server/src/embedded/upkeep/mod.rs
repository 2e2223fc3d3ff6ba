//! What goes on beside the traffic: syncs of the store, and deletion of what is past retention, a slice at a time.

mod checkpoint;
mod persist;
mod sweep;
mod trim;

use std::collections::VecDeque;

use router_core::time::Now;
use router_records::row::CheckpointRow;
use router_storage::disk::Disk;
use router_storage::store::Store;
use wire_base::ids::{Offset, UnixMs};

use self::sweep::{SWEEP_CHECK_MS, Sweep};
use self::trim::SegmentAge;
use super::{Fatal, Router};
use crate::config::RouterConfig;

/// What was synced and deleted, and when it is done again. Deadlines are on the monotonic clock.
pub(super) struct Upkeep {
    /// When the store is synced, or, while it is, when it is asked whether it has; `None` while it has nothing new.
    persist_due_ms: Option<u64>,
    is_persisting: bool,
    /// What the store surely has after a crash.
    persisted: Option<Offset>,
    /// Bytes of the log at the last sync of the store.
    persisted_log_bytes: u64,
    /// Segments of the log that have a record, oldest first.
    segments: VecDeque<SegmentAge>,
    trim_due_ms: u64,
    /// What the store has of them, in order of time: one an hour, as far back as retention goes.
    checkpoints: Vec<CheckpointRow>,
    /// Up to which log time ids of sends may be deleted.
    forgotten: UnixMs,
    sweep: Option<Sweep>,
    sweep_due_ms: u64,
    /// Everything made by records below this was looked at and deleted since the start.
    swept: Offset,
}

impl Upkeep {
    /// Returns the upkeep of a store that was just persisted.
    pub(super) fn new<S: Store>(config: &RouterConfig, store: &S, now: Now) -> Self {
        Self {
            is_persisting: false,
            persist_due_ms: Some(now.mono_ms + u64::from(config.store_persist_interval_ms)),
            persisted: store.flushed(),
            persisted_log_bytes: 0,
            segments: VecDeque::new(),
            trim_due_ms: now.mono_ms,
            checkpoints: Vec::new(),
            forgotten: UnixMs(0),
            sweep: None,
            sweep_due_ms: now.mono_ms,
            swept: Offset(0),
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let dues = [
            self.persist_due_ms,
            Some(self.sweep_due_ms),
            Some(self.trim_due_ms),
        ];
        dues.into_iter().flatten().min()
    }

    /// Returns how many records of a log that ends before `next` a start after a crash would replay.
    pub(super) fn lag(&self, next: Offset) -> u64 {
        next.0 - self.persisted.map_or(0, |offset| offset.0 + 1)
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Does what is due.
    pub(super) fn keep_up(&mut self) -> Result<(), Fatal> {
        self.persist_when_due()?;
        self.trim_when_due()?;
        self.note_checkpoint()?;
        if self.upkeep.sweep_due_ms <= self.now.mono_ms && self.condition.takes_records() {
            self.sweep_step()?;
        } else if !self.condition.takes_records() {
            self.upkeep.sweep_due_ms = self.now.mono_ms + SWEEP_CHECK_MS;
        }
        Ok(())
    }
}
