//! The two headers, the footer and the file names; the layout is drawn in the module above.

use wire_base::ids::{Offset, UnixMs};

use super::group::Group;

/// Length of a segment header and of a group header.
pub const HEADER_BYTES: usize = 36;
/// Length of the footer of a sealed segment.
pub const FOOTER_BYTES: usize = 60;
/// Largest group frame; a longer length in a header is damage, so that nothing allocates what a disk claims.
pub const GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) const GROUP_MAGIC: [u8; 4] = *b"TGGR";
const SEGMENT_MAGIC: [u8; 4] = *b"TGSG";
const FOOTER_MAGIC: [u8; 4] = *b"TGSF";
/// Raised when the layout of segments, groups or the records in them changes: every record of a segment is of its version.
pub(super) const VERSION: u32 = 3;

pub(crate) type HeaderBytes = [u8; HEADER_BYTES];
pub(crate) type FooterBytes = [u8; FOOTER_BYTES];

/// First bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) generation: u32,
    pub(crate) fold_version: u32,
    pub(crate) salt: u64,
    pub(crate) first: Offset,
}

/// Why the header of a segment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentFault {
    /// It is not as it was written, for this reason.
    Damaged(&'static str),
    /// It is whole, and of this format version.
    Version(u32),
}

impl SegmentFault {
    /// Returns what is wrong, in words.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Damaged(reason) => reason,
            Self::Version(_) => "another version of this program wrote it",
        }
    }
}

/// First bytes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) body_bytes: u32,
    pub(crate) first: Offset,
    pub(crate) records: u32,
    pub(crate) salt: u64,
    pub(crate) body_crc: u32,
}

/// Last bytes of a sealed segment: what a walk over its groups would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFooter {
    pub(crate) salt: u64,
    pub(crate) contents: Contents,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Groups; at most 2^25 fit the largest segment.
    pub(crate) groups: u32,
    /// Offset of the first record.
    pub(crate) first: Offset,
    /// Offset after the last record.
    pub(crate) next: Offset,
    /// Byte after the last group.
    pub(crate) end: u64,
    /// Times of the first and the last record; `None` where they are not known.
    pub(crate) times: Option<(UnixMs, UnixMs)>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> HeaderBytes {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.generation.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.fold_version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        seal(bytes)
    }

    /// Returns the header, or what is wrong with it.
    pub(crate) fn decode(bytes: &HeaderBytes) -> Result<Self, SegmentFault> {
        check(bytes, SEGMENT_MAGIC).map_err(SegmentFault::Damaged)?;
        let version = u32_at(bytes, 4);
        if version != VERSION {
            return Err(SegmentFault::Version(version));
        }
        Ok(Self {
            generation: u32_at(bytes, 8),
            fold_version: u32_at(bytes, 12),
            salt: u64_at(bytes, 16),
            first: Offset(u64_at(bytes, 24)),
        })
    }
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> HeaderBytes {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&GROUP_MAGIC);
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.records.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.salt.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_crc.to_le_bytes());
        seal(bytes)
    }

    /// Returns the header, or what is wrong with it.
    pub(crate) fn decode(bytes: &HeaderBytes) -> Result<Self, &'static str> {
        check(bytes, GROUP_MAGIC)?;
        let header = Self {
            body_bytes: u32_at(bytes, 4),
            first: Offset(u64_at(bytes, 8)),
            records: u32_at(bytes, 16),
            salt: u64_at(bytes, 20),
            body_crc: u32_at(bytes, 28),
        };
        if header.records == 0 || header.frame_bytes() > GROUP_BYTES_MAX as u64 {
            return Err("its header holds impossible sizes");
        }
        Ok(header)
    }

    /// Length of header and body.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    /// Offset after its last record.
    pub(crate) fn next(&self) -> Offset {
        Offset(self.first.0.saturating_add(u64::from(self.records)))
    }
}

impl Contents {
    /// Returns what a segment holds at first.
    pub(crate) fn empty(first: Offset) -> Self {
        Self {
            groups: 0,
            first,
            next: first,
            end: HEADER_BYTES as u64,
            times: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next == self.first
    }

    /// Counts a group that was appended.
    pub(super) fn take_group(&mut self, group: &Group) {
        self.times = match (self.times, group.times()) {
            (_, times) if self.is_empty() => times,
            (Some((oldest, _)), Some((_, newest))) => Some((oldest, newest)),
            _ => None,
        };
        self.groups += 1;
        self.next.0 += group.len() as u64;
        self.end += group.bytes() as u64;
    }
}

impl SegmentFooter {
    pub(crate) fn encode(&self) -> FooterBytes {
        let Contents {
            groups,
            first,
            next,
            end,
            times,
        } = self.contents;
        let (oldest, newest) = times.map_or(NO_TIMES, |(oldest, newest)| (oldest.0, newest.0));
        let mut bytes = [0; FOOTER_BYTES];
        bytes[0..4].copy_from_slice(&FOOTER_MAGIC);
        bytes[4..8].copy_from_slice(&groups.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&next.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&end.to_le_bytes());
        bytes[40..48].copy_from_slice(&oldest.to_le_bytes());
        bytes[48..56].copy_from_slice(&newest.to_le_bytes());
        seal(bytes)
    }

