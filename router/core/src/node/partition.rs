//! One ordered log and the state of everything whose records it holds: what is taken and released as a whole.

use router_records::log::LogRecord;
use wire_base::ids::{Offset, Position, UnixMs};

use super::condition::RETRY_MS;
use super::group::{Appending, GroupBuilder};
use super::intake::Intake;
use super::opens::Opens;
use super::outbox::Outbox;
use super::pages::Pages;
use super::pending::Pending;
use super::{Intention, Shared};
use crate::fold::Folds;
use crate::sessions::Sessions;
use crate::topology::PartitionId;

/// What a partition of a cluster starts from: what the store says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStart {
    /// Creation number of the log, which positions carry.
    pub generation: u32,
    /// Everything in inboxes below this may be gone.
    pub prune_floor: Offset,
    /// The newest [`Flushed`] that the store has.
    pub flushed: Option<Offset>,
    /// The record to read from: at most the first that is not flushed, and by 15 minutes of log time before it where the log
    /// goes back so far. The ids of what lies between are remembered for dedupe, and nothing else is done with it.
    pub observe_from: Offset,
    /// Log time at the record before that one, from the [`Flushed`] of that time or an earlier one; 0 when there is none.
    pub log_time: UnixMs,
}

/// Up to where a partition is done: a new owner starts behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Every record up to here has its rows in the store, and its effects on other partitions in their logs.
    pub through: Offset,
    /// Log time at that record: no record up to it has a later one.
    pub log_time: UnixMs,
}

/// How far the log has to be folded before hellos that wait for that go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CatchUp {
    /// None does.
    Done,
    /// Up to its end, which is asked for.
    Asked,
    /// Up to here.
    To(Offset),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    /// Tells this ownership from an earlier one of the same partition.
    pub(super) tenure: u64,
    pub(super) generation: u32,
    pub(super) prune_floor: Offset,
    pub(super) folds: Folds,
    pub(super) sessions: Sessions,
    pub(super) group: GroupBuilder,
    pub(super) appending: Option<Appending>,
    pub(super) intake: Intake,
    pub(super) pending: Pending,
    pub(super) outbox: Outbox,
    pub(super) opens: Opens,
    pub(super) pages: Pages,
    /// Everything that the log had when it was taken is folded.
    pub(super) is_caught_up: bool,
    pub(super) catch_up: CatchUp,
    /// How often it was asked where the log ends.
    ends_asked: u32,
    /// The log took no group of it; it is tried again then, on the monotonic clock.
    pub(super) paused_until_ms: Option<u64>,
    /// The newest time given to a record, appended or not.
    stamped: UnixMs,
    /// When it is looked at next even if nothing happens to it, on the monotonic clock; see [`super::partitions`].
    pub(super) look_due_ms: Option<u64>,
}

impl Partition {
    /// Returns a partition whose log is read from `intake` on.
    pub(super) fn new(
        id: PartitionId,
        tenure: u64,
        folds: Folds,
        sessions: Sessions,
        intake: Intake,
        start: &PartitionStart,
    ) -> Self {
        Self {
            id,
            tenure,
            generation: start.generation,
            prune_floor: start.prune_floor,
            sessions,
            group: GroupBuilder::default(),
            appending: None,
            intake,
            pending: Pending::new(start.flushed),
            outbox: Outbox::default(),
            opens: Opens::default(),
            pages: Pages::default(),
            is_caught_up: false,
            catch_up: CatchUp::Asked,
            ends_asked: 1,
            paused_until_ms: None,
            stamped: folds.stamp(UnixMs(0)),
            look_due_ms: None,
            folds,
        }
    }

    /// Returns whether it is the only one, so that nobody else writes to its log, and nobody else owns what its records tell of.
    pub(super) fn is_alone(&self) -> bool {
        self.id == PartitionId::One
    }

    /// Returns whether records are taken for it.
    pub(super) fn takes_records(&self, shared: &Shared) -> bool {
        let is_paused = self
            .paused_until_ms
            .is_some_and(|until| until > shared.now.mono_ms);
        shared.condition.takes_records() && self.is_caught_up && !is_paused
    }

