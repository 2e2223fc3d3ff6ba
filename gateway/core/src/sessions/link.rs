//! Links that come and go, and what the router must learn once there is one: it is kept as state, never as a queue.

use wire_base::ids::ConnectionHandle;
use wire_link::{AckRecord, LINK_VERSION, LinkHello, LinkId, LinkKind, SessionOpen, SessionRef, ToRouter};

use super::session::{Flags, Stage};
use super::{Session, Sessions};
use crate::connections::{Connections, Pauses};
use crate::routes::RouterId;
use crate::time::Now;

impl Sessions {
    /// Says hello, and begins to announce every session of the router's users.
    pub(super) fn handle_link_up(
        &mut self,
        connections: &mut Connections<Session>,
        link: LinkId,
        router: RouterId,
        now: Now,
    ) {
        if self.uplinks.is_up(router) {
            self.handle_link_down(connections, router, now);
        }
        self.uplinks.handle_up(router, link);
        let uplink = self.uplinks.get_mut(router);
        uplink.push(&ToRouter::Hello(LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Gateway,
            node: self.config.gateway.clone(),
            epoch: self.config.epoch,
            worker: self.config.worker,
        }));
        uplink.announce_from(0);
        connections.stats.links_up = self.uplinks.up() as u64;
    }

    /// Answers what was in flight to a router, and forgets what only its link knew. Clients stay, and what goes to other
    /// routers is not touched.
    pub(super) fn handle_link_down(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        now: Now,
    ) {
        let behind = self.uplinks.get_mut(router).handle_down();
        connections.stats.links_up = self.uplinks.up() as u64;
        connections.stats.link_breaks += 1;
        let mut slot = 0;
        while let Some(id) = connections.next_from(slot) {
            slot = id.slot + 1;
            if let Some(session) = connections.session_mut(id)
                && self.uplinks.owns(router, session)
            {
                session.flags.set(Flags::ANNOUNCED, false);
                session.flags.set(Flags::ACK_QUEUED, false);
            }
        }
        for request in self.pending.take_all(|request| request.router == router) {
            self.answer_unavailable(connections, request, "the link to the router broke", now);
        }
        resume_behind(connections, behind, now);
    }

    pub(super) fn handle_link_room(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        now: Now,
    ) {
        let behind = self.uplinks.get_mut(router).handle_room();
        resume_behind(connections, behind, now);
    }

    /// Tells a router, as far as there is room, what it must know: acks, ends of sessions, sessions.
    ///
    /// Order: what a session acked goes before its end, and both before any session is opened, which may be the next of
    /// the same device: the router ignores the acks of a session that is over.
    pub(super) fn push_state(&mut self, connections: &mut Connections<Session>, router: RouterId) {
        while self.uplinks.has_room_for_state(router)
            && let Some(id) = self.uplinks.get_mut(router).acks.pop()
        {
            if let Some(ack) = connections.session_mut(id).and_then(take_ack) {
                self.uplinks.get_mut(router).push(&ToRouter::Ack(ack));
            }
        }
        while self.uplinks.has_room_for_state(router)
            && let Some(gone) = self.uplinks.get_mut(router).gone.pop()
        {
            let uplink = self.uplinks.get_mut(router);
            if let Some(ack) = gone.ack {
                uplink.push(&ToRouter::Ack(ack));
            }
            uplink.push(&ToRouter::SessionClose(gone.session));
        }
        let uplink = self.uplinks.get(router);
        if uplink.acks.is_empty() && uplink.gone.is_empty() {
            self.push_announcements(connections, router);
        }
    }

    /// Keeps what the router of a session must learn when it ends, or goes to another router.
    pub(super) fn handle_session_ended(&mut self, session: &mut Session, connection: ConnectionHandle) {
        if let Some(router) = self.uplinks.of_session(session)
            && let Some(gone) = take_gone(session, connection)
        {
            self.uplinks.get_mut(router).gone.push(gone);
        }
    }

    fn push_announcements(&mut self, connections: &mut Connections<Session>, router: RouterId) {
        while self.uplinks.has_room_for_state(router)
            && let Some(slot) = self.uplinks.get(router).announce_from
        {
            let next = connections.next_from(slot);
            self.uplinks.get_mut(router).announce_from = next.map(|id| id.slot + 1);
            match next {
                Some(id) => self.announce(connections, router, id),
                None => return,
            }
        }
    }

    /// Tells a router of a session, unless there is none, the router knows it, or it is another router's.
    fn announce(&mut self, connections: &mut Connections<Session>, router: RouterId, id: ConnectionHandle) {
        if !connections.is_open(id) {
            return;
        }
        let opening = self.opening.get(&id);
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        let is_known = session.stage.awaits_hello() || session.flags.contains(Flags::ANNOUNCED);
        if is_known || !self.uplinks.owns(router, session) {
            return;
        }
        let (Some(user), Some(device)) = (session.user(), session.device()) else {
            return;
        };
        let is_live = session.stage == Stage::Live;
        session.flags.set(Flags::ANNOUNCED, true);
        self.uplinks
            .get_mut(router)
            .push(&ToRouter::SessionOpen(SessionOpen {
                connection: id,
                user,
                device,
                session: is_live.then(|| session.number()),
                cursor: if is_live {
                    session.cursor_to_announce()
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

    pub(super) fn update_gauges(&self, connections: &mut Connections<Session>) {
        connections.stats.link_bytes = self.uplinks.len() as u64;
        connections.stats.pending = self.pending.len() as u64;
    }
}

fn resume_behind(connections: &mut Connections<Session>, behind: Vec<ConnectionHandle>, now: Now) {
    for id in behind {
        connections.resume(id, Pauses::LINK, now);
    }
}

/// A session that is over at a router, which does not know that.
pub(super) struct Gone {
    session: SessionRef,
    /// Its last ack, if that was not passed on.
    ack: Option<AckRecord>,
}

/// Returns what a router that knows a session must learn of its end; from then on it counts as not announced.
pub(super) fn take_gone(session: &mut Session, connection: ConnectionHandle) -> Option<Gone> {
    let ack = take_ack(session);
    if !session.flags.contains(Flags::ANNOUNCED) {
        return None;
    }
    session.flags.set(Flags::ANNOUNCED, false);
    Some(Gone {
        session: SessionRef {
            connection,
            user: session.user()?,
            device: session.device()?,
        },
        ack,
    })
}

/// Returns the ack of a session that is to be passed on; `None` where the announcement to come carries it.
fn take_ack(session: &mut Session) -> Option<AckRecord> {
    if !session.flags.contains(Flags::ACK_QUEUED) {
        return None;
    }
    session.flags.set(Flags::ACK_QUEUED, false);
    if !session.flags.contains(Flags::ANNOUNCED) {
        return None;
    }
    Some(AckRecord {
        user: session.user()?,
        device: session.device()?,
        session: session.number(),
        position: session.acked()?,
    })
}
