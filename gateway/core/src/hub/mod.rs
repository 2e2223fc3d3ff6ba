//! The state machine of a worker: facts in by `handle_*`, intentions out by `poll_*`.
//!
//! Reading order: this file (every fact), `upgrade` (the HTTP request), `frames` (received bytes to messages), `drain`.

mod drain;
mod frames;
mod upgrade;

use bytes::Bytes;
use wire_auth::Verifier;
use wire_base::ids::ConnectionHandle;
use wire_link::LinkId;
use wire_ws::Rules;

use crate::application::{Application, LinkEvent};
use crate::budget::MemoryBudget;
use crate::config::HubConfig;
use crate::connections::{Connections, Held, Phase};
use crate::disconnect::Reason;
use crate::limits::DISCARD_BYTES_MAX;
use crate::output::{Output, Reading};
use crate::routes::{RouterId, Routes};
use crate::stats::Stats;
use crate::time::Now;

use drain::Drain;

/// The connections of one worker and the application that runs on them.
///
/// Order, in each tick of the driver: all events of the reactor (every send of the last tick that a socket did not take
/// whole among them) and all batches of links; `handle_timeout` if it is due; `handle_tick_end`; `poll_output` until it gives
/// `None`; then sleep until `poll_timeout`. Facts about a connection that is gone are without effect.
pub struct Hub<A: Application> {
    application: A,
    rules: Rules,
    connections: Connections<A::Session>,
    drain: Option<Drain>,
}

impl<A: Application> Hub<A> {
    /// Returns a hub without connections. The same seed and facts give the same outputs.
    pub fn new(config: HubConfig, application: A, seed: u64) -> Self {
        Self {
            rules: application.rules(),
            application,
            connections: Connections::new(config, A::SLOW_READERS, seed),
            drain: None,
        }
    }

    /// Takes a new connection. Its slot is the hub's slab index: dense, reused, never in use twice at a time.
    pub fn handle_accepted(&mut self, id: ConnectionHandle, now: Now) {
        if let Some(old) = self
            .connections
            .next_from(id.slot)
            .filter(|old| old.slot == id.slot)
        {
            // A driver that closed the socket by itself; what was on it is over.
            self.connections.end(old, Reason::Internal);
            self.settle(now);
        }
        self.connections.insert(id, now);
    }

    /// Takes received bytes, which are unmasked in place.
    pub fn handle_received(&mut self, id: ConnectionHandle, bytes: &mut [u8], now: Now) -> Reading {
        let Some(conn) = self.connections.get_mut(id) else {
            return Reading::Stopped;
        };
        conn.touch(now);
        let phase = conn.phase;
        self.connections.stats.received_bytes += bytes.len() as u64;
        match phase {
            Phase::Upgrading => self.read_upgrade(id, bytes, now),
            Phase::Open => self.read_frames(id, bytes, now),
            Phase::Closing => self.discard(id, bytes.len()),
            Phase::Closed => {}
        }
        self.settle(now);
        self.reading(id)
    }

    /// Takes the end of what a client sends.
    pub fn handle_end_of_stream(&mut self, id: ConnectionHandle, now: Now) {
        let Some(conn) = self.connections.get(id) else {
            return;
        };
        let reason = if conn.phase == Phase::Upgrading {
            Reason::UpgradeAborted
        } else {
            Reason::ClientLeft
        };
        self.connections.end(id, reason);
        self.settle(now);
    }

    /// Takes the failure of a socket.
    pub fn handle_failed(&mut self, id: ConnectionHandle, now: Now) {
        self.connections.end(id, Reason::Reset);
        self.settle(now);
    }

    /// Takes how many bytes the transport holds because a socket did not take them: after a send, and whenever the socket
    /// has taken some of them. Nothing more is sent until it is writable.
    pub fn handle_blocked(&mut self, id: ConnectionHandle, unsent_bytes: usize, now: Now) {
        self.connections.handle_blocked(id, unsent_bytes, now);
    }

    /// Takes the news that a socket has taken everything that the transport held.
    pub fn handle_writable(&mut self, id: ConnectionHandle, now: Now) {
        self.connections.handle_writable(id, now);
    }

    /// Takes the owner of every slot, in place of what was said before.
    pub fn handle_view(&mut self, routes: Routes, now: Now) {
        self.application.handle_view(&mut self.connections, routes, now);
        self.settle(now);
    }

    /// Takes a new link to a router, in place of the one there may be.
    pub fn handle_link_up(&mut self, link: LinkId, router: RouterId, now: Now) {
        self.handle_link(link, LinkEvent::Up(router), now);
    }

    /// Takes a batch of records from a router.
    pub fn handle_link_batch(&mut self, link: LinkId, batch: Bytes, now: Now) {
        self.handle_link(link, LinkEvent::Batch(batch), now);
    }

    /// Takes back a batch that a link had no room for. It is sent again, before any other, once there is room.
    pub fn handle_link_refused(&mut self, link: LinkId, batch: Bytes) {
        self.application
            .handle_link_refused(&mut self.connections, link, batch);
    }

    /// Takes the news that a link which refused a batch has room.
    pub fn handle_link_room(&mut self, link: LinkId, now: Now) {
        self.handle_link(link, LinkEvent::Room, now);
    }