    /// Takes nothing for a while: the log does not.
    pub(super) fn pause(&mut self, shared: &mut Shared) {
        shared.stats.append_failures += 1;
        self.paused_until_ms = Some(shared.now.mono_ms + RETRY_MS);
    }

    /// Returns log time for a record that is made now.
    pub(super) fn stamp(&mut self, shared: &Shared) -> UnixMs {
        self.stamped = self.stamped.max(self.folds.stamp(shared.now.unix));
        self.stamped
    }

    /// Returns the position after which every inbox entry is kept.
    pub(super) fn oldest(&self) -> Position {
        Position {
            generation: self.generation,
            offset: self.prune_floor,
            index: 0,
        }
    }

    /// Learns where the log ended.
    pub(super) fn handle_caught_up(&mut self, shared: &mut Shared, end: Offset) {
        if self.catch_up == CatchUp::Asked {
            self.catch_up = CatchUp::To(end);
        }
        self.serve_when_caught_up(shared);
    }

    /// Goes on once everything that the log had is folded: now a position beyond a head is one that never was.
    pub(super) fn serve_when_caught_up(&mut self, shared: &mut Shared) {
        let CatchUp::To(end) = self.catch_up else { return };
        if self.intake.next() >= end && self.pending.is_empty() {
            self.catch_up = CatchUp::Done;
            self.is_caught_up = true;
            if self.opens.wait_for_end() > self.ends_asked {
                self.ask_for_end(shared);
            }
            self.admit_waiting(shared);
        }
    }

    /// Asks where the log ends: somebody has a position that is not known here yet. Returns the number of the answer that will
    /// tell: one that was asked for from now on.
    pub(super) fn find_end(&mut self, shared: &mut Shared) -> u32 {
        if self.catch_up != CatchUp::Done {
            return self.ends_asked + 1;
        }
        self.ask_for_end(shared);
        self.ends_asked
    }

    /// Returns the number of the newest end up to which everything is folded.
    pub(super) fn ends_reached(&self) -> u32 {
        self.ends_asked - u32::from(self.catch_up != CatchUp::Done)
    }

    fn ask_for_end(&mut self, shared: &mut Shared) {
        self.ends_asked += 1;
        self.catch_up = CatchUp::Asked;
        let partition = self.id;
        shared.intentions.push_back(Intention::FindEnd { partition });
    }

    /// Takes records that the log has from offset `first` on.
    pub(super) fn handle_consumed(&mut self, shared: &mut Shared, first: Offset, records: Vec<LogRecord>) {
        self.intake.consume(first, records);
        self.take_in(shared);
    }

    /// Returns when it is to be looked at even without a fact, on the monotonic clock. What waits for a budget that all share
    /// has no such time.
    pub(super) fn due_ms(&self, shared: &Shared) -> Option<u64> {
        let gathered = [self.acks_due_ms(shared), self.group.devices_due_ms()];
        let gathered = gathered.into_iter().flatten().min();
        let gathered = gathered.filter(|_| self.can_form_group(shared));
        let is_to_come = |due_ms: &u64| *due_ms > shared.now.mono_ms;
        let paused = self.paused_until_ms.filter(is_to_come);
        let postponed = self.pages.due_ms().filter(is_to_come);
        let dues = [gathered, postponed, paused, self.outbox.due_ms()];
        dues.into_iter().flatten().min()
    }

    /// Returns what shows, beside [`Shared::trace`], that it has done something.
    pub(super) fn trace(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        (self.group.trace(), self.pending.len(), self.appending.is_some())
    }

    /// Returns whether nothing waits to be put into the log.
    pub(super) fn has_logged_all(&self) -> bool {
        self.group.is_empty() && self.sessions.acks_waiting() == 0
    }

    /// Returns whether nothing of it is under way; its questions are counted apart.
    pub(super) fn is_quiet(&self) -> bool {
        self.appending.is_none()
            && self.intake.is_empty()
            && self.pending.is_empty()
            && self.outbox.is_empty()
    }
}