    /// Returns the footer, or what is wrong with it.
    pub(crate) fn decode(bytes: &FooterBytes) -> Result<Self, &'static str> {
        check(bytes, FOOTER_MAGIC)?;
        let times = (u64_at(bytes, 40), u64_at(bytes, 48));
        Ok(Self {
            salt: u64_at(bytes, 8),
            contents: Contents {
                groups: u32_at(bytes, 4),
                first: Offset(u64_at(bytes, 16)),
                next: Offset(u64_at(bytes, 24)),
                end: u64_at(bytes, 32),
                times: (times != NO_TIMES).then_some((UnixMs(times.0), UnixMs(times.1))),
            },
        })
    }
}

/// Returns the file of the segment that starts at an offset.
pub(super) fn segment_name(first: Offset) -> String {
    format!("{:020}.log", first.0)
}

/// Returns the offset in a segment's name; `None` for another file.
pub(crate) fn segment_first(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number {
        digits.parse().ok().map(Offset)
    } else {
        None
    }
}

/// Puts a checksum of everything before it into the last four bytes.
fn seal<const BYTES: usize>(mut bytes: [u8; BYTES]) -> [u8; BYTES] {
    let crc_at = BYTES - CRC_BYTES;
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    bytes[crc_at..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn check(bytes: &[u8], magic: [u8; 4]) -> Result<(), &'static str> {
    if bytes[0..4] != magic {
        return Err("its header is missing");
    }
    let crc_at = bytes.len() - CRC_BYTES;
    if u32_at(bytes, crc_at) != crc32c::crc32c(&bytes[..crc_at]) {
        return Err("its header has a wrong checksum");
    }
    Ok(())
}

const CRC_BYTES: usize = 4;
/// Times that no two records have, in this order.
const NO_TIMES: (u64, u64) = (u64::MAX, 0);

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_and_any_flipped_bit_is_seen(
            numbers: (u32, u32, u64, u64), records in 1u32.., body_bytes in 0..1_000_000u32, bit in 0..HEADER_BYTES * 8,
        ) {
            let (generation, fold_version, salt, first) = numbers;
            let segment = SegmentHeader { generation, fold_version, salt, first: Offset(first) };
            prop_assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
            prop_assert!(SegmentHeader::decode(&flipped(segment.encode(), bit)).is_err());
            let group = GroupHeader { body_bytes, first: Offset(first), records, salt, body_crc: generation };
            prop_assert_eq!(GroupHeader::decode(&group.encode()), Ok(group));
            prop_assert!(GroupHeader::decode(&flipped(group.encode(), bit)).is_err());
        }

        #[test]
        fn footers_come_back_and_any_flipped_bit_is_seen(
            numbers: (u64, u64, u64, u64), groups: u32, times: Option<(u32, u32)>, bit in 0..FOOTER_BYTES * 8,
        ) {
            let (salt, first, next, end) = numbers;
            let times = times.map(|(oldest, newest)| (UnixMs(oldest.into()), UnixMs(newest.into())));
            let contents = Contents { groups, first: Offset(first), next: Offset(next), end, times };
            let footer = SegmentFooter { salt, contents };
            prop_assert_eq!(SegmentFooter::decode(&footer.encode()), Ok(footer));
            prop_assert!(SegmentFooter::decode(&flipped(footer.encode(), bit)).is_err());
        }

        #[test]
        fn segment_names_come_back_and_sort_like_their_offsets(a: u64, b: u64) {
            prop_assert_eq!(segment_first(&segment_name(Offset(a))), Some(Offset(a)));
            prop_assert_eq!(segment_name(Offset(a)).cmp(&segment_name(Offset(b))), a.cmp(&b));
        }
    }

    #[test]
    fn other_names_are_no_segments() {
        for name in [
            "lock",
            "1.log",
            "0000000000000000000x.log",
            "99999999999999999999.log",
            "00000000000000000001.tmp",
        ] {
            assert_eq!(segment_first(name), None, "{name}");
        }
    }

    fn flipped<const BYTES: usize>(mut bytes: [u8; BYTES], bit: usize) -> [u8; BYTES] {
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }
}
