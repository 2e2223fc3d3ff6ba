//! The whole router as one state machine: facts go in, intentions come out.
//!
//! [`Node`] decides what is taken, in which order it is logged, folded, answered and delivered, and what happens while a
//! disk is full or failed. It does nothing itself: a driver carries its [`Intention`]s out and reports what came of
//! them, as late and in whatever order the disks answer.
//!
//! A [`partition`](crate::topology::PartitionId) is one log with the state of all that its records tell of. The embedded
//! driver has one, which holds everything; a node of a cluster takes and releases one for each slot that it owns.
//!
//! Facts: a link came up, went down, brought a batch, gave one back or has room; a slot was taken or released; a group was
//! appended or not; a log has records; a question was answered; rows were applied; and `now`. Reading order, which is the
//! way of a message:
//!
//! 1. `links` takes batches apart and keeps what waits for room; `peers` knows who is behind them; `receive` checks each record
//!    and refuses or passes it on to the `partition` that it belongs to.
//! 2. `group`: records on their way into the log. One group is appended while the next one is gathered. `intake` brings them
//!    into the order of the log among those of others.
//! 3. `pending`: appended records wait for their look-ups, which overlap, and are folded in log order. Their rows leave as one
//!    [`Intention::Apply`], and only then `publish` lets out answers and deliveries.
//!    What a record does to partitions with logs of their own (a message to inboxes, an ack to a conversation) goes through
//!    `outbox` into those logs, where it is a record like any other.
//! 4. `opens` and `pages`: sessions, and the stored messages of those that are behind.
//! 5. `questions`: status, history and conversations, each user's in order, none of them ahead of what came before it.
//! 6. `condition` and `clock`: what the node does while a disk does not, or the wall clock cannot be believed.
//! 7. `upkeep`: syncs of the store, and deletion of what is past retention; embedded only.
//! 8. `shared`: what all partitions use. `release`: the end of one.
//!
//! Order of facts about a slot of a cluster:
//! - [`Node::handle_slot_taken`], with what the store said after every earlier [`Intention::Apply`] of this process for that
//!   slot was written or thrown away. [`Intention::Consume`] follows.
//! - [`Node::handle_consumed`], again and again, when [`Node::wants_records`] says so, ascending from where the newest
//!   `Consume` said; and once, at any time, [`Node::handle_caught_up`] with where the log ended, asked after the slot was
//!   taken; again after each [`Intention::FindEnd`].
//! - [`Node::handle_appended`] once for each [`Intention::Append`], before or after the consumer brings its records: what the
//!   consumer brings waits for the report of the own group under way.
//! - [`Node::handle_slot_released`]. Answers to what was asked before it may still come, and change nothing.
//!
//! What a driver of a cluster has to keep to:
//! - A group is in its log as a whole, in order and without gaps of its own; of one that failed, a part from its beginning may
//!   be, also later. Groups of different [`AppendId::to`] and of different owners may overtake each other.
//! - The `Apply`s of a partition are written and reported in their order; in each, a row is not written before those in front
//!   of it, and [`ApplyTicket::flushed`] last. Of one that was released they may be thrown away, but then with every one behind
//!   it, those that were not polled yet among them. Rows carry the time stamp of [`ApplyTicket::through`]: where an owner that does
//!   not know that it lost the slot writes late, the newer one stays.
//! - A read sees every row of an `Apply` of the same partition up to [`Ask::after`], and every row that any node was reported as
//!   written.
//! - The store keeps [`Flushed`] of each partition for as long as dedupe goes back, so that the next owner finds where to begin
//!   ([`PartitionStart`]).
//!
//! Invariants:
//! - `Sent` leaves after the group was reported as appended and was folded, and after the `Apply` of its rows.
//! - A question names the offset it must see ([`Ask::after`]): no answer misses rows that an earlier intention writes.
//! - A record that was appended is folded, whatever fails; only what was never appended is answered as refused. (A cluster's
//!   node answers what it cannot know of, and the next owner of the log folds it.)
//! - A record is folded when every record before it is.
//! - An effect on another partition leaves when the store has the rows of its record. The state of a conversation, and
//!   [`Flushed`], are written when every effect up to there is in its log.
//! - Every queue is bounded: by a named constant, by the configuration, or by the links there are.
//!
//! Deliberately absent: clocks, threads, files, sockets, log lines.

