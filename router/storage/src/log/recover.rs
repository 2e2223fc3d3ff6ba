//! What start does with the segments it finds: first a plan that changes nothing, then the plan carried out.

use std::fmt;

use wire_base::ids::Offset;

use super::error::OpenError;
use super::format::{
    Contents, FOOTER_BYTES, GroupHeader, HEADER_BYTES, SegmentFault, SegmentHeader, VERSION, segment_first,
};
use super::segmented::{LogConfig, Segment, create_segment, new_segment_header};
use super::walk::{clean_end, find_group, nonzero_end, read_footer, walk};
use crate::disk::{Disk, DiskError, DiskFile};

/// What start found, and what it did about it. `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The first offset of the log.
    pub first: Offset,
    /// The offset after its last.
    pub next: Offset,
    /// Segments.
    pub segments: usize,
    /// Whole groups.
    pub groups: u64,
    /// The torn last group, which is gone.
    pub cut: Option<Cut>,
    /// A last segment that never got its header, which is gone.
    pub dropped: Option<String>,
}

/// A torn last group: a write that a crash interrupted, so that nobody was told it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: String,
    /// Where the group started.
    pub position: u64,
    /// How much of it was cut off there, but for the zeros at its end.
    pub bytes: u64,
    /// The offset that its first record would have had.
    pub first_offset: Offset,
    /// What was wrong with it.
    pub reason: &'static str,
}

/// What start will do: everything read and judged, nothing changed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) segments: Vec<Segment>,
    /// The last whole group: its segment's index, its place there, its header.
    last_group: Option<(usize, u64, GroupHeader)>,
    pub(crate) cut: Option<Cut>,
    /// A last segment without header.
    pub(crate) dropped: Option<String>,
    /// The newest segment is of an older fold version, and all of it is in the store.
    changes_fold: bool,
}

/// Reads the directory and judges it; see [`super::SegmentedLog::open`].
pub(crate) fn plan<D: Disk>(
    disk: &D,
    config: &LogConfig,
    flushed: Option<Offset>,
) -> Result<Plan, OpenError> {
    let unflushed = flushed.map_or(Offset(0), |offset| Offset(offset.0 + 1));
    let names: Vec<(String, Offset)> = disk
        .list()?
        .into_iter()
        .filter_map(|name| segment_first(&name).map(|first| (name, first)))
        .collect();
    let mut plan = Plan {
        segments: Vec::with_capacity(names.len()),
        last_group: None,
        cut: None,
        dropped: None,
        changes_fold: false,
    };
    for (index, (name, first)) in names.iter().enumerate() {
        let file = disk.open(name)?;
        let following = names.get(index + 1).map(|(_, first)| *first);
        match read_segment_header(&file, *first)? {
            Ok(header) => {
                plan.check_belongs(name, &header, config)?;
                plan.take_segment(&file, name, header, unflushed, following)?;
            }
            Err(SegmentFault::Version(found)) => {
                let (file, expected) = (name.clone(), VERSION);
                return Err(OpenError::Version {
                    file,
                    found,
                    expected,
                });
            }
            Err(SegmentFault::Damaged(reason)) => {
                plan.take_headless(&file, name, *first, reason, following.is_none())?
            }
        }
    }
    plan.check_flushed(flushed)?;
    plan.check_fold_version(config, unflushed)?;
    Ok(plan)
}

impl Plan {
    /// The offset after the last record that stays; 0 in an empty log.
    pub(crate) fn next(&self) -> Offset {
        self.segments
            .last()
            .map_or(Offset(0), |segment| segment.contents.next)
    }

    fn check_belongs(&self, name: &str, header: &SegmentHeader, config: &LogConfig) -> Result<(), OpenError> {
        if header.generation != config.generation {
            let (found, expected) = (header.generation, config.generation);
            return Err(OpenError::Generation {
                file: name.to_owned(),
                found,
                expected,
            });
        }
        self.check_follows(header.first)
    }

    /// Takes a segment, after which one that starts at `following` lies; none after the newest.
    fn take_segment<F: DiskFile>(
        &mut self,
        file: &F,
        name: &str,
        header: SegmentHeader,
        unflushed: Offset,
        following: Option<Offset>,
    ) -> Result<(), OpenError> {
        let footer = read_footer(file, &header)?;
        let contents = match footer {
            // Sealed, and in the store: the footer is all that a start needs of it.
            Some(contents) if contents.next <= unflushed && following.is_some() => contents,
            _ => self.walk_segment(file, name, &header, unflushed, footer, following)?,
        };
        self.segments.push(Segment {
            name: name.to_owned(),
            header,
            contents,
        });
        Ok(())
    }

