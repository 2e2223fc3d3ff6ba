//! Questions and their answers: one each, unless the link died; refused only with a cause; sends in the order they were made.

use std::collections::BTreeMap;

use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, Seq, UnixMs, UserId};
use wire_base::limits::{MESSAGE_ID_AGE_MS_MAX, MESSAGE_ID_AHEAD_MS_MAX};
use wire_link::{FromRouter, RejectedRecord, RequestId, SendRecord, SentRecord, ToRouter};

use super::ledger::Ledger;
use super::{Findings, Invariant, Reach};
use crate::transcript::Link;

/// Every question of the links that are up.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: BTreeMap<(Link, RequestId), Question>,
    /// The new seqs that each line of sends was given, by the order of asking.
    lines: BTreeMap<Line, BTreeMap<RequestId, Seq>>,
}

#[derive(Clone, Debug)]
struct Question {
    record: ToRouter,
    is_answered: bool,
    asked_ms: u64,
    asked_unix: UnixMs,
    /// Changing calls of disk and store before it was asked.
    operations: u64,
    /// The newest seq that a sender of the conversation had been told.
    told: Seq,
}

/// Sends that keep their order: those of one device over one link, within a conversation.
type Line = (Link, UserId, DeviceId, ConversationId);

impl Questions {
    pub(super) fn handle_link_down(&mut self, link: Link) {
        self.asked.retain(|(of, _), _| *of != link);
        self.lines.retain(|line, _| line.0 != link);
    }

    pub(super) fn handle_send(
        &mut self,
        link: Link,
        send: &SendRecord,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) {
        let told = ledger.handle_ask(send);
        self.ask(link, send.request, ToRouter::Send(send.clone()), told, findings);
    }

    pub(super) fn handle_asked(&mut self, link: Link, record: &ToRouter, findings: &mut Findings) {
        let request = match record {
            ToRouter::Status(status) => status.request,
            ToRouter::History(history) => history.request,
            ToRouter::Conversations(conversations) => conversations.request,
            _ => unreachable!("only questions are asked"),
        };
        self.ask(link, request, record.clone(), Seq(0), findings);
    }

    fn ask(&mut self, link: Link, request: RequestId, record: ToRouter, told: Seq, findings: &mut Findings) {
        let question = Question {
            record,
            is_answered: false,
            asked_ms: findings.mono_ms,
            asked_unix: findings.unix,
            operations: findings.operations,
            told,
        };
        let before = self.asked.insert((link, request), question);
        assert!(before.is_none(), "the simulation numbers its requests");
    }

    pub(super) fn handle_sent(
        &mut self,
        link: Link,
        sent: &SentRecord,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) {
        let Some(question) = self.answer(link, sent.request, "Sent", findings) else {
            return;
        };
        let Question {
            record: ToRouter::Send(send),
            asked_unix,
            operations,
            told,
            ..
        } = question
        else {
            return mismatch(sent.request, "Sent", findings);
        };
        ledger.handle_sent(&send, sent, findings);
        let last_sync = findings.last_sync;
        findings.check(last_sync > operations, Invariant::Durable, || {
            format!("{sent:?} came before any sync: the last one is {last_sync}, asked at {operations}")
        });
        let id_ms = sent.message_id.unix_ms().filter(|_| send.message_id.is_some());
        let (unix, slack_ms) = (findings.unix, findings.clock_slack_ms);
        findings.check(
            id_ms.is_none_or(|id_ms| {
                id_ms <= unix.0 + MESSAGE_ID_AHEAD_MS_MAX + slack_ms
                    && id_ms + MESSAGE_ID_AGE_MS_MAX + slack_ms >= asked_unix.0
            }),
            Invariant::Explicit,
            || format!("{sent:?} has an id of a time that is refused"),
        );
        if !sent.duplicate {
            let times = asked_unix.0.saturating_sub(slack_ms)..=unix.0 + slack_ms;
            findings.check(times.contains(&sent.timestamp.0), Invariant::Explicit, || {
                format!("{sent:?} was asked at {} and is of another time", asked_unix.0)
            });
            findings.check(sent.seq > told, Invariant::Ordered, || {
                format!("{sent:?} was asked after seq {} had been told", told.0)
            });
            self.check_line(link, &send, sent, findings);
        }
    }

    fn check_line(&mut self, link: Link, send: &SendRecord, sent: &SentRecord, findings: &mut Findings) {
        let line = (
            link,
            send.draft.sender,
            send.draft.sender_device,
            sent.conversation,
        );
        let line = self.lines.entry(line).or_default();
        let before = line.range(..sent.request).next_back().map(|(_, seq)| *seq);
        let after = line.range(sent.request..).next().map(|(_, seq)| *seq);
        let in_order = before.is_none_or(|seq| seq < sent.seq) && after.is_none_or(|seq| seq > sent.seq);
        findings.check(in_order, Invariant::Ordered, || {
            format!("{sent:?} lies between {before:?} and {after:?} of the same connection")
        });
        line.insert(sent.request, sent.seq);
    }