mod clock;
mod condition;
mod group;
mod intake;
mod intention;
mod links;
mod message_ids;
mod opens;
mod outbox;
mod pages;
mod partition;
mod peers;
mod pending;
mod publish;
mod questions;
mod receive;
mod release;
mod shared;
mod stats;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use router_records::log::LogRecord;
use router_records::row::CheckpointRow;
use wire_base::ids::{Offset, UnixMs};
use wire_link::FromRouter;
use wire_link::codec::BatchWriter;

pub use self::condition::{Condition, LogFault, StoreFault};
pub use self::group::{AppendId, Appended, Group, Offsets};
pub use self::intention::{
    Answer, ApplyTicket, Ask, AskId, InboxPage, Intention, NamedMessage, Notice, Question, Summary,
    UserConversation,
};
pub use self::partition::{Flushed, PartitionStart};
pub use self::stats::NodeStats;
pub use self::upkeep::{Prune, UpkeepConfig};

use self::intake::Intake;
use self::intention::Asks;
use self::links::Links;
use self::message_ids::MessageIds;
use self::partition::{CatchUp, Partition};
use self::questions::Questions;
use self::shared::Shared;
use self::upkeep::Upkeep;
use crate::admission::{SendRate, SendRateConfig};
use crate::clock::Clock;
use crate::effects::StatusUpdate;
use crate::fold::{Folds, FoldsConfig};
use crate::sessions::{LinkId, Sessions, SessionsConfig};
use crate::time::Now;
use crate::topology::{PartitionId, Topology};

/// Bounds and delays of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Most records of one group; as many acks may come on top once they are due.
    pub group_records_max: usize,
    /// Bytes at which a group takes no more records.
    pub group_bytes_max: usize,
    /// Bytes that may wait for room in a link before its sessions get no more. Over twice of it, nothing is read from it.
    pub link_backlog_bytes: usize,
    /// Most records taken from one link in one step.
    pub link_records_per_step: usize,
    /// Most pages that are read at once for sessions that are behind, and as many questions of clients.
    pub pages_at_once: usize,
    /// Bytes of rows that the store has not taken yet, over which no more groups are formed.
    pub unapplied_bytes_max: usize,
    /// How fast a user may send.
    pub send_rate: SendRateConfig,
    /// Sessions.
    pub sessions: SessionsConfig,
    /// Retention, and syncs of the store.
    pub upkeep: UpkeepConfig,
}

/// What a node of one partition starts from.
#[derive(Debug)]
pub struct NodeStart {
    /// The folds, as of the last record that was observed.
    pub folds: Folds,
    /// Creation number of the store, which positions carry.
    pub generation: u32,
    /// Everything in inboxes below this may be gone.
    pub prune_floor: Offset,
    /// The last record whose rows the store holds, surely.
    pub applied: Option<Offset>,
    /// Segments of the log that have a record, oldest first: its offset and log time.
    pub segments: Vec<(Offset, UnixMs)>,
    /// The checkpoints of the store, oldest first.
    pub checkpoints: Vec<CheckpointRow>,
    /// A random number, another one for each process.
    pub seed: u64,
}

/// The router. See the module.
///
/// Order: facts, then [`Node::advance`], then [`Node::poll_intention`] and [`Node::poll_link`] until there are none; again at
/// the latest at [`Node::poll_timeout`].
#[derive(Debug)]
pub struct Node {
    shared: Shared,
    partitions: BTreeMap<PartitionId, Partition>,
    /// Whose turn it is to read pages.
    first_to_read: PartitionId,
    /// What a partition's folds are made with.
    folds: FoldsConfig,
    /// How often a partition was taken.
    tenures: u64,
    send_rate: SendRate,
    message_ids: MessageIds,
    upkeep: Upkeep,
    /// Everything that the log had is folded: [`Node::begin`].
    has_begun: bool,
}