    fn walk_segment<F: DiskFile>(
        &mut self,
        file: &F,
        name: &str,
        header: &SegmentHeader,
        unflushed: Offset,
        footer: Option<Contents>,
        following: Option<Offset>,
    ) -> Result<Contents, OpenError> {
        let length = file.len()?;
        let walk = walk(
            file,
            header,
            footer.map_or(length, |footer| footer.end),
            unflushed,
        )?;
        let Contents { next, end, .. } = walk.contents;
        let corrupt = |reason, why| OpenError::Corrupt {
            file: name.to_owned(),
            position: end,
            offset: next,
            reason,
            why,
        };
        match walk.damage {
            // Every record is there, up to the next segment: what cannot be read is the footer and nothing else.
            Some(_) if following == Some(next) && length - end <= FOOTER_BYTES as u64 => {}
            // The zeros of a file that was lengthened in advance: the groups end before them.
            Some(_)
                if following.is_none()
                    && footer.is_none()
                    && clean_end(file, header, end, next)?.is_some() => {}
            Some(reason) => {
                let why = if next < unflushed {
                    Some("the store holds its rows, so it had been durable")
                } else if following.is_some() {
                    Some("a later segment exists, so it had been durable")
                } else if footer.is_some() {
                    Some("a footer follows, so it had been durable")
                } else {
                    find_group(file, Some(header.salt), end, Offset(next.0 + 1))?
                        .map(|_| "a later group follows, so it had been durable")
                };
                if let Some(why) = why {
                    return Err(corrupt(reason, why));
                }
                self.cut = Some(Cut {
                    file: name.to_owned(),
                    position: end,
                    bytes: nonzero_end(file, end)? - end,
                    first_offset: next,
                    reason,
                });
            }
            None if footer.is_some_and(|footer| footer.next != next) => {
                return Err(corrupt(
                    "its footer gives another end",
                    "a footer is written after its groups",
                ));
            }
            None => {}
        }
        if let Some((position, group)) = walk.last {
            self.last_group = Some((self.segments.len(), position, group));
        }
        Ok(walk.contents)
    }

    /// A segment whose header cannot be read: the trace of a crash only while it is the newest and holds nothing more,
    /// because a header is synced before anything follows it. Zeros are nothing, so that nothing goes with them.
    fn take_headless<F: DiskFile>(
        &mut self,
        file: &F,
        name: &str,
        first: Offset,
        reason: &'static str,
        is_newest: bool,
    ) -> Result<(), OpenError> {
        let why = if !is_newest {
            "a later segment exists, so its header had been durable"
        } else if nonzero_end(file, HEADER_BYTES as u64)? > HEADER_BYTES as u64 {
            "something follows its header, which had been durable then"
        } else {
            self.check_follows(first)?;
            self.dropped = Some(name.to_owned());
            return Ok(());
        };
        Err(OpenError::Corrupt {
            file: name.to_owned(),
            position: 0,
            offset: first,
            reason,
            why,
        })
    }

    /// A segment starts at the very offset where the one before it ends.
    fn check_follows(&self, first: Offset) -> Result<(), OpenError> {
        match self.segments.last() {
            Some(before) if before.contents.next != first => Err(OpenError::Corrupt {
                file: before.name.clone(),
                position: before.contents.end,
                offset: before.contents.next,
                reason: "it does not end where the next segment starts",
                why: if before.contents.next > first {
                    "segments overlap"
                } else {
                    "records are missing"
                },
            }),
            _ => Ok(()),
        }
    }

    fn check_flushed(&self, flushed: Option<Offset>) -> Result<(), OpenError> {
        let next = self.next();
        let first = self.segments.first().map_or(next, |segment| segment.header.first);
        match flushed {
            Some(flushed) if flushed >= next => Err(OpenError::FlushedBeyondEnd { flushed, next }),
            Some(offset) if offset.0 + 1 < first.0 => Err(OpenError::FlushedBelowFirst { flushed, first }),
            None if first > Offset(0) => Err(OpenError::FlushedBelowFirst { flushed, first }),
            _ => Ok(()),
        }
    }

