//! Gateways: clients of all nodes, which know who owns what as well as they can.
//!
//! What a gateway has to keep to where slots move: it takes nothing of a session from a link until the open that it said there
//! last is answered. An answer to an earlier one, and what was sent before it, may still be on its way; a message taken from
//! there could hide one that was never sent.

use std::collections::{BTreeMap, VecDeque};

use wire_base::ids::{ConnectionHandle, Position, SessionNumber};
use wire_link::{Deliver, FromRouter, SessionOpen, SessionOpened, SessionRef, ToRouter};

use super::plan::NODES;
use super::views::View;
use super::world::World;
use crate::transcript::{Connection, Link, Seen};
use router_core::topology::PartitionId;

#[derive(Debug)]
pub(crate) struct Gateway {
    /// Who owns what, as it knows.
    pub(crate) view: View,
    pub(crate) sessions: BTreeMap<ConnectionHandle, Session>,
    /// Opens that have no answer yet.
    opening: BTreeMap<(Link, ConnectionHandle), u32>,
    /// It opens no link to a node before.
    pub(crate) relinks_at_ms: [u64; NODES],
    /// It reads nothing until then.
    pub(crate) deaf_until_ms: u64,
    slots: Vec<u32>,
}

/// A connection of a client, and its session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Index of the client.
    pub(crate) device: usize,
    pub(crate) window: u16,
    /// What the client gave in its hello.
    pub(crate) cursor: Option<Position>,
    /// `None` until a node answered.
    pub(crate) number: Option<SessionNumber>,
    pub(crate) acked: Option<Position>,
    pub(crate) forwarded: Option<Position>,
    /// What the client got and has not acked.
    pub(crate) unacked: VecDeque<Position>,
    pub(crate) is_synced: bool,
    /// The client is gone, and the gateway does not know.
    pub(crate) is_vanished: bool,
    /// Where it was announced last: the node, over which link.
    pub(crate) at: Option<(usize, Link)>,
    /// That is answered.
    pub(crate) is_open: bool,
    /// It is announced again then.
    retries_at_ms: u64,
}

impl Gateway {
    pub(crate) fn new(view: View) -> Self {
        Self {
            view,
            sessions: BTreeMap::new(),
            opening: BTreeMap::new(),
            relinks_at_ms: [0; NODES],
            deaf_until_ms: 0,
            slots: Vec::new(),
        }
    }

    /// Gives a connection its handle: a slot that was used before, or a new one.
    pub(crate) fn take_handle(&mut self) -> ConnectionHandle {
        let is_used = |slot| self.sessions.keys().any(|handle| handle.slot == slot);
        let free = (0..self.slots.len() as u32).find(|slot| !is_used(*slot));
        let slot = free.unwrap_or_else(|| {
            self.slots.push(0);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] += 1;
        ConnectionHandle {
            slot,
            generation: self.slots[slot as usize],
        }
    }

    /// Takes note of an answer to an open; returns whether it is that to the last one, of a session that is there.
    fn is_answered(&mut self, link: Link, handle: ConnectionHandle) -> bool {
        let Some(count) = self.opening.get_mut(&(link, handle)) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.opening.remove(&(link, handle));
        let session = self.sessions.get(&handle);
        session
            .and_then(|session| session.at)
            .is_some_and(|at| at.1 == link)
    }

    /// Returns whether a link speaks of a session as it stands.
    fn hears(&self, link: Link, handle: ConnectionHandle) -> bool {
        let session = self.sessions.get(&handle);
        session.is_some_and(|session| session.is_open && session.at.is_some_and(|at| at.1 == link))
    }
}

impl Session {
    pub(crate) fn new(device: usize, window: u16, cursor: Option<Position>) -> Self {
        Self {
            device,
            window,
            cursor,
            number: None,
            acked: None,
            forwarded: None,
            unacked: VecDeque::new(),
            is_synced: false,
            is_vanished: false,
            at: None,
            is_open: false,
            retries_at_ms: 0,
        }
    }
}

impl World {
    /// Lets the gateways take what has arrived, and announce what is to be announced.
    pub(crate) fn run_gateways(&mut self) {
        for gateway in 0..self.gateways.len() {
            if self.gateways[gateway].deaf_until_ms <= self.now.mono_ms {
                for at in 0..NODES {
                    self.listen(gateway, at);
                }
            }
            let waiting = self.gateways[gateway].sessions.iter();
            let waiting: Vec<_> = waiting
                .filter(|(_, session)| session.at.is_none() && session.retries_at_ms <= self.now.mono_ms)
                .map(|(handle, _)| *handle)
                .collect();
            for handle in waiting {
                self.announce(gateway, handle);
            }
        }
        self.flush_links();
    }