impl Node {
    /// Returns a node of one partition and without links, which is to be given the records that the store lacks, and then
    /// [`Node::begin`].
    pub fn new(config: NodeConfig, start: NodeStart, now: Now) -> Self {
        let log_time = start.folds.stamp(UnixMs(0));
        let clock = Clock::start(now, log_time);
        let upkeep = Upkeep::new(
            config.upkeep,
            start.applied,
            start.segments,
            start.checkpoints,
            now,
        );
        let unflushed = start.applied.map_or(Offset(0), |applied| Offset(applied.0 + 1));
        let of_partition = PartitionStart {
            generation: start.generation,
            prune_floor: start.prune_floor,
            flushed: start.applied,
            observe_from: unflushed,
            log_time,
        };
        let mut partition = Partition::new(
            PartitionId::One,
            0,
            start.folds,
            Sessions::new(config.sessions, start.generation),
            Intake::new(unflushed, unflushed),
            &of_partition,
        );
        (partition.is_caught_up, partition.catch_up) = (true, CatchUp::Done);
        Self {
            partitions: BTreeMap::from([(PartitionId::One, partition)]),
            ..Self::without_partitions(
                config,
                Topology::OnePartition,
                FoldsConfig::default(),
                clock,
                upkeep,
                start.seed,
                now,
            )
        }
    }

    /// Returns a node of a cluster, which owns nothing yet. `seed` is a random number, another one for each process; `folds`
    /// bounds the memory of one partition.
    ///
    /// The clock is believed as it is.
    pub fn of_slots(config: NodeConfig, folds: FoldsConfig, topology: Topology, seed: u64, now: Now) -> Self {
        let clock = Clock::start(now, UnixMs(0));
        let upkeep = Upkeep::new(config.upkeep, None, Vec::new(), Vec::new(), now);
        let mut node = Self::without_partitions(config, topology, folds, clock, upkeep, seed, now);
        node.shared.check_clock();
        node
    }

    fn without_partitions(
        config: NodeConfig,
        topology: Topology,
        folds: FoldsConfig,
        clock: Clock,
        upkeep: Upkeep,
        seed: u64,
        now: Now,
    ) -> Self {
        Self {
            shared: Shared {
                topology,
                links: Links::new(config.link_backlog_bytes),
                questions: Questions::default(),
                condition: Condition::Ready,
                is_retrying: false,
                is_stopping: false,
                clock,
                asks: Asks::default(),
                intentions: VecDeque::new(),
                unapplied_bytes: 0,
                pages_under_way: 0,
                appends: 0,
                filled: Vec::new(),
                told: VecDeque::new(),
                given_up: Vec::new(),
                now,
                stats: NodeStats::default(),
                config,
            },
            partitions: BTreeMap::new(),
            first_to_read: PartitionId::One,
            folds,
            tenures: 0,
            send_rate: SendRate::new(config.send_rate),
            message_ids: MessageIds::seeded(seed),
            upkeep,
            has_begun: false,
        }
    }

    /// Learns that everything the one log had is folded: from now on records are taken.
    pub fn begin(&mut self, reading: Now) {
        let Some(partition) = self.partitions.get(&PartitionId::One) else {
            return;
        };
        let log_time = partition.folds.stamp(UnixMs(0));
        let noted = self.upkeep.newest_checkpoint();
        self.shared.clock = Clock::start(reading, log_time.max(noted));
        self.shared.now = self.shared.clock.now();
        self.upkeep.begin(partition.prune_floor, log_time);
        self.has_begun = true;
        self.shared.check_clock();
    }

    /// Learns that a slot is this node's from now on. Its log is asked for ([`Intention::Consume`]), and what concerns it is
    /// served once [`Node::handle_caught_up`] has said where that ends and it is folded up to there; hellos wait for that.
    ///
    /// Order: not while it is owned already; that changes nothing.
    pub fn handle_slot_taken(&mut self, id: PartitionId, start: PartitionStart) {
        if self.partitions.contains_key(&id) {
            return;
        }
        self.tenures += 1;
        let folds = Folds::starting_at(self.folds, self.shared.topology, start.generation, start.log_time);
        let mut sessions = Sessions::new(self.shared.config.sessions, start.generation);
        self.shared
            .links
            .full()
            .for_each(|link| sessions.handle_link_full(link));
        let unflushed = start.flushed.map_or(Offset(0), |flushed| Offset(flushed.0 + 1));
        let intake = Intake::new(start.observe_from, unflushed);
        let partition = Partition::new(id, self.tenures, folds, sessions, intake, &start);
        self.partitions.insert(id, partition);
        self.shared.intentions.push_back(Intention::Consume {
            partition: id,
            from: start.observe_from,
        });
    }

