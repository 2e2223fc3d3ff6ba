//! Questions of clients: each user's in order, and none answered ahead of what its link had brought before.

mod conversations;
mod history;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire_base::code::Code;
use wire_base::ids::{ConversationId, UserId};
use wire_base::status::StatusOf;
use wire_link::{ConversationsRecord, FromRouter, HistoryRecord, RequestId, StatusRecord};

use super::condition::{Condition, NOT_OWNED, StoreFault};
use super::intention::Purpose;
use super::partition::Partition;
use super::{Answer, Node, Question, Shared};
use crate::admission::Refusal;
use crate::fair_queue::FairQueue;
use crate::membership::Conversation;
use crate::sessions::LinkId;
use crate::topology::PartitionId;
use conversations::Scan;
use status::StatusStage;

/// Questions that wait for their turn, and the users whose question is under way.
#[derive(Debug, Default)]
pub(super) struct Questions {
    links: BTreeMap<LinkId, OfLink>,
    turns: FairQueue<LinkId>,
    /// Questions to the store that are not answered.
    under_way: usize,
}

#[derive(Debug, Default)]
struct OfLink {
    queued: VecDeque<Queued>,
    /// A question of theirs is under way: the next one waits, so that it sees what this one did.
    busy: BTreeSet<UserId>,
}

#[derive(Debug)]
struct Queued {
    /// Who answers it.
    partition: PartitionId,
    /// Every group of it before this one must be folded: it may hold what the same client sent before.
    after_group: u64,
    asked: Asked,
}

/// What a client asked.
#[derive(Debug)]
enum Asked {
    Status(StatusRecord),
    History(HistoryRecord),
    Conversations(ConversationsRecord),
}

/// How far a question is.
#[derive(Debug)]
pub(super) enum Stage {
    Status(StatusRecord, StatusStage),
    History(HistoryRecord),
    Scan(Box<Scan>),
    Summaries(Box<Scan>),
}

/// What a step of a question leads to.
enum Step {
    /// The store is asked.
    Ask(Stage, Question),
    /// The answer.
    Answer(FromRouter),
    /// The record goes into the log, and the answer follows once it is folded.
    Logged,
}

impl Asked {
    fn request(&self) -> RequestId {
        match self {
            Self::Status(record) => record.request,
            Self::History(record) => record.request,
            Self::Conversations(record) => record.request,
        }
    }

    fn user(&self) -> UserId {
        match self {
            Self::Status(record) => record.user,
            Self::History(record) => record.user,
            Self::Conversations(record) => record.user,
        }
    }
}

impl Stage {
    fn of(&self) -> (RequestId, UserId) {
        match self {
            Self::Status(record, _) => (record.request, record.user),
            Self::History(record) => (record.request, record.user),
            Self::Scan(scan) | Self::Summaries(scan) => (scan.request(), scan.user()),
        }
    }
}

impl Questions {
    /// Returns whether a link may bring another question.
    pub(super) fn may_queue(&self, link: LinkId) -> bool {
        self.links
            .get(&link)
            .is_none_or(|of| of.queued.len() + of.busy.len() < QUESTIONS_PER_LINK_MAX)
    }

    /// Forgets a link; what it has under way is answered to nobody.
    pub(super) fn remove_link(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.turns.remove(link);
    }

    /// Learns that a user's question is answered.
    pub(super) fn finish(&mut self, link: LinkId, user: UserId) {
        if let Some(of) = self.links.get_mut(&link) {
            of.busy.remove(&user);
            if !of.queued.is_empty() {
                self.turns.insert(link);
            }
        }
    }

    /// Takes out what waits for a partition; what it waits for there is counted anew when the partition is taken again.
    fn take_queued_of(&mut self, partition: PartitionId) -> Vec<(LinkId, RequestId)> {
        let mut taken = Vec::new();
        for (link, of) in &mut self.links {
            let (gone, kept) = std::mem::take(&mut of.queued)
                .into_iter()
                .partition(|queued| queued.partition == partition);
            let gone: VecDeque<Queued> = gone;
            of.queued = kept;
            taken.extend(gone.iter().map(|queued| (*link, queued.asked.request())));
        }
        taken
    }

    fn push(&mut self, link: LinkId, queued: Queued) {
        self.links.entry(link).or_default().queued.push_back(queued);
        self.turns.insert(link);
    }

    /// Takes the first question of a link that waits for nothing, and marks its user busy. `is_folded` says whether everything
    /// that a question waits for is.
    fn pop(&mut self, link: LinkId, is_folded: impl Fn(&Queued) -> bool) -> Option<Queued> {
        let OfLink { queued, busy } = self.links.get_mut(&link)?;
        let mut waiting = BTreeSet::new();
        let at = queued.iter().position(|queued| {
            let user = queued.asked.user();
            let may = is_folded(queued) && !busy.contains(&user) && !waiting.contains(&user);
            waiting.insert(user);
            may
        })?;
        let queued = queued.remove(at)?;
        busy.insert(queued.asked.user());
        Some(queued)
    }
}

impl Node {
    pub(super) fn queue_status(&mut self, link: LinkId, record: StatusRecord) {
        let partition = match record.command.of {
            StatusOf::Message(_) => self.shared.topology.of_user(record.user),
            StatusOf::Seq(conversation, _) => self.shared.topology.of_conversation(conversation),
        };
        self.queue_question(link, partition, Asked::Status(record));
    }

    pub(super) fn queue_history(&mut self, link: LinkId, record: HistoryRecord) {
        let partition = self.shared.topology.of_conversation(record.conversation);
        self.queue_question(link, partition, Asked::History(record));
    }

    pub(super) fn queue_conversations(&mut self, link: LinkId, record: ConversationsRecord) {
        let partition = self.shared.topology.of_user(record.user);
        self.queue_question(link, partition, Asked::Conversations(record));
    }

