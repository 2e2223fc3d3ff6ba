//! What a router asks of a log, whoever keeps it: offsets and times, no file and no place.

use bytes::Bytes;
use wire_base::ids::{Offset, UnixMs};

use super::error::{AppendError, ReadError, TruncateError};
use super::group::Group;

/// Records in groups, at offsets without gaps. A log on disk keeps to this, one in memory, and a partition of a broker may.
///
/// Shape: one writer. What an implementation promises is tested by `contract` (feature `sim`).
pub trait Log: Send {
    /// Appends a group and returns the offset of its first record; its record `i` has that offset plus `i`. Durable
    /// when it returns. The group stays as it is.
    ///
    /// Errors: [`AppendError::NoSpace`] may be tried again with the same group; any other one stops the log until it is
    /// opened again.
    /// Panics: on an empty group, and on one over [`super::GROUP_BYTES_MAX`].
    fn append(&mut self, group: &mut Group) -> Result<Offset, AppendError>;

    /// Finds out whether the log could grow again. Leaves no trace.
    ///
    /// Order: of use after [`AppendError::NoSpace`], to resume before anyone dares to send. Errors: as [`Log::append`].
    fn probe(&mut self) -> Result<(), AppendError>;

    /// Deletes the sections that hold only records below `offset`, never the newest.
    ///
    /// Order: the caller first makes sure that the store persisted past them. Whatever comes in between, the log has no
    /// gaps. Errors: some may be deleted; it may be tried again.
    fn truncate_below(&mut self, offset: Offset) -> Result<(), TruncateError>;

    /// Returns the records from `offset` on, to the end of the log.
    ///
    /// Errors: [`ReadError::OutOfRange`] below the first offset and beyond the end.
    fn read_from(&self, offset: Offset) -> Result<impl Iterator<Item = ReadRecord> + '_, ReadError>;

    /// Returns the first offset that the log holds.
    fn first(&self) -> Offset;

    /// Returns the offset that the next record will get.
    fn next(&self) -> Offset;

    /// Returns the sections, oldest first; the newest is appended to.
    fn sections(&self) -> impl DoubleEndedIterator<Item = Section> + '_;

    /// Returns what was done since the log was opened.
    fn stats(&self) -> LogStats;
}

/// A record and its offset, or why it could not be read, after which there are no more.
pub type ReadRecord = Result<(Offset, Bytes), ReadError>;

/// A part of a log that is deleted as a whole; the next one begins where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Offset of its first record.
    pub first: Offset,
    /// Time of that record; `None` while there is none, and where it is not known.
    pub time: Option<UnixMs>,
}

/// What a log did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Groups appended.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, headers included.
    pub bytes: u64,
    /// Syncs of files and of the directory; 0 where somebody else syncs.
    pub syncs: u64,
}
