//! Links that come and go, and what the router must learn once there is one: it is kept as state, never as a queue.

use wire_base::ids::ConnectionHandle;
use wire_link::{AckRecord, LINK_VERSION, LinkHello, LinkId, LinkKind, SessionOpen, SessionRef, ToRouter};

use super::session::{Flag, Stage};
use super::{Session, Sessions};
use crate::connections::{Connections, Pauses};
use crate::time::Now;

impl Sessions {
    /// Says hello, and begins to announce every session.
    pub(super) fn handle_link_up(&mut self, connections: &mut Connections<Session>, link: LinkId, now: Now) {
        if self.uplink.is_up() {
            self.handle_link_down(connections, now);
        }
        self.uplink.handle_up(link);
        self.uplink.push(&ToRouter::Hello(LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Gateway,
            node: self.config.gateway.clone(),
            epoch: self.config.epoch,
            worker: self.config.worker,
        }));
        connections.stats.links_up = 1;
        self.announce_from(0);
    }

    /// Answers what was in flight, and forgets what only that link knew. Clients stay.
    pub(super) fn handle_link_down(&mut self, connections: &mut Connections<Session>, now: Now) {
        self.uplink.handle_down();
        connections.stats.links_up = 0;
        connections.stats.link_breaks += 1;
        self.announce_from = None;
        self.acks.clear();
        self.gone.clear();
        let mut slot = 0;
        while let Some(id) = connections.next_from(slot) {
            slot = id.slot + 1;
            if let Some(session) = connections.session_mut(id) {
                session.set(Flag::Announced, false);
                session.set(Flag::AckQueued, false);
            }
        }
        while let Some(request) = self.pending.take_oldest() {
            self.answer_unavailable(connections, request, "the link to the router broke", now);
        }
        self.resume_behind(connections, now);
    }

    pub(super) fn handle_link_room(&mut self, connections: &mut Connections<Session>, now: Now) {
        self.uplink.handle_room();
        self.resume_behind(connections, now);
    }

    /// Looks at sessions from a slot on that the router must be told of, at the end of the tick.
    pub(super) fn announce_from(&mut self, slot: u32) {
        self.announce_from = Some(self.announce_from.map_or(slot, |from| from.min(slot)));
    }

    /// Tells the router, as far as there is room, what it must know: acks, ends of sessions, sessions.
    ///
    /// Order: what a session acked goes before its end, and both before any session is opened, which may be the next of
    /// the same device: the router ignores the acks of a session that is over.
    pub(super) fn push_state(&mut self, connections: &mut Connections<Session>) {
        while self.uplink.has_room_for_state()
            && let Some(id) = self.acks.pop()
        {
            if let Some(ack) = connections.session_mut(id).and_then(take_ack) {
                self.uplink.push(&ToRouter::Ack(ack));
            }
        }
        while self.uplink.has_room_for_state()
            && let Some(gone) = self.gone.pop()
        {
            if let Some(ack) = gone.ack {
                self.uplink.push(&ToRouter::Ack(ack));
            }
            self.uplink.push(&ToRouter::SessionClose(gone.session));
        }
        if self.acks.is_empty() && self.gone.is_empty() {
            self.push_announcements(connections);
        }
    }

    /// Keeps what the router must learn of a session that ends.
    pub(super) fn handle_session_ended(&mut self, session: &mut Session, connection: ConnectionHandle) {
        if session.has(Flag::Announced)
            && let (Some(user), Some(device)) = (session.user(), session.device())
        {
            self.gone.push(Gone {
                session: SessionRef {
                    connection,
                    user,
                    device,
                },
                ack: take_ack(session),
            });
        }
    }

    fn push_announcements(&mut self, connections: &mut Connections<Session>) {
        while self.uplink.has_room_for_state()
            && let Some(slot) = self.announce_from
        {
            let Some(id) = connections.next_from(slot) else {
                self.announce_from = None;
                return;
            };
            self.announce_from = Some(id.slot + 1);
            self.announce(connections, id);
        }
    }

    /// Tells the router of a session, unless there is none or the router knows it.
    fn announce(&mut self, connections: &mut Connections<Session>, id: ConnectionHandle) {
        if !connections.is_open(id) {
            return;
        }
        let opening = self.opening.get(&id);
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        if session.stage.awaits_hello() || session.has(Flag::Announced) {
            return;
        }
        let (Some(user), Some(device)) = (session.user(), session.device()) else {
            return;
        };
        let is_live = session.stage == Stage::Live;
        session.set(Flag::Announced, true);
        self.uplink.push(&ToRouter::SessionOpen(SessionOpen {
            connection: id,
            user,
            device,
            session: is_live.then(|| session.number()),
            cursor: if is_live {
                session.acked()
            } else {
                opening.and_then(|opening| opening.cursor)
            },
            forwarded: session.forwarded(),
            window: session.window,
        }));
        if is_live {
            connections.stats.sessions_announced += 1;
        }
    }

    fn resume_behind(&mut self, connections: &mut Connections<Session>, now: Now) {
        for id in std::mem::take(&mut self.behind) {
            connections.resume(id, Pauses::LINK, now);
        }
    }

    pub(super) fn update_gauges(&self, connections: &mut Connections<Session>) {
        connections.stats.link_bytes = self.uplink.len() as u64;
        connections.stats.pending = self.pending.len() as u64;
    }
}

/// A session that ended and of which the router does not know that.
pub(super) struct Gone {
    session: SessionRef,
    /// Its last ack, if that was not passed on.
    ack: Option<AckRecord>,
}

/// Returns the ack of a session that is to be passed on; `None` where the announcement to come carries it.
fn take_ack(session: &mut Session) -> Option<AckRecord> {
    if !session.has(Flag::AckQueued) {
        return None;
    }
    session.set(Flag::AckQueued, false);
    if !session.has(Flag::Announced) {
        return None;
    }
    Some(AckRecord {
        user: session.user()?,
        device: session.device()?,
        session: session.number(),
        position: session.acked()?,
    })
}
