//! A page of a user's conversations, newest activity first.
//!
//! The store keeps a user's conversations by id, because activity moves with every message. So a page looks at all of
//! them, a step at a time, and keeps the newest; a user with very many waits for some steps, and nobody else does.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use uuid::Uuid;
use wire_base::body::{Content, EncodedBody};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, UnixMs, UserId};
use wire_link::{
    ConversationsPageRecord, ConversationsRecord, FromRouter, PAGE_BODY_BYTES_MAX, RequestId, SummaryRecord,
};

use super::{Stage, Step, UNREADABLE};
use crate::admission::Refusal;
use crate::node::partition::Partition;
use crate::node::{Answer, Question, Shared, Summary};
use crate::receipts::{unread, watermarks};

/// A page in the making.
#[derive(Debug)]
pub(in crate::node) struct Scan {
    record: ConversationsRecord,
    /// Where the page before ended.
    before: Option<Activity>,
    /// The newest conversations seen, one more than the page may hold.
    newest: BTreeSet<Activity>,
}

/// A conversation by its activity, as the page is ordered; as text it is `next`. The offset tells apart what came within
/// one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Activity {
    last_time: UnixMs,
    last_offset: Offset,
    conversation: ConversationId,
}

impl Scan {
    pub(super) fn request(&self) -> RequestId {
        self.record.request
    }

    pub(super) fn user(&self) -> UserId {
        self.record.user
    }

    fn offer(&mut self, activity: Activity) {
        if self.before.is_none_or(|before| activity < before) {
            self.newest.insert(activity);
        }
        if self.newest.len() > self.record.limit as usize + 1 {
            self.newest.pop_first();
        }
    }
}

impl Partition {
    pub(super) fn begin_conversations(&mut self, record: ConversationsRecord) -> Result<Step, Refusal> {
        let before = record.before.as_deref().map(Activity::from_text).transpose()?;
        let scan = Scan {
            record,
            before,
            newest: BTreeSet::new(),
        };
        Ok(scan_after(Box::new(scan), None))
    }

    /// Looks at some more conversations, and asks for those of the page when all were looked at.
    pub(super) fn continue_scan(&mut self, mut scan: Box<Scan>, answer: Answer) -> Result<Step, Refusal> {
        let Answer::Conversations(found) = answer else {
            return Err(UNREADABLE);
        };
        let last = found.last().map(|last| last.conversation);
        let is_whole = found.len() == SCAN_ROWS;
        for found in found {
            if let Some(state) = found.state {
                scan.offer(Activity {
                    last_time: state.last_time,
                    last_offset: state.last_offset,
                    conversation: found.conversation,
                });
            }
        }
        if is_whole {
            return Ok(scan_after(scan, last));
        }
        let wanted = scan
            .newest
            .iter()
            .rev()
            .map(|activity| activity.conversation)
            .collect();
        Ok(Step::Ask(Stage::Summaries(scan), Question::Summaries(wanted)))
    }

    pub(super) fn answer_conversations(
        &mut self,
        shared: &mut Shared,
        scan: &Scan,
        answer: Answer,
    ) -> Result<Step, Refusal> {
        let Answer::Summaries(summaries) = answer else {
            return Err(UNREADABLE);
        };
        // Some may have moved since they were chosen.
        let user = scan.record.user;
        let mut shown: Vec<_> = summaries
            .into_iter()
            .filter_map(|summary| shown_to(user, summary))
            .collect();
        shown.sort_by_key(|(activity, _)| Reverse(*activity));
        let mut conversations = Vec::new();
        let mut more = false;
        let mut bytes = 0;
        for (_, summary) in shown {
            bytes += summary.last_body.as_ref().map_or(0, EncodedBody::len);
            let is_cut = bytes > PAGE_BODY_BYTES_MAX && !conversations.is_empty();
            if is_cut || conversations.len() == scan.record.limit as usize {
                more = true;
                break;
            }
            conversations.push(summary);
        }
        shared.stats.history_pages += 1;
        Ok(Step::Answer(FromRouter::ConversationsPage(
            ConversationsPageRecord {
                request: scan.record.request,
                conversations,
                more,
            },
        )))
    }
}

/// Returns a conversation as one of its members sees it, by its activity.
fn shown_to(user: UserId, read: Summary) -> Option<(Activity, SummaryRecord)> {
    let state = read.state?; // As of the moment of the message and the watermarks.
    let with = state.target(user)?;
    let last = read.last.map(|row| row.message);
    let shown = last.filter(|message| matches!(message.body.decode().content, Content::Text(_)));
    let own = read.receipts.iter().find(|row| row.user == user);
    let (delivered, read_by_all) = watermarks(&read.receipts, state.membership.watched_by(user));
    let activity = Activity {
        last_time: state.last_time,
        last_offset: state.last_offset,
        conversation: read.conversation,
    };
    let summary = SummaryRecord {
        conversation: read.conversation,
        with,
        last_body: shown.map(|message| message.body),
        last_time: state.last_time,
        last_seq: state.last_seq,
        next: activity.to_text(),
        unread: unread(&state, own, user),
        delivered,
        read: read_by_all,
    };
    Some((activity, summary))
}

fn scan_after(scan: Box<Scan>, after: Option<ConversationId>) -> Step {
    let question = Question::Conversations {
        user: scan.record.user,
        after,
        limit: SCAN_ROWS,
    };
    Step::Ask(Stage::Scan(scan), question)
}

impl Activity {
    /// Shape: 64 lowercase hex digits.
    fn to_text(self) -> String {
        let Self {
            last_time: UnixMs(time),
            last_offset: Offset(offset),
            conversation,
        } = self;
        format!("{time:016x}{offset:016x}{}", conversation.get().as_simple())
    }

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let parse = || {
            if text.len() != TEXT_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
            Some(Self {
                last_time: UnixMs(number(&text[..16])?),
                last_offset: Offset(number(&text[16..32])?),
                conversation: ConversationId::new(Uuid::try_parse(&text[32..]).ok()?)?,
            })
        };
        parse().ok_or(BAD_BEFORE)
    }
}

/// Conversations looked at in one step.
const SCAN_ROWS: usize = 256;
/// Two numbers and a UUID.
const TEXT_DIGITS: usize = 64;
const BAD_BEFORE: Refusal = Refusal {
    code: Code::BadRequest,
    reason: "before: not the next of an earlier page",
    retry_after_ms: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_reads_back_and_sorts_like_the_activity() {
        let activity = |time, offset, id: u128| Activity {
            last_time: UnixMs(time),
            last_offset: Offset(offset),
            conversation: ConversationId::new(Uuid::from_u128(id)).unwrap(),
        };
        let ascending = [
            activity(0, 9, 1),
            activity(9, 8, 7),
            activity(9, 9, 7),
            activity(9, 10, 6),
            activity(10, 7, 6),
            activity(u64::MAX, 0, 1),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_text() < pair[1].to_text());
            assert_eq!(Activity::from_text(&pair[0].to_text()), Ok(pair[0]));
        }
    }

    #[test]
    fn what_is_no_next_is_refused() {
        let good = "000000000000000700000000000000080000000000000000000000000000000a";
        assert!(Activity::from_text(good).is_ok());
        for bad in [
            "",
            "x",
            &good[1..],
            &good.replace('a', "g"),
            &"0".repeat(64),
            &"é".repeat(32),
            &format!("+{}", &good[1..]),
        ] {
            assert_eq!(Activity::from_text(bad), Err(BAD_BEFORE), "{bad}");
        }
    }
}
