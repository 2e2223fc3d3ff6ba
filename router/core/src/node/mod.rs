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
//! appended or not; a log has records; a question was answered; rows were applied; and `now`. This file takes them; `step` has
//! the order of what is done then. Reading order, which is the way of a message:
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
//! 8. `report`: the facts of logs and stores, for a queue. `partitions`: which of them a step looks at. `shared`: what all of them use. `release`: the end of one. `start`: what a node begins with. `stats`: what it says of
//!    itself.
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
mod partitions;
mod peers;
mod pending;
mod publish;
mod questions;
mod receive;
mod release;
mod report;
mod shared;
mod start;
mod stats;
mod step;
mod upkeep;

use bytes::Bytes;
use router_records::log::LogRecord;
use wire_base::ids::Offset;
use wire_link::codec::BatchWriter;

pub use self::condition::{Condition, LogFault, StoreFault};
pub use self::group::{AppendId, Appended, Group, Offsets};
pub use self::intention::{
    Answer, ApplyTicket, Ask, AskId, InboxPage, Intention, NamedMessage, Notice, Question, Summary,
    UserConversation,
};
pub use self::partition::{Flushed, PartitionStart};
pub use self::report::Report;
pub use self::start::{NodeConfig, NodeStart};
pub use self::stats::NodeStats;
pub use self::upkeep::{Prune, UpkeepConfig};

use self::intake::Intake;
use self::message_ids::MessageIds;
use self::partition::Partition;
use self::partitions::Partitions;
use self::shared::Shared;
use self::upkeep::Upkeep;
use crate::admission::SendRate;
use crate::effects::StatusUpdate;
use crate::fold::{Folds, FoldsConfig};
use crate::sessions::{LinkId, Sessions};
use crate::topology::PartitionId;

/// The router. See the module.
///
/// Order: facts, then [`Node::advance`], then [`Node::poll_intention`] and [`Node::poll_link`] until there are none; again at
/// the latest at [`Node::poll_timeout`].
#[derive(Debug)]
pub struct Node {
    shared: Shared,
    partitions: Partitions,
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
        match self.partitions.get(&id) {
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

    /// Learns that the process is about to end: acks and devices that wait for company are logged at once.
    pub fn handle_stopping(&mut self) {
        self.shared.is_stopping = true;
        self.partitions.handle_stopping();
    }

    /// Returns whether messages are taken.
    pub fn condition(&self) -> Condition {
        self.shared.condition
    }
}

/// What the out-going side of a link is written with.
type Outgoing = BatchWriter;

#[cfg(test)]
mod tests;
