//! The whole router as one state machine: facts go in, intentions come out.
//!
//! [`Node`] decides what is taken, in which order it is logged, folded, answered and delivered, and what happens while a
//! disk is full or failed. It does nothing itself: a driver carries its [`Intention`]s out and reports what came of
//! them, as late and in whatever order the disks answer.
//!
//! Facts: a link came up, went down, brought a batch, gave one back or has room; a group was appended or not; a question
//! was answered; rows were applied; and `now`. Reading order, which is the way of a message:
//!
//! 1. `links` takes batches apart and keeps what waits for room; `peers` knows who is behind them; `receive` checks each record and refuses or passes it on.
//! 2. `group`: records on their way into the log. One group is appended while the next one is gathered.
//! 3. `pending`: appended records wait for their look-ups, which overlap, and are folded in log order. Their rows leave as one
//!    [`Intention::Apply`], and only then `publish` lets out answers and deliveries.
//! 4. `opens` and `pages`: sessions, and the stored messages of those that are behind.
//! 5. `questions`: status, history and conversations, each user's in order, none of them ahead of what came before it.
//! 6. `condition` and `clock`: what the node does while a disk does not, or the wall clock cannot be believed.
//! 7. `upkeep`: syncs of the store, and deletion of what is past retention.
//!
//! Invariants:
//! - `Sent` leaves after the group was reported as appended and was folded, and after the `Apply` of its rows.
//! - A question names the offset it must see ([`Ask::after`]): no answer misses rows that an earlier intention writes.
//! - A record that was appended is folded, whatever fails; only what was never appended is answered as refused.
//! - Every queue is bounded: by a named constant, by the configuration, or by the links there are.
//!
//! Deliberately absent: clocks, threads, files, sockets, log lines.

mod clock;
mod condition;
mod group;
mod intention;
mod links;
mod message_ids;
mod opens;
mod pages;
mod peers;
mod pending;
mod publish;
mod questions;
mod receive;
mod stats;
mod upkeep;

use std::collections::VecDeque;

use bytes::Bytes;
use router_records::row::CheckpointRow;
use wire_base::ids::{Offset, UnixMs};
use wire_link::FromRouter;
use wire_link::codec::BatchWriter;

pub use self::condition::{Condition, LogFault, StoreFault};
pub use self::group::{Appended, Group};
pub use self::intention::{
    Answer, Ask, AskId, InboxPage, Intention, NamedMessage, Notice, Question, Summary, UserConversation,
};
pub use self::stats::NodeStats;
pub use self::upkeep::{Prune, PruneStage, UpkeepConfig};

use self::group::{Appending, GroupBuilder};
use self::links::Links;
use self::message_ids::MessageIds;
use self::opens::Opens;
use self::pages::Pages;
use self::pending::Pending;
use self::questions::Questions;
use self::upkeep::Upkeep;
use crate::admission::{SendRate, SendRateConfig};
use crate::clock::Clock;
use crate::fold::Folds;
use crate::sessions::{LinkId, Sessions, SessionsConfig};
use crate::time::Now;

/// Bounds and delays of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Most records of one group; as many acks may come on top once they are due.
    pub group_records_max: usize,
    /// Bytes at which a group takes no more records.
    pub group_bytes_max: usize,
    /// How long an ack waits for something else to share its write and sync, in ms.
    pub ack_linger_ms: u64,
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

/// What a node starts from.
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
    config: NodeConfig,
    generation: u32,
    prune_floor: Offset,
    folds: Folds,
    sessions: Sessions,
    send_rate: SendRate,
    message_ids: MessageIds,
    links: Links,
    group: GroupBuilder,
    appending: Option<Appending>,
    pending: Pending,
    opens: Opens,
    pages: Pages,
    questions: Questions,
    condition: Condition,
    /// A disk was asked whether it works again, and has not answered.
    is_retrying: bool,
    clock: Clock,
    upkeep: Upkeep,
    /// Everything that the log had is folded.
    has_begun: bool,
    asks: intention::Asks,
    intentions: VecDeque<Intention>,
    /// The newest time given to a record, appended or not.
    stamped: UnixMs,
    now: Now,
    stats: NodeStats,
}

impl Node {
    /// Returns a node without links, which is to be given the records that the store lacks, and then [`Node::begin`].
    pub fn new(config: NodeConfig, start: NodeStart, now: Now) -> Self {
        Self {
            generation: start.generation,
            prune_floor: start.prune_floor,
            sessions: Sessions::new(config.sessions, start.generation),
            send_rate: SendRate::new(config.send_rate),
            message_ids: MessageIds::seeded(start.seed),
            links: Links::new(config.link_backlog_bytes),
            group: GroupBuilder::default(),
            appending: None,
            pending: Pending::new(start.applied),
            opens: Opens::default(),
            pages: Pages::default(),
            questions: Questions::default(),
            condition: Condition::Ready,
            is_retrying: false,
            clock: Clock::start(now, start.folds.stamp(UnixMs(0))),
            upkeep: Upkeep::new(
                config.upkeep,
                start.applied,
                start.segments,
                start.checkpoints,
                now,
            ),
            has_begun: false,
            asks: intention::Asks::default(),
            intentions: VecDeque::new(),
            stamped: start.folds.stamp(UnixMs(0)),
            folds: start.folds,
            now,
            stats: NodeStats::default(),
            config,
        }
    }

