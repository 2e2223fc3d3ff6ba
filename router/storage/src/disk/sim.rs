//! A disk in memory that forgets what was not synced.
//!
//! What survives a crash, each by its own coin: of an unsynced file, every 512 B sector in any of the versions written
//! since its last sync (or in the synced one), and any of the lengths it had; of the directory, every create, remove and
//! rename since its last sync. Whatever a file system promises beyond that is not relied upon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire_base::random::Random;

use super::{Disk, DiskError, DiskFile};
use crate::sim::{Crashed, Power};

/// A simulated directory; clones share it, so that a test injects faults while the log owns its own handle.
///
/// The same seed and the same calls give the same outcome.
#[derive(Clone, Debug)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

/// An open file of a [`SimDisk`]; of no use after a crash or restart.
#[derive(Debug)]
pub struct SimFile {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
    inode: usize,
    name: String,
}

/// The lock of a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
}

impl SimDisk {
    /// Returns an empty directory.
    pub fn seeded(seed: u64) -> Self {
        let machine = Machine {
            random: Random::seeded(seed),
            boot: 0,
            power: Power::default(),
            is_locked: false,
            reads: 0,
            syncs_until_failure: None,
            space_left: None,
            preallocates: false,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
        };
        Self {
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    /// Lengthens files in advance when asked to, which not every file system can.
    #[must_use]
    pub fn with_preallocation(self) -> Self {
        lock(&self.machine).preallocates = true;
        self
    }

    /// Power fails and returns: unsynced state survives or not, open files and locks are gone, faults are cleared.
    pub fn crash(&self) {
        let mut machine = lock(&self.machine);
        machine.lose_unsynced();
        machine.boot_again();
    }

    /// The process is killed and started again: everything written is still there, unsynced or not.
    pub fn restart(&self) {
        lock(&self.machine).boot_again();
    }

    /// Lets `operations` more changing calls through; the one after them may take effect, but it and every later call
    /// (reads too) fail of [`Crashed`] until [`SimDisk::crash`].
    pub fn crash_at(&self, operations: u64) {
        lock(&self.machine).power.fail_after(operations);
    }

    /// Returns how many changing calls there were: creates, writes, preallocations, truncations, removes, renames and
    /// syncs.
    pub fn operations(&self) -> u64 {
        lock(&self.machine).power.operations()
    }

    /// Returns how often a file was read.
    pub fn reads(&self) -> u64 {
        lock(&self.machine).reads
    }

    /// Returns whether the crash asked for came.
    pub fn is_down(&self) -> bool {
        lock(&self.machine).power.is_down()
    }

    /// Limits by how many bytes files may grow in all; `None` lifts it. What is removed or cut gives room again.
    pub fn set_space_left(&self, bytes: Option<u64>) {
        lock(&self.machine).space_left = bytes;
    }

    /// Fails one sync of a file or of the directory, after `syncs` more that succeed: any part of what it was to make
    /// durable is. The rest of a file counts as clean, so that no later sync writes it; names stay to be synced (they go
    /// through the journal of a file system, and one whose journal failed takes nothing more: that is a crash).
    pub fn fail_sync(&self, syncs: u64) {
        lock(&self.machine).syncs_until_failure = Some(syncs);
    }

    /// Returns the bytes of a file as a process reads them.
    ///
    /// Panics: without such a file.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let machine = lock(&self.machine);
        machine.inodes[machine.names[name]].current.clone()
    }

    /// Replaces the bytes of a file, durably, the way damage to a disk does; creates it where missing.
    pub fn damage(&self, name: &str, bytes: &[u8]) {
        let mut machine = lock(&self.machine);
        let inode = Inode {
            current: bytes.to_vec(),
            durable: bytes.to_vec(),
            ..Inode::default()
        };
        machine.inodes.push(inode);
        let index = machine.inodes.len() - 1;
        machine.names.insert(name.to_owned(), index);
        machine.durable_names.insert(name.to_owned(), index);
    }
}

#[derive(Debug)]
struct Machine {
    random: Random,
    /// Counts crashes and restarts: a handle of an earlier boot is dead.
    boot: u64,
    power: Power,
    is_locked: bool,
    reads: u64,
    syncs_until_failure: Option<u64>,
    space_left: Option<u64>,
    preallocates: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
}

#[derive(Debug, Default)]
struct Inode {
    /// As processes see it.
    current: Vec<u8>,
    /// As a crash leaves it at least.
    durable: Vec<u8>,
    /// Versions of each sector since it was last clean; a sector of the page cache may have been written back at any.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync.
    lengths: Vec<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

type Sector = [u8; SECTOR_BYTES];

const SECTOR_BYTES: usize = 512;

impl Machine {
    /// Runs one changing call: it takes effect, unless the machine is down, and is reported, unless it just went down.
    fn change<T>(&mut self, effect: impl FnOnce(&mut Self) -> Result<T, DiskError>) -> Result<T, DiskError> {
        if self.power.begin()? {
            // What the effect leaves unsynced is for `lose_unsynced` to judge.
            let _ = effect(self);
            return Err(Crashed.into());
        }
        effect(self)
    }

