//! The store that all nodes share: rows come late, those of a partition in their order, also from who does not own it any
//! more; and a node's way to it may be closed for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use router_core::node::{ApplyTicket, Ask, Flushed, PartitionStart, Report, StoreFault};
use router_core::testing::{GENERATION, SharedTables};
use router_core::topology::PartitionId;
use router_records::row::Row;
use wire_base::ids::{Offset, UnixMs};

use super::plan::DEDUPE_MS;
use super::process::{Fact, Origin};
use super::world::World;

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) tables: SharedTables,
    /// How far each partition was done, over time.
    flushed: BTreeMap<PartitionId, Vec<Flushed>>,
    /// Rows on their way, of each process and partition.
    queues: BTreeMap<(Origin, PartitionId), VecDeque<Job>>,
    /// Questions, by when and by order.
    asks: BTreeMap<(u64, u64), (Origin, Ask)>,
    asked: u64,
    /// Nodes that do not reach it.
    pub(crate) cut_off: BTreeSet<usize>,
    /// Processes whose rows wait until they are tried again.
    waiting: BTreeSet<Origin>,
    /// When the last report of each queue arrives.
    reported_ms: BTreeMap<(Origin, PartitionId), u64>,
}

#[derive(Debug)]
struct Job {
    due_ms: u64,
    rows: Vec<Row>,
    ticket: ApplyTicket,
}

impl Store {
    /// Returns whether rows of a process for a partition are still on their way.
    pub(crate) fn has_rows(&self, origin: Origin, id: PartitionId) -> bool {
        self.queues.contains_key(&(origin, id))
    }

    /// Throws away what a process has not written yet of a partition.
    pub(crate) fn throw_away(&mut self, origin: Origin, id: PartitionId) {
        self.queues.remove(&(origin, id));
    }

    /// Forgets what a process that is gone waits for; what it has given away may still be written.
    pub(crate) fn forget(&mut self, origin: Origin) {
        self.waiting.remove(&origin);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.asks.is_empty()
    }

    pub(crate) fn flushed(&self, id: PartitionId) -> Option<Flushed> {
        self.flushed.get(&id)?.last().copied()
    }

    /// Returns what a new owner starts from: it reads from where dedupe begins.
    pub(crate) fn start(&self, id: PartitionId) -> PartitionStart {
        let all = self.flushed.get(&id).map_or(&[][..], Vec::as_slice);
        let newest = all.last();
        let since = newest.map_or(0, |newest| newest.log_time.0.saturating_sub(DEDUPE_MS));
        let before = all.iter().rfind(|flushed| flushed.log_time.0 < since);
        PartitionStart {
            generation: GENERATION,
            prune_floor: Offset(0),
            flushed: newest.map(|newest| newest.through),
            observe_from: before.map_or(Offset(0), |before| Offset(before.through.0 + 1)),
            log_time: before.map_or(UnixMs(0), |before| before.log_time),
        }
    }

    /// Writes what a ticket is for, or its first rows only; returns how many rows were newer.
    fn write(&mut self, job: &Job, rows: usize) -> u64 {
        let mut stale = 0;
        for row in job.rows.iter().take(rows) {
            stale += u64::from(self.tables.write(row, job.ticket.through));
        }
        if let Some(flushed) = job.ticket.flushed.filter(|_| rows >= job.rows.len()) {
            let all = self.flushed.entry(job.ticket.partition).or_default();
            if all.last().is_none_or(|last| last.through < flushed.through) {
                all.push(flushed);
            }
        }
        stale
    }
}