    fn listen(&mut self, gateway: usize, at: usize) {
        let now_ms = self.now.mono_ms;
        while let Some(line) = self.links.get_mut(&(gateway, at)) {
            let link = line.link;
            let Some(records) = line.take_arrived(now_ms) else {
                return;
            };
            for record in records {
                if let Some(record) = self.filter(gateway, link, record) {
                    self.is_lively = true;
                    self.see(Seen::Heard(link, record.clone()));
                    self.hear(gateway, at, record);
                }
            }
        }
    }

    /// Leaves out what concerns no session as it stands.
    fn filter(&mut self, index: usize, link: Link, record: FromRouter) -> Option<FromRouter> {
        let gateway = &mut self.gateways[index];
        let stays = match record {
            FromRouter::SessionOpened(ref opened) => gateway.is_answered(link, opened.connection),
            FromRouter::SessionRefused(ref refused) => {
                let stands = gateway.hears(link, refused.connection);
                gateway.is_answered(link, refused.connection);
                let session = gateway.sessions.get(&refused.connection);
                stands || session.is_some_and(|session| session.at.is_some_and(|at| at.1 == link))
            }
            FromRouter::SessionReplaced(replaced) => {
                let stands = gateway.hears(link, replaced.connection);
                let is_answer = gateway.is_answered(link, replaced.connection);
                if !stands && !is_answer {
                    // Some other connection of the device is newer, whoever says so.
                    self.close_session(index, replaced.connection);
                }
                stands || is_answer
            }
            FromRouter::Synced(synced) => gateway.hears(link, synced.connection),
            FromRouter::Deliver(Deliver { message, mut to }) => {
                to.retain(|(handle, _)| gateway.hears(link, *handle));
                return (!to.is_empty()).then_some(FromRouter::Deliver(Deliver { message, to }));
            }
            FromRouter::StatusUpdate(mut update) => {
                update.to.retain(|handle| gateway.hears(link, *handle));
                return (!update.to.is_empty()).then_some(FromRouter::StatusUpdate(update));
            }
            _ => true,
        };
        if !stays {
            self.coverage.note("answer of an earlier announcement");
        }
        stays.then_some(record)
    }

    fn hear(&mut self, index: usize, at: usize, record: FromRouter) {
        match record {
            FromRouter::SessionOpened(opened) => self.hear_opened(index, &opened),
            FromRouter::SessionRefused(refused) => {
                self.coverage.note(format!("session refused: {:?}", refused.code));
                self.drop_session(index, refused.connection);
            }
            FromRouter::SessionReplaced(session) => {
                self.coverage.note("session replaced");
                self.drop_session(index, session.connection);
                if self.rng.percent(50) {
                    self.say(index, at, ToRouter::SessionClose(session));
                }
            }
            FromRouter::Deliver(deliver) => self.hear_deliver(index, &deliver),
            FromRouter::Synced(synced) => {
                if let Some(session) = self.gateways[index].sessions.get_mut(&synced.connection) {
                    session.is_synced = true;
                }
            }
            FromRouter::Sent(sent) => self.hear_sent(&sent),
            FromRouter::Rejected(rejected) => self.hear_rejected(&rejected),
            FromRouter::StatusUpdate(_) => self.coverage.note("status update"),
            FromRouter::Done(_) => self.coverage.note("status done"),
            FromRouter::Failed(failed) => self.coverage.note(format!("failed: {:?}", failed.code)),
            FromRouter::HistoryPage(_) => self.coverage.note("history page"),
            FromRouter::ConversationsPage(_) => self.coverage.note("conversations page"),
        }
    }

    fn hear_opened(&mut self, index: usize, opened: &SessionOpened) {
        let Some(session) = self.gateways[index].sessions.get_mut(&opened.connection) else {
            return;
        };
        session.is_open = true;
        let is_new = session.number.replace(opened.session).is_none();
        if let Some((_, oldest)) = opened.resync {
            (session.acked, session.forwarded) = (Some(oldest), None);
            session.unacked.clear();
            self.devices[session.device].cursor = None;
            self.coverage.note("resync");
        } else if is_new && opened.resumed {
            session.acked = session.cursor;
            self.coverage.note("resumed by cursor");
        }
    }

