//! Segments of the log that nobody needs any more.
//!
//! Time alone makes them so: a log that is full of them takes no record that could be the occasion.

use router_storage::disk::Disk;
use router_storage::store::Store;
use wire_base::ids::{Offset, UnixMs};

use super::super::start::{StartError, record_at};
use super::super::{Fatal, Router};

/// How old a segment is, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentAge {
    first: Offset,
    /// Log time of its first record.
    time: UnixMs,
    /// When the router first saw it, on the monotonic clock. After a wrong clock, log time may stand still for long.
    seen_ms: u64,
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Deletes what is past `log_retention_minutes`, every few minutes and at the start.
    pub(super) fn trim_when_due(&mut self) -> Result<(), Fatal> {
        if self.upkeep.trim_due_ms > self.now.mono_ms {
            return Ok(());
        }
        self.trim_log()
    }

    /// Deletes what is past `log_retention_minutes`.
    pub(super) fn trim_log(&mut self) -> Result<(), Fatal> {
        self.upkeep.trim_due_ms = self.now.mono_ms + TRIM_CHECK_MS;
        self.trim_log_to(self.config.log_retention_minutes)
    }

    /// Deletes all that may be deleted because a disk is full, and has the store synced so that more may be.
    ///
    /// What dedupe reads at a start is kept as long as there is room for it to matter.
    pub(in super::super) fn make_room(&mut self) -> Result<(), Fatal> {
        self.upkeep.persist_due_ms = Some(self.now.mono_ms);
        self.trim_log_to(self.config.dedupe_minutes)
    }

    /// Deletes segments that the store surely has and that are older than so many minutes.
    fn trim_log_to(&mut self, minutes: u32) -> Result<(), Fatal> {
        match self.try_trim_log(u64::from(minutes) * 60_000) {
            Ok(()) => Ok(()),
            Err(error) if error.is_crash() => Err(Fatal::Crashed),
            Err(error) => {
                tracing::warn!(%error, "old segments of the log could not be deleted");
                Ok(())
            }
        }
    }

    fn try_trim_log(&mut self, kept_ms: u64) -> Result<(), StartError> {
        self.see_segments()?;
        let now = self.now;
        let is_old = |segment: &SegmentAge| {
            segment.time.0.saturating_add(kept_ms) <= now.unix.0 || segment.seen_ms + kept_ms <= now.mono_ms
        };
        let unpersisted = self
            .upkeep
            .persisted
            .map_or(Offset(0), |offset| Offset(offset.0 + 1));
        // What a segment holds is no younger than the first record of the next one.
        while let Some(next) = self
            .upkeep
            .segments
            .get(1)
            .filter(|next| is_old(next) && next.first <= unpersisted)
        {
            self.log.delete_before(next.first)?;
            self.upkeep.segments.pop_front();
        }
        Ok(())
    }

    /// Takes note of segments that were begun since the last time.
    fn see_segments(&mut self) -> Result<(), StartError> {
        let known = self.upkeep.segments.back().map(|segment| segment.first);
        let new: Vec<_> = self
            .log
            .segments()
            .map(|segment| segment.first)
            .filter(|first| Some(*first) > known)
            .collect();
        for first in new {
            if let Some(record) = record_at(&self.log, first)? {
                self.upkeep.segments.push_back(SegmentAge {
                    first,
                    time: record.time,
                    seen_ms: self.now.mono_ms,
                });
            }
        }
        Ok(())
    }
}

/// How often it is looked whether segments have become too old.
const TRIM_CHECK_MS: u64 = 300_000;
