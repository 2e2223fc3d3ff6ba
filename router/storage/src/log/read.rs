//! Reading records back, in order.

use bytes::Bytes;
use wire_base::ids::Offset;

use super::error::ReadError;
use super::format::HEADER_BYTES;
use super::group::next_record;
use super::port::ReadRecord;
use super::segmented::Segment;
use super::walk::{read_body, read_group_header};
use crate::disk::Disk;

/// The records of a log from an offset to its end; see [`super::Log::read_from`].
///
/// Shape: holds one group in memory; records are slices of it. Checks what it reads, whatever start checked.
/// Errors: after one it is at its end.
#[derive(Debug)]
pub struct Records<'a, D: Disk> {
    disk: &'a D,
    /// The segment being read, and the ones after it.
    segments: &'a [Segment],
    file: Option<D::File>,
    /// Where the next group of the segment starts, and its offset.
    position: u64,
    next_group: Offset,
    /// The group being read, where in it the next record starts, and the offset of that record.
    body: Bytes,
    at: usize,
    next: Offset,
}

impl<'a, D: Disk> Records<'a, D> {
    pub(super) fn new(disk: &'a D, segments: &'a [Segment], offset: Offset) -> Result<Self, ReadError> {
        let first = segments.first().map_or(Offset(0), |segment| segment.header.first);
        let next = segments.last().map_or(Offset(0), |segment| segment.contents.next);
        if offset < first || offset > next {
            return Err(ReadError::OutOfRange { offset, first, next });
        }
        let index = segments
            .iter()
            .position(|segment| offset < segment.contents.next)
            .unwrap_or(segments.len());
        let mut records = Self {
            disk,
            segments: &segments[index..],
            file: None,
            position: 0,
            next_group: first,
            body: Bytes::new(),
            at: 0,
            next: offset,
        };
        records.skip_to(offset)?;
        Ok(records)
    }

    /// Goes to the group that holds `offset`, by headers alone, and to its record in it.
    fn skip_to(&mut self, offset: Offset) -> Result<(), ReadError> {
        while self.read_group(offset)? {
            if self.next_group > offset {
                while self.next < offset {
                    self.take_record();
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on to the next group, and reads its body if it holds `wanted` or a later record; `false` at the end.
    fn read_group(&mut self, wanted: Offset) -> Result<bool, ReadError> {
        let Some(segment) = self.enter_segment()? else {
            return Ok(false);
        };
        let file = self.file.as_ref().expect("entering a segment opens its file");
        let (position, offset) = (self.position, self.next_group);
        let corrupt = |reason| ReadError::Corrupt {
            place: format!("byte {position} of {}", segment.name),
            offset,
            reason,
        };
        let (salt, end) = (segment.header.salt, segment.contents.end);
        let group = read_group_header(file, salt, position, offset, end)?.map_err(corrupt)?;
        self.next = offset;
        self.next_group = group.next();
        self.position += group.frame_bytes();
        self.at = 0;
        self.body = Bytes::new();
        if group.next() > wanted {
            self.body = read_body(file, position, &group)?.map_err(corrupt)?.into();
        }
        Ok(true)
    }

    /// Returns the segment that holds the next group; `None` at the end of the log.
    fn enter_segment(&mut self) -> Result<Option<&'a Segment>, ReadError> {
        loop {
            let Some(segment) = self.segments.first() else {
                return Ok(None);
            };
            if self.file.is_none() {
                self.file = Some(self.disk.open(&segment.name)?);
                self.position = HEADER_BYTES as u64;
                self.next_group = segment.header.first;
            }
            if self.position < segment.contents.end {
                return Ok(Some(segment));
            }
            self.segments = &self.segments[1..];
            self.file = None;
        }
    }

    fn take_record(&mut self) -> Option<(Offset, Bytes)> {
        let range = next_record(&self.body, self.at)?;
        let offset = self.next;
        self.at = range.end;
        self.next.0 += 1;
        Some((offset, self.body.slice(range)))
    }
}

impl<D: Disk> Iterator for Records<'_, D> {
    type Item = ReadRecord;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.take_record() {
                return Some(Ok(record));
            }
            match self.read_group(self.next) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.segments = &[];
                    self.file = None;
                    self.body = Bytes::new();
                    return Some(Err(error));
                }
            }
        }
    }
}