    fn hear_deliver(&mut self, index: usize, deliver: &Deliver) {
        for (handle, position) in &deliver.to {
            let Some(session) = self.gateways[index].sessions.get_mut(handle) else {
                continue;
            };
            if session.forwarded.is_some_and(|forwarded| forwarded >= *position) {
                continue;
            }
            self.coverage.note("delivered");
            session.forwarded = Some(*position);
            if session.is_vanished {
                continue;
            }
            session.unacked.push_back(*position);
            let device = &mut self.devices[session.device];
            device.cursor = device.cursor.max(Some(*position));
            let message = &deliver.message;
            device
                .got
                .push((message.conversation, message.seq, message.message_id));
        }
    }

    /// Announces a session to who owns its user, if there is a link to that.
    pub(crate) fn announce(&mut self, index: usize, handle: ConnectionHandle) {
        let topology = self.plan.topology();
        let gateway = &mut self.gateways[index];
        let Some(session) = gateway.sessions.get_mut(&handle) else {
            return;
        };
        let client = &self.devices[session.device];
        let owner = gateway.view.owner(topology.of_user(client.user));
        let line = owner.and_then(|owner| Some((owner, self.links.get(&(index, owner))?.link)));
        (session.is_open, session.is_synced) = (false, false);
        let Some((at, link)) = line else {
            session.at = None;
            session.retries_at_ms = self.now.mono_ms + 10;
            return;
        };
        session.at = Some((at, link));
        *gateway.opening.entry((link, handle)).or_default() += 1;
        let is_live = session.number.is_some();
        let open = SessionOpen {
            connection: handle,
            user: client.user,
            device: client.device,
            session: session.number,
            cursor: if is_live { session.acked } else { session.cursor },
            forwarded: session.forwarded,
            window: session.window,
        };
        self.coverage.add("session announced again", u64::from(is_live));
        self.say(index, at, ToRouter::SessionOpen(open));
    }

    fn announce_later(&mut self, index: usize, handle: ConnectionHandle) {
        let after_ms = self.rng.within(5..300);
        if let Some(session) = self.gateways[index].sessions.get_mut(&handle) {
            (session.at, session.is_open, session.is_synced) = (None, false, false);
            session.retries_at_ms = self.now.mono_ms + after_ms;
        }
    }

    /// Announces the sessions of a slot that has another owner, or the same one again.
    pub(crate) fn reroute_sessions(&mut self, index: usize, id: PartitionId) {
        let topology = self.plan.topology();
        let devices = &self.devices;
        let is_of = |session: &Session| topology.of_user(devices[session.device].user) == id;
        let sessions = self.gateways[index].sessions.iter();
        let handles: Vec<_> = sessions
            .filter(|(_, session)| is_of(session))
            .map(|(handle, _)| *handle)
            .collect();
        for handle in handles {
            self.announce(index, handle);
        }
    }

    /// Forgets what was announced or asked over a link that is gone.
    pub(crate) fn lose_link(&mut self, index: usize, link: Link) {
        let gateway = &mut self.gateways[index];
        gateway.opening.retain(|(of, _), _| *of != link);
        let sessions = gateway.sessions.iter();
        let handles: Vec<_> = sessions
            .filter(|(_, session)| session.at.is_some_and(|at| at.1 == link))
            .map(|(handle, _)| *handle)
            .collect();
        for handle in handles {
            if self.rng.percent(15) {
                self.announce_later(index, handle);
                self.close_session(index, handle);
            } else {
                self.announce_later(index, handle);
            }
        }
        self.lose_questions(link);
    }

    /// Closes a session, telling the node that has it.
    pub(crate) fn close_session(&mut self, index: usize, handle: ConnectionHandle) {
        let Some(session) = self.drop_session(index, handle) else {
            return;
        };
        let client = &self.devices[session.device];
        let (user, device) = (client.user, client.device);
        let close = SessionRef {
            connection: handle,
            user,
            device,
        };
        match session.at {
            Some((at, _)) => {
                self.say(index, at, ToRouter::SessionClose(close));
            }
            // Who had it before is not told: it does not own the user any more.
            None => self.see(Seen::Vanished(Connection {
                gateway: index,
                handle,
            })),
        }
    }

    fn drop_session(&mut self, index: usize, handle: ConnectionHandle) -> Option<Session> {
        let session = self.gateways[index].sessions.remove(&handle)?;
        let device = &mut self.devices[session.device];
        if device.at == Some((index, handle)) {
            device.at = None;
        }
        Some(session)
    }
}
