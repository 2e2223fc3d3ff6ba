//! One error enum per operation of the log.

use std::error::Error;

use wire_base::ids::Offset;

use crate::disk::DiskError;

/// Why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room. Nothing was logged; the same group may be tried again when space returns.
    #[error("the log cannot grow: the disk is full, or too many files are open")]
    NoSpace,
    /// What keeps it failed. Whether the group is in the log is unknown until it is opened again; until then nothing is
    /// appended.
    #[error("the log failed and stops until restart: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// An earlier append failed; see [`AppendError::Failed`].
    #[error("the log failed earlier and stops until restart")]
    Stopped,
}

/// Why records were not deleted, or only some: what keeps the log refused.
#[derive(Debug, thiserror::Error)]
#[error("the log could not be truncated: {0}")]
pub struct TruncateError(#[source] pub Box<dyn Error + Send + Sync>);

/// Why the log was not opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused, or another process uses the directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something was damaged that had been durable: not the trace of a crash.
    #[error("{file} is damaged at byte {position}, in the group at offset {}: {reason}; {why}", offset.0)]
    Corrupt {
        /// The segment.
        file: String,
        /// Where in it.
        position: u64,
        /// The first record that cannot be read.
        offset: Offset,
        /// What is wrong there.
        reason: &'static str,
        /// Why it is not a torn tail.
        why: &'static str,
    },
    /// The store holds more than the log: the log was replaced or lost records.
    #[error("the store is complete up to offset {} but the log ends before {}: records are missing", flushed.0, next.0)]
    FlushedBeyondEnd {
        /// The last record whose rows are in the store.
        flushed: Offset,
        /// The end of the log.
        next: Offset,
    },
    /// Records between the store and the log are gone: the store was replaced or lost rows.
    #[error("the store is complete up to {} but the log starts at offset {}: records are missing", up_to(*flushed), first.0)]
    FlushedBelowFirst {
        /// The last record whose rows are in the store.
        flushed: Option<Offset>,
        /// The first offset of the log.
        first: Offset,
    },
    /// The log belongs to another store.
    #[error("{file} has generation {found}, the store has {expected}: they do not belong together")]
    Generation {
        /// The segment.
        file: String,
        /// The generation in it.
        found: u32,
        /// The generation of the store.
        expected: u32,
    },
    /// Another version of this program keeps its log differently.
    #[error(
        "{file} has log format {found}, this build has {expected}, and none is converted: run the version that wrote it on \
         this data directory, or begin with an empty one"
    )]
    Version {
        /// The segment.
        file: String,
        /// The format version in it.
        found: u32,
        /// The format version of this build.
        expected: u32,
    },
    /// Records that are not in the store were written for another fold.
    #[error(
        "{file} was written for fold version {found}, this build has {expected}, and {reason}: start the version that wrote \
         it once more on this directory, stop it cleanly (SIGTERM), then start this one"
    )]
    FoldVersion {
        /// The segment.
        file: String,
        /// The version in it.
        found: u32,
        /// The version of this build.
        expected: u32,
        /// What is missing for a change of version.
        reason: &'static str,
    },
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What keeps the log refused.
    #[error("{0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// A group is damaged.
    #[error("the log is damaged at {place}, in the group at offset {}: {reason}", offset.0)]
    Corrupt {
        /// Where, for whoever keeps the log.
        place: String,
        /// The first record that cannot be read.
        offset: Offset,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The log does not hold the offset asked for.
    #[error("offset {} is not in the log, which holds {} to {}", offset.0, first.0, next.0)]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset of the log.
        first: Offset,
        /// The offset after its last.
        next: Offset,
    },
}

impl From<DiskError> for AppendError {
    fn from(error: DiskError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<DiskError> for TruncateError {
    fn from(error: DiskError) -> Self {
        Self(error.into())
    }
}

fn up_to(flushed: Option<Offset>) -> String {
    flushed.map_or_else(|| "no offset".to_owned(), |offset| format!("offset {}", offset.0))
}
