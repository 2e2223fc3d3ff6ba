//! Records on their way into the log: one buffer that already is the frame.

use router_records::log::LogRecord;
use wire_base::ids::{Offset, UnixMs};

use super::format::{GROUP_BYTES_MAX, GroupHeader, HEADER_BYTES};

/// The records of one append, encoded straight into the buffer that is written.
///
/// Shape: keeps its buffer over [`Group::clear`]; at most [`GROUP_BYTES_MAX`] bytes. Order: push, append, clear.
#[derive(Clone, Debug)]
pub struct Group {
    frame: Vec<u8>,
    records: u32,
    /// Where the last record starts.
    last_at: usize,
}

impl Group {
    /// Returns an empty group.
    pub fn new() -> Self {
        Self {
            frame: vec![0; HEADER_BYTES],
            records: 0,
            last_at: HEADER_BYTES,
        }
    }

    /// Adds the record that `encode` appends to the buffer it is given.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.frame.len();
        self.last_at = start;
        self.frame.extend_from_slice(&[0; LENGTH_BYTES]);
        encode(&mut self.frame);
        let length = (self.frame.len() - start - LENGTH_BYTES) as u32;
        self.frame[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
    }

    /// Adds a record that is already encoded.
    pub fn push_bytes(&mut self, record: &[u8]) {
        self.push(|frame| frame.extend_from_slice(record));
    }

    /// Returns how many records it holds.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Returns whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Returns how many bytes it takes in the log.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Drops all records.
    pub fn clear(&mut self) {
        self.frame.truncate(HEADER_BYTES);
        self.records = 0;
    }

    /// Returns its records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = HEADER_BYTES;
        std::iter::from_fn(move || {
            let record = next_record(&self.frame, at)?;
            at = record.end;
            Some(&self.frame[record])
        })
    }

    /// Returns the times of the first and the last record; `None` where they have none.
    pub(super) fn times(&self) -> Option<(UnixMs, UnixMs)> {
        let time_at = |at| LogRecord::time_of(&self.frame[next_record(&self.frame, at)?]);
        Some((time_at(HEADER_BYTES)?, time_at(self.last_at)?))
    }

    /// Panics when empty or too large, which the caller of an append prevents.
    pub(super) fn assert_fits(&self) {
        assert!(!self.is_empty(), "a group holds at least one record");
        assert!(
            self.bytes() <= GROUP_BYTES_MAX,
            "a group of {} bytes is over GROUP_BYTES_MAX",
            self.bytes()
        );
    }

    /// Fills in the header for its place and returns the frame.
    ///
    /// Panics: see [`Group::assert_fits`].
    pub(super) fn seal(&mut self, first: Offset, salt: u64) -> &[u8] {
        self.assert_fits();
        let body = &self.frame[HEADER_BYTES..];
        let header = GroupHeader {
            body_bytes: body.len() as u32,
            first,
            records: self.records,
            salt,
            body_crc: crc32c::crc32c(body),
        };
        self.frame[..HEADER_BYTES].copy_from_slice(&header.encode());
        &self.frame
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the range of the next record in a body at `at`, and `None` at its end or when its length is damaged.
pub(crate) fn next_record(body: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let start = at.checked_add(LENGTH_BYTES)?;
    let length = u32::from_le_bytes(body.get(at..start)?.try_into().ok()?) as usize;
    let end = start.checked_add(length)?;
    (end <= body.len()).then_some(start..end)
}

const LENGTH_BYTES: usize = 4;
