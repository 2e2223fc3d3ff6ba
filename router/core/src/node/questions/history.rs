//! A page of a conversation, newest first.

use wire_link::{FromRouter, HistoryPageRecord, HistoryRecord, PAGE_BODY_BYTES_MAX};

use super::{NOT_A_MEMBER, Stage, Step, UNREADABLE};
use crate::admission::Refusal;
use crate::node::partition::Partition;
use crate::node::{Answer, Question, Shared};
use crate::receipts::watermarks;

impl Partition {
    pub(super) fn begin_history(&mut self, record: HistoryRecord) -> Step {
        let question = Question::History {
            conversation: record.conversation,
            before: record.before,
            limit: record.limit as usize,
            bytes_max: PAGE_BODY_BYTES_MAX,
        };
        Step::Ask(Stage::History(record), question)
    }

    pub(super) fn answer_history(
        &mut self,
        shared: &mut Shared,
        record: &HistoryRecord,
        answer: Answer,
    ) -> Result<Step, Refusal> {
        let Answer::History {
            state,
            receipts,
            messages: rows,
            mut more,
        } = answer
        else {
            return Err(UNREADABLE);
        };
        let HistoryRecord {
            request,
            user,
            conversation,
            ..
        } = *record;
        let state = self.state_of(conversation, state);
        let membership = state
            .map(|state| state.membership)
            .filter(|membership| membership.contains(user))
            .ok_or(NOT_A_MEMBER)?;
        let mut messages = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for row in rows {
            let message = row.message;
            bytes += message.body.len();
            if bytes > PAGE_BODY_BYTES_MAX && !messages.is_empty() {
                more = true;
                break;
            }
            messages.push(message);
        }
        let (delivered, read) = watermarks(&receipts, membership.watched_by(user));
        shared.stats.history_pages += 1;
        Ok(Step::Answer(FromRouter::HistoryPage(HistoryPageRecord {
            request,
            conversation,
            messages,
            more,
            delivered,
            read,
        })))
    }
}
