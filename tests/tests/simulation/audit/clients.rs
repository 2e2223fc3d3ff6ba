//! What clients were shown by the gateways that ship: what the router sent them, each message once, in order, without gaps,
//! within the window, and one answer to each question.

use std::collections::BTreeMap;

use wire_base::ids::{ConversationId, MessageId, Position, Seq, UserId};
use wire_base::message::Message;
use wire_base::status::Status;
use wire_client::StatusUpdate;

use super::connections::{Connections, Reader, owed};
use super::ledger::Ledger;
use super::{Findings, Invariant};
use crate::client::News;
use crate::transcript::Connection;

#[derive(Debug, Default)]
pub(super) struct Clients {
    all: BTreeMap<Connection, Client>,
}

/// One connection, as its client sees it.
#[derive(Debug)]
struct Client {
    reader: Reader,
    window: usize,
    cursor: Option<Position>,
    /// It looks at nothing any more.
    has_left: bool,
    is_welcomed: bool,
    is_synced: bool,
    /// Where it begins to read, if that is known.
    start: Option<Position>,
    got: Vec<Position>,
    acked: Option<Position>,
    asked: BTreeMap<u32, Question>,
    /// The watermarks it was shown; of those that are read, and of the others.
    watermarks: BTreeMap<(ConversationId, UserId, bool), Seq>,
}

/// What a client asked.
#[derive(Debug)]
pub(super) struct Question {
    /// It sends a message, with an id or without.
    is_send: bool,
    message_id: Option<MessageId>,
    /// It is answered in any case.
    is_answered: bool,
    was_answered: bool,
}

impl Question {
    pub(super) const fn new(is_send: bool, message_id: Option<MessageId>, is_answered: bool) -> Self {
        Self {
            is_send,
            message_id,
            is_answered,
            was_answered: false,
        }
    }
}

impl Clients {
    pub(super) fn handle_connected(
        &mut self,
        connection: Connection,
        reader: Reader,
        window: u16,
        cursor: Option<Position>,
    ) {
        let client = Client {
            reader,
            window: usize::from(window),
            cursor,
            has_left: false,
            is_welcomed: false,
            is_synced: false,
            start: None,
            got: Vec::new(),
            acked: None,
            asked: BTreeMap::new(),
            watermarks: BTreeMap::new(),
        };
        let before = self.all.insert(connection, client);
        assert!(before.is_none(), "a handle is used once");
    }

    pub(super) fn handle_left(&mut self, connection: Connection) {
        if let Some(client) = self.all.get_mut(&connection) {
            client.has_left = true;
        }
    }

    pub(super) fn handle_asked(&mut self, connection: Connection, id: u32, question: Question) {
        if let Some(client) = self.all.get_mut(&connection) {
            client.asked.insert(id, question);
        }
    }

    pub(super) fn handle_acked(&mut self, connection: Connection, position: Position) {
        if let Some(client) = self.all.get_mut(&connection) {
            client.acked = client.acked.max(Some(position));
        }
    }

    pub(super) fn handle_shown(
        &mut self,
        connection: Connection,
        news: &News,
        ledger: &mut Ledger,
        connections: &mut Connections,
        findings: &mut Findings,
    ) {
        let Some(client) = self.all.get_mut(&connection) else {
            return findings.violate(
                Invariant::MembersOnly,
                format!("{news:?} is for {connection:?}, which never was"),
            );
        };
        let is_early = !client.is_welcomed
            && !matches!(
                news,
                News::Welcome { .. } | News::Failed { .. } | News::Farewell(_) | News::Closed
            );
        findings.check(!is_early, Invariant::Answered, || {
            format!("{connection:?} was shown {news:?} before its welcome")
        });
        match news {
            News::Welcome { resumed, .. } => client.welcome(connection, *resumed, findings),
            News::Resync { oldest } => {
                client.got.clear();
                client.start = Some(*oldest);
                // What it had acked counts on: such an ack may overtake what is sent again.
            }
            News::Message(position, message) => {
                let was_sent = connections.handle_shown(connection, *position, message, findings);
                findings.check(was_sent, Invariant::Ordered, || {
                    format!("{connection:?} was shown {position}, which the router did not send to it")
                });
                ledger.see(message, findings);
                ledger.see_entry(client.reader.0, *position, message, findings);
                client.take(connection, *position, message, findings);
            }
            News::Synced(_) => {
                let is_second = std::mem::replace(&mut client.is_synced, true);
                findings.check(!is_second, Invariant::Ordered, || {
                    format!("{connection:?} was shown the end of its backlog twice")
                });
            }
            News::Sent {
                id,
                message_id,
                conversation,
                seq,
                ..
            } => {
                client.answer(connection, *id, news, findings);
                let stands_there = ledger.message(*conversation, *seq);
                let is_it = stands_there.is_none_or(|message| message.message_id == *message_id);
                findings.check(is_it, Invariant::Answered, || {
                    format!("{connection:?} was shown {news:?}, and there stands {stands_there:?}")
                });
            }
            News::Rejected { id, .. } | News::Page { id } => client.answer(connection, *id, news, findings),
            News::Failed { id: Some(id), .. } if client.is_welcomed => {
                client.answer(connection, *id, news, findings);
            }
            News::Farewell(_) | News::Closed => client.has_left = true,
            News::Status(update) => client.see_watermark(connection, update, findings),
            News::Failed { .. } => {}
        }
    }

