//! The engine on disk: fjall, an LSM tree with a journal of batches.
//!
//! What is relied upon, and why it holds (fjall 3.1, read and tested here):
//! - One keyspace, so that a batch is one checksummed journal entry: after a crash a prefix of whole batches is left.
//!   Tables are written only after the journal was synced, so they never hold what the journal lacks.
//! - A batch is written to the operating system before [`Kv::apply`] returns (`PersistMode::Buffer`) and not synced:
//!   kill -9 loses nothing, a power failure a suffix. Reads see it at once.
//! - fjall refuses a journal whose last batch is torn in the middle; the module `fjall_journal` cuts it before.
//! - After a failed sync the page cache counts as clean, and neither fjall nor another sync writes those bytes again.
//!   Every open therefore writes what it recovered from the journal to a new table before anything is answered.
//! - After any write error, and once one of its workers failed, fjall takes no more writes until reopened. What a worker
//!   failed of is not told, and what was short then may be there again; so whatever it was, the database is opened
//!   again in place when asked to be writable and there is room for that. Reopening does what a restart would do.
//!
//! Settings that stay fjall's own: Bloom filters on every level (one false hit in ten thousand on the first, 10 bits a
//! key below), 4 KiB blocks, LZ4 below the second level, leveled merging. Measured on 2 busy cores with groups of 500
//! messages of 64 B (5 rows each): 7 us of CPU a message on the calling thread and about 10 us of writing and merging
//! tables, much the same for 16 to 64 MiB of rows in memory; the longest wait for a table grows with that size.

use std::error::Error;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::fjall_journal::{Tail, cut_torn_batch, journal_bytes};
use super::kv::{Batch, KeyRange, Kv, KvError, Visit};
use super::ports::Direction;
use crate::background::give_way;
use crate::disk::{Disk, DiskError, RealDisk, create_private_dir, is_no_room, sync_directory};

/// How much the engine may use.
#[derive(Clone, Debug)]
pub struct FjallConfig {
    /// Cache of table blocks. Unit: bytes; default 32 MiB.
    pub cache_bytes: u64,
    /// Rows gathered in memory before they become a table; up to four such sets exist while tables are written, and each
    /// start writes one. Unit: bytes; default 16 MiB.
    pub memtable_bytes: u64,
    /// Threads that write and merge tables. Default 2: one is kept for writing, so that merging never holds it up.
    pub worker_threads: usize,
    /// Journals kept at most. Unit: bytes, at least 64 MiB; default 128 MiB.
    pub journal_bytes_max: u64,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * MIB,
            memtable_bytes: 16 * MIB,
            worker_threads: 2,
            journal_bytes_max: 128 * MIB,
        }
    }
}

/// A [`Kv`] in a directory.
pub struct FjallKv {
    path: PathBuf,
    config: FjallConfig,
    state: State,
    /// How often it was opened again since it last synced, but for lack of room.
    reopens: u32,
}

enum State {
    Open(Engine),
    /// Readable, but fjall takes no writes any more.
    Stopped {
        engine: Engine,
        is_full: bool,
    },
    /// It could not be opened again.
    Closed {
        is_full: bool,
    },
}

/// Field order is drop order: the keyspace holds the database's parts.
struct Engine {
    rows: Keyspace,
    database: Database,
}

impl FjallKv {
    /// Opens the directory, or creates it with an empty keyspace.
    ///
    /// A new store appears under its name whole: it is made beside it and renamed.
    pub fn open(path: impl Into<PathBuf>, config: FjallConfig) -> Result<Self, KvError> {
        let path = path.into();
        if !Self::exists(&path) {
            Self::check_absent(&path)?;
            create(&path, &config)?;
        }
        let engine = Engine::open(&path, &config, Tail::Kept)?;
        Ok(Self {
            path,
            config,
            state: State::Open(engine),
            reopens: 0,
        })
    }

    /// Returns whether there is a store at a path.
    pub fn exists(path: &Path) -> bool {
        path.join(VERSION_FILE).exists()
    }

