//! Watermarks: they grow, they say no more than recipients said, and who sent is told.

use std::collections::BTreeMap;

use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UserId};
use wire_base::status::Status;
use wire_base::status::StatusOf;
use wire_link::{StatusRecord, StatusUpdateRecord, ToRouter};

use super::connections::{Connections, Reader};
use super::ledger::Ledger;
use super::{Findings, Invariant};
use crate::transcript::{Connection, Link};

#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// How far any device of a user said that it has everything.
    claimed: BTreeMap<UserId, Position>,
    statuses: Vec<Claim>,
    /// What is surely so.
    marks: BTreeMap<(ConversationId, UserId), Marks>,
    /// The newest update that each device was shown at a gateway: what two of them show at once has no order.
    shown: BTreeMap<(Reader, usize, ConversationId, UserId, u8), Seq>,
    /// What to check when all positions are known.
    to_check: Vec<Shown>,
    /// What a status, once done, makes sure.
    pending: BTreeMap<(Link, u64), Pending>,
    due: Vec<Due>,
}

/// See [`Receipts::pending`].
#[derive(Clone, Debug)]
struct Pending {
    conversation: ConversationId,
    seq: Seq,
    /// Who has to be told, if the mark surely stood lower.
    peers: Vec<Listener>,
}

/// A connection that hears status updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) connection: Connection,
    pub(super) link: Link,
    pub(super) reader: Reader,
}

/// An update that a connection is to hear, as long as it stands.
#[derive(Clone, Copy, Debug)]
struct Due {
    to: Listener,
    conversation: ConversationId,
    user: UserId,
    seq: Seq,
}

/// How far a member surely has received and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) delivered: Seq,
    pub(super) read: Seq,
}

/// A status that was asked for.
#[derive(Clone, Copy, Debug)]
struct Claim {
    user: UserId,
    device: DeviceId,
    status: Status,
    of: StatusOf,
}

/// A watermark that somebody was shown, and what its user had said by then.
#[derive(Clone, Copy, Debug)]
struct Shown {
    conversation: ConversationId,
    user: UserId,
    status: Status,
    seq: Seq,
    message_id: Option<MessageId>,
    claimed: Option<Position>,
    statuses: usize,
    /// Only what other devices said counts.
    except: Option<DeviceId>,
}

impl Receipts {
    /// Takes the word of a device that it has everything up to a position.
    pub(super) fn handle_claim(&mut self, user: UserId, position: Position) {
        let claimed = self.claimed.entry(user).or_insert(position);
        *claimed = (*claimed).max(position);
    }

    /// Takes a status that is asked for; `peers` are the connections of the other member.
    pub(super) fn handle_status(
        &mut self,
        link: Link,
        status: &StatusRecord,
        peers: Vec<Listener>,
        ledger: &Ledger,
    ) {
        let StatusRecord {
            request,
            user,
            device,
            command,
        } = *status;
        // A seq means the newest message up to it that the user received.
        let sure = match command.of {
            StatusOf::Seq(conversation, seq) => ledger
                .received(conversation, user, seq)
                .map(|seq| (conversation, seq)),
            StatusOf::Message(message_id) => {
                let mut received = ledger
                    .with_id(message_id)
                    .filter(|(key, _)| key.sender != user && ledger.is_member(key.conversation, user));
                // Of several it is not known here which one was meant.
                let only = received.next().filter(|_| received.next().is_none());
                only.map(|(key, seq)| (key.conversation, seq))
            }
        };
        if let Some((conversation, seq)) = sure {
            let is_news = command.status == Status::Read
                && seq > Seq(0)
                && !self
                    .statuses
                    .iter()
                    .any(|claim| claim.reads(user, conversation, seq, ledger));
            let peers = if is_news { peers } else { Vec::new() };
            let pending = Pending {
                conversation,
                seq,
                peers,
            };
            self.pending.insert((link, request.0), pending);
        }
        self.statuses.push(Claim {
            user,
            device,
            status: command.status,
            of: command.of,
        });
    }

    pub(super) fn handle_done(
        &mut self,
        link: Link,
        status: &StatusRecord,
        ledger: &Ledger,
        findings: &Findings,
    ) {
        let Some(pending) = self.pending.remove(&(link, status.request.0)) else {
            return;
        };
        let Pending {
            conversation,
            seq,
            peers,
        } = pending;
        if ledger.may_be_gone(conversation, seq, findings) {
            return; // A status of nothing but what is no longer kept moves nothing.
        }
        let marks = self.marks.entry((conversation, status.user)).or_default();
        marks.delivered = marks.delivered.max(seq);
        if status.command.status == Status::Read {
            marks.read = marks.read.max(seq);
        }
        let user = status.user;
        self.due.extend(peers.into_iter().map(|to| Due {
            to,
            conversation,
            user,
            seq,
        }));
    }

    /// Everything had the time to arrive: so had the updates, on connections that still stand.
    pub(super) fn check_settled(&mut self, connections: &Connections, findings: &mut Findings) {
        for due in std::mem::take(&mut self.due) {
            let gateway = due.to.connection.gateway;
            let key = (
                due.to.reader,
                gateway,
                due.conversation,
                due.user,
                Status::Read as u8,
            );
            let shown = self.shown.get(&key);
            let is_told = shown.is_some_and(|shown| *shown >= due.seq) || !connections.stands(&due.to);
            findings.check(is_told, Invariant::Receipts, || {
                format!("{due:?} was never told, but {shown:?}")
            });
        }
    }

