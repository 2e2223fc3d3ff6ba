//! A page of a user's conversations, newest activity first.
//!
//! The store keeps a user's conversations by id, because activity moves with every message. So a page looks at all of
//! them, a step at a time, and keeps the newest; a user with very many waits for some ticks, and nobody else does.

use std::collections::BTreeSet;

use router_core::prelog::Refusal;
use router_core::receipts::{peer, unread};
use router_core::sessions::LinkId;
use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};
use uuid::Uuid;
use wire_base::body::Content;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, Offset, Seq, UnixMs, UserId};
use wire_link::{ConversationsPageRecord, ConversationsRecord, FromRouter, RequestId, SummaryRecord};

use super::history::json_bytes;
use super::{OBJECT_BYTES, PAGE_BYTES_MAX, Read, Unanswered};
use crate::embedded::Router;
use crate::embedded::sessions::message_record;

/// A page in the making.
pub(in crate::embedded) struct Scan {
    record: ConversationsRecord,
    /// The newest conversations seen, one more than the page may hold.
    newest: BTreeSet<Activity>,
    /// The last conversation looked at.
    after: Option<ConversationId>,
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
    pub(super) fn new(record: ConversationsRecord) -> Self {
        Self {
            record,
            newest: BTreeSet::new(),
            after: None,
        }
    }

    pub(super) fn request(&self) -> RequestId {
        self.record.request
    }

    pub(super) fn user(&self) -> UserId {
        self.record.user
    }

    fn offer(&mut self, activity: Activity) {
        self.newest.insert(activity);
        if self.newest.len() > self.record.limit as usize + 1 {
            self.newest.pop_first();
        }
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Looks at some more conversations, and answers when all were looked at.
    pub(super) fn serve_conversations(&mut self, id: LinkId, mut scan: Box<Scan>) -> Result<(), Unanswered> {
        let before = scan
            .record
            .before
            .as_deref()
            .map(Activity::from_text)
            .transpose()?;
        let rows = self
            .store
            .user_conversations(scan.record.user, scan.after, SCAN_ROWS)?;
        for row in &rows {
            let Some(state) = self.conversation(row.conversation)? else {
                continue;
            };
            let activity = Activity {
                last_time: state.last_time,
                last_offset: state.last_offset,
                conversation: row.conversation,
            };
            if before.is_none_or(|before| activity < before) {
                scan.offer(activity);
            }
        }
        if let Some(last) = rows.last()
            && rows.len() == SCAN_ROWS
        {
            scan.after = Some(last.conversation);
            if let Some(link) = self.links.get_mut(id) {
                link.reads.push_front(Read::Conversations(scan));
            }
            return Ok(());
        }
        let page = self.conversations_page(&scan)?;
        self.answer_page(id, &FromRouter::ConversationsPage(page));
        Ok(())
    }

    fn conversations_page(&self, scan: &Scan) -> Result<ConversationsPageRecord, Unanswered> {
        let mut conversations = Vec::new();
        let mut next = None;
        let mut last = None;
        let mut bytes = 0;
        for activity in scan.newest.iter().rev() {
            let Some((summary, summary_bytes)) = self.summary(scan.record.user, activity.conversation)?
            else {
                continue;
            };
            bytes += summary_bytes;
            let is_cut = bytes > PAGE_BYTES_MAX && !conversations.is_empty();
            if is_cut || conversations.len() == scan.record.limit as usize {
                next = last.map(|activity: &Activity| activity.to_text());
                break;
            }
            conversations.push(summary);
            last = Some(activity);
        }
        Ok(ConversationsPageRecord {
            request: scan.record.request,
            conversations,
            next,
        })
    }

    /// Returns a conversation as one of its members sees it, and what that takes as JSON.
    fn summary(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<(SummaryRecord, usize)>, StoreError> {
        let Some(state) = self.conversation(conversation)? else {
            return Ok(None);
        };
        let Some(peer) = peer(&state, user) else {
            return Ok(None);
        };
        let own = self.store.receipt(conversation, user)?;
        let of_peer = self.store.receipt(conversation, peer)?;
        let last = self
            .store
            .message(conversation, state.last_seq)?
            .map(message_record);
        let shown = last.filter(|message| matches!(message.body.decode().content, Content::Text(_)));
        let bytes = shown.as_ref().map_or(OBJECT_BYTES, json_bytes);
        let (delivered, read) = of_peer.map_or((Seq(0), Seq(0)), |row| (row.delivered, row.read));
        let summary = SummaryRecord {
            conversation,
            peer,
            last_body: shown.map(|message| message.body),
            last_time: state.last_time,
            last_seq: state.last_seq,
            unread: unread(&state, own.as_ref(), user),
            delivered,
            read,
        };
        Ok(Some((summary, bytes)))
    }
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
