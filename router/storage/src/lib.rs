//! Log and store of a router: small traits, and their embedded, in-memory and simulated adapters.
//!
//! Reading order:
//! 1. [`disk`]: what the log asks of a directory, on a real file system and on a simulated one.
//! 2. [`log`]: the trait, and the segmented append-only log, the truth of a single process.
//! 3. [`store`]: the projections of that log, typed reads over an ordered key-value store.
//! 4. [`check`]: both of them explained to an operator.
//! 5. [`background`]: which threads give way to others.
//!
//! The feature `sim` adds the simulated adapters, for tests alone.
//!
//! Invariants: a group is acknowledged only after its sync; the next write starts only after that sync, so only the last
//! group can be torn; the offset up to which the store is complete lives in the same keyspace as the rows, so whatever
//! of the store survives a crash is a prefix of whole batches. Deliberately absent: retention decisions, clocks,
//! threads, and any knowledge of what a record means (except [`check`], which prints its time).

pub mod background;
pub mod check;
pub mod disk;
pub mod log;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
