//! The twin of [`super::FjallKv`] in memory: the same contract, and a crash at will.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire_base::random::Random;

use super::kv::{Batch, KeyRange, Kv, KvError, Visit};
use super::ports::Direction;
use crate::sim::{Crashed, Power};

/// An ordered map in memory that forgets, at a crash, any suffix of the batches since its last persist.
///
/// Clones share it, so that a test injects faults while the store owns its own handle. The same seed and the same calls
/// give the same outcome.
#[derive(Clone, Debug)]
pub struct MemoryKv {
    memory: Arc<Mutex<Memory>>,
}

/// A fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFault {
    /// [`KvError::NoSpace`].
    NoSpace,
    /// [`KvError::Stopped`], which goes away by itself here.
    Stopped,
    /// [`KvError::Failed`].
    Failed,
}

impl MemoryKv {
    /// Returns an empty map.
    pub fn seeded(seed: u64) -> Self {
        let memory = Memory {
            random: Random::seeded(seed),
            rows: BTreeMap::new(),
            unpersisted: VecDeque::new(),
            power: Power::default(),
            apply_fault: None,
            persist_fault: None,
        };
        Self {
            memory: Arc::new(Mutex::new(memory)),
        }
    }

    /// Power fails and returns: any number of the batches since the last persist is gone, the newest first.
    pub fn crash(&self) {
        let mut memory = self.memory();
        let batches = memory.unpersisted.len();
        let lost = memory.random.index(batches + 1);
        for _ in 0..lost {
            memory.undo_newest();
        }
        memory.unpersisted.clear();
        memory.boot_again();
    }

    /// The process is killed and started again: every batch is still there.
    pub fn restart(&self) {
        self.memory().boot_again();
    }

    /// Lets `operations` more applies and persists through; the one after them may take effect, but it and every later
    /// call (reads too) fail because of [`Crashed`] until [`MemoryKv::crash`].
    pub fn crash_at(&self, operations: u64) {
        self.memory().power.fail_after(operations);
    }

    /// Returns how many applies and persists there were.
    pub fn operations(&self) -> u64 {
        self.memory().power.operations()
    }

    /// Returns whether the crash asked for came.
    pub fn is_down(&self) -> bool {
        self.memory().power.is_down()
    }

    /// Fails every apply until lifted with `None`; the batch is made or not, by a coin.
    pub fn fail_applies(&self, fault: Option<KvFault>) {
        self.memory().apply_fault = fault;
    }

    /// Fails every persist until lifted with `None`.
    pub fn fail_persists(&self, fault: Option<KvFault>) {
        self.memory().persist_fault = fault;
    }

    /// Returns everything in it.
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.memory().rows.clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A test that panicked elsewhere must not hide its message behind a poisoned lock.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Memory {
    random: Random,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Per batch since the last persist, oldest first: what its keys held before.
    unpersisted: VecDeque<Vec<Before>>,
    power: Power,
    apply_fault: Option<KvFault>,
    persist_fault: Option<KvFault>,
}

/// A key, and what it held.
type Before = (Vec<u8>, Option<Vec<u8>>);

impl Memory {
    fn boot_again(&mut self) {
        self.power.restore();
        self.apply_fault = None;
        self.persist_fault = None;
    }

    fn make(&mut self, batch: &Batch) {
        let mut before = Vec::with_capacity(batch.changes.len());
        for (key, value) in &batch.changes {
            let old = match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
            before.push((key.clone(), old));
        }
        self.unpersisted.push_back(before);
    }

    fn undo_newest(&mut self) {
        for (key, old) in self.unpersisted.pop_back().into_iter().flatten().rev() {
            match old {
                Some(old) => self.rows.insert(key, old),
                None => self.rows.remove(&key),
            };
        }
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let memory = self.memory();
        memory.power.check()?;
        Ok(memory.rows.get(key).cloned())
    }

    fn scan(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), KvError> {
        let memory = self.memory();
        memory.power.check()?;
        let pairs = memory.rows.range::<[u8], _>(range);
        let mut visit = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value);
        // Broken off by the visitor is as good as ended.
        let _ = match direction {
            Direction::Forward => pairs.into_iter().try_for_each(&mut visit),
            Direction::Backward => pairs.rev().try_for_each(&mut visit),
        };
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), KvError> {
        let mut memory = self.memory();
        if memory.power.begin()? {
            memory.make(batch);
            return Err(Crashed.into());
        }
        if let Some(fault) = memory.apply_fault {
            if memory.random.coin() {
                memory.make(batch);
            }
            return Err(fault.into());
        }
        memory.make(batch);
        Ok(())
    }

    fn persist(&mut self) -> Result<(), KvError> {
        let mut memory = self.memory();
        if memory.power.begin()? {
            return Err(Crashed.into());
        }
        if let Some(fault) = memory.persist_fault {
            return Err(fault.into());
        }
        memory.unpersisted.clear();
        Ok(())
    }
}

impl From<Crashed> for KvError {
    fn from(crashed: Crashed) -> Self {
        Self::Failed(Box::new(crashed))
    }
}

impl From<KvFault> for KvError {
    fn from(fault: KvFault) -> Self {
        match fault {
            KvFault::NoSpace => Self::NoSpace,
            KvFault::Stopped => Self::Stopped {
                reopens: 0,
                source: "injected failure".into(),
            },
            KvFault::Failed => Self::Failed("injected failure".into()),
        }
    }
}
