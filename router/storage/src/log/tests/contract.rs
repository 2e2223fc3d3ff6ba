//! The contract of [`Log`], held against every implementation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::{DiskFile, RealFile, RealLock};
use crate::log::contract::{Subject, check};

#[test]
fn log_on_a_real_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check(OnDisk {
        disk: FaultyDisk {
            inner: RealDisk::open(folder.path()).unwrap(),
            faults: Arc::default(),
        },
    });
}

#[test]
fn log_on_a_simulated_disk_keeps_the_contract() {
    for seed in 0..100 {
        check(OnDisk {
            disk: SimDisk::seeded(seed).with_preallocation(),
        });
    }
}

#[test]
fn log_in_memory_keeps_the_contract() {
    for seed in 0..100 {
        check(MemoryLog::seeded(seed));
    }
}

#[test]
fn log_in_memory_that_crashes_keeps_what_was_acknowledged_and_may_keep_the_last_group() {
    let mut kept_last = [false; 2];
    for seed in 0..40 {
        let mut log = MemoryLog::seeded(seed);
        append(&mut log, &[b"a".to_vec()]).unwrap();
        log.crash_at(1);
        append(&mut log, &[b"b".to_vec()]).unwrap();
        assert!(is_crash(&append(&mut log, &[b"c".to_vec()]).unwrap_err()));
        assert!(log.is_down());
        assert!(is_crash(&log.probe().unwrap_err()));
        assert!(is_crash(&log.read_from(Offset(0)).err().unwrap()));
        log.crash();
        assert!(log.next() >= Offset(2), "seed {seed}");
        kept_last[(log.next().0 - 2) as usize] = true;
        // What was found is durable now.
        let next = log.next();
        log.crash();
        assert_eq!(log.next(), next);
    }
    assert_eq!(kept_last, [true; 2]);
}

/// A segmented log, for a store that holds all that was deleted.
struct OnDisk<D> {
    disk: D,
}

/// A disk that a test can bring into trouble.
trait Trouble: Disk + Clone {
    fn crash(&self);
    fn set_full(&self, is_full: bool);
    fn fail_next_sync(&self);
}

impl<D: Trouble> Subject for OnDisk<D> {
    type Log = SegmentedLog<D>;

    fn open(&mut self) -> SegmentedLog<D> {
        let names = self.disk.list().unwrap();
        let first = names.iter().find_map(|name| segment_first(name));
        let flushed = first.and_then(|first| first.0.checked_sub(1)).map(Offset);
        let config = LogConfig {
            preallocate_bytes: 700,
            ..config(2_000)
        };
        SegmentedLog::open(self.disk.clone(), config, flushed).unwrap().0
    }

    fn crash(&mut self) {
        self.disk.crash();
    }

    fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    fn fail_next_sync(&mut self) {
        self.disk.fail_next_sync();
    }
}

impl Trouble for SimDisk {
    fn crash(&self) {
        SimDisk::crash(self);
    }

    fn set_full(&self, is_full: bool) {
        self.set_space_left(is_full.then_some(50));
    }

    fn fail_next_sync(&self) {
        self.fail_sync(0);
    }
}

impl Subject for MemoryLog {
    type Log = Self;

    fn open(&mut self) -> Self {
        self.restart();
        self.clone()
    }

    fn crash(&mut self) {
        MemoryLog::crash(self);
    }

    fn set_full(&mut self, is_full: bool) {
        MemoryLog::set_full(self, is_full);
    }

    fn fail_next_sync(&mut self) {
        self.fail_sync();
    }
}

/// A real directory whose files do not grow, or whose next sync fails; a process that is killed is all its crashes.
#[derive(Clone)]
struct FaultyDisk {
    inner: RealDisk,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    is_full: AtomicBool,
    fails_next_sync: AtomicBool,
}

struct FaultyFile {
    inner: RealFile,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn file(&self, inner: RealFile) -> FaultyFile {
        FaultyFile {
            inner,
            faults: Arc::clone(&self.faults),
        }
    }
}

impl Trouble for FaultyDisk {
    fn crash(&self) {}

    fn set_full(&self, is_full: bool) {
        self.faults.is_full.store(is_full, Ordering::Relaxed);
    }

    fn fail_next_sync(&self) {
        self.faults.fails_next_sync.store(true, Ordering::Relaxed);
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = RealLock;

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn lock(&self) -> Result<RealLock, DiskError> {
        self.inner.lock()
    }

    fn create(&self, name: &str) -> Result<FaultyFile, DiskError> {
        Ok(self.file(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> Result<FaultyFile, DiskError> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.inner.rename(from, to)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.inner.list()
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        self.inner.sync_dir()
    }
}

impl FaultyFile {
    fn check_room(&self, end: u64) -> Result<(), DiskError> {
        if self.faults.is_full.load(Ordering::Relaxed) && end > self.inner.len()? {
            return Err(DiskError::NoSpace {
                file: "a full disk".to_owned(),
            });
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_room(position + bytes.len() as u64)?;
        self.inner.write_at(position, bytes)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.inner.read_at(position, buffer)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn truncate(&self, length: u64) -> Result<(), DiskError> {
        self.inner.truncate(length)
    }

    fn preallocate(&self, length: u64) -> Result<(), DiskError> {
        self.check_room(length)?;
        self.inner.preallocate(length)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        if self.faults.fails_next_sync.swap(false, Ordering::Relaxed) {
            return Err(DiskError::Io {
                operation: "sync",
                file: "a failing disk".to_owned(),
                source: std::io::Error::other("injected failure"),
            });
        }
        self.inner.sync_data()
    }
}
