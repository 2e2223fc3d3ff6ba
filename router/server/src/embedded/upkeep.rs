//! What goes on beside the traffic: syncs of the store, and deletion of what is past retention, a slice at a time.

use std::collections::VecDeque;

use router_backend::disk::Disk;
use router_backend::store::{IndexKey, Store, StoreError};
use router_core::time::Now;
use wire::ids::{ConversationId, Offset, Seq, UnixMs, UserId};
use wire::row::CheckpointRow;

use super::condition::Condition;
use super::start::{StartError, record_at};
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

/// A pass over everything that is past retention; one step a slice.
#[derive(Clone, Copy, Debug)]
struct Sweep {
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

    fn persist_when_due(&mut self) -> Result<(), Fatal> {
        if self.condition == Condition::StoreFailed {
            // A sync that succeeds after one that failed proves nothing: the pages in between may be gone. The log keeps
            // everything until a restart.
            self.upkeep.persist_due_ms = None;
            return Ok(());
        }
        if self.upkeep.is_persisting {
            return self.finish_persist();
        }
        let now_ms = self.now.mono_ms;
        let interval_ms = u64::from(self.config.store_persist_interval_ms);
        if self.store.flushed() == self.upkeep.persisted {
            self.upkeep.persist_due_ms = None;
            return Ok(());
        }
        let due_ms = *self.upkeep.persist_due_ms.get_or_insert(now_ms + interval_ms);
        let log_bytes = self.log.stats().bytes;
        let has_much = log_bytes - self.upkeep.persisted_log_bytes >= self.config.store_persist_bytes;
        if due_ms > now_ms && !has_much {
            return Ok(());
        }
        self.counters.store_persists.add(1);
        self.upkeep.persisted_log_bytes = log_bytes;
        self.upkeep.is_persisting = true;
        self.store.begin_persist();
        self.finish_persist()
    }

    fn finish_persist(&mut self) -> Result<(), Fatal> {
        let Some(outcome) = self.store.poll_persisted() else {
            self.upkeep.persist_due_ms = Some(self.now.mono_ms + PERSIST_CHECK_MS);
            return Ok(());
        };
        self.upkeep.is_persisting = false;
        match outcome {
            Ok(through) => {
                self.upkeep.persisted = through;
                self.upkeep.persist_due_ms = None;
                self.trim_log()
            }
            Err(StoreError::NoSpace) => {
                // The log keeps everything until it works.
                self.counters.store_errors.add(1);
                let interval_ms = u64::from(self.config.store_persist_interval_ms);
                self.upkeep.persist_due_ms = Some(self.now.mono_ms + interval_ms);
                Ok(())
            }
            Err(error) => {
                self.upkeep.persist_due_ms = None;
                self.handle_write_error(&error)
            }
        }
    }

    /// Deletes segments that the store surely has and that are older than dedupe and retention of the log need.
    fn trim_log(&mut self) -> Result<(), Fatal> {
        match self.try_trim_log() {
            Ok(()) => Ok(()),
            Err(error) if error.is_crash() => Err(Fatal::Crashed),
            Err(error) => {
                tracing::warn!(%error, "old segments of the log could not be deleted");
                Ok(())
            }
        }
    }

    fn try_trim_log(&mut self) -> Result<(), StartError> {
        let known = self.upkeep.segments.back().map(|(first, _)| *first);
        let new: Vec<_> = self
            .log
            .segments()
            .map(|segment| segment.first)
            .filter(|first| Some(*first) > known)
            .collect();
        for first in new {
            if let Some(record) = record_at(&self.log, first)? {
                self.upkeep.segments.push_back((first, record.time));
            }
        }
        let kept_ms = u64::from(self.config.log_retention_minutes) * 60_000;
        let cutoff = UnixMs(self.now.unix.0.saturating_sub(kept_ms));
        let unpersisted = self
            .upkeep
            .persisted
            .map_or(Offset(0), |offset| Offset(offset.0 + 1));
        // What a segment holds is no younger than the first record of the next one.
        while let Some((first, _)) = self
            .upkeep
            .segments
            .get(1)
            .filter(|(first, time)| *time <= cutoff && *first <= unpersisted)
        {
            self.log.delete_before(*first)?;
            self.upkeep.segments.pop_front();
        }
        Ok(())
    }

    /// Deletes a slice of what is past retention, or looks whether there is any.
    fn sweep_step(&mut self) -> Result<(), Fatal> {
        let step = match self.upkeep.sweep {
            Some(sweep) => self.sweep_slice(sweep),
            None => self.begin_sweep(),
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

    fn begin_sweep(&self) -> Result<Option<Sweep>, StoreError> {
        let kept_ms = u64::from(self.config.retention_days) * 24 * 3_600_000;
        let cutoff = UnixMs(self.now.unix.0.saturating_sub(kept_ms));
        let newest = self.folds.stamp(UnixMs(0));
        let below = if newest > UnixMs(0) && newest <= cutoff {
            Some(self.log.next())
        } else {
            let checkpoints = self.store.checkpoints()?;
            checkpoints
                .iter()
                .rev()
                .find(|row| row.time <= cutoff)
                .map(|row| row.offset)
        };
        Ok(below
            .filter(|below| *below > self.upkeep.swept)
            .map(|below| Sweep {
                below,
                stage: Stage::Inboxes(None),
            }))
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
                self.upkeep.swept = below;
                return Ok(None);
            }
        };
        Ok(Some(Sweep { below, stage: next }))
    }
}

/// How far apart checkpoints are: what retention rounds to.
const CHECKPOINT_MS: u64 = 3_600_000;
/// How often a store that is being synced is asked whether it is.
const PERSIST_CHECK_MS: u64 = 50;
/// Pause between two slices of a sweep.
const SWEEP_PAUSE_MS: u64 = 10;
/// Pause before it is looked again whether anything is past retention.
const SWEEP_CHECK_MS: u64 = 600_000;
