//! A data directory of a stopped server, read to its last byte.

use std::fmt;
use std::path::Path;

use router_storage::check::{LogCheck, StoreCheck, check_log, check_store};
use router_storage::disk::RealDisk;
use router_storage::log::LogConfig;
use router_storage::store::{FjallKv, StoreCopy, StoreError};

use wire_base::ids::Offset;

use super::data_dir::{log_path, store_path};
use super::{FOLD_VERSION, StartError};

/// What a data directory holds, and what a start would do with it. `Display` is for an operator.
#[derive(Debug)]
pub struct DataDirCheck {
    /// The store.
    pub store: StoreCheck,
    /// Where a start would cut a torn batch off the store's journal.
    pub store_torn_at: Option<u64>,
    /// The log, held against the store.
    pub log: LogCheck,
}

/// Why a data directory could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is none.
    #[error("{0} holds no log and store")]
    Missing(String),
    /// It cannot be read, or a server runs on it.
    #[error(transparent)]
    Unreadable(#[from] StartError),
}

/// Reads the log and the store of a data directory whole, and changes nothing in either: the store is read from a copy
/// beside it, for which there must be room for its journals.
///
/// Errors: there is none, it cannot be read, or a server runs on it.
pub fn check_data_dir(data_dir: &Path) -> Result<DataDirCheck, CheckError> {
    let missing = || CheckError::Missing(data_dir.display().to_string());
    if !log_path(data_dir).is_dir() || !FjallKv::exists(&store_path(data_dir)) {
        return Err(missing());
    }
    let disk = RealDisk::open(log_path(data_dir)).map_err(StartError::from)?;
    // A running server holds the log; while this does, none starts.
    let lock = router_storage::disk::Disk::lock(&disk).map_err(StartError::from)?;
    let failed = |error| StartError::Store(StoreError::from(error));
    let copy = StoreCopy::open(&store_path(data_dir)).map_err(failed)?;
    let store = check_store(copy.kv()).map_err(failed)?;
    let Some(generation) = store.generation else {
        return Err(missing());
    };
    let config = LogConfig {
        generation,
        fold_version: FOLD_VERSION,
        checkpoint_complete: store.checkpoint_end
            == Some(store.flushed.map_or(Offset(0), |flushed| Offset(flushed.0 + 1))),
        ..LogConfig::default()
    };
    drop(lock); // It is taken again there.
    let log = check_log(&disk, &config, store.flushed).map_err(StartError::from)?;
    Ok(DataDirCheck {
        store,
        store_torn_at: copy.torn_at(),
        log,
    })
}

impl DataDirCheck {
    /// Returns whether a start would lose nothing that anybody was told: what a crash tore off may be cut.
    pub fn is_sound(&self) -> bool {
        self.store.is_sound() && self.log.is_sound()
    }
}

impl fmt::Display for DataDirCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.log, self.store)?;
        if let Some(position) = self.store_torn_at {
            write!(
                f,
                "\nthe newest journal of the store ends in a torn batch at byte {position}; a start would cut it, and fold \
                 its records again from the log"
            )?;
        }
        Ok(())
    }
}
