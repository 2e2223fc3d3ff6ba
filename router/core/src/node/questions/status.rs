//! A watermark that is to move: which message is meant, and may this user say so?

use router_records::log::{Input, LogRecord, StatusInput};
use wire_base::ids::{ConversationId, MessageId, Seq};
use wire_base::status::StatusOf;
use wire_link::{FromRouter, StatusRecord};

use super::{Stage, Step, UNREADABLE};
use crate::admission::{NOT_RECEIVED, Refusal, check_status, received};
use crate::fold::{Loaded, Lookup};
use crate::membership::Conversation;
use crate::node::condition::UNAVAILABLE;
use crate::node::group::ReplyTo;
use crate::node::partition::Partition;
use crate::node::{Answer, NamedMessage, Question, Shared};
use crate::sessions::LinkId;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum StatusStage {
    /// The messages of an id.
    Named,
    /// The state of the conversation.
    State(ConversationId, Seq),
    /// The newest message of another before a seq: almost always the first row; more only where the user named one of many
    /// own messages in a row.
    Place {
        conversation: ConversationId,
        before: Seq,
        is_with_oneself: bool,
        /// Index in [`OWN_ROWS_MAX`].
        step: usize,
    },
}

impl Partition {
    pub(super) fn begin_status(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        record: StatusRecord,
    ) -> Result<Step, Refusal> {
        if !self.takes_records(shared) {
            return Err(UNAVAILABLE);
        }
        match record.command.of {
            StatusOf::Message(message_id) => {
                let question = Question::Named {
                    message_id,
                    limit: CANDIDATES_MAX,
                };
                Ok(Step::Ask(Stage::Status(record, StatusStage::Named), question))
            }
            StatusOf::Seq(conversation, seq) => match self.folds.conversation(conversation) {
                Some(state) => {
                    let state = state.cloned();
                    self.find_place(link, record, state, conversation, seq)
                }
                None => {
                    let stage = Stage::Status(record, StatusStage::State(conversation, seq));
                    let question = Question::Lookup(Lookup::Conversation(conversation));
                    Ok(Step::Ask(stage, question))
                }
            },
        }
    }

    pub(super) fn continue_status(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        record: StatusRecord,
        stage: StatusStage,
        answer: Answer,
    ) -> Result<Step, Refusal> {
        match (stage, answer) {
            (StatusStage::Named, Answer::Named(named)) => self.log_named(shared, link, &record, named),
            (StatusStage::State(conversation, seq), Answer::Loaded(Loaded::Conversation(_, read))) => {
                let state = self.state_of(conversation, read);
                self.find_place(link, record, state, conversation, seq)
            }
            (
                StatusStage::Place {
                    conversation,
                    is_with_oneself,
                    step,
                    ..
                },
                Answer::Messages(rows),
            ) => {
                let found = rows
                    .iter()
                    .map(|row| &row.message)
                    .find(|message| message.sender != record.user || is_with_oneself);
                if let Some(message) = found {
                    return self.log_status(
                        shared,
                        link,
                        &record,
                        conversation,
                        message.seq,
                        message.message_id,
                    );
                }
                let before = match rows.last().map(|row| row.message.seq) {
                    Some(Seq(1)) => return Err(NOT_RECEIVED),
                    Some(seq) if step + 1 < OWN_ROWS_MAX.len() => seq,
                    // What came before is past retention, or far behind own messages: nobody is left to tell.
                    _ => return Ok(Step::Answer(FromRouter::Done(record.request))),
                };
                let stage = StatusStage::Place {
                    conversation,
                    before,
                    is_with_oneself,
                    step: step + 1,
                };
                Ok(look_before(record, stage))
            }
            _ => Err(UNREADABLE),
        }
    }

    fn log_named(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        record: &StatusRecord,
        named: Vec<NamedMessage>,
    ) -> Result<Step, Refusal> {
        let found = named.len();
        let candidates: Vec<_> = named
            .into_iter()
            .filter_map(|named| Some((named.index, self.state_of(named.index.conversation, named.state)?)))
            .collect();
        // Where inboxes have logs of their own, the state is written behind the message.
        let is_early = candidates.len() < found;
        let received = received(&candidates, record.user);
        let index = received.map_err(|refusal| if is_early { UNREADABLE } else { refusal })?;
        self.log_status(
            shared,
            link,
            record,
            index.conversation,
            index.seq,
            index.message_id,
        )
    }

    fn find_place(
        &mut self,
        _link: LinkId,
        record: StatusRecord,
        state: Option<Conversation>,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Step, Refusal> {
        let seq = check_status(state.as_ref(), record.user, seq)?;
        let is_with_oneself = state.is_some_and(|state| state.membership.is_of_one());
        let stage = StatusStage::Place {
            conversation,
            before: seq.next(),
            is_with_oneself,
            step: 0,
        };
        Ok(look_before(record, stage))
    }

    /// Puts a status into the next group; `Done` follows when it is folded.
    fn log_status(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        record: &StatusRecord,
        conversation: ConversationId,
        seq: Seq,
        message_id: MessageId,
    ) -> Result<Step, Refusal> {
        if !self.takes_records(shared) {
            return Err(UNAVAILABLE);
        }
        let input = StatusInput {
            user: record.user,
            device: record.device,
            conversation,
            status: record.command.status,
            seq,
            message_id,
        };
        let time = self.stamp(shared);
        let logged = LogRecord {
            time,
            input: Input::Status(input),
        };
        let reply_to = ReplyTo::Status(link, record.request, record.user);
        match shared.topology.of_conversation(conversation) {
            own if own == self.id => self.gather(logged, reply_to),
            other => self.send_elsewhere(shared, other, logged, reply_to),
        }
        Ok(Step::Logged)
    }
}

fn look_before(record: StatusRecord, stage: StatusStage) -> Step {
    let StatusStage::Place {
        conversation,
        before,
        step,
        ..
    } = stage
    else {
        unreachable!("only a place is looked for");
    };
    let question = Question::Messages {
        conversation,
        before: Some(before),
        limit: OWN_ROWS_MAX[step],
        bytes_max: OWN_BYTES_MAX,
    };
    Step::Ask(Stage::Status(record, stage), question)
}

/// Rows that are looked at, step by step, to get behind own messages; each step also ends at [`OWN_BYTES_MAX`].
const OWN_ROWS_MAX: [usize; 3] = [1, 64, 256];
/// Bounds what one status makes the router read.
const OWN_BYTES_MAX: usize = 128 * 1024;
/// Sends by others with the same message id that are looked at; a sender makes its ids unique.
const CANDIDATES_MAX: usize = 256;
