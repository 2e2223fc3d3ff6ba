//! What all partitions of a node use: links, clocks, budgets, and the way out.

use std::collections::VecDeque;

use wire_base::ids::UserId;
use wire_link::{FailedRecord, FromRouter, RejectedRecord, RequestId};

use super::NodeConfig;
use super::condition::{Condition, UNAVAILABLE};
use super::group::ReplyTo;
use super::intention::{Asks, Intention, Notice};
use super::links::Links;
use super::questions::Questions;
use super::stats::NodeStats;
use crate::admission::Refusal;
use crate::clock::Clock;
use crate::effects::StatusUpdate;
use crate::sessions::LinkId;
use crate::time::Now;
use crate::topology::{PartitionId, Topology};

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: NodeConfig,
    pub(super) topology: Topology,
    pub(super) links: Links,
    pub(super) questions: Questions,
    pub(super) condition: Condition,
    /// A disk was asked whether it works again, and has not answered.
    pub(super) is_retrying: bool,
    pub(super) clock: Clock,
    pub(super) asks: Asks,
    pub(super) intentions: VecDeque<Intention>,
    /// Bytes of rows that the store has not taken yet, of all partitions.
    pub(super) unapplied_bytes: usize,
    /// When the rows that were gathered are to be written, on the monotonic clock.
    pub(super) flush_due_ms: Option<u64>,
    /// Pages of inboxes that are being read, of all partitions.
    pub(super) pages_under_way: usize,
    /// Groups given to logs so far.
    pub(super) appends: u64,
    /// Links that a partition has just filled: the sessions of the others must stop too.
    pub(super) filled: Vec<LinkId>,
    /// Watermarks that moved, for the sessions of partitions.
    pub(super) told: VecDeque<(PartitionId, StatusUpdate)>,
    /// Partitions that cannot go on, to be released.
    pub(super) given_up: Vec<PartitionId>,
    /// Nothing waits for company any more.
    pub(super) is_stopping: bool,
    pub(super) now: Now,
    pub(super) stats: NodeStats,
}

impl Shared {
    /// Returns whether the store is near enough behind for more groups to be formed.
    pub(super) fn has_room_for_rows(&self) -> bool {
        self.unapplied_bytes <= self.config.unapplied_bytes_max
    }

    /// Returns whether another page may be read for a session.
    pub(super) fn has_room_for_pages(&self) -> bool {
        self.pages_under_way < self.config.pages_at_once
    }

    /// Returns what shows that a partition has done something.
    pub(super) fn trace(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let queued = [
            self.intentions.len(),
            self.told.len(),
            self.filled.len(),
            self.given_up.len(),
        ];
        let budgets = [
            self.unapplied_bytes,
            self.pages_under_way,
            self.links.waiting_bytes(),
        ];
        (queued, budgets, self.stats)
    }

    /// Has the rows written that were gathered for long enough.
    pub(super) fn flush_when_due(&mut self) {
        if self
            .flush_due_ms
            .take_if(|due_ms| *due_ms <= self.now.mono_ms)
            .is_some()
        {
            self.intentions.push_back(Intention::FlushRows);
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.intentions.push_back(Intention::Note(notice));
    }

    /// Refuses a send.
    pub(super) fn reject(&mut self, link: LinkId, request: RequestId, refusal: &Refusal) {
        self.stats.count_rejected(refusal.code);
        let record = RejectedRecord {
            request,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
            retry_after_ms: refusal.retry_after_ms,
        };
        self.links.push(link, &FromRouter::Rejected(record));
    }

    /// Refuses a question or a status.
    pub(super) fn fail(&mut self, link: LinkId, request: RequestId, refusal: &Refusal) {
        let record = FailedRecord {
            request,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
        };
        self.links.push(link, &FromRouter::Failed(record));
    }

    /// Refuses a question that was begun, so that the user's next one has its turn.
    pub(super) fn fail_question(
        &mut self,
        link: LinkId,
        request: RequestId,
        user: UserId,
        refusal: &Refusal,
    ) {
        self.fail(link, request, refusal);
        self.questions.finish(link, user);
    }

    /// Answers who waits for a record of which nobody will hear.
    pub(super) fn reply_unavailable(&mut self, reply_to: ReplyTo) {
        match reply_to {
            ReplyTo::Send(link, request) => self.reject(link, request, &UNAVAILABLE),
            ReplyTo::Status(link, request, user) => self.fail_question(link, request, user, &UNAVAILABLE),
            ReplyTo::Nobody => {}
        }
    }
}
