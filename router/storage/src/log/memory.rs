//! The twin of [`super::SegmentedLog`] in memory: the same contract, and a crash at will.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use router_records::log::LogRecord;
use wire_base::ids::Offset;
use wire_base::random::Random;

use super::error::{AppendError, ReadError, TruncateError};
use super::group::Group;
use super::port::{Log, LogStats, ReadRecord, Section};
use crate::sim::{Crashed, Power};

/// A log in memory that forgets, at a crash, any suffix of the groups that were not acknowledged.
///
/// Clones share it, so that a test injects faults while a router owns its own handle. The same seed and the same calls give
/// the same outcome.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct Memory {
    random: Random,
    /// Oldest first; a section begins at every [`SECTION_GROUPS`]-th group.
    groups: VecDeque<Vec<Bytes>>,
    /// How many groups were deleted; a multiple of [`SECTION_GROUPS`].
    deleted_groups: usize,
    first: Offset,
    /// Records that a crash leaves for sure end here.
    acknowledged: Offset,
    power: Power,
    is_stopped: bool,
    is_full: bool,
    fails_next_sync: bool,
    stats: LogStats,
}

impl MemoryLog {
    /// Returns an empty log.
    pub fn seeded(seed: u64) -> Self {
        let memory = Memory {
            random: Random::seeded(seed),
            groups: VecDeque::new(),
            deleted_groups: 0,
            first: Offset(0),
            acknowledged: Offset(0),
            power: Power::default(),
            is_stopped: false,
            is_full: false,
            fails_next_sync: false,
            stats: LogStats::default(),
        };
        Self {
            memory: Arc::new(Mutex::new(memory)),
        }
    }

    /// Power fails and returns: any suffix of the groups that were not acknowledged is gone. What is left then is durable.
    pub fn crash(&self) {
        let mut memory = self.memory();
        while memory.next() > memory.acknowledged && memory.random.coin() {
            memory.groups.pop_back();
        }
        memory.boot_again();
    }

    /// The process is killed and started again: every group is still there.
    pub fn restart(&self) {
        self.memory().boot_again();
    }

    /// Lets `operations` more appends, probes and truncations through; the one after them may take effect, but it and every
    /// later call fail of [`Crashed`] until [`MemoryLog::crash`].
    pub fn crash_at(&self, operations: u64) {
        self.memory().power.fail_after(operations);
    }

    /// Returns whether the crash asked for came.
    pub fn is_down(&self) -> bool {
        self.memory().power.is_down()
    }

    /// Takes away all space, or gives it back.
    pub fn set_full(&self, is_full: bool) {
        self.memory().is_full = is_full;
    }

    /// Fails the sync of the next group; it is in the log or not, by a coin.
    pub fn fail_sync(&self) {
        self.memory().fails_next_sync = true;
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A test that panicked elsewhere must not hide its message behind a poisoned lock.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn next(&self) -> Offset {
        let records: usize = self.groups.iter().map(Vec::len).sum();
        Offset(self.first.0 + records as u64)
    }

    fn boot_again(&mut self) {
        // Whoever opens a log makes what he finds durable before he hands it out.
        self.acknowledged = self.next();
        self.power.restore();
        self.is_stopped = false;
        self.fails_next_sync = false;
        self.stats = LogStats::default();
    }

    fn append(&mut self, group: &Group) -> Result<Offset, AppendError> {
        let goes_down = self.power.begin().map_err(failed)?;
        if self.is_stopped {
            return Err(AppendError::Stopped);
        }
        if self.is_full && !goes_down {
            return Err(AppendError::NoSpace);
        }
        let first = self.next();
        let fails = std::mem::take(&mut self.fails_next_sync);
        if !(fails || goes_down) || self.random.coin() {
            self.groups
                .push_back(group.records().map(Bytes::copy_from_slice).collect());
        }
        if goes_down {
            return Err(failed(Crashed));
        }
        if fails {
            self.is_stopped = true;
            return Err(failed("injected failure"));
        }
        self.acknowledged = self.next();
        self.stats.groups += 1;
        self.stats.records += group.len() as u64;
        self.stats.bytes += group.bytes() as u64;
        self.stats.syncs += 1;
        Ok(first)
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        if self.power.begin().map_err(failed)? {
            Err(failed(Crashed))
        } else if self.is_stopped {
            Err(AppendError::Stopped)
        } else if self.is_full {
            Err(AppendError::NoSpace)
        } else {
            Ok(())
        }
    }

    fn truncate_below(&mut self, offset: Offset) -> Result<(), Crashed> {
        let goes_down = self.power.begin()?;
        while self.groups.len() > SECTION_GROUPS {
            let records: usize = self.groups.iter().take(SECTION_GROUPS).map(Vec::len).sum();
            let next = Offset(self.first.0 + records as u64);
            if next > offset {
                break;
            }
            self.groups.drain(..SECTION_GROUPS);
            self.deleted_groups += SECTION_GROUPS;
            self.first = next;
        }
        if goes_down { Err(Crashed) } else { Ok(()) }
    }

    fn records_from(&self, offset: Offset) -> Result<Vec<ReadRecord>, ReadError> {
        let (first, next) = (self.first, self.next());
        self.power
            .check()
            .map_err(|crashed| ReadError::Failed(crashed.into()))?;
        if offset < first || offset > next {
            return Err(ReadError::OutOfRange { offset, first, next });
        }
        let records = self.groups.iter().flatten().cloned();
        Ok((first.0..)
            .map(Offset)
            .zip(records)
            .filter(|(at, _)| *at >= offset)
            .map(Ok)
            .collect())
    }

    fn sections(&self) -> Vec<Section> {
        let mut first = self.first;
        let mut sections = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            if index % SECTION_GROUPS == 0 {
                let time = LogRecord::time_of(&group[0]);
                sections.push(Section { first, time });
            }
            first.0 += group.len() as u64;
        }
        if sections.is_empty() {
            sections.push(Section { first, time: None });
        }
        sections
    }
}

impl Log for MemoryLog {
    fn append(&mut self, group: &mut Group) -> Result<Offset, AppendError> {
        group.assert_fits();
        self.memory().append(group)
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        self.memory().probe()
    }

    fn truncate_below(&mut self, offset: Offset) -> Result<(), TruncateError> {
        let truncated = self.memory().truncate_below(offset);
        truncated.map_err(|crashed| TruncateError(crashed.into()))
    }

    fn read_from(&self, offset: Offset) -> Result<impl Iterator<Item = ReadRecord> + '_, ReadError> {
        Ok(self.memory().records_from(offset)?.into_iter())
    }

    fn first(&self) -> Offset {
        self.memory().first
    }

    fn next(&self) -> Offset {
        self.memory().next()
    }

    fn sections(&self) -> impl DoubleEndedIterator<Item = Section> + '_ {
        self.memory().sections().into_iter()
    }

    fn stats(&self) -> LogStats {
        self.memory().stats
    }
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AppendError {
    AppendError::Failed(cause.into())
}

const SECTION_GROUPS: usize = 4;
