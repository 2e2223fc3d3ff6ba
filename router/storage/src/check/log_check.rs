//! The log, byte by byte.

use std::fmt;

use bytes::Bytes;
use router_records::log::LogRecord;
use wire_base::ids::{Offset, UnixMs};

use super::Utc;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::{
    Cut, HEADER_BYTES, LogConfig, OpenError, clean_end, find_group, next_record, plan, read_body,
    read_footer, read_group_header, read_segment_header, segment_first,
};

/// A whole log, read to its last byte.
#[derive(Debug)]
pub struct LogCheck {
    /// Where it is.
    pub directory: String,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentCheck>,
    /// What start would do.
    pub verdict: Verdict,
}

/// One segment of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentCheck {
    /// Its file.
    pub file: String,
    /// Offset in its name.
    pub first: Offset,
    /// Offset after the last record that can be read.
    pub next: Offset,
    /// Its generation and fold version; `None` without a readable header.
    pub versions: Option<(u32, u32)>,
    /// Whole groups.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Length of the file, but for the zeros by which the newest is lengthened in advance.
    pub bytes: u64,
    /// Times of the first and the last of these records.
    pub times: Option<(UnixMs, UnixMs)>,
    /// Places that cannot be read.
    pub damages: Vec<LogDamage>,
    /// Records whose checksum is right and whose content this version does not know: how many, the first, and why.
    pub unknown: Option<(u64, Offset, String)>,
}

/// A place that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// Byte in the file.
    pub position: u64,
    /// Offset of the first record lost there.
    pub offset: Offset,
    /// What is wrong.
    pub reason: &'static str,
    /// Where the next whole group starts: byte and offset.
    pub resumes: Option<(u64, Offset)>,
}

/// What start would do with a log and the store it belongs to.
#[derive(Debug)]
pub enum Verdict {
    /// Start, and fold the records from an offset on.
    Starts {
        /// The first record to be folded.
        from: Offset,
        /// How many there are.
        records: u64,
        /// A torn last group would be cut off first.
        cut: Option<Cut>,
        /// A segment that a crash left without header would be removed first.
        dropped: Option<String>,
    },
    /// Refuse, for this reason.
    Refuses(OpenError),
}

/// Reads a whole log against the store it belongs to, whose generation is in `config` and which is complete up to
/// `flushed`.
///
/// Errors: the disk's; [`DiskError::Locked`] while a server runs on it.
pub fn check_log<D: Disk>(
    disk: &D,
    config: &LogConfig,
    flushed: Option<Offset>,
) -> Result<LogCheck, DiskError> {
    let _lock = disk.lock()?;
    let mut segments = Vec::new();
    let mut names = disk.list()?;
    names.retain(|name| segment_first(name).is_some());
    let newest = names.last().cloned();
    for name in names {
        if let Some(first) = segment_first(&name) {
            let is_newest = newest.as_ref() == Some(&name);
            segments.push(check_segment(&disk.open(&name)?, name, first, is_newest)?);
        }
    }
    let verdict = match plan(disk, config, flushed) {
        Err(OpenError::Disk(error)) => return Err(error),
        Err(error) => Verdict::Refuses(error),
        Ok(plan) => {
            let from = Offset(flushed.map_or(0, |offset| offset.0 + 1));
            let records = plan.next().0.saturating_sub(from.0);
            Verdict::Starts {
                from,
                records,
                cut: plan.cut,
                dropped: plan.dropped,
            }
        }
    };
    Ok(LogCheck {
        directory: disk.describe(),
        segments,
        verdict,
    })
}

impl LogCheck {
    /// Returns whether start would go on, and nothing is damaged but what it would cut: a group or a segment that a crash
    /// tore, of which nobody was told that it is durable.
    pub fn is_sound(&self) -> bool {
        let Verdict::Starts { cut, dropped, .. } = &self.verdict else {
            return false;
        };
        let is_cut = |segment: &SegmentCheck, damage: &LogDamage| {
            let is_dropped = dropped.as_ref() == Some(&segment.file);
            let starts_cut = |cut: &Cut| (&cut.file, cut.position) == (&segment.file, damage.position);
            is_dropped || cut.as_ref().is_some_and(starts_cut)
        };
        self.segments.iter().all(|segment| {
            let mut damages = segment.damages.iter();
            segment.unknown.is_none() && damages.all(|damage| is_cut(segment, damage))
        })
    }
}

