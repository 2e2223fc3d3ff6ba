//! Walks the groups of one segment.

use wire::ids::Offset;

use super::format::{GROUP_MAGIC, GroupHeader, HEADER_BYTES, HeaderBytes, SegmentHeader};
use super::group::next_record;
use crate::disk::{DiskError, DiskFile};

/// What a walk found: whole groups, then the end of the file or damage.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Groups that are whole.
    pub(super) groups: u64,
    /// Offset after their last record.
    pub(super) next: Offset,
    /// Byte after the last of them.
    pub(super) end: u64,
    /// The last of them, and where it is.
    pub(super) last: Option<(u64, GroupHeader)>,
    /// What follows at [`Walk::end`] instead of the end of the file.
    pub(super) damage: Option<&'static str>,
}

/// Walks the groups of a segment to the first damage: checks every header, and the bodies of the last group and of those
/// that hold a record at or after `unflushed`.
pub(super) fn walk(
    file: &impl DiskFile,
    header: &SegmentHeader,
    unflushed: Offset,
) -> Result<Walk, DiskError> {
    let length = file.len()?;
    let mut walk = Walk {
        groups: 0,
        next: header.first,
        end: HEADER_BYTES as u64,
        last: None,
        damage: None,
    };
    let mut last_is_verified = true;
    while walk.end < length {
        let group = match read_group_header(file, header.salt, walk.end, walk.next, length)? {
            Ok(group) => group,
            Err(damage) => {
                walk.damage = Some(damage);
                break;
            }
        };
        last_is_verified = group.next() > unflushed;
        if last_is_verified && let Err(damage) = read_body(file, walk.end, &group)? {
            walk.damage = Some(damage);
            break;
        }
        walk.groups += 1;
        walk.last = Some((walk.end, group));
        walk.next = group.next();
        walk.end += group.frame_bytes();
    }
    match walk.last {
        Some((position, group)) if !last_is_verified => verify_last(file, walk, position, &group),
        _ => Ok(walk),
    }
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
            groups: walk.groups - 1,
            next: group.first,
            end: position,
            last: None,
            damage: Some(damage),
        },
    })
}

/// Reads the header of the group at `position`, which must be the one at offset `first`.
pub(crate) fn read_group_header(
    file: &impl DiskFile,
    salt: u64,
    position: u64,
    first: Offset,
    length: u64,
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
        } else if group.frame_bytes() > length.saturating_sub(position) {
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
