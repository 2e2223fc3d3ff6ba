//! What a store on disk says of itself, read without changing it: a start that is refused has to leave everything as it
//! was, and fjall writes whenever it opens a database.

use std::path::Path;

use wire_base::ids::Offset;

use super::StoreError;
use super::fjall_copy::StoreCopy;
use super::fjall_journal::{journal_values, torn_batch};
use super::fjall_kv::{FjallKv, from_io};
use super::kv::Kv;
use super::kv_store::{CHECKPOINT_END_KEY, FLUSHED_KEY, IDENTITY_KEY, Identity, decode_offset};

/// The rows by which a store and a log are held against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreGlance {
    /// Its generation; `None` before it has one, or without a store.
    pub generation: Option<u32>,
    /// The last record whose rows it will hold when opened.
    pub flushed: Option<Offset>,
    /// See [`super::Apply::checkpoint_end`].
    pub checkpoint_end: Option<Offset>,
}

impl StoreGlance {
    /// Reads the store at `path`, as it will be after what a crash tore off its newest journal was cut.
    ///
    /// Order: of use while nothing runs on it.
    /// Errors: [`StoreError::Schema`] and [`StoreError::Damaged`]: another version wrote it. [`StoreError::Failed`]: it
    /// is no store, or it lost rows that no crash takes.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        if !FjallKv::exists(path) {
            FjallKv::check_absent(path)?;
            return Ok(Self {
                generation: None,
                flushed: None,
                checkpoint_end: None,
            });
        }
        let tables = StoreCopy::open_tables(path)?;
        let [identity, flushed, end] =
            journal_values(path, [&IDENTITY_KEY, &FLUSHED_KEY, &CHECKPOINT_END_KEY])
                .map_err(from_io)
                .map_err(StoreError::from)?;
        let identity = match identity {
            Some(identity) => Some(identity),
            None => tables.kv().get(&IDENTITY_KEY)?,
        };
        let generation = match identity {
            Some(bytes) => Some(Identity::decode(&bytes)?.generation),
            None => None,
        };
        // A table may hold more than a journal that is damaged in front: of what it was made is not read again.
        let highest = |key: [u8; 2], of_journals: Option<Vec<u8>>| {
            let mut highest = None;
            for bytes in of_journals.into_iter().chain(tables.kv().get(&key)?) {
                highest = highest.max(Some(decode_offset(&key, &bytes)?));
            }
            Ok::<_, StoreError>(highest)
        };
        let flushed = highest(FLUSHED_KEY, flushed)?;
        let checkpoint_end = highest(CHECKPOINT_END_KEY, end)?;
        if generation.is_none() {
            check_is_new(path, flushed)?;
        }
        Ok(Self {
            generation,
            flushed,
            checkpoint_end,
        })
    }
}

/// A store without identity is one that a crash left before its first sync: it holds nothing, and at most one batch torn.
fn check_is_new(path: &Path, flushed: Option<Offset>) -> Result<(), StoreError> {
    let torn_bytes = torn_batch(path)
        .map_err(from_io)
        .map_err(StoreError::from)?
        .map_or(0, |torn| torn.bytes);
    if flushed.is_none() && torn_bytes <= FIRST_BATCH_BYTES {
        return Ok(());
    }
    Err(StoreError::Failed(
        "its first row, which says which store it is, cannot be read, and others follow it".into(),
    ))
}

/// The batch of the identity alone in a journal: start, one item with a key of 2 bytes and a value of 8, end.
const FIRST_BATCH_BYTES: usize = 13 + 21 + 2 + 8 + 13;