fn check_segment(
    file: &impl DiskFile,
    name: String,
    first: Offset,
    is_newest: bool,
) -> Result<SegmentCheck, DiskError> {
    let bytes = file.len()?;
    let mut check = SegmentCheck {
        file: name,
        first,
        next: first,
        bytes,
        ..SegmentCheck::default()
    };
    let mut footer = None;
    let mut growing = None;
    let (salt, mut position) = match read_segment_header(file, first)? {
        Ok(header) => {
            footer = read_footer(file, &header)?;
            growing = Some(header).filter(|_| is_newest && footer.is_none());
            check.versions = Some((header.generation, header.fold_version));
            (header.salt, HEADER_BYTES as u64)
        }
        Err(fault) => {
            let next_group = find_group(file, None, 0, first)?;
            let resumes = next_group.map(|(position, group)| (position, group.first));
            check.damages.push(LogDamage {
                position: 0,
                offset: first,
                reason: fault.reason(),
                resumes,
            });
            let Some((position, group)) = next_group else {
                return Ok(check);
            };
            check.next = group.first;
            (group.salt, position)
        }
    };
    let end = footer.map_or(bytes, |footer| footer.end);
    while position < end {
        let group = read_group_header(file, salt, position, check.next, end)?;
        let read = match group {
            Ok(group) => read_body(file, position, &group)?.map(|body| (group, body)),
            Err(reason) => Err(reason),
        };
        match read {
            Ok((group, body)) => {
                check.take_group(body.into());
                position += group.frame_bytes();
            }
            Err(reason) => {
                if let Some(header) = &growing
                    && let Some(used) = clean_end(file, header, position, check.next)?
                {
                    check.bytes = used;
                    break;
                }
                let next_group = find_group(file, Some(salt), position, Offset(check.next.0 + 1))?;
                let resumes = next_group.map(|(position, group)| (position, group.first));
                check.damages.push(LogDamage {
                    position,
                    offset: check.next,
                    reason,
                    resumes,
                });
                let Some((resumed, group)) = next_group else { break };
                position = resumed;
                check.next = group.first;
            }
        }
    }
    if let Some(footer) = footer
        && check.damages.is_empty()
        && (u64::from(footer.groups), footer.next) != (check.groups, check.next)
    {
        check.damages.push(LogDamage {
            position: end,
            offset: check.next,
            reason: "its footer tells of other groups",
            resumes: None,
        });
    }
    Ok(check)
}

impl SegmentCheck {
    fn take_group(&mut self, body: Bytes) {
        self.groups += 1;
        let mut at = 0;
        while let Some(range) = next_record(&body, at) {
            at = range.end;
            match LogRecord::decode(body.slice(range)) {
                Ok(record) => {
                    let oldest = self.times.map_or(record.time, |(oldest, _)| oldest);
                    self.times = Some((oldest, record.time));
                }
                Err(error) => self.unknown.get_or_insert((0, self.next, error.to_string())).0 += 1,
            }
            self.records += 1;
            self.next.0 += 1;
        }
    }
}

impl fmt::Display for LogCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log {}: {} segments", self.directory, self.segments.len())?;
        for segment in &self.segments {
            write!(f, "{segment}")?;
        }
        write!(f, "{}", self.verdict)
    }
}

impl fmt::Display for SegmentCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            first,
            next,
            groups,
            records,
            bytes,
            ..
        } = self;
        write!(
            f,
            "  {file}: offsets {} to {}, {groups} groups, {records} records, {bytes} bytes",
            first.0, next.0
        )?;
        if let Some((generation, fold_version)) = self.versions {
            write!(f, ", generation {generation}, fold version {fold_version}")?;
        }
        if let Some((oldest, newest)) = self.times {
            write!(f, ", {} to {}", Utc(oldest), Utc(newest))?;
        }
        writeln!(f)?;
        for damage in &self.damages {
            writeln!(f, "    {damage}")?;
        }
        if let Some((count, offset, reason)) = &self.unknown {
            writeln!(
                f,
                "    UNKNOWN {count} records, the first at offset {}: {reason}",
                offset.0
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for LogDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            offset,
            reason,
            resumes,
        } = self;
        write!(f, "DAMAGED at byte {position}, offset {}: {reason}; ", offset.0)?;
        match resumes {
            Some((position, offset)) => write!(f, "whole again from byte {position}, offset {}", offset.0),
            None => write!(f, "nothing whole follows in this segment"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starts {
                from,
                records,
                cut,
                dropped,
            } => {
                if let Some(cut) = cut {
                    writeln!(f, "start would {cut}")?;
                }
                if let Some(name) = dropped {
                    writeln!(
                        f,
                        "start would remove {name}, a segment that a crash left without its header"
                    )?;
                }
                writeln!(f, "start would fold {records} records, from offset {} on", from.0)
            }
            Self::Refuses(error) => writeln!(f, "start would REFUSE: {error}"),
        }
    }
}