impl World {
    pub(crate) fn apply(&mut self, origin: Origin, rows: Vec<Row>, ticket: ApplyTicket) {
        let due_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.store);
        let queue = self.store.queues.entry((origin, ticket.partition)).or_default();
        let due_ms = queue.back().map_or(due_ms, |last| last.due_ms.max(due_ms));
        queue.push_back(Job { due_ms, rows, ticket });
    }

    pub(crate) fn ask(&mut self, origin: Origin, ask: Ask) {
        let due_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.store);
        self.store.asked += 1;
        self.store.asks.insert((due_ms, self.store.asked), (origin, ask));
    }

    /// Tries again what a process could not write.
    pub(crate) fn retry_store(&mut self, origin: Origin) {
        let mut due_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.store);
        if self.store.cut_off.contains(&origin.node) {
            return self.tell(
                origin,
                due_ms,
                Fact::Reported(Report::StoreRetried(Err(StoreFault::NoSpace))),
            );
        }
        self.store.waiting.remove(&origin);
        for key in self.queues_of(origin) {
            while self.write_next(key) {}
            due_ms = due_ms.max(self.store.reported_ms.get(&key).copied().unwrap_or(0));
        }
        self.tell(origin, due_ms, Fact::Reported(Report::StoreRetried(Ok(()))));
    }

    /// Does everything whose time has come.
    pub(crate) fn run_store(&mut self) {
        let keys: Vec<_> = self.store.queues.keys().copied().collect();
        for key in keys {
            self.run_queue(key);
        }
        while let Some(entry) = self.store.asks.first_entry() {
            if entry.key().0 > self.now.mono_ms {
                break;
            }
            let (origin, ask) = entry.remove();
            self.answer(origin, ask);
        }
    }

    fn run_queue(&mut self, key: (Origin, PartitionId)) {
        let origin = key.0;
        loop {
            let now_ms = self.now.mono_ms;
            let due = self.store.queues.get(&key).and_then(VecDeque::front);
            if due.is_none_or(|job| job.due_ms > now_ms) || self.store.waiting.contains(&origin) {
                return;
            }
            let is_alive = self.nodes[origin.node].is(origin);
            if self.store.cut_off.contains(&origin.node) && is_alive {
                return self.fail_queue(key);
            }
            self.write_next(key);
        }
    }

    /// Some of the first rows are written, and the rest waits.
    fn fail_queue(&mut self, key: (Origin, PartitionId)) {
        let Some(job) = self.store.queues.get_mut(&key).and_then(VecDeque::pop_front) else {
            return;
        };
        let rows = self
            .rng
            .below(job.rows.len() + 1)
            .min(job.rows.len().saturating_sub(1));
        self.store.write(&job, rows);
        self.store.queues.entry(key).or_default().push_front(job);
        self.store.waiting.insert(key.0);
        self.coverage.note("rows could not be written");
        self.tell(
            key.0,
            self.now.mono_ms,
            Fact::Reported(Report::ApplyFailed(StoreFault::NoSpace)),
        );
    }

    /// Writes the first rows of a queue, all of them, and reports that. Returns whether there were any.
    fn write_next(&mut self, key: (Origin, PartitionId)) -> bool {
        let Some(queue) = self.store.queues.get_mut(&key) else {
            return false;
        };
        let job = queue.pop_front().expect("queues are removed when they are empty");
        if queue.is_empty() {
            self.store.queues.remove(&key);
        }
        let stale = self.store.write(&job, usize::MAX);
        self.coverage.add("row of a late writer", stale);
        let due_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.store);
        let reported_ms = self.store.reported_ms.entry(key).or_default();
        *reported_ms = due_ms.max(*reported_ms);
        let due_ms = *reported_ms;
        self.tell(key.0, due_ms, Fact::Reported(Report::Applied(job.ticket)));
        true
    }

    fn answer(&mut self, origin: Origin, ask: Ask) {
        if !self.nodes[origin.node].is(origin) {
            return;
        }
        let is_closed = self.store.cut_off.contains(&origin.node) || self.store.waiting.contains(&origin);
        let is_early = self
            .store
            .queues
            .get(&(origin, ask.partition))
            .and_then(VecDeque::front)
            .is_some_and(|job| Some(job.ticket.through) <= ask.after);
        let due_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.store);
        if is_early && !is_closed {
            self.store.asked += 1;
            let at = (self.now.mono_ms + 1, self.store.asked);
            self.store.asks.insert(at, (origin, ask));
            return;
        }
        let answer = match is_closed {
            true => Err(StoreFault::NoSpace),
            false => Ok(self.store.tables.answer(&ask.question)),
        };
        self.coverage.add("read failed", u64::from(answer.is_err()));
        self.tell(origin, due_ms, Fact::Reported(Report::Answered(ask.id, answer)));
    }

    fn queues_of(&self, origin: Origin) -> Vec<(Origin, PartitionId)> {
        let keys = self.store.queues.keys();
        keys.filter(|(of, _)| *of == origin).copied().collect()
    }
}
