//! Pages of history and of conversations: for members only, without gaps, and no older than what was known.

use std::collections::{BTreeMap, BTreeSet};

use wire_base::code::Code;
use wire_base::ids::{ConversationId, Seq, UnixMs, UserId};
use wire_base::message::Target;
use wire_base::status::StatusOf;
use wire_link::{
    ConversationsPageRecord, ConversationsRecord, FailedRecord, HistoryPageRecord, HistoryRecord, RequestId,
    SentRecord, SummaryRecord, ToRouter,
};

use super::ledger::Ledger;
use super::receipts::{Marks, Receipts};
use super::{Findings, Invariant};
use crate::transcript::Link;

#[derive(Debug, Default)]
pub(super) struct Reads {
    known: BTreeMap<(Link, u64), Known>,
    /// The newest page of each conversation over each link: its question, and its newest seq.
    pages: BTreeMap<(Link, ConversationId), (RequestId, Seq)>,
    /// The summaries that each user was shown at the end, in their order.
    summaries: BTreeMap<UserId, Vec<SummaryRecord>>,
}

/// What was known when a page was asked for.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The newest seq of each conversation in question that a sender had been told.
    told: BTreeMap<ConversationId, Seq>,
    /// The watermarks of the peer.
    marks: Marks,
}

impl Reads {
    pub(super) fn handle_status(
        &mut self,
        link: Link,
        request: u64,
        of: &StatusOf,
        user: UserId,
        ledger: &Ledger,
    ) {
        let told = match of {
            StatusOf::Seq(conversation, seq) if *seq > Seq(0) => {
                let received = ledger.received(*conversation, user, *seq);
                received.map(|seq| (*conversation, seq)).into_iter().collect()
            }
            StatusOf::Seq(..) => Vec::new(),
            StatusOf::Message(message_id) => {
                let received = ledger.with_id(*message_id).filter(|(key, _)| key.sender != user);
                received.map(|(key, seq)| (key.conversation, seq)).collect()
            }
        };
        let told = told
            .into_iter()
            .filter(|(of, seq)| *seq > Seq(0) && ledger.is_member(*of, user))
            .collect();
        self.known.insert(
            (link, request),
            Known {
                told,
                marks: Marks::default(),
            },
        );
    }

    pub(super) fn handle_link_down(&mut self, link: Link) {
        self.pages.retain(|(of, _), _| *of != link);
    }

    /// Checks that what was sent before a page was asked for is on it, also when it was answered later.
    pub(super) fn handle_sent(&mut self, link: Link, sent: &SentRecord, findings: &mut Findings) {
        let Some((asked, newest)) = self.pages.get(&(link, sent.conversation)) else {
            return;
        };
        let is_missed = !sent.duplicate && sent.request < *asked && sent.seq > *newest;
        findings.check(!is_missed, Invariant::Durable, || {
            format!(
                "{sent:?} was asked before {asked:?}, whose page ends at seq {}",
                newest.0
            )
        });
    }

    pub(super) fn handle_history(
        &mut self,
        link: Link,
        history: &HistoryRecord,
        ledger: &Ledger,
        receipts: &Receipts,
    ) {
        let HistoryRecord {
            request,
            user,
            conversation,
            ..
        } = *history;
        let peer = ledger.peer(conversation, user);
        let told = peer
            .map(|_| (conversation, ledger.told(conversation)))
            .filter(|(_, seq)| *seq > Seq(0));
        let marks = peer
            .map(|peer| receipts.marks(conversation, peer))
            .unwrap_or_default();
        self.known.insert(
            (link, request.0),
            Known {
                told: told.into_iter().collect(),
                marks,
            },
        );
    }

    pub(super) fn handle_conversations(&mut self, link: Link, record: &ConversationsRecord, ledger: &Ledger) {
        let told = ledger
            .conversations(record.user)
            .map(|conversation| (conversation, ledger.told(conversation)));
        self.known.insert(
            (link, record.request.0),
            Known {
                told: told.collect(),
                marks: Marks::default(),
            },
        );
    }

