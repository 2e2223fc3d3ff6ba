//! Disk and store that refuse instead of crashing, for a while.

use router_server::health::Readiness;
use router_storage::store::KvFault;

use crate::machine::Outage;
use crate::transcript::Seen;
use crate::watch::Reader;
use crate::world::World;

/// What is the matter, if anything.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    current: Option<Current>,
    /// When the last one ended.
    ended_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    kind: Kind,
    until_ms: u64,
    /// Where reads fail, every so many-th does.
    reads_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The disk of the log is full.
    LogSpace,
    /// A sync of the log fails.
    LogSync,
    /// The disk of the store is full.
    StoreSpace,
    /// The store takes nothing.
    StoreFails,
    /// The store cannot be synced for want of space.
    PersistSpace,
    /// The store cannot be synced.
    PersistFails,
    /// Some reads of the log fail.
    LogReads,
    /// Some reads of the store fail.
    StoreReads,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::LogSpace,
        Self::LogSync,
        Self::StoreSpace,
        Self::StoreFails,
        Self::PersistSpace,
        Self::PersistFails,
        Self::LogReads,
        Self::StoreReads,
    ];

    /// Returns whether it is the same after a boot: what is full stays full, what cannot be read cannot be read.
    fn outlasts_boot(self) -> bool {
        !matches!(self, Self::LogSync | Self::StoreFails | Self::PersistFails)
    }
}

impl Trouble {
    pub(crate) fn is_any(&self) -> bool {
        self.current.is_some()
    }
}

impl World {
    /// Begins some trouble, unless there is some already.
    pub(crate) fn begin_some_trouble(&mut self) {
        let kind = self.rng.pick(&Kind::ALL);
        self.begin_trouble(kind);
    }

    pub(crate) fn begin_trouble(&mut self, kind: Kind) {
        if self.trouble.is_any() {
            return;
        }
        if kind == Kind::LogSpace {
            let bytes = self.rng.within(0..3_000);
            self.machine.disk.set_space_left(Some(bytes));
        }
        if kind == Kind::LogSync {
            let syncs = self.rng.within(0..3);
            self.machine.disk.fail_sync(syncs);
        }
        let current = Current {
            kind,
            until_ms: self.now.mono_ms + self.trouble_lasts_ms(),
            reads_every: self.rng.pick(&[1, 2, 5, 20]),
        };
        self.trouble.current = Some(current);
        self.afflict(current);
        self.coverage.note(format!("trouble: {kind:?}"));
        self.see(Seen::Trouble(true));
    }

    /// Nearly always some seconds; a disk may be full for minutes.
    fn trouble_lasts_ms(&mut self) -> u64 {
        if self.rng.percent(85) {
            return self.rng.within(20..4_000);
        }
        self.coverage.note("trouble for long");
        self.rng.within(30_000..300_000)
    }

    /// Makes store and reads as bad as they are to be.
    fn afflict(&self, current: Current) {
        let kv = &self.machine.kv;
        match current.kind {
            Kind::LogSpace | Kind::LogSync => {}
            Kind::StoreSpace => kv.fail_applies(Some(KvFault::NoSpace)),
            Kind::StoreFails => kv.fail_applies(Some(KvFault::Failed)),
            Kind::PersistSpace => kv.fail_persists(Some(KvFault::NoSpace)),
            Kind::PersistFails => kv.fail_persists(Some(KvFault::Failed)),
            Kind::LogReads => self.machine.fail_reads(Some((Reader::Disk, current.reads_every))),
            Kind::StoreReads => self
                .machine
                .fail_reads(Some((Reader::Store, current.reads_every))),
        }
    }

    pub(crate) fn end_trouble_when_due(&mut self) {
        if self
            .trouble
            .current
            .is_some_and(|current| current.until_ms <= self.now.mono_ms)
        {
            self.end_trouble();
        }
    }

    /// Heals disk and store.
    pub(crate) fn end_trouble(&mut self) {
        let readiness = self.machine.readiness();
        self.coverage.add(
            format!("trouble was felt as {readiness:?}"),
            u64::from(self.trouble.is_any()),
        );
        self.lift();
    }

    /// Restarts a router that does not trust disk or store any more, once they are well again: not one that has no cause.
    pub(crate) fn restart_if_failed(&mut self) {
        let has_failed = matches!(
            self.machine.readiness(),
            Readiness::LogFailed | Readiness::StoreFailed
        );
        let had_cause = self.trouble.ended_ms + self.plan.recovers_ms() > self.now.mono_ms;
        if has_failed && had_cause && !self.trouble.is_any() {
            let outage = self.rng.pick(&[Outage::Power, Outage::Kill]);
            self.go_down(outage);
        }
    }

    fn lift(&mut self) {
        if self.trouble.current.take().is_none() {
            return;
        }
        self.trouble.ended_ms = self.now.mono_ms;
        self.machine.disk.set_space_left(None);
        self.machine.disk.fail_sync(u64::MAX);
        self.machine.kv.fail_applies(None);
        self.machine.kv.fail_persists(None);
        self.machine.fail_reads(None);
        self.see(Seen::Trouble(false));
    }

    /// A boot ends some trouble, and now and then is where some reads begin to fail.
    pub(crate) fn boot_changes_trouble(&mut self) {
        match self.trouble.current {
            Some(current) if current.kind.outlasts_boot() => self.afflict(current),
            Some(_) => self.lift(),
            None if self.plan.rates.trouble > 0 && self.rng.percent(5) => {
                let kind = self.rng.pick(&[Kind::LogReads, Kind::StoreReads]);
                self.begin_trouble(kind);
                self.coverage.note("reads fail from a boot on");
            }
            None => {}
        }
    }
}
