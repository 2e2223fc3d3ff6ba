//! A log between being judged and being changed: whoever opens it can read it first and still refuse.

use wire_base::ids::Offset;

use super::error::{OpenError, ReadError};
use super::read::Records;
use super::recover::{Plan, Recovery, plan};
use super::segmented::{LogConfig, SegmentInfo, SegmentedLog};
use crate::disk::Disk;

/// A log whose start is decided; nothing in its directory was changed.
///
/// Shape: owns the directory by lock, until dropped.
#[derive(Debug)]
pub struct PlannedLog<D: Disk> {
    disk: D,
    config: LogConfig,
    plan: Plan,
    lock: D::Lock,
}

impl<D: Disk> PlannedLog<D> {
    /// Reads and judges the log of a directory; see [`SegmentedLog::open`] for the arguments, the checks and the errors.
    pub fn read(disk: D, config: LogConfig, flushed: Option<Offset>) -> Result<Self, OpenError> {
        let lock = disk.lock()?;
        let plan = plan(&disk, &config, flushed)?;
        Ok(Self {
            disk,
            config,
            plan,
            lock,
        })
    }

    /// Cuts what is to be cut, writes the last group again, and starts a segment where there is none.
    ///
    /// Errors: of the disk alone, and may be tried again from the beginning.
    pub fn carry_out(self) -> Result<(SegmentedLog<D>, Recovery), OpenError> {
        let (segments, recovery) = self.plan.carry_out(&self.disk, &self.config)?;
        let log = SegmentedLog::of_segments(self.disk, self.config, segments, self.lock)?;
        Ok((log, recovery))
    }

    /// Returns the records from `offset` on, as [`super::Log::read_from`] will.
    pub fn read_from(&self, offset: Offset) -> Result<Records<'_, D>, ReadError> {
        Records::new(&self.disk, &self.plan.segments, offset)
    }

    /// Returns the first offset that the log holds.
    pub fn first(&self) -> Offset {
        self.plan
            .segments
            .first()
            .map_or(Offset(0), |segment| segment.header.first)
    }

    /// Returns the offset after the last record that the log holds.
    pub fn next(&self) -> Offset {
        self.plan
            .segments
            .last()
            .map_or(Offset(0), |segment| segment.contents.next)
    }

    /// Returns the segments that stay, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = SegmentInfo> + '_ {
        self.plan.segments.iter().map(SegmentInfo::of)
    }
}