    /// Takes the end of a link.
    pub fn handle_link_down(&mut self, link: LinkId, now: Now) {
        self.handle_link(link, LinkEvent::Down, now);
    }

    /// Takes the key that tokens are checked with from now on.
    pub fn handle_verifier(&mut self, verifier: Verifier) {
        self.application.handle_verifier(verifier);
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(slot) = self.connections.wheel.expire(now.mono_ms) {
            let Some(id) = self.connections.next_from(slot).filter(|id| id.slot == slot) else {
                continue;
            };
            self.connections.handle_deadlines(id, now);
            if self.connections.is_open(id) {
                self.application.handle_deadline(&mut self.connections, id, now);
            }
            self.set_deadline(id, now);
        }
        self.application.handle_timeout(&mut self.connections, now);
        self.step_drain(now);
        self.settle(now);
    }

    /// Returns when to call `handle_timeout` and `handle_tick_end` next, on the scale of `mono_ms`; it may have passed.
    pub fn poll_timeout(&self) -> Option<u64> {
        let drain = self.drain.as_ref().and_then(Drain::next_ms);
        [
            self.connections.wheel.next_ms(),
            self.connections.next_flush_ms(),
            self.application.poll_timeout(),
            drain,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Turns everything queued in this tick into sends and batches.
    pub fn handle_tick_end(&mut self, now: Now) {
        self.application.handle_tick_end(&mut self.connections, now);
        self.settle(now);
        self.connections.flush_tick(now);
        self.settle(now);
    }

    /// Returns the next intention.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.connections.poll_output().or_else(|| {
            let (link, batch) = self.application.poll_link(&mut self.connections)?;
            Some(Output::Link { link, batch })
        })
    }

    /// Begins to close every connection, spread over the configured time; new upgrades are refused with HTTP 503.
    pub fn start_drain(&mut self, now: Now) {
        if self.drain.is_none() {
            self.drain = Some(Drain::new(&self.connections.config, self.connections.len(), now));
        }
    }

    /// Returns whether a drain is over: no connection is left, or its last deadline has passed, behind which nobody that
    /// connects meanwhile can hold it up.
    pub fn is_drained(&self) -> bool {
        self.drain
            .as_ref()
            .is_some_and(|drain| drain.is_over() || self.connections.is_empty())
    }

    /// Returns the numbers of this worker.
    pub const fn stats(&self) -> &Stats {
        &self.connections.stats
    }

    /// Returns the number of connections, those that are closing included.
    pub const fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes a spare buffer to encode into. A driver gives one back for every [`Output::Send`] it passes on.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.connections.recycle(buffer);
    }

    /// Returns the most memory this hub may hold, as a sum of named terms.
    pub fn memory_budget(&self) -> MemoryBudget {
        MemoryBudget::of::<A::Session>(&self.connections.config)
    }

    fn handle_link(&mut self, link: LinkId, event: LinkEvent, now: Now) {
        self.application
            .handle_link(&mut self.connections, link, event, now);
        self.settle(now);
    }

    /// Sets the earliest deadline that applies to a connection.
    fn set_deadline(&mut self, id: ConnectionHandle, now: Now) {
        let own = self.connections.next_deadline(id, now).map(|(at_ms, _)| at_ms);
        let application = if self.connections.is_open(id) {
            self.application.deadline_ms(&self.connections, id, now)
        } else {
            None
        };
        if let Some(at_ms) = own.into_iter().chain(application).min() {
            self.connections.wheel.set(id.slot, at_ms);
        }
    }

    /// Does what the fact just handled left to do: ends told to the application, input that waited, entries removed.
    fn settle(&mut self, now: Now) {
        loop {
            if let Some(id) = self.connections.ended.pop_front() {
                self.application.handle_ended(&mut self.connections, id, now);
            } else if let Some(id) = self.connections.resumed.pop_front() {
                self.read_held(id, now);
            } else {
                break;
            }
        }
        while let Some(id) = self.connections.closed.pop() {
            self.connections.remove(id);
        }
    }

    fn discard(&mut self, id: ConnectionHandle, bytes: usize) {
        self.connections.stats.discarded_bytes += bytes as u64;
        let Some(conn) = self.connections.get_mut(id) else {
            return;
        };
        let mut discarded = bytes as u32;
        if let Some(Held::Discarded(before)) = conn.held.as_deref() {
            discarded = discarded.saturating_add(*before);
        }
        conn.held = Some(Box::new(Held::Discarded(discarded)));
        if discarded > DISCARD_BYTES_MAX {
            self.connections.end(id, Reason::ClientLeft); // It has its reason already.
        }
    }

    fn reading(&self, id: ConnectionHandle) -> Reading {
        match self.connections.get(id) {
            None => Reading::Stopped,
            Some(conn) if conn.phase == Phase::Open && !conn.pauses.is_empty() => Reading::Paused,
            Some(_) => Reading::Continue,
        }
    }
}

#[cfg(test)]
impl<A: Application> Hub<A> {
    /// Returns whether a connection holds nothing beyond its slab entry.
    pub(crate) fn is_idle(&self, id: ConnectionHandle) -> bool {
        let conn = self.connections.get(id).unwrap();
        conn.outbox.is_none() && conn.held.is_none() && conn.input_bytes() == 0
    }

    pub(crate) const fn application(&self) -> &A {
        &self.application
    }
}

#[cfg(test)]
mod tests;
