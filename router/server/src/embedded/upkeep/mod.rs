//! What goes on beside the traffic: syncs of the store, and deletion of what is past retention, a slice at a time.

mod persist;
mod sweep;
mod trim;

use std::collections::VecDeque;

use router_backend::disk::Disk;
use router_backend::store::{Store, StoreError};
use router_core::time::Now;
use wire::ids::{Offset, UnixMs};
use wire::row::CheckpointRow;

use self::sweep::{SWEEP_CHECK_MS, Sweep};
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
    /// Segments of the log, oldest first, by the time of their first record.
    segments: VecDeque<(Offset, UnixMs)>,
    last_checkpoint: Option<UnixMs>,
    sweep: Option<Sweep>,
    sweep_due_ms: u64,
    /// Everything made by records below this was looked at and deleted since the start.
    swept: Offset,
}

impl Upkeep {
    pub(super) fn new<S: Store>(config: &RouterConfig, store: &S, now: Now) -> Result<Self, StoreError> {
        Ok(Self {
            is_persisting: false,
            persist_due_ms: Some(now.mono_ms + u64::from(config.store_persist_interval_ms)),
            persisted: store.flushed(),
            persisted_log_bytes: 0,
            segments: VecDeque::new(),
            last_checkpoint: store.checkpoints()?.last().map(|row| row.time),
            sweep: None,
            sweep_due_ms: now.mono_ms,
            swept: Offset(0),
        })
    }

    /// Returns the row that notes where a group at `offset` stands in time, when the last one is long enough ago.
    ///
    /// It carries the time before the group: after a long silence, what came before it is that old.
    pub(super) fn checkpoint(
        &mut self,
        offset: Offset,
        before: UnixMs,
        time: UnixMs,
    ) -> Option<CheckpointRow> {
        if self
            .last_checkpoint
            .is_some_and(|last| time.0 < last.0.saturating_add(CHECKPOINT_MS))
        {
            return None;
        }
        self.last_checkpoint = Some(time);
        (before > UnixMs(0)).then_some(CheckpointRow { time: before, offset })
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        Some(
            self.persist_due_ms
                .map_or(self.sweep_due_ms, |persist| persist.min(self.sweep_due_ms)),
        )
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
        if self.upkeep.sweep_due_ms <= self.now.mono_ms && self.condition.takes_records() {
            self.sweep_step()?;
        } else if !self.condition.takes_records() {
            self.upkeep.sweep_due_ms = self.now.mono_ms + SWEEP_CHECK_MS;
        }
        Ok(())
    }
}

/// How far apart checkpoints are: what retention rounds to.
const CHECKPOINT_MS: u64 = 3_600_000;