    /// Refuses a place where something lies that is no store.
    pub(super) fn check_absent(path: &Path) -> Result<(), KvError> {
        let is_empty = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(from_io(error)),
        };
        if is_empty {
            return Ok(());
        }
        let place = format!("{} is no store, and not empty", path.display());
        Err(KvError::Failed(place.into()))
    }

    fn engine(&self) -> Result<&Engine, KvError> {
        match &self.state {
            State::Open(engine) | State::Stopped { engine, .. } => Ok(engine),
            State::Closed { is_full: true } => Err(KvError::NoSpace),
            State::Closed { is_full: false } => Err(self.stopped("it could not be opened again".into())),
        }
    }

    /// Runs a write; one that fails stops the engine.
    fn write(&mut self, write: impl FnOnce(&Engine) -> Result<(), fjall::Error>) -> Result<(), KvError> {
        let State::Open(engine) = &self.state else {
            return Err(self.stopped("an earlier write failed".into()));
        };
        let Err(error) = write(engine) else { return Ok(()) };
        let error = self.unless_full(explain(&self.path, error));
        let is_full = matches!(error, KvError::NoSpace);
        if let State::Open(engine) = std::mem::replace(&mut self.state, State::Closed { is_full }) {
            self.state = State::Stopped { engine, is_full };
        }
        Err(error)
    }

    /// Whatever made a write fail, but for lack of room, has stopped the engine.
    fn unless_full(&self, error: KvError) -> KvError {
        match error {
            KvError::Failed(source) => self.stopped(source),
            error => error,
        }
    }

    fn stopped(&self, source: Box<dyn Error + Send + Sync>) -> KvError {
        if self.reopens < REOPENS_MAX {
            let reopens = self.reopens;
            KvError::Stopped { reopens, source }
        } else {
            let reason = format!("opened again {REOPENS_MAX} times in vain: {source}");
            KvError::Failed(reason.into())
        }
    }

    /// Opens the database again.
    fn reopen(&mut self) -> Result<(), KvError> {
        let is_full = match self.state {
            State::Open(_) => return Ok(()),
            State::Stopped { is_full, .. } | State::Closed { is_full } => is_full,
        };
        if !is_full && self.reopens >= REOPENS_MAX {
            return Err(self.stopped("it stopped again".into()));
        }
        // What the journals hold becomes a table; without room for that the engine stays as it is, for reads.
        let needed = journal_bytes(&self.path).map_err(from_io)? + self.config.memtable_bytes;
        if free_bytes(&self.path)? < needed {
            return Err(KvError::NoSpace);
        }
        self.reopens += u32::from(!is_full);
        self.state = State::Closed { is_full };
        match Engine::open(&self.path, &self.config, Tail::Dropped) {
            Ok(engine) => {
                tracing::warn!(store = %self.path.display(), "the store had stopped and was opened again");
                self.state = State::Open(engine);
                Ok(())
            }
            Err(error) => {
                let is_full = matches!(error, KvError::NoSpace);
                self.state = State::Closed { is_full };
                Err(self.unless_full(error))
            }
        }
    }
}

