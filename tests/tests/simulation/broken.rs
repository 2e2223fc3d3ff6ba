//! Proof that the simulation can fail: machines that break a promise, and transcripts of what must not be.

use router_records::row::{
    ConversationRow, DedupeRow, InboxRow, MessageRow, ReceiptRow, Table, UserConversationRow,
};
use wire_base::code::Code;
use wire_base::ids::{MessageId, Position, Seq};
use wire_link::{Deliver, FromRouter, RejectedRecord, ToRouter};

use crate::audit::{Invariant, RETENTION_MS};
use crate::client::News;
use crate::run::{Run, audit, run, run_shortly};
use crate::transcript::{Event, Gauges, Link, Seen};
use crate::watch::Defect;

/// Returns what the first of many seeds finds of a defect.
fn found(defect: Defect) -> Option<(u64, Invariant)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let run = run(seed, Some(defect));
        run.violations
            .first()
            .map(|violation| (seed, violation.invariant))
    })
}

fn assert_is_found(defect: Defect, as_one_of: &[Invariant]) {
    let (seed, invariant) =
        found(defect).unwrap_or_else(|| panic!("{defect:?} is not found in {SEEDS_MAX} seeds"));
    assert!(
        as_one_of.contains(&invariant),
        "{defect:?} is found as {invariant:?}, by seed {seed}"
    );
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found() {
    // A send that was lost is new when it is repeated.
    let lost = [Invariant::Durable, Invariant::Once];
    assert_is_found(Defect::SyncLies, &lost);
    assert_is_found(Defect::DirectorySyncLies, &lost);
}

#[test]
fn a_store_that_lies_about_its_syncs_is_found() {
    assert_is_found(Defect::PersistLies, &[Invariant::Durable]);
}

#[test]
fn a_store_that_says_it_holds_more_than_it_does_is_found() {
    use Invariant::{Durable, Once, Ordered, Receipts};
    // What is missing may be an ack as well as a message.
    assert_is_found(Defect::FlushedTooHigh, &[Durable, Once, Ordered, Receipts]);
}

#[test]
fn a_store_that_loses_a_row_of_any_table_is_found() {
    use Invariant::{Answered, Bounded, Converges, Durable, Once, Ordered, Receipts};
    let lost = [Durable, Once, Ordered, Answered, Converges, Bounded];
    for table in [
        MessageRow::INFO.byte,
        DedupeRow::INFO.byte,
        ConversationRow::INFO.byte,
        InboxRow::INFO.byte,
        UserConversationRow::INFO.byte,
    ] {
        assert_is_found(Defect::LosesRows(table), &lost);
    }
    assert_is_found(Defect::LosesRows(ReceiptRow::INFO.byte), &[Receipts, Converges]);
    // A lost row of a device brings messages again, which they may.
}

/// A good run, and what a transcript of it can be turned into.
struct Doctor {
    run: Run,
}

impl Doctor {
    fn new() -> Self {
        let run = run_shortly(DOCTORED_SEED, DOCTORED_ROUNDS);
        assert_eq!(run.violations, []);
        assert_eq!(
            audit(run.bounds, &run.transcript),
            [],
            "a transcript is all that the auditor needs"
        );
        Self { run }
    }

    /// Changes one event at a time, each in turn, until the auditor objects; `change` returns whether it did change it.
    fn assert_found(&self, what: &str, as_one_of: &[Invariant], change: impl Fn(&mut Event) -> bool) {
        self.assert_list_found(what, as_one_of, |transcript, at| change(&mut transcript[at]));
    }

    /// Does the same with changes that need more than the event.
    fn assert_list_found(
        &self,
        what: &str,
        as_one_of: &[Invariant],
        change: impl Fn(&mut Vec<Event>, usize) -> bool,
    ) {
        let mut tried = 0;
        let mut missed = Vec::new();
        for at in (0..self.run.transcript.len()).rev() {
            let mut transcript = self.run.transcript.clone();
            if !change(&mut transcript, at) {
                continue;
            }
            tried += 1;
            match audit(self.run.bounds, &transcript).first() {
                Some(violation) if as_one_of.contains(&violation.invariant) => {}
                Some(violation) => panic!("{what}, at event {at}, is found as {violation}"),
                None => missed.push(at),
            }
            if tried == TRIES_MAX {
                break;
            }
        }
        assert!(tried > 0, "the run has nothing to turn into: {what}");
        assert!(missed.is_empty(), "{what} is not found at {missed:?} of {tried}");
    }
}

fn remove(is_meant: impl Fn(&Seen) -> bool) -> impl Fn(&mut Vec<Event>, usize) -> bool {
    move |transcript, at| {
        let is_meant = is_meant(&transcript[at].seen);
        if is_meant {
            transcript.remove(at);
        }
        is_meant
    }
}

fn repeat(is_meant: impl Fn(&Seen) -> bool) -> impl Fn(&mut Vec<Event>, usize) -> bool {
    move |transcript, at| {
        let is_meant = is_meant(&transcript[at].seen);
        if is_meant {
            transcript.insert(at, transcript[at].clone());
        }
        is_meant
    }
}

fn is_deliver(seen: &Seen) -> bool {
    matches!(seen, Seen::Heard(_, FromRouter::Deliver(_)))
}

fn is_answer(seen: &Seen) -> bool {
    matches!(
        seen,
        Seen::Heard(
            _,
            FromRouter::Sent(_)
                | FromRouter::Rejected(_)
                | FromRouter::Done(_)
                | FromRouter::Failed(_)
                | FromRouter::HistoryPage(_)
                | FromRouter::ConversationsPage(_)
        )
    )
}

fn deliver(event: &mut Event) -> Option<&mut Deliver> {
    match &mut event.seen {
        Seen::Heard(_, FromRouter::Deliver(deliver)) => Some(deliver),
        _ => None,
    }
}

fn delivered(event: &Event) -> Option<(Link, &Deliver)> {
    match &event.seen {
        Seen::Heard(link, FromRouter::Deliver(deliver)) => Some((*link, deliver)),
        _ => None,
    }
}

#[test]
fn a_transcript_with_wrong_deliveries_is_found() {
    use Invariant::{Answered, Bounded, Durable, MembersOnly, Once, Ordered};
    let doctor = Doctor::new();
    doctor.assert_list_found(
        "a message that is delivered twice",
        &[Ordered],
        repeat(is_deliver),
    );
    doctor.assert_list_found(
        "a message that is never delivered",
        &[Ordered, Durable],
        remove(is_deliver),
    );
    doctor.assert_list_found("two messages in the wrong order", &[Ordered], |transcript, at| {
        let [Some((link, first)), Some((next_link, second))] =
            [at, at + 1].map(|at| transcript.get(at).and_then(delivered))
        else {
            return false;
        };
        let reaches = |handle| second.to.iter().any(|(to, _)| *to == handle);
        let have_one_reader = link == next_link && first.to.iter().any(|(handle, _)| reaches(*handle));
        if have_one_reader {
            transcript.swap(at, at + 1);
        }
        have_one_reader
    });
    doctor.assert_found("a message at a place of another", &[Ordered, Once], |event| {
        deliver(event)
            .map(|deliver| deliver.to[0].1.offset.0 -= 1)
            .is_some()
    });
    doctor.assert_found(
        "a message to a connection that never was",
        &[MembersOnly],
        |event| {
            deliver(event)
                .map(|deliver| deliver.to[0].0.generation += 1_000)
                .is_some()
        },
    );
    doctor.assert_found("a message that nobody wrote", &[MembersOnly, Once], |event| {
        deliver(event)
            .map(|deliver| {
                deliver.message.sender_device = wire_base::ids::DeviceId::new(77).expect("in range")
            })
            .is_some()
    });
    doctor.assert_found("a seq that belongs to another message", &[Once], |event| {
        deliver(event)
            .filter(|deliver| deliver.message.seq.0 > 1)
            .map(|deliver| deliver.message.seq.0 -= 1)
            .is_some()
    });
    doctor.assert_list_found(
        "a device without an end of its backlog",
        &[Ordered, Invariant::Converges],
        remove(|seen| matches!(seen, Seen::Heard(_, FromRouter::Synced(_)))),
    );
    doctor.assert_list_found(
        "a backlog that ends twice",
        &[Ordered],
        repeat(|seen| matches!(seen, Seen::Heard(_, FromRouter::Synced(_)))),
    );
    doctor.assert_list_found(
        "a session that is opened twice",
        &[Answered],
        repeat(|seen| matches!(seen, Seen::Heard(_, FromRouter::SessionOpened(_)))),
    );
    doctor.assert_list_found(
        "a good cursor that is not taken",
        &[Durable, Ordered],
        |transcript, at| {
            // After a month something behind a cursor may be gone that was never shown, and nobody outside can know.
            let age_ms = transcript[at].now.unix.0 - transcript[0].now.unix.0;
            match &mut transcript[at].seen {
                Seen::Heard(_, FromRouter::SessionOpened(opened))
                    if opened.resumed && age_ms < RETENTION_MS =>
                {
                    opened.resumed = false;
                    opened.resync = Some(("no".into(), Position::start(opened.cursor.generation)));
                    true
                }
                _ => false,
            }
        },
    );
    doctor.assert_found("a head that goes back", &[Durable], |event| {
        match &mut event.seen {
            Seen::Heard(_, FromRouter::SessionOpened(opened)) if opened.cursor.offset.0 > 100 => {
                opened.cursor = Position::start(opened.cursor.generation);
                true
            }
            _ => false,
        }
    });
    doctor.assert_found(
        "a window that was smaller",
        &[Bounded],
        |event| match &mut event.seen {
            Seen::Said(_, ToRouter::SessionOpen(open)) if open.window == 256 => {
                open.window = 1;
                true
            }
            _ => false,
        },
    );
}

#[test]
fn a_transcript_with_wrong_answers_is_found() {
    use Invariant::{Answered, Bounded, Durable, Explicit, Once, Ordered, Receipts};
    let doctor = Doctor::new();
    doctor.assert_list_found(
        "an answer that is missing",
        &[Answered, Durable, Ordered],
        remove_late(is_answer),
    );
    doctor.assert_list_found("an answer that comes twice", &[Answered, Once], repeat(is_answer));
    doctor.assert_found("a send with a second seq", &[Once], |event| {
        sent(event, |sent| sent.seq.0 += 1)
    });
    doctor.assert_found("a send with a second time", &[Once, Explicit], |event| {
        sent(event, |sent| sent.timestamp.0 += 1)
    });
    doctor.assert_list_found(
        "a repeated send that is called new",
        &[Once, Ordered, Explicit],
        |transcript, at| {
            let (before, after) = transcript.split_at_mut(at);
            let Seen::Heard(_, FromRouter::Sent(sent)) = &mut after[0].seen else {
                return false;
            };
            // Its first answer was heard: else nobody outside can know.
            let is_known = before.iter().any(|event| {
                matches!(&event.seen, Seen::Heard(_, FromRouter::Sent(first))
                    if !first.duplicate && (first.conversation, first.seq) == (sent.conversation, sent.seq))
            });
            let is_meant = sent.duplicate && is_known;
            sent.duplicate &= !is_meant;
            is_meant
        },
    );
    doctor.assert_found("an answer before any sync", &[Durable], |event| {
        event.last_sync = 0;
        sent(event, |_| {})
    });
    doctor.assert_found(
        "a refusal without a cause",
        &[Answered],
        |event| match &mut event.seen {
            Seen::Heard(_, answer @ FromRouter::Sent(_)) => {
                let FromRouter::Sent(sent) = answer else {
                    unreachable!("it was matched")
                };
                let (request, reason) = (sent.request, String::new());
                *answer = FromRouter::Rejected(RejectedRecord {
                    request,
                    code: Code::Busy,
                    reason,
                    retry_after_ms: Some(1),
                });
                true
            }
            _ => false,
        },
    );
    doctor.assert_found(
        "a page with a gap",
        &[Ordered, Durable, Once],
        |event| match &mut event.seen {
            Seen::Heard(_, FromRouter::HistoryPage(page)) if page.messages.len() > 2 => {
                page.messages.remove(1);
                true
            }
            _ => false,
        },
    );
    doctor.assert_found(
        "a page that lacks the newest message",
        &[Durable, Ordered],
        |event| match &mut event.seen {
            Seen::Heard(_, FromRouter::HistoryPage(page)) if page.messages.len() > 2 => {
                page.messages.remove(0);
                true
            }
            _ => false,
        },
    );
    doctor.assert_list_found(
        "a page that was read before what was sent before",
        &[Durable, Ordered],
        |transcript, at| {
            let Seen::Heard(link, FromRouter::HistoryPage(page)) = &transcript[at].seen else {
                return false;
            };
            let Some(newest) = page.messages.first() else {
                return false;
            };
            let is_settled = transcript[..at].iter().any(|event| event.seen == Seen::Settled);
            let is_whole = !is_settled
                && transcript[..at].iter().any(|event| {
                    matches!(&event.seen, Seen::Said(of, ToRouter::History(asked))
                    if (of, asked.request, asked.before) == (link, page.request, None))
                });
            let is_newest = |event: &Event| {
                matches!(&event.seen, Seen::Heard(of, FromRouter::Sent(sent))
                    if of == link && !sent.duplicate && sent.request < page.request
                        && (sent.conversation, sent.seq) == (newest.conversation, newest.seq))
            };
            let Some(sent) = transcript[..at].iter().position(is_newest).filter(|_| is_whole) else {
                return false;
            };
            transcript[sent..=at].rotate_left(1);
            let Seen::Heard(_, FromRouter::HistoryPage(page)) = &mut transcript[at - 1].seen else {
                return false;
            };
            page.messages.remove(0);
            true
        },
    );
    doctor.assert_found(
        "a watermark that nobody moved",
        &[Receipts, Invariant::Converges],
        |event| match &mut event.seen {
            Seen::Heard(_, FromRouter::StatusUpdate(update)) => {
                update.seq.0 += 1;
                true
            }
            _ => false,
        },
    );
    doctor.assert_list_found("a watermark that is told twice", &[Receipts], repeat_if_told);
    doctor.assert_list_found(
        "a page whose watermark is behind",
        &[Receipts, Invariant::Converges],
        |transcript, at| {
            let (before, after) = transcript.split_at_mut(at);
            let Seen::Heard(_, FromRouter::HistoryPage(page)) = &mut after[0].seen else {
                return false;
            };
            // Somebody was told of it: else nobody outside can know.
            let is_known = before.iter().any(|event| {
                matches!(&event.seen, Seen::Heard(_, FromRouter::StatusUpdate(update))
                if (update.conversation, update.seq) == (page.conversation, page.delivered))
            });
            if is_known {
                page.delivered = Seq(0);
            }
            is_known
        },
    );
    doctor.assert_list_found(
        "a wrong count of unread messages",
        // More than there are messages is no count of this conversation at all.
        &[Receipts, Ordered],
        |transcript, at| {
            // While watermarks move, the count is not known from outside.
            let is_settled = transcript[..at].iter().any(|event| event.seen == Seen::Settled);
            match &mut transcript[at].seen {
                Seen::Heard(_, FromRouter::ConversationsPage(page))
                    if is_settled && !page.conversations.is_empty() =>
                {
                    page.conversations[0].unread += 1;
                    true
                }
                _ => false,
            }
        },
    );
    doctor.assert_found(
        "a session that is left over",
        &[Bounded],
        |event| match &mut event.seen {
            Seen::Gauges(gauges @ Gauges { at_rest: true, .. }) => {
                gauges.sessions += 1;
                true
            }
            _ => false,
        },
    );
}

#[test]
fn a_transcript_with_wrong_news_for_clients_is_found() {
    use Invariant::{Answered, Ordered};
    let doctor = Doctor::new();
    let is_shown =
        |seen: &Seen, is_meant: fn(&News) -> bool| matches!(seen, Seen::Shown(_, news) if is_meant(news));
    let shown = |event: &mut Event, change: fn(&mut News) -> bool| match &mut event.seen {
        Seen::Shown(_, news) => change(news),
        _ => false,
    };
    doctor.assert_found("an answer for another message", &[Answered], |event| {
        shown(event, |news| match news {
            News::Sent { message_id, .. } => {
                *message_id = MessageId::new(uuid::Uuid::max()).expect("not nil");
                true
            }
            _ => false,
        })
    });
    doctor.assert_found("a page for one who sends", &[Answered], |event| {
        shown(event, |news| match news {
            News::Sent { id, .. } => {
                *news = News::Page { id: *id };
                true
            }
            _ => false,
        })
    });
    let is_sent = |news: &News| matches!(news, News::Sent { .. });
    doctor.assert_list_found(
        "an answer that is shown twice",
        &[Answered],
        repeat(|seen| is_shown(seen, is_sent)),
    );
    doctor.assert_list_found(
        "a message that is shown twice",
        &[Ordered],
        repeat(|seen| is_shown(seen, |news| matches!(news, News::Message(..)))),
    );
    doctor.assert_list_found("a watermark that goes back", &[Ordered], |transcript, at| {
        let mut event = transcript[at].clone();
        let is_later = shown(&mut event, |news| match news {
            News::Status(update) if update.seq > Seq(1) => {
                update.seq = Seq(update.seq.0 - 1);
                true
            }
            _ => false,
        });
        if is_later {
            transcript.insert(at + 1, event);
        }
        is_later
    });
}

/// Leaves an answer out, if its link stood until the end, so that the question had to be answered.
fn remove_late(is_meant: impl Fn(&Seen) -> bool) -> impl Fn(&mut Vec<Event>, usize) -> bool {
    move |transcript, at| {
        let stands = transcript[at..]
            .iter()
            .all(|event| !matches!(event.seen, Seen::Down | Seen::LinkDown(_)));
        stands && remove(&is_meant)(transcript, at)
    }
}

/// Repeats an update on a connection that had not been replaced or closed: one that was is not listened to.
fn repeat_if_told(transcript: &mut Vec<Event>, at: usize) -> bool {
    let is_after_settled = transcript[..at].iter().any(|event| event.seen == Seen::Settled);
    !is_after_settled
        && repeat(|seen| matches!(seen, Seen::Heard(_, FromRouter::StatusUpdate(_))))(transcript, at)
}

fn sent(event: &mut Event, change: impl Fn(&mut wire_link::SentRecord)) -> bool {
    match &mut event.seen {
        Seen::Heard(_, FromRouter::Sent(sent)) => {
            change(sent);
            true
        }
        _ => false,
    }
}

const SEEDS_MAX: u64 = 60;
/// A run with two devices of most users, and no trouble.
const DOCTORED_SEED: u64 = 6;
const DOCTORED_ROUNDS: usize = 120;
const TRIES_MAX: usize = 8;