    fn boot_again(&mut self) {
        self.boot += 1;
        self.power.restore();
        self.is_locked = false;
        self.syncs_until_failure = None;
    }

    fn lose_unsynced(&mut self) {
        self.keep_some_names();
        self.pending_names.clear();
        for inode in &mut self.inodes {
            inode.keep_some(&mut self.random);
            inode.current.clone_from(&inode.durable);
        }
        self.names.clone_from(&self.durable_names);
    }

    /// Makes any of the pending changes of names durable.
    fn keep_some_names(&mut self) {
        for change in &self.pending_names {
            if self.random.coin() {
                apply_name_change(&mut self.durable_names, change);
            }
        }
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, &change);
        self.pending_names.push(change);
    }

    /// Returns whether this is the sync that was to fail.
    fn fails_now(&mut self) -> bool {
        match self.syncs_until_failure {
            Some(0) => {
                self.syncs_until_failure = None;
                true
            }
            Some(left) => {
                self.syncs_until_failure = Some(left - 1);
                false
            }
            None => false,
        }
    }

    fn inode_of(&self, name: &str) -> Result<usize, DiskError> {
        self.names.get(name).copied().ok_or_else(|| DiskError::NotFound {
            file: name.to_owned(),
        })
    }

    fn write(&mut self, file: &SimFile, position: usize, bytes: &[u8]) -> Result<(), DiskError> {
        let length = self.inodes[file.inode].current.len();
        let growth = (position + bytes.len()).saturating_sub(length);
        let room = self.take_room(growth);
        let missing = growth - room;
        self.inodes[file.inode].write(position, &bytes[..bytes.len().saturating_sub(missing)]);
        if missing > 0 {
            Err(DiskError::NoSpace {
                file: file.name.clone(),
            })
        } else {
            Ok(())
        }
    }

    /// Returns how much of `growth` there is room for, which is taken then.
    fn take_room(&mut self, growth: usize) -> usize {
        let room = self.space_left.map_or(growth, |left| growth.min(left as usize));
        self.space_left = self.space_left.map(|left| left - room as u64);
        room
    }

    fn preallocate(&mut self, file: &SimFile, length: usize) -> Result<(), DiskError> {
        if !self.preallocates {
            return Err(DiskError::Io {
                operation: "preallocate",
                file: file.name.clone(),
                source: std::io::ErrorKind::Unsupported.into(),
            });
        }
        let present = self.inodes[file.inode].current.len();
        let growth = length.saturating_sub(present);
        let room = self.take_room(growth);
        self.inodes[file.inode].lengthen(present + room);
        if room < growth {
            return Err(DiskError::NoSpace {
                file: file.name.clone(),
            });
        }
        Ok(())
    }

    fn truncate(&mut self, inode: usize, length: usize) {
        let freed = self.inodes[inode].current.len().saturating_sub(length);
        self.space_left = self.space_left.map(|left| left + freed as u64);
        self.inodes[inode].truncate(length);
    }
}

fn apply_name_change(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Inode {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        if end > self.current.len() {
            self.current.resize(end, 0);
        }
        self.current[position..end].copy_from_slice(bytes);
        self.lengths.push(self.current.len());
        self.soil(position, end);
    }

    /// Adds zeros, which may be there after a crash, or only some of them.
    fn lengthen(&mut self, length: usize) {
        let before = self.current.len();
        if length > before {
            self.current.resize(length, 0);
            self.lengths.extend([before + (length - before) / 2, length]);
        }
    }

    fn truncate(&mut self, length: usize) {
        let before = self.current.len();
        self.current.resize(length, 0);
        self.lengths.push(length);
        self.soil(length, before.max(length));
    }

    /// Notes a new version of the sectors of `start..end`.
    fn soil(&mut self, start: usize, end: usize) {
        for index in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let version = sector_of(&self.current, index);
            self.dirty.entry(index).or_default().push(version);
        }
    }

    fn sync(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        self.durable.resize(self.current.len(), 0);
        for (index, versions) in dirty {
            if let Some(version) = versions.last() {
                put_sector(&mut self.durable, index, version);
            }
        }
        self.lengths.clear();
    }

    /// Makes any part of the unsynced state durable and calls the rest clean.
    fn keep_some(&mut self, random: &mut Random) {
        let lengths = std::mem::take(&mut self.lengths);
        let choice = random.index(lengths.len() + 1);
        if let Some(length) = lengths.get(choice) {
            self.durable.resize(*length, 0);
        }
        for (index, versions) in std::mem::take(&mut self.dirty) {
            let choice = random.index(versions.len() + 1);
            if let Some(version) = versions.get(choice) {
                put_sector(&mut self.durable, index, version);
            }
        }
    }
}

