//! The auditor: checks from outside what must hold (I1 to I9), from nothing but a [transcript](crate::transcript).
//!
//! It never looks at disk, store or router. What it learns later (the position of a message, say) it holds against what it
//! saw earlier in [`Auditor::conclude`]. Its parts: [`ledger`] knows which messages there are, [`sends`] follows each
//! question to its answer, [`connections`] what each device was sent, [`receipts`] the watermarks, [`reads`] the pages.

mod clients;
mod connections;
mod ledger;
mod reads;
mod receipts;
mod sends;

use std::collections::BTreeMap;
use std::fmt;

use wire_base::ids::UnixMs;
use wire_link::{FromRouter, ToRouter};

use crate::transcript::{Connection, Event, Gauges, Link, Seen};
use clients::{Clients, Question};
use connections::Connections;
use ledger::Ledger;
use reads::Reads;
use receipts::Receipts;
use sends::Questions;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// I1: `Sent` means that it stays, and reaches every device.
    Durable,
    /// I2: one seq for each (conversation, sender, message id).
    Once,
    /// I3: nobody gets what is not addressed to him, nor what nobody sent.
    MembersOnly,
    /// I4: one dense order for each conversation, and one for each inbox.
    Ordered,
    /// I5: everybody catches up when the trouble is over.
    Converges,
    /// I6: watermarks grow, and follow what recipients said.
    Receipts,
    /// I7: what is not known is not claimed.
    Explicit,
    /// I8: every question has one answer, and every refusal a cause.
    Answered,
    /// I9: windows, queues and counts stay within their bounds, and come back to nothing.
    Bounded,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) mono_ms: u64,
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is violated at {} ms: {}",
            self.invariant, self.mono_ms, self.text
        )
    }
}

/// Where the parts of the auditor write what they find, with what all of them need to know.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    violations: Vec<Violation>,
    mono_ms: u64,
    unix: UnixMs,
    /// The latest wall clock that was seen.
    latest: UnixMs,
    /// The wall clock of the first event.
    first: Option<UnixMs>,
    operations: u64,
    last_sync: u64,
    /// Trouble with disk or store, as far as it may still be felt: until this time of the monotonic clock.
    trouble_until_ms: Option<u64>,
    /// A router that was started may wait so long for a clock that it believes.
    doubt_until_ms: Option<u64>,
    /// Its wall clock may say something that it does not believe.
    leap_until_ms: Option<u64>,
    is_settled: bool,
    clock_slack_ms: u64,
    reach: Reach,
}

impl Findings {
    fn violate(&mut self, invariant: Invariant, text: String) {
        self.violations.push(Violation {
            invariant,
            mono_ms: self.mono_ms,
            text,
        });
    }

    /// Notes a violation unless `holds`.
    fn check(&mut self, holds: bool, invariant: Invariant, text: impl FnOnce() -> String) {
        if !holds {
            self.violate(invariant, text());
        }
    }

    fn take(&mut self, event: &Event) {
        self.mono_ms = event.now.mono_ms;
        self.unix = event.now.unix;
        self.latest = self.latest.max(event.now.unix);
        self.first.get_or_insert(event.now.unix);
        self.operations = event.operations;
        self.last_sync = event.last_sync;
    }

    /// Returns whether a message of that time may be gone by now.
    fn is_expired(&self, timestamp: UnixMs) -> bool {
        timestamp.0 + RETENTION_MS <= self.latest.0
    }

    /// Returns whether something may be gone by now of which only what came before it is known, if anything.
    fn is_expired_after(&self, before: Option<UnixMs>) -> bool {
        before
            .or(self.first)
            .is_some_and(|before| self.is_expired(before))
    }

    /// Returns whether somebody may be shown what was so before.
    fn may_be_behind(&self) -> bool {
        self.reach == Reach::Cluster && self.had_trouble_since(self.mono_ms)
    }

    /// Returns whether a question asked then may be answered `unavailable` now.
    fn had_trouble_since(&self, asked_ms: u64) -> bool {
        self.trouble_until_ms.max(self.doubt_until_ms) >= Some(asked_ms)
    }
}

/// Bounds that the router was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What may wait in one link.
    pub(crate) backlog_bytes: u64,
    /// Devices of a user.
    pub(crate) devices_max: usize,
    /// How long trouble may be felt after it ended.
    pub(crate) recovers_ms: u64,
    /// How far wall clocks may be apart, over time or of nodes.
    pub(crate) clock_slack_ms: u64,
    pub(crate) reach: Reach,
}

/// Who is behind the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One router, which knows everything that it said.
    #[default]
    OneRouter,
    /// Nodes whose slots move. While there is trouble, two may believe to own one, and of these the slower one may show what
    /// was so before; what a watermark is may then be told twice, late, or not at all.
    Cluster,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Auditor {
    bounds: Bounds,
    findings: Findings,
    links: BTreeMap<Link, usize>,
    ledger: Ledger,
    questions: Questions,
    connections: Connections,
    clients: Clients,
    receipts: Receipts,
    reads: Reads,
}

