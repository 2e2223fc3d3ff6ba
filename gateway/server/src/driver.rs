//! The loop of one worker: events of the reactor become facts for the Hub, its intentions become submissions.
//!
//! One tick: wait; take every event, and try again what sockets did not take; read what is ready, within a budget; take
//! batches from the links; run due timers; let the Hub close the tick; carry out its outputs. Nothing here decides anything
//! about a connection.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::{Application, Hub, Now, Output, Reading, RouterId, Routes};
use runtime::{Clock, Event, Mailbox, Reactor, Waker};
use wire_auth::Verifier;
use wire_base::ids::ConnectionHandle;
use wire_link::{LinkId, LinkPort};

use crate::links::{Links, Received, Sent};
use crate::stats::Published;
use crate::transport::Transports;

/// Size of the one read buffer that all connections of a worker share.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What one connection may be read in a tick before the next one has its turn.
const READ_BUDGET_BYTES: usize = 64 * 1024;
/// Connections served in a tick before events are looked at again.
const READS_PER_TICK: usize = 2_048;
/// Batches taken from a link in a tick.
const BATCHES_PER_TICK: usize = 64;
/// How often counters are copied to where the admin listener reads them.
const PUBLISH_INTERVAL_MS: u64 = 500;

/// What a worker is told from outside.
pub enum Control<P> {
    /// A link to a router, in place of the one there may be.
    Link(RouterId, P),
    /// The owner of every slot.
    View(Routes),
    /// Check tokens with this key from now on.
    Verifier(Verifier),
    /// Say goodbye to every client, then end.
    Drain,
    /// End now.
    Stop,
}

/// One worker's reactor, Hub and links.
pub struct Driver<R: Reactor, A: Application, P: LinkPort> {
    reactor: R,
    transports: Transports,
    hub: Hub<A>,
    clock: Clock,
    control: Mailbox<Control<P>>,
    links: Links<P>,
    /// Connections with unread bytes, in turn.
    ready: VecDeque<ConnectionHandle>,
    /// Read state by slot; as long as the reactor's table has ever been.
    reads: Vec<ReadState>,
    buffer: Box<[u8]>,
    published: Arc<Published>,
    publish_at_ms: u64,
    /// Pauses of accepting that were looked at, and whether the last one was said and not yet its end.
    accept_pauses: u64,
    is_full: bool,
    draining: bool,
}

/// What the driver remembers of a connection between two reads.
#[derive(Clone, Copy, Default)]
struct ReadState {
    /// Stands in `ready`.
    queued: bool,
    /// The Hub wants no bytes now.
    paused: bool,
    /// The peer has ended its stream: read until nothing is left, short reads mean nothing.
    to_end: bool,
}

impl<R: Reactor, A: Application, P: LinkPort> Driver<R, A, P> {
    /// Returns a driver that owns its parts, without a link: [`Control::Link`] brings those.
    pub fn new(reactor: R, hub: Hub<A>, control: Mailbox<Control<P>>, published: Arc<Published>) -> Self {
        Self {
            reactor,
            transports: Transports::default(),
            hub,
            clock: Clock::new(),
            control,
            links: Links::new(),
            ready: VecDeque::new(),
            reads: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            published,
            publish_at_ms: 0,
            accept_pauses: 0,
            is_full: false,
            draining: false,
        }
    }

