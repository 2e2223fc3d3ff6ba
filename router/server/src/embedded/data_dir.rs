//! The data directory of `serve`: where log and store lie in it, and opening both.

use std::path::{Path, PathBuf};

use router_core::clock::is_possible;
use router_core::time::Now;
use router_storage::disk::{Disk, DiskError, RealDisk, keep_private};
use router_storage::log::OpenError;
use router_storage::log::SegmentedLog;
use router_storage::store::{FjallConfig, FjallKv, KvStore, StoreError, StoreGlance};
use uuid::Uuid;
use wire_base::ids::Offset;

use super::start::{Held, Start};
use super::{Inline, Router, StartError, StartReport};
use crate::config::RouterConfig;

/// The router of `serve`.
pub type EmbeddedRouter = Router<Inline<SegmentedLog<RealDisk>, KvStore<FjallKv>>>;

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
    let (log, store) = (log_path(&config.data_dir), store_path(&config.data_dir));
    keep_private(&config.data_dir, &[&log, &store]);
    let glance = glance(&log, &store)?;
    let (seed, random) = Uuid::new_v4().as_u64_pair();
    // Two stores that were made in 1970 must differ too.
    let created = match is_possible(now.unix) {
        true => (now.unix.0 / 1000) as u32,
        false => random as u32,
    };
    let held = Held {
        generation: glance.generation.unwrap_or(created),
        flushed: glance.flushed,
        checkpoint_end: glance.checkpoint_end,
    };
    let disk = RealDisk::open(log)?;
    let disk = if config.fsync { disk } else { disk.without_sync() };
    let engine = FjallConfig {
        cache_bytes: config.store_cache_bytes,
        memtable_bytes: config.store_memtable_bytes,
        ..FjallConfig::default()
    };
    let start = match Start::judge(disk, held, &config, seed, now) {
        // The generation that was to be given to a new store is the log's at most by chance.
        Ok(start) if glance.generation.is_none() && start.has_log() => return Err(StartError::StoreGone),
        Err(StartError::Log(OpenError::Generation { .. })) if glance.generation.is_none() => {
            return Err(StartError::StoreGone);
        }
        judged => judged?,
    };
    let kv = FjallKv::open(store, engine).map_err(StoreError::from)?;
    let store = KvStore::open(kv, held.generation)?;
    start.carry_out(store, &config)
}

/// Looks at the store of a directory that nobody uses. A store that has records needs a log, which is not begun beside it.
fn glance(log: &Path, store: &Path) -> Result<StoreGlance, StartError> {
    let has_log = log.is_dir();
    let _lock = match has_log {
        true => Some(RealDisk::open(log)?.lock()?),
        false => None,
    };
    let glance = StoreGlance::read(store)?;
    match glance.flushed {
        Some(flushed) if !has_log => Err(StartError::Log(OpenError::FlushedBeyondEnd {
            flushed,
            next: Offset(0),
        })),
        _ => Ok(glance),
    }
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
