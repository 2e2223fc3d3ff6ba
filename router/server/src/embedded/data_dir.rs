//! The data directory of `serve`: where log and store lie in it, and opening both.

use std::path::{Path, PathBuf};

use router_backend::disk::{Disk, DiskError, RealDisk};
use router_backend::store::{FjallConfig, FjallKv, KvStore, StoreError, WriteBehind};
use router_core::time::Now;
use uuid::Uuid;

use super::{Router, StartError, StartReport};
use crate::config::RouterConfig;

/// The router of `serve`.
pub type EmbeddedRouter = Router<RealDisk, WriteBehind<KvStore<FjallKv>>>;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("data directory {}: {source}", path.display())]
pub struct DataDirError {
    path: PathBuf,
    source: StartError,
}

/// Opens the data directory of a configuration, or makes one there, and starts the router on it.
///
/// Errors: the directory is in use, cannot be written, or needs a person; each says which part of it.
pub fn open_data_dir(config: RouterConfig, now: Now) -> Result<(EmbeddedRouter, StartReport), DataDirError> {
    let path = config.data_dir.clone();
    open(config, now).map_err(|source| DataDirError { path, source })
}

fn open(config: RouterConfig, now: Now) -> Result<(EmbeddedRouter, StartReport), StartError> {
    let disk = RealDisk::open(log_path(&config.data_dir))?;
    let disk = if config.fsync { disk } else { disk.without_sync() };
    // Only to say so in plain words before the store is touched; the log takes the lock for good.
    drop(disk.lock()?);
    let engine = FjallConfig {
        cache_bytes: config.store_cache_bytes,
        memtable_bytes: config.store_memtable_bytes,
        ..FjallConfig::default()
    };
    let kv = FjallKv::open(store_path(&config.data_dir), engine).map_err(StoreError::from)?;
    let store = KvStore::open(kv, (now.unix.0 / 1000) as u32)?;
    let store = WriteBehind::start(store).map_err(|error| StoreError::Failed(error.into()))?;
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    Router::open(disk, store, config, seed, now)
}

/// Returns where the log of a data directory lies.
pub fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Returns where the store of a data directory lies.
pub fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

impl From<DiskError> for StartError {
    fn from(error: DiskError) -> Self {
        Self::Log(error.into())
    }
}
