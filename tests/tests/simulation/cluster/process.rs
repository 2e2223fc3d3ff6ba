//! A node as a process, and the driver that carries out what it intends: in its own time, until it is paused or killed.

use std::collections::{BTreeMap, BTreeSet};

use router_core::effects::StatusUpdate;
use router_core::node::{Intention, Node, NodeStats, Notice, Report};
use router_core::time::Now;
use router_core::topology::PartitionId;
use wire_base::ids::{Offset, UnixMs};

use super::views::View;
use super::world::World;

/// Which process of which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) node: usize,
    pub(crate) start: u64,
}

/// Something that a node learns from its backends.
#[derive(Debug)]
pub(crate) enum Fact {
    Reported(Report),
    /// Where a log ended, as asked in that ownership.
    End(PartitionId, u64, Offset),
    Told(PartitionId, StatusUpdate),
}

/// One node.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) origin: Origin,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    /// How far its wall clock is ahead of the true one.
    pub(crate) skew_ms: i64,
    /// It stands still until then.
    pub(crate) paused_until_ms: u64,
    pub(crate) starts_at_ms: u64,
    /// Who owns what, as it knows.
    pub(crate) view: View,
    /// What it has taken, and by which change of the view.
    taken: BTreeMap<PartitionId, u64>,
    consumers: BTreeMap<PartitionId, Consumer>,
    facts: BTreeMap<(u64, u64), Fact>,
    told: u64,
}

#[derive(Clone, Copy, Debug)]
struct Consumer {
    next: Offset,
    /// Its end was asked for and not said yet.
    owes_end: bool,
}

impl Process {
    pub(crate) fn new(node: usize, skew_ms: i64, view: View) -> Self {
        Self {
            origin: Origin { node, start: 0 },
            node: None,
            skew_ms,
            paused_until_ms: 0,
            starts_at_ms: 0,
            view,
            taken: BTreeMap::new(),
            consumers: BTreeMap::new(),
            facts: BTreeMap::new(),
            told: 0,
        }
    }

    /// Returns whether that process still runs.
    pub(crate) fn is(&self, origin: Origin) -> bool {
        self.origin == origin && self.node.is_some()
    }

    pub(crate) fn runs(&self, now: Now) -> bool {
        self.node.is_some() && self.paused_until_ms <= now.mono_ms
    }

    pub(crate) fn owns(&self, id: PartitionId) -> bool {
        self.node.as_ref().is_some_and(|node| node.owns(id))
    }

    pub(crate) fn stats(&self) -> NodeStats {
        self.node.as_ref().map(Node::stats).unwrap_or_default()
    }

    /// Returns whether nothing of it is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_idle = |node: &Node| node.is_quiet() && node.stats().acks_waiting == 0;
        self.facts.is_empty() && self.node.as_ref().is_some_and(is_idle)
    }

    /// Returns how far it has read a log.
    pub(crate) fn consumed(&self, id: PartitionId) -> Option<Offset> {
        self.consumers.get(&id).map(|consumer| consumer.next)
    }

    fn kill(&mut self) {
        self.node = None;
        self.taken.clear();
        self.consumers.clear();
        self.facts.clear();
    }
}

impl World {
    /// Lets a process learn something in a while, if it is still there then.
    pub(crate) fn tell(&mut self, origin: Origin, at_ms: u64, fact: Fact) {
        let process = &mut self.nodes[origin.node];
        if process.is(origin) {
            process.told += 1;
            process.facts.insert((at_ms, process.told), fact);
        }
    }

    pub(crate) fn start_node(&mut self, at: usize) {
        let seed = self.rng.next();
        let now = self.now_at(at);
        let node = Node::of_slots(self.plan.node, self.plan.folds, self.plan.topology(), seed, now);
        let view = self.views.newest();
        let process = &mut self.nodes[at];
        process.origin.start += 1;
        (process.node, process.view, process.paused_until_ms) = (Some(node), view, 0);
        self.remark(format!("node {at} starts"));
        self.coverage.note("node started");
    }