fn sector_of(bytes: &[u8], index: usize) -> Sector {
    let start = (index * SECTOR_BYTES).min(bytes.len());
    let part = &bytes[start..(start + SECTOR_BYTES).min(bytes.len())];
    let mut sector = [0; SECTOR_BYTES];
    sector[..part.len()].copy_from_slice(part);
    sector
}

/// Puts as much of a sector as the length of `bytes` has room for.
fn put_sector(bytes: &mut [u8], index: usize, sector: &Sector) {
    let start = (index * SECTOR_BYTES).min(bytes.len());
    let end = (start + SECTOR_BYTES).min(bytes.len());
    bytes[start..end].copy_from_slice(&sector[..end - start]);
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }

    fn lock(&self) -> Result<SimLock, DiskError> {
        let mut machine = lock(&self.machine);
        machine.power.check()?;
        if machine.is_locked {
            return Err(DiskError::Locked {
                directory: self.describe(),
            });
        }
        machine.is_locked = true;
        Ok(SimLock {
            machine: self.machine.clone(),
            boot: machine.boot,
        })
    }

    fn create(&self, name: &str) -> Result<SimFile, DiskError> {
        lock(&self.machine).change(|machine| {
            if machine.names.contains_key(name) {
                let source = std::io::ErrorKind::AlreadyExists.into();
                return Err(DiskError::Io {
                    operation: "create",
                    file: name.to_owned(),
                    source,
                });
            }
            machine.inodes.push(Inode::default());
            machine.change_name(NameChange::Link(name.to_owned(), machine.inodes.len() - 1));
            Ok(())
        })?;
        self.open(name)
    }

    fn open(&self, name: &str) -> Result<SimFile, DiskError> {
        let machine = lock(&self.machine);
        machine.power.check()?;
        let inode = machine.inode_of(name)?;
        Ok(SimFile {
            machine: self.machine.clone(),
            boot: machine.boot,
            inode,
            name: name.to_owned(),
        })
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        lock(&self.machine).change(|machine| {
            let freed = machine.inodes[machine.inode_of(name)?].current.len();
            machine.space_left = machine.space_left.map(|left| left + freed as u64);
            machine.change_name(NameChange::Unlink(name.to_owned()));
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        lock(&self.machine).change(|machine| {
            machine.inode_of(from)?;
            machine.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let machine = lock(&self.machine);
        machine.power.check()?;
        Ok(machine.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        lock(&self.machine).change(|machine| {
            if machine.power.is_down() {
                return Ok(());
            }
            if machine.fails_now() {
                machine.keep_some_names();
                return Err(sync_failure("sync directory", "."));
            }
            for change in std::mem::take(&mut machine.pending_names) {
                apply_name_change(&mut machine.durable_names, &change);
            }
            Ok(())
        })
    }
}

impl SimFile {
    fn machine(&self) -> Result<MutexGuard<'_, Machine>, DiskError> {
        let machine = lock(&self.machine);
        machine.power.check()?;
        if machine.boot == self.boot {
            Ok(machine)
        } else {
            Err(Crashed.into())
        }
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.machine()?
            .change(|machine| machine.write(self, position as usize, bytes))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut machine = self.machine()?;
        machine.reads += 1;
        let current = &machine.inodes[self.inode].current;
        let start = (position as usize).min(current.len());
        let count = buffer.len().min(current.len() - start);
        buffer[..count].copy_from_slice(&current[start..start + count]);
        Ok(count)
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.machine()?.inodes[self.inode].current.len() as u64)
    }

    fn truncate(&self, length: u64) -> Result<(), DiskError> {
        self.machine()?.change(|machine| {
            machine.truncate(self.inode, length as usize);
            Ok(())
        })
    }

    fn preallocate(&self, length: u64) -> Result<(), DiskError> {
        self.machine()?
            .change(|machine| machine.preallocate(self, length as usize))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.machine()?.change(|machine| {
            if machine.power.is_down() {
                return Ok(());
            }
            if machine.fails_now() {
                machine.inodes[self.inode].keep_some(&mut machine.random);
                return Err(sync_failure("sync", &self.name));
            }
            machine.inodes[self.inode].sync();
            Ok(())
        })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut machine = lock(&self.machine);
        if machine.boot == self.boot {
            machine.is_locked = false;
        }
    }
}

impl From<Crashed> for DiskError {
    fn from(crashed: Crashed) -> Self {
        Self::Io {
            operation: "use",
            file: "the simulated disk".to_owned(),
            source: std::io::Error::other(crashed),
        }
    }
}

fn sync_failure(operation: &'static str, file: &str) -> DiskError {
    DiskError::Io {
        operation,
        file: file.to_owned(),
        source: std::io::Error::other("injected failure"),
    }
}

/// A test that panicked elsewhere must not hide its message behind a poisoned lock.
fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
