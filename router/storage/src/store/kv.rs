//! What the store asks of an ordered key-value engine.

use std::error::Error;
use std::ops::{Bound, ControlFlow};

use super::ports::Direction;

/// An ordered map of bytes in one keyspace, changed by whole batches.
///
/// A crash leaves a prefix of the batches, whole, that includes everything up to the last [`Kv::persist`].
pub trait Kv: Send {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Visits the pairs of a range in order of key, or against it, until `visit` breaks.
    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError>;

    /// Makes all changes of a batch, or none; reads see them at once, a crash may take them.
    ///
    /// Errors: after one the batch may still have been made, and may be made again.
    fn apply(&mut self, batch: &Batch) -> Result<(), KvError>;

    /// Makes an engine that stopped take changes again, if there is room now; returns whether it was opened anew for that.
    /// Then the caller looks whether it still holds what it was given.
    ///
    /// Errors: why not yet ([`KvError::NoSpace`], [`KvError::Stopped`]), or that it is not tried any more.
    fn make_writable(&mut self) -> Result<bool, KvError> {
        Ok(false)
    }

    /// Makes every earlier batch durable.
    fn persist(&mut self) -> Result<(), KvError>;
}

/// Start and end of a scan.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Takes one key and value; breaks when it has enough.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Changes that are made together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Key and new value, or `None` to delete; in order, so that of two changes of a key the later one holds.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }
}

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// No space, no quota or no file descriptor: goes away by itself when there is some again.
    #[error("no room for the store: the disk is full, or too many files are open")]
    NoSpace,
    /// It takes no changes until it is opened again, which [`Kv::make_writable`] does: try again later.
    #[error("the store stopped (opened again {reopens} times since it last synced): {source}")]
    Stopped {
        /// How often it was opened again since it last synced.
        reopens: u32,
        /// What stopped it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Anything else: nothing can be changed until restart.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}
