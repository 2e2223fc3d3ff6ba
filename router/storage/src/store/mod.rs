//! The store of a router that runs alone: projections of the log, in one keyspace.
//!
//! Reading order: [`Reads`], [`Apply`] and [`Retention`] are what the router asks. [`KvStore`] answers over any [`Kv`], of
//! which there are two: [`FjallKv`] on disk and, for tests alone, `MemoryKv`, its twin, which reverts at a crash to any batch
//! boundary that a disk may leave. [`Gathered`] keeps rows in memory for some milliseconds, to write fewer of them.
//!
//! The layout of rows is `router_records::row`; the store's own rows (generation, flushed offset, prune floor, end of a
//! complete checkpoint, expiry lists) lie beside them under table byte 0, so that a batch and the offset it completes are one.

#[cfg(any(test, feature = "sim"))]
pub mod contract;
mod expiry;
mod fjall_copy;
mod fjall_glance;
mod fjall_journal;
mod fjall_kv;
mod gathered;
mod kv;
mod kv_store;
#[cfg(any(test, feature = "sim"))]
mod memory;
mod ports;
mod prune;

#[cfg(test)]
mod tests;

pub use fjall_copy::StoreCopy;
pub use fjall_glance::StoreGlance;
pub use fjall_kv::{FjallConfig, FjallKv};
pub use gathered::Gathered;
pub use kv::{Batch, KeyRange, Kv, KvError, Visit};
pub use kv_store::KvStore;
#[cfg(any(test, feature = "sim"))]
pub use memory::{KvFault, MemoryKv};
pub use ports::{Apply, Direction, Limits, Page, Range, Reads, Retention, Store};

pub(crate) use expiry::{Expiring, decode_list, list_key, lists_end};
pub(crate) use kv_store::{
    CHECKPOINT_END_KEY, FLUSHED_KEY, IDENTITY_KEY, Identity, PRUNE_FLOOR_KEY, decode_offset, hex,
};

use std::error::Error;

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room: try the same again when space returns.
    #[error("no room for the store: the disk is full, or too many files are open")]
    NoSpace,
    /// The store takes no changes until it is opened again, which it does when the same is tried again.
    #[error("the store stopped (opened again {reopens} times since it last synced): {source}")]
    Stopped {
        /// How often it was opened again since it last synced.
        reopens: u32,
        /// What stopped it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store failed: nothing can be changed until restart.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// A row cannot be read: another version wrote it, or the disk is at fault.
    #[error("the row with key {key} cannot be read: {reason}")]
    Damaged {
        /// Its key, in hex.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program keeps its rows differently.
    #[error(
        "the store has schema {found}, this build has {expected}, and none is converted: run the version that wrote it on \
         this data directory, or begin with an empty one"
    )]
    Schema {
        /// The schema in the store.
        found: u32,
        /// The schema of this build.
        expected: u32,
    },
}

impl From<KvError> for StoreError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::NoSpace => Self::NoSpace,
            KvError::Stopped { reopens, source } => Self::Stopped { reopens, source },
            KvError::Failed(source) => Self::Failed(source),
        }
    }
}
