//! What the router asks of a store, in words that one process and a cluster can both keep.
//!
//! Every read names a table and an owner, so that it goes to one place: [`Reads`]. Writes are whole batches with the offset
//! they complete: [`Apply`]. Deletion of what is too old goes in steps: [`Retention`]. No key here is made of bytes.

use std::ops::Bound;

use router_records::row::{Row, Table};
use wire_base::ids::Offset;

use super::StoreError;

/// The rows that the folds wrote.
///
/// Order: sees everything that was applied before.
pub trait Reads {
    /// Returns the row with a key.
    fn get<T: Table>(&self, owner: T::Owner, order: T::Order) -> Result<Option<T>, StoreError>;

    /// Returns the rows of one owner between two places, at most as many as the limits allow.
    fn scan<T: Table>(
        &self,
        range: Range<T>,
        direction: Direction,
        limits: Limits,
    ) -> Result<Page<T>, StoreError>;
}

/// The batches of rows, and how far they go.
///
/// Order: a change is seen by the next read; it is durable after the next [`Apply::persist`]. A crash leaves a prefix of the
/// batches, whole.
pub trait Apply {
    /// Returns the number that positions of this store carry: its creation time in unix seconds.
    fn generation(&self) -> u32;

    /// Returns the last record whose rows are in the store; `None` before the first.
    fn flushed(&self) -> Option<Offset>;

    /// Writes rows, and that everything up to `through` is now in the store, in one atomic batch that is not synced.
    ///
    /// Order: all rows of a record are in one batch, and records in the order of the log.
    /// Errors: [`StoreError::NoSpace`] may be tried again with the same rows; after any error the batch may have been
    /// made all the same, which making it again does not change.
    fn apply(&mut self, rows: &[Row], through: Offset) -> Result<(), StoreError>;

    /// Writes a row of the store's own and reads it back: whether the store works, opened again if it had stopped.
    ///
    /// Errors: those of `apply`.
    fn probe(&mut self) -> Result<(), StoreError>;

    /// Makes everything applied durable.
    fn persist(&mut self) -> Result<(), StoreError>;

    /// Returns where a clean stop left a complete checkpoint: the offset of the first record that it does not hold.
    ///
    /// It is of use while the store is complete up to just there, whoever opened it since.
    fn checkpoint_end(&self) -> Option<Offset>;

    /// Makes everything applied durable, and then that it is a complete checkpoint.
    ///
    /// Order: on a clean stop, when the log holds nothing more.
    fn complete_checkpoint(&mut self) -> Result<(), StoreError>;
}

/// Deletion of what is past retention.
///
/// With a message go the outcome of its send and the inbox entries that point to it. The newest message of a conversation and
/// the newest entry of an inbox stay, until the batch that brings a newer one takes them along.
pub trait Retention {
    /// Returns the offset below which inbox entries may be gone.
    fn prune_floor(&self) -> Offset;

    /// Deletes what records below `below` made, from the oldest on and at most `messages_max` messages of it, and raises the
    /// prune floor to `below`, together. Returns the oldest record that is left to be gone through, `None` at the end.
    ///
    /// Order: repeated until the end; after a restart it goes on where it was.
    fn prune(&mut self, below: Offset, messages_max: usize) -> Result<Option<Offset>, StoreError>;

    /// Deletes the checkpoints below `below`, except the newest of them.
    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError>;
}

/// A whole store.
pub trait Store: Reads + Apply + Retention {}

impl<S: Reads + Apply + Retention> Store for S {}

/// Rows of one owner.
#[derive(Debug)]
pub struct Range<T: Table> {
    /// Whose.
    pub owner: T::Owner,
    /// Where they begin.
    pub from: Bound<T::Order>,
    /// Where they end.
    pub to: Bound<T::Order>,
}

// By hand: a derive would ask the rows to be `Copy`.
impl<T: Table> Copy for Range<T> {}
impl<T: Table> Clone for Range<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Table> Range<T> {
    /// All rows of an owner.
    pub fn of(owner: T::Owner) -> Self {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        Self { owner, from, to }
    }

    /// The rest of them after one, which need not be there; all when `None`.
    pub fn after(mut self, order: Option<T::Order>) -> Self {
        self.from = order.map_or(Bound::Unbounded, Bound::Excluded);
        self
    }

    /// The rest of them before one, which need not be there; all when `None`.
    pub fn before(mut self, order: Option<T::Order>) -> Self {
        self.to = order.map_or(Bound::Unbounded, Bound::Excluded);
        self
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By ascending key.
    Forward,
    /// By descending key.
    Backward,
}

/// How much a scan returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most rows.
    pub rows: usize,
    /// Most bytes of bodies; one row is returned whatever it takes.
    pub bytes: usize,
}

impl Limits {
    /// So many rows, whatever they take.
    pub const fn rows(rows: usize) -> Self {
        let bytes = usize::MAX;
        Self { rows, bytes }
    }
}

/// What a scan returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// In the direction of the scan.
    pub rows: Vec<T>,
    /// There are more in the range.
    pub more: bool,
}
