//! Walks the groups of one segment, or reads from its footer what a walk would find.

use router_records::log::LogRecord;
use wire_base::ids::{Offset, UnixMs};

use super::format::{
    Contents, FOOTER_BYTES, GROUP_MAGIC, GroupHeader, HEADER_BYTES, HeaderBytes, SegmentFooter, SegmentHeader,
};
use super::group::next_record;
use crate::disk::{DiskError, DiskFile};

/// What a walk found: whole groups, then the end of the groups or damage.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The groups that are whole.
    pub(super) contents: Contents,
    /// The last of them, and where it is.
    pub(super) last: Option<(u64, GroupHeader)>,
    /// What follows them instead of the end.
    pub(super) damage: Option<&'static str>,
}

/// Walks the groups of a segment up to byte `end`, or to the first damage: checks every header, and the bodies of the
/// last group and of those that hold a record at or after `unflushed`.
pub(super) fn walk(
    file: &impl DiskFile,
    header: &SegmentHeader,
    end: u64,
    unflushed: Offset,
) -> Result<Walk, DiskError> {
    let mut walk = Walk {
        contents: Contents::empty(header.first),
        last: None,
        damage: None,
    };
    let mut first_group = None;
    let mut last_is_verified = true;
    while walk.contents.end < end {
        let position = walk.contents.end;
        let group = match read_group_header(file, header.salt, position, walk.contents.next, end)? {
            Ok(group) => group,
            Err(damage) => {
                walk.damage = Some(damage);
                break;
            }
        };
        last_is_verified = group.next() > unflushed;
        if last_is_verified && let Err(damage) = read_body(file, position, &group)? {
            walk.damage = Some(damage);
            break;
        }
        first_group.get_or_insert(group);
        walk.last = Some((position, group));
        walk.contents.groups += 1;
        walk.contents.next = group.next();
        walk.contents.end += group.frame_bytes();
    }
    if let Some((position, group)) = walk.last
        && !last_is_verified
    {
        walk = verify_last(file, walk, position, &group)?;
    }
    if let (Some(first), Some((position, last))) = (first_group, walk.last) {
        walk.contents.times = times(file, &first, position, &last)?;
    }
    Ok(walk)
}

/// Checks the body of the last group, and takes it out of the walk when it is damaged.
fn verify_last(
    file: &impl DiskFile,
    walk: Walk,
    position: u64,
    group: &GroupHeader,
) -> Result<Walk, DiskError> {
    Ok(match read_body(file, position, group)? {
        Ok(_) => walk,
        Err(damage) => Walk {
            contents: Contents {
                groups: walk.contents.groups - 1,
                next: group.first,
                end: position,
                ..walk.contents
            },
            last: None,
            damage: Some(damage),
        },
    })
}

/// Returns the times of the first record of a segment and of the last one of its last group; `None` where one cannot be
/// read.
fn times(
    file: &impl DiskFile,
    first: &GroupHeader,
    position: u64,
    last: &GroupHeader,
) -> Result<Option<(UnixMs, UnixMs)>, DiskError> {
    let Ok(first) = read_body(file, HEADER_BYTES as u64, first)? else {
        return Ok(None);
    };
    let Ok(last) = read_body(file, position, last)? else {
        return Ok(None);
    };
    let oldest = next_record(&first, 0).and_then(|record| LogRecord::time_of(&first[record]));
    let mut record = 0..0;
    while let Some(next) = next_record(&last, record.end) {
        record = next;
    }
    Ok(oldest.zip(LogRecord::time_of(&last[record])))
}

/// Reads the footer of a sealed segment; `None` without one that is whole.
pub(crate) fn read_footer(
    file: &impl DiskFile,
    header: &SegmentHeader,
) -> Result<Option<Contents>, DiskError> {
    match file.len()?.checked_sub(FOOTER_BYTES as u64) {
        Some(end) => read_footer_at(file, header, end),
        None => Ok(None),
    }
}

fn read_footer_at(
    file: &impl DiskFile,
    header: &SegmentHeader,
    end: u64,
) -> Result<Option<Contents>, DiskError> {
    let mut bytes = [0; FOOTER_BYTES];
    if file.read_at(end, &mut bytes)? < FOOTER_BYTES {
        return Ok(None);
    }
    let footer = SegmentFooter::decode(&bytes).ok().filter(|footer| {
        (footer.salt, footer.contents.first, footer.contents.end) == (header.salt, header.first, end)
    });
    Ok(footer.map(|footer| footer.contents))
}

