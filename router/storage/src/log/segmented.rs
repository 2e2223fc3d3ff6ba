//! The log itself: appending groups and deleting segments.

use wire_base::ids::{Offset, UnixMs};
use wire_base::random::mix;

use super::error::{AppendError, OpenError, ReadError, TruncateError};
use super::format::{Contents, FOOTER_BYTES, SegmentFooter, SegmentHeader, segment_name};
use super::group::Group;
use super::planned::PlannedLog;
use super::port::{Log, LogStats, ReadRecord, Section};
use super::read::Records;
use super::recover::Recovery;
use crate::disk::{Disk, DiskError, DiskFile};

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Size at which a new segment starts. Unit: bytes; default 64 MiB. A larger group gets a segment of its own.
    pub segment_bytes: u64,
    /// How far the newest segment is lengthened in advance, so that a sync of a group need not write the length of the file
    /// too. Unit: bytes; default 4 MiB, 0: not at all. Never beyond the size of a segment.
    pub preallocate_bytes: u64,
    /// Generation of the store that the log belongs to.
    pub generation: u32,
    /// Version of the folds that will read the records.
    pub fold_version: u32,
    /// A clean stop left the store complete up to `flushed`: another fold version may go on from there.
    pub checkpoint_complete: bool,
    /// Where segment salts come from: a random number, another one at each start.
    pub salt_seed: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            preallocate_bytes: 4 * 1024 * 1024,
            generation: 0,
            fold_version: 1,
            checkpoint_complete: false,
            salt_seed: 0,
        }
    }
}

/// One segment as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub file: String,
    /// Offset of its first record.
    pub first: Offset,
    /// Offset after its last record.
    pub next: Offset,
    /// Bytes up to the end of its last group.
    pub bytes: u64,
    /// Times of its first and its last record; `None` while it is empty, and where they are not known.
    pub times: Option<(UnixMs, UnixMs)>,
}

impl SegmentInfo {
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            file: segment.name.clone(),
            first: segment.header.first,
            next: segment.contents.next,
            bytes: segment.contents.end,
            times: segment.contents.times,
        }
    }
}

/// A log of records in segments, appended by group; see the module for layout and order of writes.
///
/// Shape: one writer, which owns the directory by lock; one reused buffer per caller ([`Group`]).
#[derive(Debug)]
pub struct SegmentedLog<D: Disk> {
    disk: D,
    config: LogConfig,
    /// Oldest first; never empty; the last one is appended to.
    segments: Vec<Segment>,
    newest: D::File,
    /// Up to where the newest segment was lengthened in advance, or could not be.
    reserved: u64,
    is_stopped: bool,
    stats: LogStats,
    _lock: D::Lock,
}

/// A segment whose groups are whole.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) contents: Contents,
}

impl<D: Disk> SegmentedLog<D> {
    /// Opens the log of a directory, or starts one there, for a store that is complete up to `flushed` (the offset of
    /// the last record whose rows it holds; `None` when it holds none).
    ///
    /// Of a sealed segment that the store holds it reads header and footer. Of any other one, and always of the newest, it
    /// checks every group header, the last group, and the body of every group that is not in the store.
    /// A damaged group is cut off only if it is what a crash leaves: its first offset is above `flushed`, and neither a
    /// later group, nor a footer, nor a later segment exists. The last whole group is written again in place with the
    /// bytes it has, and synced, before anything is handed out.
    ///
    /// Errors: any [`OpenError`] but `Disk` means that a person has to look; nothing was changed then. `Disk` may be
    /// tried again: an interrupted start is started again from its beginning.
    pub fn open(disk: D, config: LogConfig, flushed: Option<Offset>) -> Result<(Self, Recovery), OpenError> {
        PlannedLog::read(disk, config, flushed)?.carry_out()
    }