    pub(super) fn handle_failed(&mut self, link: Link, asked: &ToRouter) {
        if let ToRouter::Status(status) = asked {
            self.pending.remove(&(link, status.request.0));
        }
    }

    /// Takes an update for a device at a gateway. One that is not heard says what is true all the same.
    pub(super) fn handle_update(
        &mut self,
        (reader, gateway): (Reader, usize),
        is_heard: bool,
        update: &StatusUpdateRecord,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let StatusUpdateRecord {
            conversation,
            user,
            status,
            seq,
            message_id,
            ..
        } = *update;
        let is_peer = ledger.peer(conversation, user) == Some(reader.0) && reader.0 != user;
        let is_own = reader.0 == user && status == Status::Read;
        findings.check(
            ledger.is_member(conversation, user) && (is_peer || is_own),
            Invariant::Receipts,
            || format!("{reader:?} was told {update:?}"),
        );
        if is_heard {
            let key = (reader, gateway, conversation, user, status as u8);
            let before = self.shown.insert(key, seq);
            findings.check(
                before.is_none_or(|before| before < seq) || findings.may_be_behind(),
                Invariant::Receipts,
                || format!("{reader:?} was told {update:?} after {before:?}"),
            );
        }
        let except = is_own.then_some(reader.1);
        self.show(conversation, user, status, seq, Some(message_id), except);
    }

    /// Takes the watermarks of a member as a page shows them; `sure` is what they surely were when it was asked for.
    pub(super) fn handle_page(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        page: Marks,
        sure: Marks,
        findings: &mut Findings,
    ) {
        findings.check(
            page.delivered >= sure.delivered && page.read >= sure.read,
            Invariant::Receipts,
            || format!("the marks of {user:?} in {conversation} were {sure:?} and are {page:?}"),
        );
        findings.check(page.read <= page.delivered, Invariant::Receipts, || {
            format!("{user:?} read in {conversation} what was not delivered: {page:?}")
        });
        for (status, seq) in [(Status::Delivered, page.delivered), (Status::Read, page.read)] {
            if seq > Seq(0) {
                self.show(conversation, user, status, seq, None, None);
            }
        }
    }

    fn show(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        status: Status,
        seq: Seq,
        message_id: Option<MessageId>,
        except: Option<DeviceId>,
    ) {
        let marks = self.marks.entry((conversation, user)).or_default();
        marks.delivered = marks.delivered.max(seq);
        if status == Status::Read {
            marks.read = marks.read.max(seq);
        }
        self.to_check.push(Shown {
            conversation,
            user,
            status,
            seq,
            message_id,
            claimed: self.claimed.get(&user).copied(),
            statuses: self.statuses.len(),
            except,
        });
    }

    pub(super) fn marks(&self, conversation: ConversationId, user: UserId) -> Marks {
        self.marks.get(&(conversation, user)).copied().unwrap_or_default()
    }

    pub(super) fn conclude(&self, ledger: &Ledger, findings: &mut Findings) {
        for shown in &self.to_check {
            let message = ledger.message(shown.conversation, shown.seq);
            let is_right = match (message, shown.message_id) {
                (Some(message), Some(message_id)) => message.message_id == message_id,
                (Some(_), None) => true,
                (None, _) => ledger.may_be_gone(shown.conversation, shown.seq, findings),
            };
            findings.check(is_right, Invariant::Receipts, || {
                format!("{shown:?} is of another message: {message:?}")
            });
            findings.check(self.has_cause(shown, ledger), Invariant::Receipts, || {
                format!("{shown:?} was shown, and nobody had said so")
            });
        }
    }

    /// Returns whether the user had said what was shown: by an ack of that message, or by a status.
    fn has_cause(&self, shown: &Shown, ledger: &Ledger) -> bool {
        let by_ack = shown.status == Status::Delivered && {
            let position = ledger.position(shown.user, shown.conversation, shown.seq);
            // What only the user's own device might have shown is not known; then any claim will do.
            shown
                .claimed
                .is_some_and(|claimed| position.is_none_or(|position| position <= claimed))
        };
        by_ack
            || self.statuses[..shown.statuses]
                .iter()
                .any(|claim| claim.covers(shown, ledger))
    }
}

impl Claim {
    /// Returns whether it may have moved the read mark of a user to that seq.
    fn reads(&self, user: UserId, conversation: ConversationId, seq: Seq, ledger: &Ledger) -> bool {
        let shown = Shown {
            conversation,
            user,
            status: Status::Read,
            seq,
            message_id: None,
            claimed: None,
            statuses: 0,
            except: None,
        };
        self.covers(&shown, ledger)
    }

    fn covers(&self, shown: &Shown, ledger: &Ledger) -> bool {
        let is_as_strong = shown.status == Status::Delivered || self.status == Status::Read;
        let is_his = self.user == shown.user && Some(self.device) != shown.except;
        is_his
            && is_as_strong
            && match self.of {
                StatusOf::Seq(conversation, seq) => conversation == shown.conversation && seq >= shown.seq,
                StatusOf::Message(message_id) => ledger
                    .with_id(message_id)
                    .any(|(key, seq)| key.conversation == shown.conversation && seq >= shown.seq),
            }
    }
}