impl Auditor {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            findings: Findings {
                clock_slack_ms: bounds.clock_slack_ms,
                reach: bounds.reach,
                ..Findings::default()
            },
            links: BTreeMap::new(),
            ledger: Ledger::default(),
            questions: Questions::default(),
            connections: Connections::new(bounds.devices_max),
            clients: Clients::default(),
            receipts: Receipts::default(),
            reads: Reads::default(),
        }
    }

    /// Returns what was found so far, oldest first.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.findings.violations
    }

    /// Returns the most that was in flight to a device.
    pub(crate) fn most_bytes_in_flight(&self) -> usize {
        self.connections.most_bytes_in_flight
    }

    /// Takes a violation that was seen elsewhere.
    pub(crate) fn report(&mut self, violation: Violation) {
        self.findings.violations.push(violation);
    }

    pub(crate) fn observe(&mut self, event: &Event) {
        self.findings.take(event);
        match &event.seen {
            Seen::LinkUp { link, gateway } => {
                self.links.insert(*link, *gateway);
            }
            Seen::LinkDown(link) => {
                self.links.remove(link);
                self.questions.handle_link_down(*link);
                self.reads.handle_link_down(*link);
                self.connections.handle_link_down(*link);
            }
            Seen::Said(link, record) => self.said(*link, record),
            Seen::Heard(link, record) => self.heard(*link, record),
            Seen::Vanished(connection) => {
                self.connections.handle_vanished(*connection);
                self.clients.handle_left(*connection);
            }
            Seen::Left(connection) => self.clients.handle_left(*connection),
            Seen::Connected {
                connection,
                user,
                device,
                window,
                cursor,
            } => self
                .clients
                .handle_connected(*connection, (*user, *device), *window, *cursor),
            Seen::Asked {
                connection,
                id,
                is_send,
                message_id,
                is_answered,
            } => {
                let question = Question::new(*is_send, *message_id, *is_answered);
                self.clients.handle_asked(*connection, *id, question);
            }
            Seen::Acked(connection, position) => self.clients.handle_acked(*connection, *position),
            Seen::Shown(connection, news) => {
                self.clients.handle_shown(
                    *connection,
                    news,
                    &mut self.ledger,
                    &mut self.connections,
                    &mut self.findings,
                );
            }
            Seen::Trouble(true) => self.findings.trouble_until_ms = Some(u64::MAX),
            Seen::Trouble(false) => {
                self.findings.trouble_until_ms = Some(self.findings.mono_ms + self.bounds.recovers_ms);
            }
            Seen::Leap { until_ms } => self.findings.leap_until_ms = Some(*until_ms),
            Seen::Doubt { until_ms } => {
                self.findings.doubt_until_ms = self.findings.doubt_until_ms.max(Some(*until_ms));
            }
            Seen::Down | Seen::Up | Seen::Remark(_) => {}
            Seen::Broken(reason) => {
                let text = format!("the router does not start on what it wrote: {reason}");
                self.findings.violate(Invariant::Durable, text);
            }
            Seen::Settled => self.settled(),
            Seen::Gauges(gauges) => self.check_gauges(*gauges),
        }
    }

    /// Holds everything seen against everything known at last; nothing is seen afterwards.
    pub(crate) fn conclude(&mut self) {
        let findings = &mut self.findings;
        self.ledger.conclude(findings);
        self.connections.conclude(&self.ledger, findings);
        self.clients.conclude(&self.ledger, findings);
        self.receipts.conclude(&self.ledger, findings);
        self.reads.conclude(&self.ledger, &self.receipts, findings);
    }

    fn said(&mut self, link: Link, record: &ToRouter) {
        let gateway = self.links[&link];
        let findings = &mut self.findings;
        match record {
            ToRouter::Hello(_) => {}
            ToRouter::SessionOpen(open) => {
                let connection = Connection {
                    gateway,
                    handle: open.connection,
                };
                self.connections
                    .handle_open(link, connection, open, &self.ledger, findings);
                let known = self.ledger.newest(open.user);
                if let Some(cursor) = open.cursor.filter(|cursor| Some(*cursor) <= known) {
                    self.receipts.handle_claim(open.user, cursor);
                }
            }
            ToRouter::SessionClose(session) => {
                self.connections.handle_close(Connection {
                    gateway,
                    handle: session.connection,
                });
            }
            ToRouter::Send(send) => self.questions.handle_send(link, send, &mut self.ledger, findings),
            ToRouter::Ack(ack) => {
                if self.connections.handle_ack(link, ack) {
                    self.receipts.handle_claim(ack.user, ack.position);
                }
            }
            ToRouter::Status(status) => {
                self.questions.handle_asked(link, record, findings);
                let peers = match findings.may_be_behind() {
                    true => Vec::new(),
                    false => self.connections.peers(status, &self.ledger),
                };
                self.receipts.handle_status(link, status, peers, &self.ledger);
                let (request, of) = (status.request.0, &status.command.of);
                if !findings.may_be_behind() {
                    self.reads
                        .handle_status(link, request, of, status.user, &self.ledger);
                }
            }
            ToRouter::History(history) => {
                self.questions.handle_asked(link, record, findings);
                if !findings.may_be_behind() {
                    self.reads
                        .handle_history(link, history, &self.ledger, &self.receipts);
                }
            }
            ToRouter::Conversations(conversations) => {
                self.questions.handle_asked(link, record, findings);
                if !findings.may_be_behind() {
                    self.reads.handle_conversations(link, conversations, &self.ledger);
                }
            }
        }
    }

    fn heard(&mut self, link: Link, record: &FromRouter) {
        let gateway = self.links[&link];
        let findings = &mut self.findings;
        let at = |handle| Connection { gateway, handle };
        match record {
            FromRouter::SessionOpened(opened) => {
                self.connections.handle_opened(
                    link,
                    at(opened.connection),
                    opened,
                    &mut self.ledger,
                    findings,
                );
            }
            FromRouter::SessionRefused(refused) => {
                let connection = at(refused.connection);
                self.connections
                    .handle_refused(link, connection, refused.code, &self.ledger, findings);
            }
            FromRouter::SessionReplaced(session) => {
                self.connections
                    .handle_replaced(link, at(session.connection), findings);
            }
            FromRouter::Sent(sent) => {
                self.questions.handle_sent(link, sent, &mut self.ledger, findings);
                self.reads.handle_sent(link, sent, findings);
            }
            FromRouter::Rejected(rejected) => {
                self.questions
                    .handle_rejected(link, rejected, &mut self.ledger, findings);
            }
            FromRouter::Deliver(deliver) => {
                self.ledger.see(&deliver.message, findings);
                for (handle, position) in &deliver.to {
                    self.connections.handle_delivered(
                        link,
                        at(*handle),
                        *position,
                        &deliver.message,
                        &mut self.ledger,
                        findings,
                    );
                }
            }
            FromRouter::Synced(synced) => {
                self.connections
                    .handle_synced(link, at(synced.connection), synced.cursor, findings);
            }
            FromRouter::StatusUpdate(update) => {
                for handle in &update.to {
                    let listener = self.connections.listener(link, at(*handle), findings);
                    if let Some((reader, is_heard)) = listener {
                        let reader = (reader, at(*handle).gateway);
                        self.receipts
                            .handle_update(reader, is_heard, update, &self.ledger, findings);
                    }
                }
            }
            FromRouter::Done(request) => {
                if let Some(ToRouter::Status(status)) =
                    self.questions.handle_answer(link, *request, record, findings)
                {
                    self.receipts.handle_done(link, &status, &self.ledger, findings);
                }
            }
            FromRouter::Failed(failed) => {
                let asked = self
                    .questions
                    .handle_answer(link, failed.request, record, findings);
                if let Some(asked) = asked {
                    self.reads
                        .handle_failed(link, &asked, failed, &self.ledger, findings);
                    self.receipts.handle_failed(link, &asked);
                }
            }
            FromRouter::HistoryPage(page) => {
                if let Some(ToRouter::History(asked)) =
                    self.questions.handle_answer(link, page.request, record, findings)
                {
                    let newest = self.questions.newest_sent(link, page.conversation, page.request);
                    self.reads.handle_history_page(
                        link,
                        &asked,
                        page,
                        newest,
                        &mut self.ledger,
                        &mut self.receipts,
                        findings,
                    );
                }
            }
            FromRouter::ConversationsPage(page) => {
                if let Some(ToRouter::Conversations(asked)) =
                    self.questions.handle_answer(link, page.request, record, findings)
                {
                    self.reads
                        .handle_conversations_page(link, &asked, page, &self.ledger, findings);
                }
            }
        }
    }

    fn settled(&mut self) {
        self.findings.is_settled = true;
        self.questions.check_settled(&mut self.findings);
        self.connections.check_settled(&mut self.findings);
        self.clients.check_settled(&mut self.findings);
        self.receipts.check_settled(&self.connections, &mut self.findings);
    }

    fn check_gauges(&mut self, gauges: Gauges) {
        let findings = &mut self.findings;
        let (links, sessions) = (self.links.len() as u64, self.connections.open() as u64);
        let bound = links * self.bounds.backlog_bytes;
        let is_bounded = gauges.backlog_bytes <= bound;
        findings.check(is_bounded, Invariant::Bounded, || {
            format!("more than {bound} bytes wait: {gauges:?}")
        });
        let expected = Gauges {
            links,
            sessions,
            backlog_bytes: 0,
            lag_records: 0,
            at_rest: true,
        };
        findings.check(!gauges.at_rest || gauges == expected, Invariant::Bounded, || {
            format!("at rest there should be {expected:?}, and there are {gauges:?}")
        });
    }
}

/// Messages and ids are kept so long; what is older may be gone or not.
pub(crate) const RETENTION_MS: u64 = 30 * 24 * 3_600_000;