    /// Returns the log of segments that are as they are to stay.
    pub(super) fn of_segments(
        disk: D,
        config: LogConfig,
        segments: Vec<Segment>,
        lock: D::Lock,
    ) -> Result<Self, OpenError> {
        let Segment { name, contents, .. } = newest_of(&segments);
        let (newest, reserved) = (disk.open(name)?, contents.end);
        Ok(Self {
            disk,
            config,
            segments,
            newest,
            reserved,
            is_stopped: false,
            stats: LogStats::default(),
            _lock: lock,
        })
    }

    fn try_append(&mut self, group: &mut Group) -> Result<Offset, AppendError> {
        let newest = newest_of(&self.segments);
        let Contents { end, .. } = newest.contents;
        if !newest.contents.is_empty() && end + group.bytes() as u64 > self.config.segment_bytes {
            self.seal_segment()?;
            self.start_segment()?;
        }
        let Segment { header, contents, .. } = newest_of(&self.segments);
        let (next, end, salt) = (contents.next, contents.end, header.salt);
        self.reserve(end, group.bytes() as u64)?;
        self.write_at_end(end, group.seal(next, salt))?;
        self.sync()?;
        let newest = self.segments.last_mut().expect("a log always has a segment");
        newest.contents.take_group(group);
        self.stats.groups += 1;
        self.stats.records += group.len() as u64;
        self.stats.bytes += group.bytes() as u64;
        Ok(next)
    }

    /// Lengthens the newest segment in advance when `bytes` after its `end` are beyond what is. Where that cannot be, it grows
    /// by what is written, and a step further on it is tried again.
    fn reserve(&mut self, end: u64, bytes: u64) -> Result<(), DiskError> {
        let (step, needed) = (self.config.preallocate_bytes, end + bytes);
        if step == 0 || needed <= self.reserved || needed > self.config.segment_bytes {
            return Ok(());
        }
        let goal = needed.next_multiple_of(step).min(self.config.segment_bytes);
        if let Err(error) = self.newest.preallocate(goal) {
            tracing::debug!(%error, "a segment of the log is not lengthened in advance");
            self.newest.truncate(end)?;
        }
        self.reserved = goal;
        Ok(())
    }