    /// Ends a process, without a word; what it gave to logs and store may still arrive.
    pub(crate) fn kill_node(&mut self, at: usize) {
        let origin = self.nodes[at].origin;
        self.nodes[at].kill();
        self.store.forget(origin);
        self.remark(format!("node {at} is killed"));
        for gateway in 0..self.gateways.len() {
            self.unlink(gateway, at);
        }
    }

    fn now_at(&self, at: usize) -> Now {
        let unix = self.now.unix.0.saturating_add_signed(self.nodes[at].skew_ms);
        Now {
            unix: UnixMs(unix),
            ..self.now
        }
    }

    /// Lets a node do what it can.
    pub(crate) fn run_node(&mut self, at: usize) {
        let now = self.now_at(at);
        let Some(node) = self.nodes[at].node.as_mut() else {
            return;
        };
        node.handle_now(now);
        self.give_facts(at);
        self.carry_out_all(at); // Rows that are thrown away with a slot are all that are left of it.
        self.follow_view(at);
        self.consume(at);
        for _ in 0..STEPS_PER_ROUND {
            self.bring_batches(at);
            let node = self.nodes[at].node.as_mut();
            let is_busy = node.is_some_and(Node::advance);
            self.carry_out_all(at);
            self.take_batches(at);
            if !is_busy {
                break;
            }
        }
    }

    fn give_facts(&mut self, at: usize) {
        let now_ms = self.now.mono_ms;
        let process = &mut self.nodes[at];
        let Some(node) = process.node.as_mut() else { return };
        while let Some(entry) = process
            .facts
            .first_entry()
            .filter(|entry| entry.key().0 <= now_ms)
        {
            match entry.remove() {
                Fact::Reported(report) => node.handle_report(report),
                Fact::End(id, version, end) => {
                    if process.taken.get(&id) == Some(&version) {
                        node.handle_caught_up(id, end);
                    }
                }
                Fact::Told(id, update) => node.handle_told(id, &update),
            }
        }
    }