    /// Checks that a refusal has a cause.
    pub(super) fn handle_failed(
        &mut self,
        link: Link,
        asked: &ToRouter,
        failed: &FailedRecord,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let known = self.known.remove(&(link, failed.request.0)).unwrap_or_default();
        let has_cause = match (failed.code, asked) {
            // Trouble is checked with the question.
            (Code::Unavailable, _) => true,
            (Code::Forbidden, ToRouter::Status(_)) => known
                .told
                .iter()
                .all(|(conversation, seq)| ledger.may_be_gone(*conversation, *seq, findings)),
            // The newest message of a conversation stays.
            (Code::Forbidden, ToRouter::History(_)) => known.told.is_empty(),
            (Code::BadRequest, ToRouter::Status(status)) => {
                matches!(status.command.of, StatusOf::Seq(_, seq) if seq == Seq(0))
            }
            (Code::BadRequest, ToRouter::Conversations(record)) => record.before.is_some(),
            _ => false,
        };
        findings.check(has_cause, Invariant::Answered, || {
            format!("{asked:?} has no cause for {failed:?}")
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a page touches everything")]
    pub(super) fn handle_history_page(
        &mut self,
        link: Link,
        asked: &HistoryRecord,
        page: &HistoryPageRecord,
        newest_of_link: Seq,
        ledger: &mut Ledger,
        receipts: &mut Receipts,
        findings: &mut Findings,
    ) {
        let known = self.known.remove(&(link, page.request.0)).unwrap_or_default();
        let conversation = page.conversation;
        let Some(peer) = ledger
            .peer(conversation, asked.user)
            .filter(|_| conversation == asked.conversation)
        else {
            let text = format!("{asked:?} was answered with a page of {conversation}");
            return findings.violate(Invariant::MembersOnly, text);
        };
        for message in &page.messages {
            let is_its_own = message.conversation == conversation;
            findings.check(is_its_own, Invariant::MembersOnly, || {
                format!("{message:?} is on a page of {conversation}")
            });
            ledger.see(message, findings);
        }
        check_seqs(asked, page, &known, newest_of_link, ledger, findings);
        let shown = Marks {
            delivered: page.delivered,
            read: page.read,
        };
        receipts.handle_page(conversation, peer, shown, known.marks, findings);
        if asked.before.is_none() {
            let newest = page.messages.first().map_or(Seq(0), |message| message.seq);
            self.pages.insert((link, conversation), (asked.request, newest));
        }
        if findings.is_settled {
            check_delivered(asked.user, peer, page, ledger, findings);
            ledger.see_history(conversation, page.messages.iter().map(|message| message.seq));
        }
    }

    pub(super) fn handle_conversations_page(
        &mut self,
        link: Link,
        asked: &ConversationsRecord,
        page: &ConversationsPageRecord,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let known = self.known.remove(&(link, page.request.0)).unwrap_or_default();
        let user = asked.user;
        for summary in &page.conversations {
            let peer = ledger.peer(summary.conversation, user);
            findings.check(
                peer.map(Target::Direct) == Some(summary.with),
                Invariant::MembersOnly,
                || format!("{user:?} was shown {summary:?}"),
            );
            let told = known.told.get(&summary.conversation).copied().unwrap_or_default();
            findings.check(summary.last_seq >= told, Invariant::Durable, || {
                format!("{user:?} was shown {summary:?} after seq {} was told", told.0)
            });
            check_summary(summary, ledger, findings);
        }
        let times: Vec<UnixMs> = page
            .conversations
            .iter()
            .map(|summary| summary.last_time)
            .collect();
        let fits = times.is_sorted_by(|newer, older| newer >= older) && times.len() <= asked.limit as usize;
        findings.check(fits, Invariant::Ordered, || {
            format!("{asked:?} was answered in the order of {times:?}")
        });
        if !page.more && asked.before.is_none() {
            let shown: BTreeSet<_> = page
                .conversations
                .iter()
                .map(|summary| summary.conversation)
                .collect();
            let missing = known
                .told
                .keys()
                .find(|conversation| !shown.contains(conversation));
            findings.check(missing.is_none(), Invariant::Durable, || {
                format!("{user:?} was not shown {missing:?}")
            });
        }
        if findings.is_settled {
            self.summaries
                .entry(user)
                .or_default()
                .extend(page.conversations.iter().cloned());
        }
    }

    /// At the end nothing moves any more, so each summary can be computed from the messages and the watermarks.
    pub(super) fn conclude(&self, ledger: &Ledger, receipts: &Receipts, findings: &mut Findings) {
        for (user, summaries) in &self.summaries {
            let shown: BTreeSet<_> = summaries.iter().map(|summary| summary.conversation).collect();
            let all: BTreeSet<_> = ledger.conversations(*user).collect();
            findings.check(
                all.is_subset(&shown) && shown.len() == summaries.len(),
                Invariant::Durable,
                || format!("{user:?} has {all:?} and is shown {shown:?}"),
            );
            for summary in summaries {
                let expected = expected(*user, summary, ledger, receipts);
                let shown = (summary.last_seq, summary.unread);
                // An own message that nobody was shown while it was kept makes it less.
                let conversation = summary.conversation;
                let own = ledger.last_of(conversation, *user);
                let may_be_less = (own.0 + 1..=summary.last_seq.0).map(Seq).any(|seq| {
                    !ledger.is_known(conversation, seq) && ledger.may_be_gone(conversation, seq, findings)
                });
                let is_right = expected.is_none_or(|(last, unread)| {
                    shown == (last, unread) || (may_be_less && shown.0 == last && shown.1 < unread)
                });
                findings.check(is_right, Invariant::Receipts, || {
                    format!("{user:?} is shown {summary:?}; last seq and unread are {expected:?}")
                });
            }
        }
    }
}

/// A page is dense, begins with what was known when it was asked for, and says whether there is more.
fn check_seqs(
    asked: &HistoryRecord,
    page: &HistoryPageRecord,
    known: &Known,
    newest_of_link: Seq,
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq.0).collect();
    let is_dense = seqs.windows(2).all(|pair| pair[0] == pair[1] + 1);
    findings.check(
        is_dense && seqs.len() <= asked.limit as usize,
        Invariant::Ordered,
        || format!("{asked:?} was answered with {seqs:?}"),
    );
    let told = known.told.values().copied().max().unwrap_or_default();
    let told = told.max(newest_of_link).0;
    let newest = seqs.first().copied().unwrap_or_default();
    let is_fresh = match asked.before {
        // The newest message of a conversation stays.
        None => newest >= told,
        Some(before) => {
            let wanted = told.min(before.0 - 1);
            let is_gone = newest < wanted && ledger.may_be_gone(asked.conversation, Seq(wanted), findings);
            newest < before.0 && (newest >= wanted || is_gone)
        }
    };
    findings.check(is_fresh, Invariant::Durable, || {
        format!("{asked:?} came after seq {told} and was answered with {seqs:?}")
    });
    let ends_right = match seqs.last() {
        None | Some(1) => !page.more,
        Some(oldest) => page.more || ledger.may_be_gone(asked.conversation, Seq(oldest - 1), findings),
    };
    findings.check(ends_right, Invariant::Ordered, || {
        format!("{asked:?} was answered with {seqs:?} and more: {}", page.more)
    });
}

/// At the end every device has acked everything: what a user sent to another is delivered.
fn check_delivered(
    user: UserId,
    peer: UserId,
    page: &HistoryPageRecord,
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let mut sent = ledger.messages_of(page.conversation);
    let newest = sent.rfind(|message| message.sender == user);
    let Some(newest) = newest.filter(|newest| peer != user && !findings.is_expired(newest.timestamp)) else {
        return;
    };
    findings.check(page.delivered >= newest.seq, Invariant::Converges, || {
        format!(
            "{peer:?} acked everything, {user:?} is shown {:?} of {newest:?}",
            page.delivered
        )
    });
}

/// What a summary says of its last message is what that message says.
fn check_summary(summary: &SummaryRecord, ledger: &Ledger, findings: &mut Findings) {
    let Some(last) = ledger.message(summary.conversation, summary.last_seq) else {
        return;
    };
    let is_right = summary.last_time == last.timestamp
        && summary.last_body.as_ref().is_none_or(|body| *body == last.body)
        && summary.unread <= summary.last_seq.0;
    findings.check(is_right, Invariant::Ordered, || {
        format!("{summary:?} does not fit {last:?}")
    });
}

/// Returns last seq and unread of a summary.
fn expected(
    user: UserId,
    summary: &SummaryRecord,
    ledger: &Ledger,
    receipts: &Receipts,
) -> Option<(Seq, u64)> {
    let last = ledger.last(summary.conversation)?.seq;
    if summary.with == Target::Direct(user) {
        return Some((last, 0));
    }
    let own = ledger.last_of(summary.conversation, user);
    let read = receipts.marks(summary.conversation, user).read;
    Some((last, last.0.saturating_sub(own.max(read).0)))
}
