//! Disk and store that refuse instead of crashing, for a while.

use router_server::health::Readiness;
use router_storage::store::KvFault;

use crate::machine::Outage;
use crate::transcript::Seen;
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
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::LogSpace,
        Self::LogSync,
        Self::StoreSpace,
        Self::StoreFails,
        Self::PersistSpace,
        Self::PersistFails,
    ];
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
        let (disk, kv) = (&self.machine.disk, &self.machine.kv);
        match kind {
            Kind::LogSpace => disk.set_space_left(Some(self.rng.within(0..3_000))),
            Kind::LogSync => disk.fail_sync(self.rng.within(0..3)),
            Kind::StoreSpace => kv.fail_applies(Some(KvFault::NoSpace)),
            Kind::StoreFails => kv.fail_applies(Some(KvFault::Failed)),
            Kind::PersistSpace => kv.fail_persists(Some(KvFault::NoSpace)),
            Kind::PersistFails => kv.fail_persists(Some(KvFault::Failed)),
        }
        let until_ms = self.now.mono_ms + self.rng.within(20..4_000);
        self.trouble.current = Some(Current { kind, until_ms });
        self.coverage.note(format!("trouble: {kind:?}"));
        self.see(Seen::Trouble(true));
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
        self.see(Seen::Trouble(false));
    }

    /// A boot ends all trouble but the want of space.
    pub(crate) fn trouble_ends_with_machine(&mut self) {
        if self
            .trouble
            .current
            .is_some_and(|current| current.kind != Kind::LogSpace)
        {
            self.lift();
        }
    }
}