    /// Learns that a slot is another node's, or nobody's. Whoever waits for something of it is answered, its sessions end and are
    /// told so (a gateway that knows the next owner has announced them there), and its memory goes. What its log already has is for the next owner to fold.
    pub fn handle_slot_released(&mut self, id: PartitionId) {
        if let Some(partition) = self.partitions.remove(&id) {
            partition.release(&mut self.shared);
        }
    }

    /// Returns whether a slot was taken and not released since.
    pub fn owns(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    /// Returns whether records of a log are to be brought now.
    pub fn wants_records(&self, id: PartitionId) -> bool {
        self.partitions
            .get(&id)
            .is_some_and(|partition| partition.wants_records(&self.shared))
    }

    /// Takes records that a log has, from offset `first` on: at a start of the embedded driver those whose rows the store lacks,
    /// in a cluster all of them.
    ///
    /// Order: ascending, when [`Node::wants_records`] says so. Records that are known already are compared and dropped; what
    /// comes without those before it is dropped, and [`Intention::Consume`] says where to go on.
    pub fn handle_consumed(&mut self, id: PartitionId, first: Offset, records: Vec<LogRecord>) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.handle_consumed(&mut self.shared, first, records);
        }
    }

    /// Learns where a log ended (the offset of its next record), asked after the slot was taken or after [`Intention::FindEnd`].
    pub fn handle_caught_up(&mut self, id: PartitionId, end: Offset) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.handle_caught_up(&mut self.shared, end);
        }
    }

    /// Learns that a group is in its log and durable, or not.
    ///
    /// Errors: `NoSpace`: nothing of it is in the log. `Failed`: it may be, all or in part; in a cluster the consumer tells.
    pub fn handle_appended(&mut self, id: AppendId, outcome: Result<Appended, LogFault>) {
        if let Ok(appended) = &outcome {
            self.note_log(id, appended);
        }
        if let Some(partition) = self.partitions.get_mut(&id.from()) {
            partition.handle_appended(&mut self.shared, id, outcome);
        }
    }

    /// Learns that a watermark moved in a conversation of another node: what its [`Intention::TellOwner`] said. Who does not own
    /// the partition any more passes nothing on: such news may be lost.
    pub fn handle_told(&mut self, id: PartitionId, update: &StatusUpdate) {
        match self.partitions.get_mut(&id) {
            Some(partition) => partition.tell(&mut self.shared, update),
            None => self.shared.stats.not_owned += 1,
        }
    }

    /// Takes the answer to a question; one to a question that nobody waits for any more is dropped.
    ///
    /// Errors: the store could not be read. Whoever asked is told, or waits and asks again.
    pub fn handle_answer(&mut self, id: AskId, answer: Result<Answer, StoreFault>) {
        let Some((partition, purpose)) = self.shared.asks.take(id) else {
            return;
        };
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.handle_answer(&mut self.shared, purpose, answer);
        }
    }

    /// Learns that the store has taken the rows of an [`Intention::Apply`].
    ///
    /// Errors: the rows wait in the driver, in their order, until [`Intention::RetryStore`]; then they are reported here.
    pub fn handle_applied(&mut self, ticket: ApplyTicket) {
        let owned = self.partitions.get_mut(&ticket.partition);
        // What was released has given its share back.
        if let Some(partition) = owned.filter(|partition| partition.tenure == ticket.tenure) {
            partition.handle_applied(&mut self.shared, ticket);
        }
    }

    /// Learns that the store could not take rows. See [`Node::handle_applied`].
    pub fn handle_apply_failed(&mut self, fault: StoreFault) {
        self.shared.handle_store_fault(fault);
    }

    /// Learns of a new client. An id is never used again; what comes of one that is over is without effect.
    pub fn handle_link_up(&mut self, link: LinkId) {
        self.shared.links.add(link);
    }

    /// Learns that a link is over, whoever ended it: its sessions end, and nobody waits for its answers.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.end_link(link);
    }

    /// Returns whether the driver shall read another batch from a link.
    pub fn wants_batch(&self, link: LinkId) -> bool {
        self.shared.links.wants_batch(link)
    }

    /// Takes a batch of a link.
    ///
    /// Order: when [`Node::wants_batch`] says so. Its records have their turn in [`Node::advance`].
    pub fn handle_batch(&mut self, link: LinkId, batch: Bytes) {
        self.shared.links.handle_batch(link, batch);
    }

    /// Does everything that the facts so far allow, each part within its bounds. Returns whether there is more that waits for
    /// nobody: then call it again at once.
    pub fn advance(&mut self) -> bool {
        self.settle_partitions();
        self.settle_links();
        self.retry_condition();
        if self.has_begun {
            self.keep_up();
        }
        // What was just asked again most likely helps: nobody is refused in front of the answer.
        let is_busy = !self.shared.is_retrying && self.receive();
        for partition in self.partitions.values_mut() {
            partition.form_group(&mut self.shared);
            partition.fold_pending(&mut self.shared);
        }
        self.settle_partitions();
        self.pump_pages();
        self.serve_questions();
        for partition in self.partitions.values_mut() {
            partition.pump_outbox(&mut self.shared);
            partition.form_group(&mut self.shared); // A status that was just looked up goes with what was just received.
        }
        self.settle_partitions();
        is_busy
    }

    /// Returns the next thing to do; to be done in this order where two name the same log, or the store.
    pub fn poll_intention(&mut self) -> Option<Intention> {
        self.shared.intentions.pop_front()
    }

    /// Returns the next link with something to hand over: then [`Node::poll_batch`] until there is none.
    pub fn poll_link(&mut self) -> Option<LinkId> {
        self.shared.links.poll_link()
    }

    /// Returns the next batch for a link, as long as it has room.
    pub fn poll_batch(&mut self, link: LinkId) -> Option<Bytes> {
        self.shared.links.poll_batch(link)
    }

    /// Takes back a batch for which the link has no room now.
    pub fn handle_refused(&mut self, link: LinkId, batch: Bytes) {
        self.shared.stats.link_refusals += 1;
        if self.shared.links.handle_refused(link, batch) {
            self.stop_sessions(link);
        }
    }

    /// Learns that a link may have room again.
    pub fn handle_link_room(&mut self, link: LinkId) {
        self.shared.links.handle_room(link);
    }

    /// Returns when [`Node::advance`] is due even without a fact, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.shared.links.has_freed() {
            return Some(self.shared.now.mono_ms);
        }
        let upkeep = self.has_begun.then(|| self.upkeep.due_ms()).flatten();
        let dues = [self.shared.condition.retry_ms(), upkeep, self.clock_due_ms()];
        let of_partitions = self.partitions.values();
        let of_partitions = of_partitions.filter_map(|partition| partition.due_ms(&self.shared));
        dues.into_iter().flatten().chain(of_partitions).min()
    }

    /// Learns that the process is about to end: acks and devices that wait for company are logged at once.
    pub fn handle_stopping(&mut self) {
        self.shared.is_stopping = true;
    }

    /// Returns whether nothing is under way: no record on its way into the log or into the folds, no row on its way into the
    /// store, no question; and before the end of the process nothing that waits for company.
    pub fn is_quiet(&self) -> bool {
        if self.shared.is_stopping && !self.partitions.values().all(Partition::has_logged_all) {
            return false;
        }
        self.partitions.values().all(Partition::is_quiet)
            && self.shared.unapplied_bytes == 0
            && self.shared.asks.is_empty()
    }

    /// Returns whether every record that was appended or consumed is folded.
    pub fn is_folded(&self) -> bool {
        self.partitions
            .values()
            .all(|partition| partition.pending.is_empty())
    }

    /// Returns the last record of the one log whose rows the store was given, when those are all that the log has: then the
    /// store, once it has them, is complete. `None` when that is not known.
    pub fn complete_through(&self) -> Option<Option<Offset>> {
        (self.is_quiet() && self.shared.condition.takes_records()).then(|| self.handed())
    }

    /// Returns whether messages are taken.
    pub fn condition(&self) -> Condition {
        self.shared.condition
    }

    /// Returns what was counted, gauges included.
    pub fn stats(&self) -> NodeStats {
        let sum = |of: fn(&Sessions) -> usize| {
            let sessions = self.partitions.values().map(|partition| &partition.sessions);
            sessions.map(of).sum::<usize>() as u64
        };
        NodeStats {
            partitions: self.partitions.len() as u64,
            links: self.shared.links.len() as u64,
            sessions: sum(Sessions::len),
            sessions_behind: sum(Sessions::behind),
            acks_waiting: sum(Sessions::acks_waiting),
            link_backlog: self.shared.links.waiting_bytes() as u64,
            unapplied_bytes: self.shared.unapplied_bytes as u64,
            store_lag: self.store_lag(),
            ..self.shared.stats
        }
    }

    /// Returns how many records of the one log a start after a crash would replay.
    fn store_lag(&self) -> u64 {
        let next = self.handed().map_or(0, |offset| offset.0 + 1);
        next.saturating_sub(self.upkeep.unpersisted().0)
    }

    /// Returns the last record of the one log whose rows the store was given.
    fn handed(&self) -> Option<Offset> {
        let alone = self.partitions.get(&PartitionId::One);
        alone.and_then(|partition| partition.pending.handed())
    }

    /// Ends the sessions of a link, forgets what it asked, and closes it.
    fn end_link(&mut self, link: LinkId) {
        if self.shared.links.remove(link) {
            for partition in self.partitions.values_mut() {
                partition.sessions.handle_link_down(link);
                partition.opens.remove_link(link);
            }
            self.shared.questions.remove_link(link);
            self.shared.intentions.push_back(Intention::CloseLink(link));
        }
    }

    /// Tells the sessions of links that emptied, and seals what can go.
    fn settle_links(&mut self) {
        for link in self.shared.links.take_freed() {
            let Some(updates) = self.shared.links.take_held_updates(link) else {
                continue;
            };
            for update in updates {
                self.shared.stats.status_updates += update.to.len() as u64;
                self.shared.links.push(link, &FromRouter::StatusUpdate(update));
            }
            for partition in self.partitions.values_mut() {
                partition.sessions.handle_link_room(link);
            }
        }
    }

    /// Stops the sessions of a link that is full.
    fn stop_sessions(&mut self, link: LinkId) {
        for partition in self.partitions.values_mut() {
            partition.sessions.handle_link_full(link);
        }
    }

    /// Asks for pages of sessions that are behind, partitions in turn: there are only so many at once for all of them.
    fn pump_pages(&mut self) {
        let first = self.first_to_read;
        for (_, partition) in self.partitions.range_mut(first..) {
            partition.pump_pages(&mut self.shared);
        }
        for (_, partition) in self.partitions.range_mut(..first) {
            partition.pump_pages(&mut self.shared);
        }
        let mut next = self.partitions.range((Bound::Excluded(first), Bound::Unbounded));
        self.first_to_read = next.next().map_or(PartitionId::One, |(id, _)| *id);
    }

    /// Does what a partition cannot do by itself: what it found out about a link is news for the others, and one that cannot
    /// go on is released.
    fn settle_partitions(&mut self) {
        while let Some(link) = self.shared.filled.pop() {
            // It may be gone by now, and another one in its place.
            if self.shared.links.is_full(link) {
                self.stop_sessions(link);
            }
        }
        while let Some((id, update)) = self.shared.told.pop_front() {
            match self.partitions.get_mut(&id) {
                Some(partition) => partition.tell(&mut self.shared, &update),
                None => self.shared.intentions.push_back(Intention::TellOwner {
                    partition: id,
                    update,
                }),
            }
        }
        while let Some(id) = self.shared.given_up.pop() {
            self.handle_slot_released(id);
            self.shared.intentions.push_back(Intention::GivenUp(id));
        }
    }
}

/// What the out-going side of a link is written with.
type Outgoing = BatchWriter;

#[cfg(test)]
mod tests;