    /// Releases what the view gives to others, and takes what it gives to this node.
    fn follow_view(&mut self, at: usize) {
        let process = &self.nodes[at];
        let is_stale =
            |(id, version): &(&PartitionId, &u64)| process.view.version_at(at, **id) != Some(**version);
        let stale: BTreeSet<_> = (process.taken.iter().filter(is_stale))
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            self.release(at, id);
        }
        let wanted = self.nodes[at].view.of(at);
        for (id, version) in wanted {
            let process = &self.nodes[at];
            // A slot is taken again when what was written for it before has come to an end.
            if !process.owns(id) && !self.store.has_rows(process.origin, id) {
                self.take(at, id, version);
            }
        }
    }

    fn release(&mut self, at: usize, id: PartitionId) {
        let throws_away = self.rng.percent(50);
        let process = &mut self.nodes[at];
        if let Some(node) = process.node.as_mut() {
            node.handle_slot_released(id);
        }
        process.taken.remove(&id);
        process.consumers.remove(&id);
        if throws_away {
            self.store.throw_away(process.origin, id);
        }
        self.remark(format!("node {at} releases {id:?}"));
        self.coverage.note("slot released");
    }

    fn take(&mut self, at: usize, id: PartitionId, version: u64) {
        let start = self.store.start(id);
        let owners = self.nodes.iter().filter(|node| node.owns(id)).count();
        self.coverage.note("slot taken");
        self.coverage.add("slot with two owners", owners as u64);
        let observes = start.observe_from.0 > 0;
        self.coverage
            .add("slot taken from the middle", u64::from(observes));
        let process = &mut self.nodes[at];
        process.taken.insert(id, version);
        if let Some(node) = process.node.as_mut() {
            node.handle_slot_taken(id, start);
        }
        for links in self.links.values_mut() {
            links.expect_nothing_of(at, id);
        }
        self.remark(format!("node {at} takes {id:?} from {start:?}"));
    }

    /// Brings some of what the logs have to who reads them.
    fn consume(&mut self, at: usize) {
        let ids: Vec<_> = self.nodes[at].consumers.keys().copied().collect();
        for id in ids {
            if self.rng.percent(self.plan.delays.consumer_percent) {
                self.consume_log(at, id);
            }
        }
    }

    fn consume_log(&mut self, at: usize, id: PartitionId) {
        let end = self.logs.end(id);
        let process = &mut self.nodes[at];
        let (Some(node), Some(consumer)) = (process.node.as_mut(), process.consumers.get_mut(&id)) else {
            return;
        };
        if std::mem::take(&mut consumer.owes_end) {
            let at_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.log);
            let version = process.taken[&id];
            process.told += 1;
            process
                .facts
                .insert((at_ms, process.told), Fact::End(id, version, end));
        }
        let mut next = consumer.next;
        if self.rng.percent(self.plan.rates.consumer_errs_percent) {
            next.0 = match self.rng.percent(70) {
                true => next.0.saturating_sub(self.rng.within(0..4)),
                false => next.0 + 1,
            };
            self.coverage.note("consumer went astray");
        }
        let count = 1 + self.rng.below(self.plan.delays.brought_at_once) as u64;
        let until = end.0.min(next.0 + count);
        if next.0 < until && node.wants_records(id) {
            let records = self.logs.records(id)[next.0 as usize..until as usize].to_vec();
            node.handle_consumed(id, next, records);
            consumer.next = Offset(until);
        }
    }

    fn carry_out_all(&mut self, at: usize) {
        while let Some(intention) = self.nodes[at].node.as_mut().and_then(Node::poll_intention) {
            self.carry_out(at, intention);
        }
    }

    fn carry_out(&mut self, at: usize, intention: Intention) {
        if self.is_traced && !matches!(intention, Intention::Apply { .. }) {
            self.remark(format!("node {at} intends {intention:?}"));
        }
        let origin = self.nodes[at].origin;
        match intention {
            Intention::Append { id, group } => self.append(origin, id, &group),
            Intention::Apply { rows, ticket } => {
                if self.is_traced {
                    self.remark(format!("node {at} writes {ticket:?} {rows:?}"));
                }
                self.apply(origin, rows, ticket);
            }
            Intention::Ask(ask) => self.ask(origin, ask),
            Intention::RetryStore => self.retry_store(origin),
            Intention::Consume { partition, from } => {
                let consumers = &mut self.nodes[at].consumers;
                let is_new = !consumers.contains_key(&partition);
                let consumer = consumers.entry(partition).or_insert(Consumer {
                    next: from,
                    owes_end: is_new,
                });
                consumer.next = from;
            }
            Intention::FindEnd { partition } => {
                if let Some(consumer) = self.nodes[at].consumers.get_mut(&partition) {
                    consumer.owes_end = true;
                    self.coverage.note("end asked for again");
                }
            }
            Intention::TellOwner { partition, update } => self.tell_owner(at, partition, update),
            Intention::CloseLink(id) => self.end_link(at, id),
            Intention::Note(Notice::LogDiffers { partition, offset }) => {
                self.violated(format!(
                    "node {at} finds another record at {offset:?} of {partition:?}"
                ));
            }
            Intention::Note(Notice::LinkRefused(_, reason)) => {
                self.violated(format!("node {at} refuses a link: {reason}"));
            }
            Intention::Note(_) => {}
            Intention::GivenUp(id) => self.violated(format!("node {at} gives up {id:?}")),
            Intention::ProbeLog
            | Intention::FlushRows
            | Intention::Persist
            | Intention::Prune(_)
            | Intention::TrimLog { .. } => {
                self.violated(format!("a node of a cluster intends {intention:?}"));
            }
        }
    }

    /// Passes on that a watermark moved, to who owns the partition as the node knows; now and then to nobody.
    fn tell_owner(&mut self, at: usize, id: PartitionId, update: StatusUpdate) {
        let owner = self.nodes[at].view.owner(id);
        let is_lost = self.rng.percent(self.plan.rates.telling_fails_percent);
        let Some(owner) = owner.filter(|_| !is_lost) else {
            return self.coverage.note("news of a watermark lost");
        };
        let at_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.link);
        let origin = self.nodes[owner].origin;
        self.coverage.note("news of a watermark for another node");
        self.tell(origin, at_ms, Fact::Told(id, update));
    }
}

/// So that a node sees some of what is to be done, and not all of it.
const STEPS_PER_ROUND: usize = 4;