    /// Every record still to be folded is of this build's fold version; so is the segment that will be appended to.
    fn check_fold_version(&mut self, config: &LogConfig, unflushed: Offset) -> Result<(), OpenError> {
        let newest = self.segments.len().saturating_sub(1);
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.header.fold_version == config.fold_version {
                continue;
            }
            let reason = if segment.contents.next > unflushed {
                "it holds records that are not in the store"
            } else if index == newest && !config.checkpoint_complete {
                "it was not stopped cleanly"
            } else {
                self.changes_fold |= index == newest;
                continue;
            };
            let (found, expected) = (segment.header.fold_version, config.fold_version);
            return Err(OpenError::FoldVersion {
                file: segment.name.clone(),
                found,
                expected,
                reason,
            });
        }
        Ok(())
    }

    /// Carries the plan out; when it returns, everything that stays is durable.
    pub(super) fn carry_out<D: Disk>(
        mut self,
        disk: &D,
        config: &LogConfig,
    ) -> Result<(Vec<Segment>, Recovery), DiskError> {
        if let Some(name) = &self.dropped {
            disk.remove(name)?;
        }
        self.write_again(disk)?;
        self.start_segment_if_needed(disk, config)?;
        let recovery = Recovery {
            first: self
                .segments
                .first()
                .map_or(Offset(0), |segment| segment.header.first),
            next: self.next(),
            segments: self.segments.len(),
            groups: self
                .segments
                .iter()
                .map(|segment| u64::from(segment.contents.groups))
                .sum(),
            cut: self.cut,
            dropped: self.dropped,
        };
        Ok((self.segments, recovery))
    }

    /// Writes the last whole group in place with the bytes it has, cuts the torn one, or the footer that the next group
    /// overwrites, or zeros, and syncs.
    ///
    /// It may be in the page cache alone: written by a process that died before its sync, or whose sync failed, after
    /// which the cache counts as clean and only another write brings the bytes to the disk. So may be the name of the
    /// newest segment, and its header, which is written again with the first group, as they share a sector, or on its own
    /// before there is one: else what follows could outlive it.
    fn write_again<D: Disk>(&self, disk: &D) -> Result<(), DiskError> {
        if let Some((index, position, group)) = self.last_group {
            let file = disk.open(&self.segments[index].name)?;
            let mut frame = vec![0; group.frame_bytes() as usize];
            file.read_at(position, &mut frame)?;
            file.write_at(position, &frame)?;
            file.sync_data()?;
        }
        if let Some(newest) = self.segments.last() {
            let file = disk.open(&newest.name)?;
            if newest.contents.is_empty() {
                file.write_at(0, &newest.header.encode())?;
            }
            if file.len()? > newest.contents.end {
                file.truncate(newest.contents.end)?;
            }
            file.sync_data()?;
        }
        disk.sync_dir()
    }

    /// An empty directory gets its first segment; a new fold version gets a segment of its own.
    fn start_segment_if_needed<D: Disk>(&mut self, disk: &D, config: &LogConfig) -> Result<(), DiskError> {
        let next = self.next();
        let header = new_segment_header(config, next);
        match self.segments.last_mut() {
            Some(newest) if self.changes_fold && newest.contents.is_empty() => {
                // In place: the header lies in one sector, so that a crash leaves the old one or the new one.
                newest.header = header;
                let file = disk.open(&newest.name)?;
                file.write_at(0, &header.encode())?;
                file.sync_data()
            }
            Some(_) if !self.changes_fold => Ok(()),
            _ => {
                self.segments.push(create_segment(disk, header)?.0);
                Ok(())
            }
        }
    }
}

/// Reads the header of the segment whose name says that it starts at `first`.
pub(crate) fn read_segment_header(
    file: &impl DiskFile,
    first: Offset,
) -> Result<Result<SegmentHeader, SegmentFault>, DiskError> {
    let mut bytes = [0; HEADER_BYTES];
    if file.read_at(0, &mut bytes)? < HEADER_BYTES {
        return Ok(Err(SegmentFault::Damaged("its header is cut off")));
    }
    Ok(SegmentHeader::decode(&bytes).and_then(|header| {
        if header.first == first {
            Ok(header)
        } else {
            Err(SegmentFault::Damaged(
                "its header and its name give different offsets",
            ))
        }
    }))
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first,
            next,
            segments,
            groups,
            ..
        } = self;
        write!(
            f,
            "log holds offsets {} to {} in {groups} groups, {segments} segments",
            first.0, next.0
        )?;
        if let Some(cut) = &self.cut {
            write!(f, "; {cut}")?;
        }
        if let Some(name) = &self.dropped {
            write!(
                f,
                "; removed {name}, a segment that a crash left without its header"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            position,
            bytes,
            first_offset,
            reason,
        } = self;
        write!(
            f,
            "cut {bytes} bytes off {file} at byte {position}: the group at offset {} was never complete ({reason})",
            first_offset.0
        )
    }
}