impl Kv for FjallKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let value = self
            .engine()?
            .rows
            .get(key)
            .map_err(|error| explain(&self.path, error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        let mut pairs = self.engine()?.rows.range::<&[u8], _>(range);
        loop {
            let pair = match direction {
                Direction::Forward => pairs.next(),
                Direction::Backward => pairs.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair.into_inner().map_err(|error| explain(&self.path, error))?;
            if visit(&key, &value).is_break() {
                return Ok(());
            }
        }
    }

    fn make_writable(&mut self) -> Result<bool, KvError> {
        let is_stopped = !matches!(self.state, State::Open(_));
        self.reopen()?;
        Ok(is_stopped)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        self.write(|engine| engine.apply(batch))
    }

    fn persist(&mut self) -> Result<(), KvError> {
        self.write(|engine| engine.database.persist(PersistMode::SyncAll))?;
        self.reopens = 0;
        Ok(())
    }
}

impl Engine {
    fn open(path: &Path, config: &FjallConfig, tail: Tail) -> Result<Self, KvError> {
        if FjallKv::exists(path) {
            // Under fjall's own lock (a flock of the file `lock`), so that no running process loses what it writes.
            let _lock = RealDisk::open(path)
                .and_then(|disk| disk.lock())
                .map_err(from_disk)?;
            cut_torn_batch(path, tail).map_err(from_io)?;
        }
        // fjall's workers are started by this thread, and get its priority.
        let opened = thread::scope(|scope| {
            let opener = scope.spawn(|| {
                give_way();
                Self::try_open(path, config)
            });
            opener.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        opened.map_err(|error| explain(path, error))
    }

    fn try_open(path: &Path, config: &FjallConfig) -> Result<Self, fjall::Error> {
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .worker_threads(config.worker_threads)
            .max_journaling_size(config.journal_bytes_max)
            // Rows are small and ciphertext does not shrink; tables below the second level are compressed.
            .journal_compression(fjall::CompressionType::None)
            .open()?;
        let rows = database.keyspace(KEYSPACE, || {
            KeyspaceCreateOptions::default().max_memtable_size(config.memtable_bytes)
        })?;
        let engine = Self { rows, database };
        engine.write_recovered()?;
        Ok(engine)
    }

    /// Writes what came from the journal to a table.
    fn write_recovered(&self) -> Result<(), fjall::Error> {
        self.rows.rotate_memtable()?;
        self.wait_while(|engine| engine.rows.sealed_memtable_count() > 0)
    }

    fn apply(&self, batch: &Batch) -> Result<(), fjall::Error> {
        // fjall waits for its workers by itself at four and thirty, but for ever should one of them have failed.
        self.wait_while(|engine| {
            engine.rows.sealed_memtable_count() > 2 || engine.rows.l0_table_count() > 24
        })?;
        let mut writes = self.database.batch();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => writes.insert(&self.rows, &key[..], &value[..]),
                None => writes.remove(&self.rows, &key[..]),
            }
        }
        writes.commit()
    }

    fn wait_while(&self, is_busy: impl Fn(&Self) -> bool) -> Result<(), fjall::Error> {
        while is_busy(self) {
            // Fails once a worker has.
            self.database.persist(PersistMode::Buffer)?;
            thread::sleep(WORKER_WAIT);
        }
        Ok(())
    }
}

/// Creates a store beside `path` and renames it, so that a crash in between leaves nothing half made under its name.
fn create(path: &Path, config: &FjallConfig) -> Result<(), KvError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_private_dir(parent).map_err(from_io)?;
    let mut name = path
        .file_name()
        .ok_or_else(|| KvError::Failed("the store has no name".into()))?
        .to_owned();
    name.push(".new");
    let half_made = parent.join(name);
    match fs::remove_dir_all(&half_made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(from_io(error)),
        _ => {}
    }
    let engine = Engine::open(&half_made, config, Tail::Kept)?;
    engine
        .database
        .persist(PersistMode::SyncAll)
        .map_err(|error| explain(&half_made, error))?;
    drop(engine);
    fs::rename(&half_made, path).map_err(from_io)?;
    sync_directory(parent).map_err(from_disk)
}

/// Tells lack of space from everything else.
fn explain(path: &Path, error: fjall::Error) -> KvError {
    if matches!(error, fjall::Error::Locked) {
        return failed(DiskError::Locked {
            directory: path.display().to_string(),
        });
    }
    // A worker that failed leaves no more than the fact; the disk tells why.
    let is_worker = matches!(error, fjall::Error::Poisoned);
    if is_worker && free_bytes(path).is_ok_and(|free| free < WORKER_BYTES_MIN) {
        return KvError::NoSpace;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_no_room) {
            return KvError::NoSpace;
        }
        cause = error.source();
    }
    failed(error)
}

fn from_disk(error: DiskError) -> KvError {
    match error {
        DiskError::NoSpace { .. } => KvError::NoSpace,
        error => failed(error),
    }
}

pub(super) fn from_io(error: io::Error) -> KvError {
    if is_no_room(&error) {
        KvError::NoSpace
    } else {
        failed(error)
    }
}

fn failed(error: impl Error + Send + Sync + 'static) -> KvError {
    KvError::Failed(Box::new(error))
}

fn free_bytes(path: &Path) -> Result<u64, KvError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| failed(io::Error::from(error)))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

const MIB: u64 = 1024 * 1024;
const KEYSPACE: &str = "rows";
/// fjall's mark of a directory whose creation was finished.
const VERSION_FILE: &str = "version";
/// A worker that failed with less room than a merge of tables takes probably had no room. It is opened again either way;
/// this decides what is said of it, and that it counts as no failure.
const WORKER_BYTES_MIN: u64 = 256 * MIB;
/// How often it is opened again between two syncs before it counts as failed until restart.
const REOPENS_MAX: u32 = 6;
const WORKER_WAIT: Duration = Duration::from_millis(1);