    /// Everybody has had the time to catch up: whoever is there has been answered.
    pub(super) fn check_settled(&self, findings: &mut Findings) {
        for (connection, client) in self.all.iter().filter(|(_, client)| !client.has_left) {
            let open = client
                .asked
                .iter()
                .find(|(_, asked)| asked.is_answered && !asked.was_answered);
            findings.check(open.is_none(), Invariant::Answered, || {
                format!("{connection:?} has no answer to {open:?}")
            });
            findings.check(
                client.is_welcomed && client.is_synced,
                Invariant::Converges,
                || format!("{connection:?} is not synced"),
            );
        }
    }

    pub(super) fn conclude(&self, ledger: &Ledger, findings: &mut Findings) {
        for (connection, client) in &self.all {
            client.conclude(*connection, ledger, findings);
        }
    }
}

impl Client {
    fn welcome(&mut self, connection: Connection, resumed: bool, findings: &mut Findings) {
        findings.check(!self.is_welcomed, Invariant::Answered, || {
            format!("{connection:?} was welcomed twice")
        });
        findings.check(!resumed || self.cursor.is_some(), Invariant::Explicit, || {
            format!("{connection:?} gave no cursor, and is told that it was taken")
        });
        self.is_welcomed = true;
        self.start = self.cursor.filter(|_| resumed);
    }

    fn take(
        &mut self,
        connection: Connection,
        position: Position,
        message: &Message,
        findings: &mut Findings,
    ) {
        let last = self.got.last().copied().max(self.start);
        findings.check(last < Some(position), Invariant::Ordered, || {
            format!("{connection:?} was shown {position} after {last:?}")
        });
        findings.check(
            (message.sender, message.sender_device) != self.reader,
            Invariant::MembersOnly,
            || format!("{connection:?} was shown its own {message:?}"),
        );
        self.got.push(position);
        let unacked = self.got.iter().rev();
        let unacked = unacked
            .take_while(|position| Some(**position) > self.acked)
            .count();
        findings.check(unacked <= self.window.max(1), Invariant::Bounded, || {
            format!(
                "{connection:?} was shown {unacked} messages without an ack, its window is {}",
                self.window
            )
        });
    }

    /// An answer is one to what was asked, of its kind, and the only one.
    fn answer(&mut self, connection: Connection, id: u32, news: &News, findings: &mut Findings) {
        let asked = self.asked.get_mut(&id);
        let is_fitting = asked.as_ref().is_some_and(|asked| match news {
            News::Sent { message_id, .. } => {
                asked.is_send && asked.message_id.is_none_or(|asked| asked == *message_id)
            }
            News::Rejected { .. } => asked.is_send,
            News::Page { .. } => !asked.is_send && asked.is_answered,
            _ => true,
        });
        findings.check(
            is_fitting && asked.as_ref().is_some_and(|asked| !asked.was_answered),
            Invariant::Answered,
            || format!("{connection:?} was shown {news:?}, and asked {asked:?}"),
        );
        if let Some(asked) = asked {
            asked.was_answered = true;
        }
    }

    /// Watermarks never go back.
    fn see_watermark(&mut self, connection: Connection, update: &StatusUpdate, findings: &mut Findings) {
        let key = (update.conversation, update.user, update.status == Status::Read);
        let before = self.watermarks.insert(key, update.seq);
        findings.check(before <= Some(update.seq), Invariant::Ordered, || {
            format!("{connection:?} was shown {update:?} after {before:?}")
        });
    }

    /// Everything that the inbox has between the first and the last that a client was shown was shown to it, but its own.
    fn conclude(&self, connection: Connection, ledger: &Ledger, findings: &mut Findings) {
        let (Some(first), Some(last)) = (self.start.or(self.got.first().copied()), self.got.last()) else {
            return;
        };
        for (entry, ..) in owed(self.reader, ledger, findings) {
            let is_between = entry > first && entry <= *last;
            findings.check(
                !is_between || self.got.binary_search(&entry).is_ok(),
                Invariant::Ordered,
                || format!("{connection:?} was shown {last} and never {entry}, from {first} on"),
            );
        }
    }
}
