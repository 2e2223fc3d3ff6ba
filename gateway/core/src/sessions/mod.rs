//! The product: sessions of users' devices, between clients that speak JSON and a router that speaks records.
//!
//! Reading order: this file (settings, and which part does what); `session` (what the slab entry holds); `upgrade` and
//! `login` (who is it); `commands` (client to router), `uplinks`, `uplink` and `pending` (on the way); `answers` and `deliver`
//! (router to client); `link` (links that come and go) and `view` (slots that change their router).

mod answers;
mod commands;
mod deliver;
mod link;
mod login;
mod pages;
mod pending;
mod session;
mod upgrade;
mod uplink;
mod uplinks;
mod view;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire_auth::Verifier;
use wire_base::code::Code;
use wire_base::ids::{ConnectionHandle, MessageId};
use wire_client::{Event, Failure, Rejected};
use wire_link::LinkId;
use wire_ws::Rules;
use wire_ws::upgrade::{Refusal, Request};

use crate::application::{Accepted, Application, LinkEvent};
use crate::connections::{Connections, SlowReaders};
use crate::disconnect::Reason;
use crate::routes::Routes;
use crate::time::Now;

use login::Opening;
use pages::Pages;
pub(crate) use pending::PENDING_BYTES;
use pending::Pending;
pub use session::Session;
use session::Stage;
use uplinks::Uplinks;

/// Settings of [`Sessions`].
#[derive(Clone)]
pub struct SessionsConfig {
    /// Name of this gateway, shown in `welcome` and to the router.
    pub gateway: String,
    /// Start time of the process, in ms since 1970: the router ends the sessions of an earlier one.
    pub epoch: u64,
    /// Number of the worker.
    pub worker: u16,
    /// How users are known.
    pub auth: Auth,
    /// Origins of pages that may connect, compared exactly; empty: all, and with [`Auth::InsecureDev`] those of this machine,
    /// which may always. A client without an origin is no browser.
    pub origins: Vec<String>,
    /// Sustained sends a second that `welcome` announces; 0: not limited. The router enforces it.
    pub sends_per_s: u32,
}

/// How users are known.
#[derive(Clone)]
pub enum Auth {
    /// By bearer tokens.
    Tokens(Verifier),
    /// By their word, and malformed commands are not limited. For loopback only.
    InsecureDev,
}

/// The sessions of one worker.
///
/// Shape: everything here is bounded by [`crate::limits`] or is at most one entry a connection.
pub struct Sessions {
    config: SessionsConfig,
    uplinks: Uplinks,
    pending: Pending,
    pages: Pages,
    /// Hellos that the router has not answered.
    opening: BTreeMap<ConnectionHandle, Opening>,
}

impl Sessions {
    /// Returns the application, without a link; until it is told otherwise, router 0 owns everything.
    pub fn new(config: SessionsConfig) -> Self {
        Self {
            config,
            uplinks: Uplinks::new(),
            pending: Pending::new(),
            pages: Pages::new(),
            opening: BTreeMap::new(),
        }
    }

    fn send_event(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        event: &Event<'_>,
        now: Now,
    ) {
        if let Some(format) = connections.session(id).map(Session::format) {
            connections.send_event(id, format, now, |out| format.encode(event, out));
        }
    }

    /// Answers a command that is not a send.
    fn send_error(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        failure: Failure<'_>,
        now: Now,
    ) {
        self.send_event(connections, id, &Event::Error(failure), now);
    }

    /// Answers a send.
    fn send_rejected(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        rejected: Rejected<'_>,
        now: Now,
    ) {
        self.send_event(connections, id, &Event::Rejected(rejected), now);
    }
}

impl Application for Sessions {
    type Session = Session;

    const SLOW_READERS: SlowReaders = SlowReaders::Close;

    fn rules(&self) -> Rules {
        Rules {
            takes_binary: false,
            ..Rules::server()
        }
    }

    fn is_endpoint(&self, path: &str) -> bool {
        upgrade::endpoint(path).is_some()
    }

    fn upgrade(&mut self, request: &Request<'_>, now: Now) -> Result<Accepted<Session>, Refusal> {
        upgrade::decide(&self.config, request, now)
    }

    fn handle_text(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        text: &str,
        now: Now,
    ) {
        self.handle_frame(connections, id, text, now);
    }

    fn handle_binary(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        _: &[u8],
        now: Now,
    ) {
        connections.close(id, Reason::UnsupportedData, now);
    }

    fn handle_ended(&mut self, connections: &mut Connections<Session>, id: ConnectionHandle, _: Now) {
        self.opening.remove(&id);
        self.pages.handle_ended(id, &mut self.pending);
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        self.handle_session_ended(session, id);
        if session.stage == Stage::Live {
            connections.stats.sessions -= 1;
        }
    }