    pub(super) fn handle_rejected(
        &mut self,
        link: Link,
        rejected: &RejectedRecord,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) {
        let Some(question) = self.answer(link, rejected.request, "Rejected", findings) else {
            return;
        };
        let Question {
            record: ToRouter::Send(send),
            asked_unix,
            asked_ms,
            ..
        } = question
        else {
            return mismatch(rejected.request, "Rejected", findings);
        };
        let id_ms = send.message_id.and_then(|id| id.unix_ms());
        let slack_ms = findings.clock_slack_ms;
        let is_id_off = id_ms.is_some_and(|id_ms| {
            id_ms + slack_ms > asked_unix.0 + MESSAGE_ID_AHEAD_MS_MAX
                || id_ms + MESSAGE_ID_AGE_MS_MAX < findings.unix.0 + slack_ms
        });
        let has_cause = match rejected.code {
            Code::Unavailable => {
                // An id that only a clock would allow that is not believed may be good, should the clock be right.
                let is_doubtful = is_id_off && findings.leap_until_ms >= Some(asked_ms);
                (findings.had_trouble_since(asked_ms) || is_doubtful) && rejected.retry_after_ms.is_some()
            }
            // More came than the log of a slot took; at once, and for sure.
            Code::Busy => findings.reach == Reach::Cluster && rejected.retry_after_ms.is_some(),
            Code::Conflict => ledger.is_contradicted(&send),
            Code::BadRequest => is_id_off,
            _ => false,
        };
        findings.check(has_cause, Invariant::Answered, || {
            format!("{send:?} has no cause for {rejected:?}")
        });
        if rejected.code != Code::Unavailable {
            ledger.handle_refused(&send);
        }
    }

    /// Takes the answer to a status or a page, and returns the question.
    pub(super) fn handle_answer(
        &mut self,
        link: Link,
        request: RequestId,
        answer: &FromRouter,
        findings: &mut Findings,
    ) -> Option<ToRouter> {
        let (name, question) = match answer {
            FromRouter::Done(_) => ("Done", self.answer(link, request, "Done", findings)?),
            FromRouter::Failed(_) => ("Failed", self.answer(link, request, "Failed", findings)?),
            FromRouter::HistoryPage(_) => (
                "HistoryPage",
                self.answer(link, request, "HistoryPage", findings)?,
            ),
            _ => (
                "ConversationsPage",
                self.answer(link, request, "ConversationsPage", findings)?,
            ),
        };
        let fits = matches!(
            (&question.record, answer),
            (ToRouter::Status(_), FromRouter::Done(_) | FromRouter::Failed(_))
                | (
                    ToRouter::History(_),
                    FromRouter::HistoryPage(_) | FromRouter::Failed(_)
                )
                | (
                    ToRouter::Conversations(_),
                    FromRouter::ConversationsPage(_) | FromRouter::Failed(_)
                )
        );
        if !fits {
            mismatch(request, name, findings);
            return None;
        }
        if let FromRouter::Failed(failed) = answer
            && failed.code == Code::Unavailable
        {
            findings.check(
                findings.had_trouble_since(question.asked_ms),
                Invariant::Answered,
                || format!("{:?} has no cause for {failed:?}", question.record),
            );
        }
        Some(question.record)
    }

    fn answer(
        &mut self,
        link: Link,
        request: RequestId,
        answer: &'static str,
        findings: &mut Findings,
    ) -> Option<Question> {
        let Some(question) = self.asked.get_mut(&(link, request)) else {
            findings.violate(
                Invariant::Answered,
                format!("{request:?} was never asked and is answered by {answer}"),
            );
            return None;
        };
        let before = question.clone();
        question.is_answered = true;
        findings.check(!before.is_answered, Invariant::Answered, || {
            format!("{:?} is answered a second time, by {answer}", before.record)
        });
        Some(before)
    }

    /// Returns the newest seq of a conversation that the link gave to a send asked for before `request`.
    pub(super) fn newest_sent(&self, link: Link, conversation: ConversationId, request: RequestId) -> Seq {
        let lines = self
            .lines
            .iter()
            .filter(|(line, _)| (line.0, line.3) == (link, conversation));
        let newest = lines.filter_map(|(_, line)| line.range(..request).next_back());
        newest.map(|(_, seq)| *seq).max().unwrap_or_default()
    }

    pub(super) fn check_settled(&self, findings: &mut Findings) {
        for question in self.asked.values().filter(|question| !question.is_answered) {
            let text = format!("{:?} of {} ms has no answer", question.record, question.asked_ms);
            findings.violate(Invariant::Answered, text);
        }
    }
}

fn mismatch(request: RequestId, answer: &'static str, findings: &mut Findings) {
    findings.violate(
        Invariant::Answered,
        format!("{request:?} asked for something else than {answer}"),
    );
}
