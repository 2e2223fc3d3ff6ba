//! Segments of the log that nobody needs any more.

use router_backend::disk::Disk;
use router_backend::store::Store;
use wire::ids::{Offset, UnixMs};

use super::super::start::{StartError, record_at};
use super::super::{Fatal, Router};

impl<D: Disk, S: Store> Router<D, S> {
    /// Deletes segments that the store surely has and that are older than dedupe and retention of the log need.
    pub(super) fn trim_log(&mut self) -> Result<(), Fatal> {
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
}