/// Returns where the bytes end that are in use, if the newest segment ends cleanly after its groups, at byte `end` and offset
/// `next`: only zeros follow, of a file lengthened in advance; or a whole footer and then those, where a crash came before
/// the file was cut.
pub(crate) fn clean_end(
    file: &impl DiskFile,
    header: &SegmentHeader,
    end: u64,
    next: Offset,
) -> Result<Option<u64>, DiskError> {
    let nonzero = nonzero_end(file, end)?;
    let sealed = end + FOOTER_BYTES as u64;
    if nonzero == end {
        return Ok(Some(end));
    }
    if nonzero > sealed {
        return Ok(None);
    }
    let footer = read_footer_at(file, header, end)?;
    Ok(footer.filter(|footer| footer.next == next).map(|_| sealed))
}

/// Returns where the last byte at or after `position` ends that is not 0; `position` without one.
pub(super) fn nonzero_end(file: &impl DiskFile, position: u64) -> Result<u64, DiskError> {
    let mut chunk = vec![0; SEARCH_BYTES];
    let (mut start, mut end) = (position, position);
    loop {
        let count = file.read_at(start, &mut chunk)?;
        if let Some(last) = chunk[..count].iter().rposition(|byte| *byte != 0) {
            end = start + last as u64 + 1;
        }
        if count < chunk.len() {
            return Ok(end);
        }
        start += count as u64;
    }
}

/// Reads the header of the group at `position`, which must be the one at offset `first` and not go beyond byte `end`.
pub(crate) fn read_group_header(
    file: &impl DiskFile,
    salt: u64,
    position: u64,
    first: Offset,
    end: u64,
) -> Result<Result<GroupHeader, &'static str>, DiskError> {
    let mut bytes = [0; HEADER_BYTES];
    if file.read_at(position, &mut bytes)? < HEADER_BYTES {
        return Ok(Err("its header is cut off"));
    }
    Ok(GroupHeader::decode(&bytes).and_then(|group| {
        if group.salt != salt {
            Err("it belongs to another segment")
        } else if group.first != first {
            Err("it has another offset")
        } else if group.frame_bytes() > end.saturating_sub(position) {
            Err("its body is cut off")
        } else {
            Ok(group)
        }
    }))
}

/// Reads and checks the body of the group at `position`.
pub(crate) fn read_body(
    file: &impl DiskFile,
    position: u64,
    group: &GroupHeader,
) -> Result<Result<Vec<u8>, &'static str>, DiskError> {
    let mut body = vec![0; group.body_bytes as usize];
    if file.read_at(position + HEADER_BYTES as u64, &mut body)? < body.len() {
        return Ok(Err("its body is cut off"));
    }
    if crc32c::crc32c(&body) != group.body_crc {
        return Ok(Err("its body has a wrong checksum"));
    }
    let mut at = 0;
    for _ in 0..group.records {
        match next_record(&body, at) {
            Some(record) => at = record.end,
            None => return Ok(Err("its records do not fit its body")),
        }
    }
    Ok(if at == body.len() {
        Ok(body)
    } else {
        Err("its records do not fill its body")
    })
}

/// Returns the first place at or after `position` where a group header stands that is whole, of this segment (any
/// segment's when its salt is unknown), and of a group that starts at `from` or later.
pub(crate) fn find_group(
    file: &impl DiskFile,
    salt: Option<u64>,
    position: u64,
    from: Offset,
) -> Result<Option<(u64, GroupHeader)>, DiskError> {
    let mut chunk = vec![0; SEARCH_BYTES];
    let mut start = position;
    loop {
        let count = file.read_at(start, &mut chunk)?;
        let bytes = &chunk[..count];
        for at in 0..count.saturating_sub(HEADER_BYTES - 1) {
            if let Some(group) = header_at(&bytes[at..])
                && salt.is_none_or(|salt| salt == group.salt)
                && group.first >= from
            {
                return Ok(Some((start + at as u64, group)));
            }
        }
        if count < chunk.len() {
            return Ok(None);
        }
        // A header may lie across two chunks.
        start += (count - HEADER_BYTES + 1) as u64;
    }
}

fn header_at(bytes: &[u8]) -> Option<GroupHeader> {
    if !bytes.starts_with(&GROUP_MAGIC) {
        return None;
    }
    let header: &HeaderBytes = bytes.first_chunk()?;
    GroupHeader::decode(header).ok()
}

const SEARCH_BYTES: usize = 256 * 1024;