    /// Runs until told to stop, or until a drain is over.
    ///
    /// Errors: the reactor is broken; the worker cannot go on.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            self.carry_out();
            let timeout = self.timeout();
            self.reactor.wait(timeout)?;
            let now = self.clock.now();
            let woken = self.take_events(now);
            if woken && self.take_control(now).is_break() {
                return Ok(());
            }
            self.read_ready(now);
            self.take_batches(now);
            if self.hub.poll_timeout().is_some_and(|at| at <= now.mono_ms) {
                self.hub.handle_timeout(now);
            }
            self.hub.handle_tick_end(now);
            self.publish(now);
            if self.draining && self.hub.is_drained() {
                self.carry_out();
                return self.reactor.wait(Some(Duration::ZERO));
            }
        }
    }

    /// How long the reactor may sleep: not at all while something waits, else until the Hub's next deadline.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.transports.is_unsettled() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now().mono_ms;
        let mut at = self.hub.poll_timeout();
        if self.published.is_behind(self.reactor.stats()) {
            at = Some(at.map_or(self.publish_at_ms, |deadline| deadline.min(self.publish_at_ms)));
        }
        at.map(|deadline| Duration::from_millis(deadline.saturating_sub(now)))
    }

    /// Returns whether another thread called.
    fn take_events(&mut self, now: Now) -> bool {
        let mut woken = false;
        while let Some(event) = self.reactor.poll_event() {
            match event {
                Event::Accepted(id) => {
                    let slot = id.slot as usize;
                    if self.reads.len() <= slot {
                        self.reads.resize(slot + 1, ReadState::default());
                    }
                    self.reads[slot] = ReadState::default();
                    self.hub.handle_accepted(id, now);
                }
                Event::Readable(id) => self.queue(id),
                Event::HangUp(id) => {
                    self.reads[id.slot as usize].to_end = true;
                    self.queue(id);
                }
                Event::SendShort { id, rest } => {
                    let unsent = self.transports.handle_short(id, rest);
                    self.hub.handle_blocked(id, unsent, now);
                }
                Event::Writable(id) => self.transports.handle_writable(id),
                Event::Failed { id, .. } => self.hub.handle_failed(id, now),
                // Counted by the reactor, which tries again by itself.
                Event::AcceptFailed(_) => {}
                Event::Woken => woken = true,
                Event::Connected(_) => unreachable!("a gateway opens no connections"),
            }
        }
        self.transports
            .settle(&mut self.reactor, |id| self.hub.handle_writable(id, now));
        woken
    }

    fn queue(&mut self, id: ConnectionHandle) {
        let state = &mut self.reads[id.slot as usize];
        if !state.queued && !state.paused {
            state.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Gives each connection that has unread bytes its turn.
    fn read_ready(&mut self, now: Now) {
        for _ in 0..self.ready.len().min(READS_PER_TICK) {
            let Some(id) = self.ready.pop_front() else { break };
            self.reads[id.slot as usize].queued = false;
            if self.read(id, now) {
                self.queue(id);
            }
        }
    }

    /// Reads one connection within its budget; returns whether there may be more.
    fn read(&mut self, id: ConnectionHandle, now: Now) -> bool {
        let mut budget = READ_BUDGET_BYTES;
        while budget > 0 {
            let count = match self.reactor.recv(id, &mut self.buffer) {
                Ok(0) => {
                    self.hub.handle_end_of_stream(id, now);
                    return false;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Closed meanwhile: nobody is told.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return false,
                Err(_) => {
                    self.hub.handle_failed(id, now);
                    return false;
                }
            };
            budget = budget.saturating_sub(count);
            match self.hub.handle_received(id, &mut self.buffer[..count], now) {
                Reading::Continue => {}
                Reading::Paused => {
                    self.reads[id.slot as usize].paused = true;
                    return false;
                }
                Reading::Stopped => return false,
            }
            if count < self.buffer.len() && !self.reads[id.slot as usize].to_end {
                return false;
            }
        }
        true
    }

    fn take_batches(&mut self, now: Now) {
        let mut last = None;
        while let Some(link) = self.links.next_after(last) {
            last = Some(link);
            self.take_batches_of(link, now);
        }
    }

    fn take_batches_of(&mut self, link: LinkId, now: Now) {
        for _ in 0..BATCHES_PER_TICK {
            match self.links.receive(link) {
                Received::Batch(batch) => self.hub.handle_link_batch(link, batch, now),
                Received::Nothing => return,
                Received::Over => return self.lose_link(link, now),
            }
        }
        // More may wait, and a port only wakes a side that has found it empty.
        self.reactor.waker().wake();
    }

    /// Does what was asked; breaks where that is to end now.
    fn take_control(&mut self, now: Now) -> ControlFlow<()> {
        let mut last = None;
        while let Some(link) = self.links.next_after(last) {
            last = Some(link);
            // Who woke the worker is not known: trying is as cheap as asking.
            if self.links.take_refused(link) {
                self.hub.handle_link_room(link, now);
            }
        }
        // One wake-up may stand for several requests.
        while let Some(control) = self.control.try_recv() {
            match control {
                Control::Link(router, port) => self.take_link(router, port, now),
                Control::View(routes) => self.hub.handle_view(routes, now),
                Control::Verifier(verifier) => self.hub.handle_verifier(verifier),
                Control::Drain if self.draining => {}
                Control::Drain => {
                    self.draining = true;
                    self.hub.start_drain(now);
                }
                Control::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { id, frames } => {
                    self.transports.send(&mut self.reactor, id, frames);
                    self.hub.recycle(self.reactor.take_buffer());
                }
                Output::ShutdownWrite(id) => self.transports.shutdown_write(id),
                Output::Close(id) => {
                    self.transports.close(id);
                    self.reactor.close(id);
                }
                Output::ResumeReading(id) => {
                    self.reads[id.slot as usize].paused = false;
                    self.queue(id);
                }
                Output::Link { link, batch } => self.send_to_router(link, batch),
                Output::CloseLink(link) => {
                    let now = self.clock.now();
                    self.lose_link(link, now);
                }
            }
        }
    }

    fn take_link(&mut self, router: RouterId, port: P, now: Now) {
        let waker: Waker = self.reactor.waker();
        let link = self.links.insert(router, port, Arc::new(move || waker.wake()));
        self.published.set_lost_link(self.links.has_lost());
        self.hub.handle_link_up(link, router, now);
    }

    fn send_to_router(&mut self, link: LinkId, batch: bytes::Bytes) {
        match self.links.send(link, batch) {
            Sent::Taken => {}
            Sent::Refused(batch) => self.hub.handle_link_refused(link, batch),
            Sent::Over => {
                let now = self.clock.now();
                self.lose_link(link, now);
            }
        }
    }

    /// Clients stay. Whoever watches the gateway brings another link, or ends the process: see
    /// [`crate::gateway::Gateway::has_lost_link`].
    fn lose_link(&mut self, link: LinkId, now: Now) {
        if self.links.lose(link) {
            tracing::warn!(%link, "a link to a router is lost");
            self.published.set_lost_link(true);
            self.hub.handle_link_down(link, now);
        }
    }

    fn publish(&mut self, now: Now) {
        if now.mono_ms >= self.publish_at_ms {
            self.publish_at_ms = now.mono_ms + PUBLISH_INTERVAL_MS;
            self.published.publish(self.hub.stats(), self.reactor.stats());
            self.say_whether_full();
        }
    }

    /// Says once when clients have to wait for a socket, and once when an eighth of the sockets is free again.
    fn say_whether_full(&mut self) {
        let stats = self.reactor.stats();
        let sockets_max = self.published.sockets_max();
        if std::mem::replace(&mut self.accept_pauses, stats.accept_pauses) != stats.accept_pauses {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    "all {sockets_max} sockets of a worker are taken: further clients wait in the backlog"
                );
            }
        } else if self.is_full && stats.sockets_open <= sockets_max - sockets_max.div_ceil(8) {
            self.is_full = false;
            tracing::info!(
                "a worker has free sockets again: {} of {sockets_max} are taken",
                stats.sockets_open
            );
        }
    }
}