    fn queue_question(&mut self, link: LinkId, id: PartitionId, asked: Asked) {
        let Some(partition) = self.partitions.get(&id).filter(|found| found.is_caught_up) else {
            self.shared.stats.not_owned += 1;
            return self.shared.fail(link, asked.request(), &NOT_OWNED);
        };
        let queued = Queued {
            partition: id,
            after_group: partition.next_group(),
            asked,
        };
        self.shared.questions.push(link, queued);
    }

    /// Begins questions, links in turn, as many as may be under way; answers let others begin.
    pub(super) fn serve_questions(&mut self) {
        // While records wait for a store that fails, nobody is answered as if they were not there; nor does anybody wait.
        let is_failing = matches!(
            self.shared.condition,
            Condition::StoreFull { .. } | Condition::StoreStopped { .. } | Condition::StoreFailed
        );
        let mut passed_over = 0;
        while passed_over < self.shared.questions.turns.len()
            && self.shared.questions.under_way < self.shared.config.pages_at_once
        {
            let Some(link) = self.shared.questions.turns.pop() else {
                break;
            };
            let partitions = &self.partitions;
            let is_folded = |queued: &Queued| match partitions.get(&queued.partition) {
                Some(partition) if is_failing && !partition.pending.is_empty() => true,
                Some(partition) => queued.after_group <= partition.oldest_open_group(),
                None => true,
            };
            let queued = match self.shared.links.may_owe(link) {
                true => self.shared.questions.pop(link, is_folded),
                false => None,
            };
            match queued {
                Some(queued) => {
                    self.begin_question(link, queued, is_failing);
                    passed_over = 0;
                }
                None => passed_over += 1,
            }
            let questions = &mut self.shared.questions;
            if questions.links.get(&link).is_some_and(|of| !of.queued.is_empty()) {
                questions.turns.insert(link);
            }
        }
    }

    fn begin_question(&mut self, link: LinkId, queued: Queued, is_failing: bool) {
        let Queued { partition, asked, .. } = queued;
        let (request, user) = (asked.request(), asked.user());
        match self.partitions.get_mut(&partition) {
            Some(partition) if is_failing && !partition.pending.is_empty() => {
                self.shared.fail_question(link, request, user, &UNREADABLE);
            }
            Some(partition) => partition.begin_question(&mut self.shared, link, asked),
            None => self.shared.fail_question(link, request, user, &NOT_OWNED),
        }
    }
}

impl Shared {
    /// Answers the questions that wait for a partition that is released.
    pub(super) fn drop_queued_questions(&mut self, partition: PartitionId) {
        for (link, request) in self.questions.take_queued_of(partition) {
            self.fail(link, request, &NOT_OWNED);
        }
    }

    /// Answers a question whose partition was released while it was under way.
    pub(super) fn drop_question(&mut self, link: LinkId, stage: &Stage) {
        self.questions.under_way -= 1;
        let (request, user) = stage.of();
        self.fail_question(link, request, user, &NOT_OWNED);
    }
}

impl Partition {
    fn begin_question(&mut self, shared: &mut Shared, link: LinkId, asked: Asked) {
        let (request, user) = (asked.request(), asked.user());
        let step = match asked {
            Asked::Status(record) => self.begin_status(shared, link, record),
            Asked::History(record) => Ok(self.begin_history(record)),
            Asked::Conversations(record) => self.begin_conversations(record),
        };
        self.take_step(shared, link, request, user, step);
    }

    /// Takes what the store answered to a question of a client.
    pub(super) fn handle_question_answered(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        stage: Stage,
        answer: Result<Answer, StoreFault>,
    ) {
        shared.questions.under_way -= 1;
        let (request, user) = stage.of();
        let step = match answer {
            Ok(answer) => self.continue_question(shared, link, stage, answer),
            Err(_) => {
                shared.stats.store_errors += 1;
                Err(UNREADABLE)
            }
        };
        self.take_step(shared, link, request, user, step);
    }

    fn continue_question(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        stage: Stage,
        answer: Answer,
    ) -> Result<Step, Refusal> {
        match stage {
            Stage::Status(record, stage) => self.continue_status(shared, link, record, stage, answer),
            Stage::History(record) => self.answer_history(shared, &record, answer),
            Stage::Scan(scan) => self.continue_scan(scan, answer),
            Stage::Summaries(scan) => self.answer_conversations(shared, &scan, answer),
        }
    }

    fn take_step(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        request: RequestId,
        user: UserId,
        step: Result<Step, Refusal>,
    ) {
        match step {
            Ok(Step::Ask(stage, question)) => {
                shared.questions.under_way += 1;
                self.ask(shared, Purpose::Question(link, stage), question);
            }
            Ok(Step::Answer(record)) => {
                shared.links.push(link, &record);
                shared.questions.finish(link, user);
            }
            Ok(Step::Logged) => {}
            Err(refusal) => {
                shared.fail_question(link, request, user, &refusal);
            }
        }
    }

    /// Returns the state of a conversation: what memory has is newer than what was read.
    fn state_of(&self, id: ConversationId, read: Option<Conversation>) -> Option<Conversation> {
        match self.folds.conversation(id) {
            Some(state) => state.cloned(),
            None => read,
        }
    }
}

/// Questions of one link that wait or are under way; over it nothing more is taken from the link.
const QUESTIONS_PER_LINK_MAX: usize = 256;

const UNREADABLE: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "the store cannot be read now; try again",
    retry_after_ms: None,
};
const NOT_A_MEMBER: Refusal = Refusal {
    code: Code::Forbidden,
    reason: "conversation_id: not a conversation of this user",
    retry_after_ms: None,
};
