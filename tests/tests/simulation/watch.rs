//! Disk and store as the router gets them: counted together, able to go down in any operation, and, to prove that the
//! simulation can fail, able to break a promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use router_records::row::TABLE_META;
use router_storage::disk::{Disk, DiskError, DiskFile, SimDisk, SimFile, SimLock};
use router_storage::sim::Crashed;
use router_storage::store::{Batch, Direction, KeyRange, Kv, KvError, MemoryKv, Visit};

/// A changing call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Create,
    Write,
    Preallocate,
    Truncate,
    Sync,
    Remove,
    Rename,
    SyncDirectory,
    Apply,
    Persist,
}

/// A promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A sync of a file does nothing and says that it did.
    SyncLies,
    /// So does one of the directory.
    DirectorySyncLies,
    /// The store says that it is synced, and is not.
    PersistLies,
    /// Now and then the store loses a row of this table out of a batch.
    LosesRows(u8),
    /// The store says that it holds one record more than it does.
    FlushedTooHigh,
}

/// Whose reads fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Disk,
    Store,
}

/// The count of changing calls on one machine; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Mutex<Counts>>);

#[derive(Debug)]
struct Counts {
    operations: u64,
    last_sync: u64,
    crash_at: Option<u64>,
    went_down_in: Option<Operation>,
    defect: Option<Defect>,
    batches: u64,
    /// Every so many-th read of one of them fails, through every boot.
    failing_reads: Option<(Reader, u64)>,
    reads: u64,
    /// How often each kind of call was made.
    calls: BTreeMap<Operation, u64>,
}

impl Watch {
    pub(crate) fn new(defect: Option<Defect>) -> Self {
        let counts = Counts {
            operations: 0,
            last_sync: 0,
            crash_at: None,
            went_down_in: None,
            defect,
            batches: 0,
            failing_reads: None,
            reads: 0,
            calls: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(counts)))
    }

    pub(crate) fn crash_after(&self, operations: u64) {
        let mut counts = self.counts();
        counts.crash_at = Some(counts.operations + operations + 1);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.counts().operations
    }

    pub(crate) fn last_sync(&self) -> u64 {
        self.counts().last_sync
    }

    /// Returns how often each kind of call was made.
    pub(crate) fn calls(&self) -> BTreeMap<Operation, u64> {
        self.counts().calls.clone()
    }

    pub(crate) fn went_down_in(&self) -> Option<Operation> {
        self.counts().went_down_in
    }

    /// The machine runs again.
    pub(crate) fn boot(&self) {
        let mut counts = self.counts();
        counts.crash_at = None;
        counts.went_down_in = None;
    }

    /// Fails every so many-th read of disk or store until lifted with `None`.
    pub(crate) fn fail_reads(&self, failing: Option<(Reader, u64)>) {
        self.counts().failing_reads = failing;
    }

    /// Counts a read. Returns whether it is to fail.
    fn fails_read(&self, of: Reader) -> bool {
        let mut counts = self.counts();
        let Some((_, every)) = counts.failing_reads.filter(|(failing, _)| *failing == of) else {
            return false;
        };
        counts.reads += 1;
        counts.reads.is_multiple_of(every)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.counts().went_down_in.is_none()
    }

    fn has(&self, defect: Defect) -> bool {
        self.counts().defect == Some(defect)
    }

    /// Counts a call. Returns whether the machine goes down in it, or `None` when it is down.
    fn begin(&self, operation: Operation) -> Option<bool> {
        let mut counts = self.counts();
        if counts.went_down_in.is_some() {
            return None;
        }
        counts.operations += 1;
        *counts.calls.entry(operation).or_default() += 1;
        let goes_down = counts.crash_at == Some(counts.operations);
        if goes_down {
            counts.went_down_in = Some(operation);
        } else if operation == Operation::Sync {
            counts.last_sync = counts.operations;
        }
        Some(goes_down)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`SimDisk`] that is watched.
#[derive(Clone, Debug)]
pub(crate) struct WatchedDisk {
    inner: SimDisk,
    watch: Watch,
}

/// A file of it.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    inner: SimFile,
    disk: WatchedDisk,
}

impl WatchedDisk {
    pub(crate) fn new(inner: SimDisk, watch: Watch) -> Self {
        Self { inner, watch }
    }

    fn change<T>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        match self.watch.begin(operation) {
            None => return Err(Crashed.into()),
            Some(true) => self.inner.crash_at(0),
            Some(false) => {}
        }
        call()
    }

    fn read<T>(&self, call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
        if !self.watch.is_up() {
            Err(Crashed.into())
        } else if self.watch.fails_read(Reader::Disk) {
            Err(DiskError::Io {
                operation: "read",
                file: self.describe(),
                source: std::io::Error::other("injected failure"),
            })
        } else {
            call()
        }
    }
}