    /// Learns that everything the log had is folded: from now on records are taken.
    pub fn begin(&mut self, reading: Now) {
        let log_time = self.folds.stamp(UnixMs(0));
        let noted = self.upkeep.newest_checkpoint();
        self.clock = Clock::start(reading, log_time.max(noted));
        self.now = self.clock.now();
        self.upkeep.begin(self.prune_floor, log_time);
        self.has_begun = true;
        self.check_clock();
    }

    /// Learns of a new client. An id is never used again; what comes of one that is over is without effect.
    pub fn handle_link_up(&mut self, link: LinkId) {
        self.links.add(link);
    }

    /// Learns that a link is over, whoever ended it: its sessions end, and nobody waits for its answers.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.end_link(link);
    }

    /// Returns whether the driver shall read another batch from a link.
    pub fn wants_batch(&self, link: LinkId) -> bool {
        self.links.wants_batch(link)
    }

    /// Takes a batch of a link.
    ///
    /// Order: when [`Node::wants_batch`] says so. Its records have their turn in [`Node::advance`].
    pub fn handle_batch(&mut self, link: LinkId, batch: Bytes) {
        self.links.handle_batch(link, batch);
    }

    /// Does everything that the facts so far allow, each part within its bounds. Returns whether there is more that waits for
    /// nobody: then call it again at once.
    pub fn advance(&mut self) -> bool {
        self.settle_links();
        self.retry_condition();
        if self.has_begun {
            self.keep_up();
        }
        // What was just asked again most likely helps: nobody is refused in front of the answer.
        let is_busy = !self.is_retrying && self.receive();
        self.form_group();
        self.fold_pending();
        self.pump_pages();
        self.serve_questions();
        self.form_group(); // A status that was just looked up goes with what was just received.
        is_busy
    }

    /// Returns the next thing to do; to be done in this order where two name the same log, or the store.
    pub fn poll_intention(&mut self) -> Option<Intention> {
        self.intentions.pop_front()
    }

    /// Returns the next link with something to hand over: then [`Node::poll_batch`] until there is none.
    pub fn poll_link(&mut self) -> Option<LinkId> {
        self.links.poll_link()
    }

    /// Returns the next batch for a link, as long as it has room.
    pub fn poll_batch(&mut self, link: LinkId) -> Option<Bytes> {
        self.links.poll_batch(link)
    }

    /// Takes back a batch for which the link has no room now.
    pub fn handle_refused(&mut self, link: LinkId, batch: Bytes) {
        self.stats.link_refusals += 1;
        if self.links.handle_refused(link, batch) {
            self.sessions.handle_link_full(link);
        }
    }

    /// Learns that a link may have room again.
    pub fn handle_link_room(&mut self, link: LinkId) {
        self.links.handle_room(link);
    }

    /// Returns when [`Node::advance`] is due even without a fact, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.links.has_freed() {
            return Some(self.now.mono_ms);
        }
        let acks = self.group.acks_due_ms().filter(|_| self.can_form_group());
        let dues = [
            acks,
            self.condition.retry_ms(),
            self.pages.due_ms(),
            self.upkeep.due_ms(),
            self.clock_due_ms(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Returns whether nothing is under way: no record on its way into the log or into the folds, no row on its way into the
    /// store, no question.
    pub fn is_quiet(&self) -> bool {
        self.appending.is_none()
            && self.pending.is_empty()
            && self.pending.unapplied_bytes() == 0
            && self.asks.is_empty()
    }

    /// Returns the last record whose rows the store was given, when those are all that the log has: then the store, once it
    /// has them, is complete. `None` when that is not known.
    pub fn complete_through(&self) -> Option<Option<Offset>> {
        (self.is_quiet() && self.condition.takes_records()).then(|| self.pending.handed())
    }

    /// Returns whether messages are taken.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Returns what was counted, gauges included.
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            links: self.links.len() as u64,
            sessions: self.sessions.len() as u64,
            sessions_behind: self.sessions.behind() as u64,
            acks_waiting: self.sessions.acks_waiting() as u64,
            link_backlog: self.links.waiting_bytes() as u64,
            unapplied_bytes: self.pending.unapplied_bytes() as u64,
            store_lag: self.store_lag(),
            ..self.stats
        }
    }

    /// Returns how many records a start after a crash would replay.
    fn store_lag(&self) -> u64 {
        let next = self.pending.handed().map_or(0, |offset| offset.0 + 1);
        next.saturating_sub(self.upkeep.unpersisted().0)
    }

    /// Returns log time for a record that is made now.
    fn stamp(&mut self) -> UnixMs {
        self.stamped = self.stamped.max(self.folds.stamp(self.now.unix));
        self.stamped
    }

    /// Ends the sessions of a link, forgets what it asked, and closes it.
    fn end_link(&mut self, link: LinkId) {
        if self.links.remove(link) {
            self.sessions.handle_link_down(link);
            self.opens.remove_link(link);
            self.questions.remove_link(link);
            self.intentions.push_back(Intention::CloseLink(link));
        }
    }

    /// Tells the sessions of links that emptied, and seals what can go.
    fn settle_links(&mut self) {
        for link in self.links.take_freed() {
            let Some(updates) = self.links.take_held_updates(link) else {
                continue;
            };
            for update in updates {
                self.stats.status_updates += update.to.len() as u64;
                self.links.push(link, &FromRouter::StatusUpdate(update));
            }
            self.sessions.handle_link_room(link);
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.intentions.push_back(Intention::Note(notice));
    }
}

/// What the out-going side of a link is written with.
type Outgoing = BatchWriter;