    fn handle_farewell(&mut self, connections: &mut Connections<Session>, id: ConnectionHandle, now: Now) {
        if connections
            .session(id)
            .is_some_and(|session| session.stage == Stage::Live)
        {
            let event = Event::Reconnect {
                after_ms: connections.config.reconnect_after_ms,
                jitter_ms: connections.config.reconnect_jitter_ms,
                reason: Reason::Draining.disconnect().text,
            };
            self.send_event(connections, id, &event, now);
        }
    }

    fn deadline_ms(&self, connections: &Connections<Session>, id: ConnectionHandle, now: Now) -> Option<u64> {
        self.next_deadline(connections, id, now).map(|(at_ms, _)| at_ms)
    }

    fn handle_deadline(&mut self, connections: &mut Connections<Session>, id: ConnectionHandle, now: Now) {
        if let Some((_, reason)) = self
            .next_deadline(connections, id, now)
            .filter(|&(at_ms, _)| at_ms <= now.mono_ms)
        {
            if reason == Reason::NoRouter {
                self.refuse_hello(connections, id, now);
            }
            connections.close(id, reason, now);
        }
    }

    fn handle_link(
        &mut self,
        connections: &mut Connections<Session>,
        link: LinkId,
        event: LinkEvent,
        now: Now,
    ) {
        match (event, self.uplinks.find(link)) {
            (LinkEvent::Up(router), _) => self.handle_link_up(connections, link, router, now),
            (LinkEvent::Batch(batch), Some(router)) => {
                self.handle_batch(connections, link, router, batch, now)
            }
            (LinkEvent::Room, Some(router)) => self.handle_link_room(connections, router, now),
            (LinkEvent::Down, Some(router)) => self.handle_link_down(connections, router, now),
            (LinkEvent::Batch(_) | LinkEvent::Room | LinkEvent::Down, None) => {}
        }
        self.update_gauges(connections);
    }

    fn handle_view(&mut self, connections: &mut Connections<Session>, routes: Routes, now: Now) {
        self.change_view(connections, routes, now);
        self.update_gauges(connections);
    }

    fn handle_link_refused(&mut self, connections: &mut Connections<Session>, link: LinkId, batch: Bytes) {
        if let Some(router) = self.uplinks.find(link) {
            self.uplinks.get_mut(router).handle_refused(batch);
            connections.stats.link_batches_refused += 1;
            self.update_gauges(connections);
        }
    }

    fn handle_timeout(&mut self, connections: &mut Connections<Session>, now: Now) {
        while let Some(request) = self.pending.take_expired(now) {
            connections.stats.pending_timeouts += 1;
            self.answer_unavailable(connections, request, "no answer from the router in time", now);
        }
        self.update_gauges(connections);
    }

    fn handle_verifier(&mut self, verifier: Verifier) {
        // Sessions stay: what their token said holds until it expires.
        if let Auth::Tokens(current) = &mut self.config.auth {
            *current = verifier;
        }
    }

    fn poll_timeout(&self) -> Option<u64> {
        // What found no room in the batches of this tick goes on with the next, at once.
        if self.uplinks.has_state() {
            Some(0)
        } else {
            self.pending
                .next_ms()
                .into_iter()
                .chain(self.pages.next_ms())
                .min()
        }
    }

    fn handle_tick_end(&mut self, connections: &mut Connections<Session>, now: Now) {
        for router in self.uplinks.routers() {
            self.push_state(connections, router);
        }
        self.push_pages(connections, now);
        self.uplinks.cut();
        self.update_gauges(connections);
    }

    fn poll_link(&mut self, connections: &mut Connections<Session>) -> Option<(LinkId, Bytes)> {
        let polled = self.uplinks.poll()?;
        connections.stats.link_batches_sent += 1;
        connections.stats.link_bytes = self.uplinks.len() as u64;
        Some(polled)
    }
}

/// An `error` or `rejected` in the making.
#[derive(Clone, Copy)]
struct Refused<'a> {
    code: Code,
    reason: &'a str,
}

impl Refused<'_> {
    const fn failure(&self, id: Option<u32>) -> Failure<'_> {
        Failure {
            id,
            code: self.code,
            reason: self.reason,
        }
    }

    const fn rejected(
        &self,
        id: Option<u32>,
        message_id: Option<MessageId>,
        retry_after_ms: Option<u32>,
    ) -> Rejected<'_> {
        Rejected {
            id,
            message_id,
            code: self.code,
            reason: self.reason,
            retry_after_ms,
        }
    }
}

#[cfg(test)]
impl Sessions {
    /// Returns whether nothing is kept for any connection.
    fn is_idle(&self) -> bool {
        self.pending.len() == 0 && self.pages.is_empty() && self.opening.is_empty() && self.uplinks.is_idle()
    }
}

#[cfg(test)]
mod tests;