impl Disk for WatchedDisk {
    type File = WatchedFile;
    type Lock = SimLock;

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn lock(&self) -> Result<SimLock, DiskError> {
        self.read(|| self.inner.lock())
    }

    fn create(&self, name: &str) -> Result<WatchedFile, DiskError> {
        let inner = self.change(Operation::Create, || self.inner.create(name))?;
        Ok(WatchedFile {
            inner,
            disk: self.clone(),
        })
    }

    fn open(&self, name: &str) -> Result<WatchedFile, DiskError> {
        let inner = self.read(|| self.inner.open(name))?;
        Ok(WatchedFile {
            inner,
            disk: self.clone(),
        })
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.change(Operation::Remove, || self.inner.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change(Operation::Rename, || self.inner.rename(from, to))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.read(|| self.inner.list())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        self.change(Operation::SyncDirectory, || {
            let lies = self.watch.has(Defect::DirectorySyncLies) && self.watch.is_up();
            if lies { Ok(()) } else { self.inner.sync_dir() }
        })
    }
}

impl DiskFile for WatchedFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk
            .change(Operation::Write, || self.inner.write_at(position, bytes))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.disk.read(|| self.inner.read_at(position, buffer))
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.disk.read(|| self.inner.len())
    }

    fn truncate(&self, length: u64) -> Result<(), DiskError> {
        self.disk
            .change(Operation::Truncate, || self.inner.truncate(length))
    }

    fn preallocate(&self, length: u64) -> Result<(), DiskError> {
        self.disk
            .change(Operation::Preallocate, || self.inner.preallocate(length))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.disk.change(Operation::Sync, || {
            let lies = self.disk.watch.has(Defect::SyncLies) && self.disk.watch.is_up();
            if lies { Ok(()) } else { self.inner.sync_data() }
        })
    }
}

/// A [`MemoryKv`] that is watched.
#[derive(Debug)]
pub(crate) struct WatchedKv {
    inner: MemoryKv,
    watch: Watch,
}

impl WatchedKv {
    pub(crate) fn new(inner: MemoryKv, watch: Watch) -> Self {
        Self { inner, watch }
    }

    fn change(
        &mut self,
        operation: Operation,
        call: impl FnOnce(&mut MemoryKv) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        match self.watch.begin(operation) {
            None => return Err(Crashed.into()),
            Some(true) => self.inner.crash_at(0),
            Some(false) => {}
        }
        call(&mut self.inner)
    }

    fn read<T>(&self, call: impl FnOnce() -> Result<T, KvError>) -> Result<T, KvError> {
        if !self.watch.is_up() {
            Err(Crashed.into())
        } else if self.watch.fails_read(Reader::Store) {
            Err(KvError::Failed("injected failure".into()))
        } else {
            call()
        }
    }

    /// Returns the batch as a broken store keeps it.
    fn spoil(&self, batch: &Batch) -> Batch {
        let mut counts = self.watch.counts();
        let mut batch = batch.clone();
        match counts.defect {
            Some(Defect::LosesRows(table)) => {
                let lost = batch
                    .changes
                    .iter()
                    .position(|(key, _)| key.first() == Some(&table));
                if let Some(lost) = lost {
                    counts.batches += 1;
                    if counts.batches.is_multiple_of(LOSES_EVERY) {
                        batch.changes.remove(lost);
                    }
                }
            }
            Some(Defect::FlushedTooHigh) => {
                for (_, value) in batch.changes.iter_mut().filter(|(key, _)| key[..] == FLUSHED_KEY) {
                    let number = value.as_deref().and_then(|value| value.try_into().ok());
                    *value = number.map(|number| (u64::from_le_bytes(number) + 1).to_le_bytes().to_vec());
                }
            }
            _ => {}
        }
        batch
    }
}

impl Kv for WatchedKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.read(|| self.inner.get(key))
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.read(|| self.inner.scan(range, direction, visit))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        let batch = self.spoil(batch);
        self.change(Operation::Apply, |kv| kv.apply(&batch))
    }

    fn persist(&mut self) -> Result<(), KvError> {
        let lies = self.watch.has(Defect::PersistLies);
        self.change(Operation::Persist, |kv| {
            if lies && !kv.is_down() {
                Ok(())
            } else {
                kv.persist()
            }
        })
    }
}

/// How the store writes down which records it holds.
const FLUSHED_KEY: [u8; 2] = [TABLE_META, 2];
const LOSES_EVERY: u64 = 7;
