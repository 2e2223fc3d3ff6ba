//! A store as a check reads it: a copy that is thrown away, since fjall has no way to open a database without writing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::fjall_journal::{is_cut_tail, torn_batch};
use super::fjall_kv::{FjallConfig, FjallKv, from_io};
use super::kv::KvError;
use crate::disk::{create_private_dir, private_file};

/// A copy of a store beside it, opened; gone when dropped.
///
/// Shape: tables are hard links, since nothing ever changes one; journals and lists of tables are copied.
pub struct StoreCopy {
    // Closed before its directory goes.
    kv: Option<FjallKv>,
    directory: PathBuf,
    torn_at: Option<u64>,
}

impl StoreCopy {
    /// Copies and opens the store at `path`; nothing in it changes.
    ///
    /// Order: of use while no server runs on it.
    /// Errors: those of opening it, and of reading and writing beside it.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let suffix = format!(".check-{}", std::process::id());
        Self::make(path, &suffix, Journals::Copied)
    }

    /// Copies and opens what the tables of the store at `path` hold; nothing in it changes.
    ///
    /// Shape: takes no room but for the lists of tables, however large the store is.
    pub(super) fn open_tables(path: &Path) -> Result<Self, KvError> {
        Self::make(path, ".glance", Journals::Emptied)
    }

    fn make(path: &Path, suffix: &str, journals: Journals) -> Result<Self, KvError> {
        let mut directory = path.as_os_str().to_owned();
        directory.push(suffix);
        let mut copy = Self {
            kv: None,
            directory: directory.into(),
            torn_at: torn_batch(path).map_err(from_io)?.map(|torn| torn.end as u64),
        };
        remove(&copy.directory).map_err(from_io)?;
        copy_directory(path, &copy.directory, journals).map_err(from_io)?;
        copy.kv = Some(FjallKv::open(&copy.directory, FjallConfig::default())?);
        Ok(copy)
    }

    /// Returns the rows.
    pub fn kv(&self) -> &FjallKv {
        self.kv.as_ref().expect("it is open until dropped")
    }

    /// Returns where in its newest journal a start would cut off a torn batch.
    pub fn torn_at(&self) -> Option<u64> {
        self.torn_at
    }
}

impl Drop for StoreCopy {
    fn drop(&mut self) {
        self.kv = None;
        if let Err(error) = remove(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "a copy of the store is left");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Journals {
    Copied,
    /// There, since fjall finds its place in the order of writes only with one, and without batches.
    Emptied,
}

fn copy_directory(from: &Path, to: &Path, journals: Journals) -> io::Result<()> {
    create_private_dir(to)?;
    let holds_tables = from.file_name().is_some_and(|name| name == TABLES);
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_directory(&from, &to, journals)?;
        } else if is_cut_tail(&from) {
            // Nobody's but an operator's.
        } else if journals == Journals::Emptied && from.extension().is_some_and(|it| it == "jnl") {
            private_file().create(true).write(true).open(&to)?;
        } else if !holds_tables || fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where fjall keeps its tables.
const TABLES: &str = "tables";
