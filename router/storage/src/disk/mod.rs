//! What the log asks of a disk: one directory, files by name, and an explicit sync for everything that must last.
//!
//! [`RealDisk`] is a directory of the file system. `SimDisk` (feature `sim`) is a machine in memory that forgets, at a
//! crash, any subset of what was not synced. Nothing here is buffered: a write is visible to reads at once and durable only
//! after [`DiskFile::sync_data`]; a name is durable only after [`Disk::sync_dir`].

mod private;
mod real;
#[cfg(any(test, feature = "sim"))]
mod sim;

pub use private::keep_private;
pub(crate) use private::{create_private_dir, private_file};
pub use real::{RealDisk, RealFile, RealLock};
pub(crate) use real::{is_no_room, sync_directory};
#[cfg(any(test, feature = "sim"))]
pub use sim::{SimDisk, SimFile, SimLock};

use std::io;

/// A directory.
pub trait Disk: Send {
    /// An open file of it.
    type File: DiskFile;
    /// Proof of exclusive use, until dropped.
    type Lock: Send;

    /// Returns the directory as an operator knows it.
    fn describe(&self) -> String;

    /// Takes the directory for this process alone.
    ///
    /// Errors: [`DiskError::Locked`] when another holds it.
    fn lock(&self) -> Result<Self::Lock, DiskError>;

    /// Creates an empty file; refuses one that exists.
    fn create(&self, name: &str) -> Result<Self::File, DiskError>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> Result<Self::File, DiskError>;

    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Returns the names of all files, sorted.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Makes every earlier create, remove and rename durable.
    fn sync_dir(&self) -> Result<(), DiskError>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at `position`, extending the file as needed.
    ///
    /// Errors: after one, any part of `bytes` may be in the file.
    fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Reads into `buffer` from `position`; returns how much there was, less than asked only at the end of the file.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;

    /// Returns the length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Returns whether nothing is in it.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to `length` bytes. Durable, like a write, after [`DiskFile::sync_data`].
    fn truncate(&self, length: u64) -> Result<(), DiskError>;

    /// Lengthens the file to `length` bytes, with zeros, and has the disk keep room for them, so that a write there changes
    /// nothing but data. Durable, like a write, after [`DiskFile::sync_data`].
    ///
    /// Errors: it is not worth it ([`DiskError::NoSpace`]: the disk has little more than that), or not possible. The file may
    /// be longer than it was, by any part of it.
    fn preallocate(&self, length: u64) -> Result<(), DiskError>;

    /// Makes every earlier write and truncation durable.
    ///
    /// Errors: after one, any part of the earlier writes may be durable or not, and no later sync tells: the file is
    /// to be written again or given up.
    fn sync_data(&self) -> Result<(), DiskError>;
}

/// Why a disk refused.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No space, no quota or no file descriptor: goes away by itself when there is some again.
    #[error("no room for {file}: the disk is full, or too many files are open")]
    NoSpace {
        /// Which file could not grow or be made.
        file: String,
    },
    /// There is no such file.
    #[error("{file} does not exist")]
    NotFound {
        /// Which.
        file: String,
    },
    /// Another process (or another handle of this one) uses the directory.
    #[error("{directory} is in use by another process")]
    Locked {
        /// Which directory.
        directory: String,
    },
    /// Anything else; the disk or the system is at fault.
    #[error("{operation} {file}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}
