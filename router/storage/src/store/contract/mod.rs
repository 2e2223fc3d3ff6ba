//! What every store has to keep: one function for each port, to be run by the tests of each adapter.
//!
//! They panic where a store breaks its word.

mod reads_and_apply;
mod retention;
pub(crate) mod samples;
pub(crate) mod sends;

pub use self::reads_and_apply::keeps_reads_and_apply;
pub use self::retention::keeps_retention;

use super::Store;

/// A place for one store, which can be opened again after its process ended.
pub trait Place {
    /// The store under test.
    type Store: Store;

    /// Opens the store, or makes one.
    fn open(&self) -> Self::Store;
}