    /// Writes at the end of the newest segment; takes back what found no room.
    fn write_at_end(&mut self, end: u64, bytes: &[u8]) -> Result<(), AppendError> {
        match self.newest.write_at(end, bytes) {
            Ok(()) => Ok(()),
            Err(DiskError::NoSpace { .. }) => {
                self.take_back(end)?;
                Err(AppendError::NoSpace)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn try_probe(&mut self) -> Result<(), AppendError> {
        let end = newest_of(&self.segments).contents.end;
        let written = self.newest.write_at(end, &[PROBE_BYTE; PROBE_BYTES]);
        if written.is_ok() {
            self.sync()?;
        }
        self.take_back(end)?;
        match written {
            Ok(()) => Ok(()),
            Err(DiskError::NoSpace { .. }) => Err(AppendError::NoSpace),
            Err(error) => Err(error.into()),
        }
    }

    /// Cuts away what was written after `end`, durably, so that nothing ever follows a torn group.
    fn take_back(&mut self, end: u64) -> Result<(), DiskError> {
        self.newest.truncate(end)?;
        self.reserved = end;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.stats.syncs += 1;
        self.newest.sync_data()
    }

    /// Writes the footer of the newest segment, so that no start walks it once the store holds it, and cuts the file to its
    /// true length.
    fn seal_segment(&mut self) -> Result<(), AppendError> {
        let Segment { header, contents, .. } = newest_of(&self.segments);
        let footer = SegmentFooter {
            salt: header.salt,
            contents: *contents,
        };
        let (end, sealed) = (contents.end, contents.end + FOOTER_BYTES as u64);
        self.write_at_end(end, &footer.encode())?;
        if self.reserved > sealed {
            self.newest.truncate(sealed)?;
        }
        Ok(self.sync()?)
    }

    fn start_segment(&mut self) -> Result<(), AppendError> {
        let header = new_segment_header(&self.config, self.next());
        self.stats.syncs += 2;
        match create_segment(&self.disk, header) {
            Ok((segment, file)) => {
                self.reserved = segment.contents.end;
                self.segments.push(segment);
                self.newest = file;
                Ok(())
            }
            Err(DiskError::NoSpace { .. }) => {
                // A smaller group may still fit the old segment, so that neither its footer nor a trace of the new one
                // may stay.
                match self.disk.remove(&segment_name(header.first)) {
                    Ok(()) | Err(DiskError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                self.stats.syncs += 1;
                self.disk.sync_dir()?;
                self.take_back(newest_of(&self.segments).contents.end)?;
                Err(AppendError::NoSpace)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn delete_oldest(&mut self) -> Result<(), DiskError> {
        match self.disk.remove(&self.segments[0].name) {
            // Gone already: an earlier call removed it, but its sync failed.
            Ok(()) | Err(DiskError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.stats.syncs += 1;
        self.disk.sync_dir()?;
        self.segments.remove(0);
        Ok(())
    }

    /// Returns the segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.segments.iter().map(SegmentInfo::of)
    }
}

impl<D: Disk> Log for SegmentedLog<D> {
    fn append(&mut self, group: &mut Group) -> Result<Offset, AppendError> {
        if self.is_stopped {
            return Err(AppendError::Stopped);
        }
        let appended = self.try_append(group);
        self.is_stopped = matches!(appended, Err(AppendError::Failed(_)));
        appended
    }

    /// Writes past the end, syncs, and takes that away. A crash in between leaves a torn tail, which start cuts.
    fn probe(&mut self) -> Result<(), AppendError> {
        if self.is_stopped {
            return Err(AppendError::Stopped);
        }
        let probed = self.try_probe();
        self.is_stopped = matches!(probed, Err(AppendError::Failed(_)));
        probed
    }

    /// Deletes whole segments, the oldest first, durably, before the next one.
    fn truncate_below(&mut self, offset: Offset) -> Result<(), TruncateError> {
        while self.segments.len() > 1 && self.segments[0].contents.next <= offset {
            self.delete_oldest()?;
        }
        Ok(())
    }

    fn read_from(&self, offset: Offset) -> Result<impl Iterator<Item = ReadRecord> + '_, ReadError> {
        Records::new(&self.disk, &self.segments, offset)
    }

    fn first(&self) -> Offset {
        self.segments[0].header.first
    }

    fn next(&self) -> Offset {
        newest_of(&self.segments).contents.next
    }

    fn sections(&self) -> impl DoubleEndedIterator<Item = Section> + '_ {
        self.segments.iter().map(|segment| Section {
            first: segment.header.first,
            time: segment.contents.times.map(|(oldest, _)| oldest),
        })
    }

    fn stats(&self) -> LogStats {
        self.stats
    }
}

/// Creates a segment, durable when it returns.
pub(super) fn create_segment<D: Disk>(
    disk: &D,
    header: SegmentHeader,
) -> Result<(Segment, D::File), DiskError> {
    let name = segment_name(header.first);
    let file = disk.create(&name)?;
    file.write_at(0, &header.encode())?;
    file.sync_data()?;
    disk.sync_dir()?;
    Ok((
        Segment {
            name,
            header,
            contents: Contents::empty(header.first),
        },
        file,
    ))
}

pub(super) fn new_segment_header(config: &LogConfig, first: Offset) -> SegmentHeader {
    let salt = mix(config.salt_seed ^ first.0.rotate_left(32));
    SegmentHeader {
        generation: config.generation,
        fold_version: config.fold_version,
        salt,
        first,
    }
}

/// About one group under load; no byte that a header starts with, and none that a file system keeps as a hole.
const PROBE_BYTES: usize = 64 * 1024;
const PROBE_BYTE: u8 = 0x55;

fn newest_of(segments: &[Segment]) -> &Segment {
    segments.last().expect("a log always has a segment")
}
