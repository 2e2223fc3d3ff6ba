//! A worker: one thread, one reactor, a block of clients.
//!
//! Each turn of the loop: connect who is due, let the mode send what is due, hand all of it to the reactor, sleep until
//! something happens, handle what happened. A client is a slab entry; nothing is allocated for one that is idle.

mod peer;
mod ramp;
mod receive;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::{ConnectionHandle, Event, Reactor, SendBuf};
use wire_ws::upgrade::{Key, Offer, write_request};

pub(crate) use peer::{Clients, Peer};
use peer::{State, Upgrade, settle};
use ramp::Ramp;

use crate::clock::{Clock, Ns};
use crate::course::{Board, Counts, Course, Phase};
use crate::diagnosis::thread_cpu_ns;
use crate::funnel::{Ending, Funnel, Stage};
use crate::measure::Series;
use crate::population::{Next, Population};
use crate::units::Rate;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) subprotocols: &'static [&'static str],
    /// Taken in turn; empty leaves the choice to the system.
    pub(crate) source_ips: Vec<IpAddr>,
    /// Of this worker.
    pub(crate) conn_rate: Rate,
    /// From the connect until the client is live.
    pub(crate) connect_timeout: Duration,
}

/// What a worker is given.
pub(crate) struct Assignment {
    pub(crate) route: Route,
    pub(crate) course: Arc<Course>,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Clock,
    /// The whole run's number of this worker's first client, and how many it has.
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) seed: u64,
}

/// Runs a worker until the coordinator says that the run is finished.
///
/// Errors: the reactor is broken.
pub(crate) fn run<R: Reactor, P: Population>(
    reactor: R,
    population: P,
    assignment: Assignment,
) -> io::Result<(P::Outcome, Funnel)> {
    let mut worker = Worker::new(reactor, population, assignment);
    while !worker.is_finished() {
        worker.turn()?;
    }
    Ok(worker.finish())
}

struct Worker<R, P: Population> {
    reactor: R,
    population: P,
    clients: Clients<P::Session>,
    assignment: Assignment,
    ramp: Ramp,
    /// Socket slot -> client index.
    by_slot: Vec<u32>,
    /// Clients with bytes left unread when their turn was over.
    unread: Vec<u32>,
    received: Vec<u8>,
    phase: Phase,
    /// When the last `wait` returned.
    woke: Ns,
    published: Ns,
    published_latencies: Ns,
    finish_by: Ns,
}

impl<R: Reactor, P: Population> Worker<R, P> {
    fn new(reactor: R, population: P, assignment: Assignment) -> Self {
        let now = assignment.clock.now();
        Self {
            reactor,
            population,
            clients: Clients::new(assignment.count, assignment.first, assignment.seed),
            ramp: Ramp::new(assignment.count, assignment.route.conn_rate, now),
            assignment,
            by_slot: Vec::new(),
            unread: Vec::new(),
            received: vec![0; READ_BYTES],
            phase: Phase::Ramp,
            woke: now,
            published: Ns(0),
            published_latencies: Ns(0),
            finish_by: Ns::NEVER,
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let now = self.now();
        self.enter_phase(now);
        self.connect_due(now);
        self.population.handle_tick(&mut self.clients, self.phase, now);
        self.expire(now);
        self.flush();
        self.publish(now);
        self.sleep()?;
        while let Some(event) = self.reactor.poll_event() {
            self.handle_event(event);
        }
        for client in std::mem::take(&mut self.unread) {
            self.read(client);
        }
        Ok(())
    }

    /// Sleeps until something happens or is due, and records how late that was.
    fn sleep(&mut self) -> io::Result<()> {
        let before = self.now();
        let busy = before.since(self.woke);
        let due = [
            self.population.poll_timeout(),
            self.ramp.poll_timeout(self.clients.shared.funnel.settled),
            Some(before + PUBLISH_EVERY),
        ];
        let due = due.into_iter().flatten().min().unwrap_or(Ns::NEVER);
        let work_left = due <= before || !self.unread.is_empty();
        let timeout = if work_left {
            Duration::ZERO
        } else {
            (due - before).max(PACE)
        };
        self.reactor.wait(Some(timeout))?;
        self.woke = self.now();
        let overslept = self.woke.since(before + timeout);
        if self.phase == Phase::Run {
            self.clients.shared.recorder.record(Series::Lag, busy + overslept);
        }
        Ok(())
    }

    fn enter_phase(&mut self, now: Ns) {
        let phase = self.assignment.course.phase();
        if phase == Phase::Finish && self.phase != Phase::Finish {
            self.finish_by = now + FINISH_MAX;
            self.population.handle_finish(&self.clients);
            self.clients.shared.funnel.live_at_end = self.clients.shared.funnel.live;
            for client in 0..self.clients.len() {
                match self.clients.entries[client as usize].link.state {
                    State::Open | State::Live => self.start_close(client),
                    _ => self.drop_socket(client),
                }
            }
        }
        self.phase = phase;
    }

    fn is_finished(&self) -> bool {
        let is_down = || {
            self.clients
                .entries
                .iter()
                .all(|client| client.link.state == State::Down)
        };
        self.phase == Phase::Finish && (is_down() || self.woke >= self.finish_by)
    }

    fn finish(mut self) -> (P::Outcome, Funnel) {
        self.publish(Ns::NEVER);
        let funnel = std::mem::replace(&mut self.clients.shared.funnel, Funnel::new());
        (self.population.finish(self.clients), funnel)
    }

    // Connecting.

    fn connect_due(&mut self, now: Ns) {
        if self.phase == Phase::Finish {
            return;
        }
        while let Some(client) = self.ramp.poll_connect(now, self.clients.shared.funnel.settled) {
            self.connect(client, now);
        }
    }

    fn connect(&mut self, client: u32, now: Ns) {
        let route = &self.assignment.route;
        let number = (self.assignment.first + client) as usize;
        let local = route
            .source_ips
            .get(number % route.source_ips.len().max(1))
            .map(|ip| SocketAddr::new(*ip, 0));
        let link = &mut self.clients.entries[client as usize].link;
        link.attempt = link.attempt.wrapping_add(1);
        link.since = now;
        self.clients.shared.funnel.attempts += 1;
        match self.reactor.connect(local, route.address) {
            Ok(socket) => {
                link.socket = Some(socket);
                link.state = State::Connecting;
                self.ramp.watch(client, link.attempt, now + route.connect_timeout);
                let slot = socket.slot as usize;
                if self.by_slot.len() <= slot {
                    self.by_slot.resize(slot + 1, u32::MAX);
                }
                self.by_slot[slot] = client;
            }
            Err(error) => {
                self.end(client, Ending::Io(error.kind()));
            }
        }
    }

    fn start_upgrade(&mut self, client: u32) {
        let now = self.now();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.clients.shared.random.next().to_ne_bytes());
        nonce[8..].copy_from_slice(&self.clients.shared.random.next().to_ne_bytes());
        let link = &mut self.clients.entries[client as usize].link;
        self.clients
            .shared
            .funnel
            .reach(Stage::Tcp, now.since(link.since));
        let key = Key::from_nonce(nonce);
        link.upgrade = Some(Box::new(Upgrade {
            key,
            head: Default::default(),
        }));
        link.state = State::Upgrading;
        let route = &self.assignment.route;
        let offer = Offer {
            host: &route.host,
            path: &route.path,
            key,
            subprotocols: route.subprotocols,
            bearer: None,
        };
        self.clients
            .peer(client)
            .send_raw(|out| write_request(out, &offer));
    }

    fn expire(&mut self, now: Ns) {
        while let Some((client, attempt)) = self.ramp.poll_expired(now) {
            let link = &self.clients.entries[client as usize].link;
            let opening = matches!(link.state, State::Connecting | State::Upgrading | State::Open);
            if opening && link.attempt == attempt {
                self.end(client, Ending::Timeout);
            }
        }
    }

    // Events.

    fn handle_event(&mut self, event: Event) {
        let Some(client) = event.socket().and_then(|id| self.client_of(id)) else {
            return;
        };
        match event {
            Event::Connected(_) => self.start_upgrade(client),
            Event::Readable(_) | Event::HangUp(_) => self.read(client),
            Event::SendShort { rest, .. } => {
                let link = &mut self.clients.entries[client as usize].link;
                link.rest = Some(Box::new(rest));
                link.blocked = true;
            }
            Event::Writable(_) => {
                let link = &mut self.clients.entries[client as usize].link;
                link.blocked = false;
                if !link.dirty {
                    link.dirty = true;
                    self.clients.shared.dirty.push(client);
                }
            }
            Event::Failed { error, .. } => self.end(client, Ending::Io(error.kind())),
            Event::Accepted(_) | Event::AcceptFailed(_) | Event::Woken => {}
        }
    }

    // The end of a connection.

    /// Counts the end of a connection or of an attempt, and asks the mode what comes next.
    fn end(&mut self, client: u32, ending: Ending) {
        let now = self.now();
        let link = &mut self.clients.entries[client as usize].link;
        let (state, was_live) = (link.state, link.was_live);
        self.drop_socket(client);
        let link = &mut self.clients.entries[client as usize].link;
        let funnel = &mut self.clients.shared.funnel;
        match state {
            State::Closing => return,
            State::Live => funnel.count_loss(&ending),
            _ => funnel.count_failure(&ending),
        }
        settle(link, funnel);
        if !was_live || self.phase == Phase::Finish {
            return;
        }
        let session = &mut self.clients.entries[client as usize].session;
        let traffic = &mut self.clients.shared.traffic;
        if let Next::ReconnectAt(at) = self.population.handle_loss(session, traffic, &ending, now) {
            self.ramp.retry(client, at);
        }
    }

    fn start_close(&mut self, client: u32) {
        self.clients.peer(client).close(1000);
        let link = &mut self.clients.entries[client as usize].link;
        if link.state == State::Live {
            self.clients.shared.funnel.live -= 1;
        }
        link.state = State::Closing;
    }

    /// Closes the socket, after what is still to be sent, and forgets everything about it.
    fn drop_socket(&mut self, client: u32) {
        let link = &mut self.clients.entries[client as usize].link;
        if let Some(socket) = link.socket.take() {
            if !link.out.is_empty() && !link.blocked && link.rest.is_none() {
                self.reactor
                    .send(socket, SendBuf::Owned(std::mem::take(&mut link.out)));
            }
            self.reactor.close(socket);
        }
        if link.state == State::Live {
            self.clients.shared.funnel.live -= 1;
        }
        link.state = State::Down;
        link.reader = Default::default();
        link.out.clear();
        link.rest = None;
        link.blocked = false;
        link.upgrade = None;
        link.abandoned = None;
    }

    /// Hands everything of this turn to the reactor.
    fn flush(&mut self) {
        let count = self.clients.shared.dirty.len();
        for at in 0..count {
            let client = self.clients.shared.dirty[at];
            let link = &mut self.clients.entries[client as usize].link;
            link.dirty = false;
            let Some(socket) = link.socket.filter(|_| !link.blocked) else {
                continue;
            };
            if let Some(rest) = link.rest.take() {
                // One unfinished send a socket: the new frames wait for the next turn.
                self.reactor.send(socket, *rest);
                if !link.out.is_empty() {
                    link.dirty = true;
                    self.clients.shared.dirty.push(client);
                }
            } else if !link.out.is_empty() {
                self.reactor
                    .send(socket, SendBuf::Owned(std::mem::take(&mut link.out)));
                self.clients.shared.spare.push(self.reactor.take_buffer());
            }
        }
        self.clients.shared.dirty.drain(..count);
        self.clients.shared.spare.truncate(SPARE_MAX);
    }

    fn publish(&mut self, now: Ns) {
        if now.since(self.published) < PUBLISH_EVERY.as_nanos() as u64 {
            return;
        }
        self.published = now;
        let with_latencies = now.since(self.published_latencies) >= PUBLISH_LATENCIES_EVERY.as_nanos() as u64;
        if with_latencies {
            self.published_latencies = now;
        }
        let shared = &mut self.clients.shared;
        let counts = Counts {
            settled: shared.funnel.settled,
            live: shared.funnel.live,
            failed: shared.funnel.failures.values().sum(),
            exhausted: self.population.is_exhausted(),
            cpu_ns: thread_cpu_ns(),
        };
        let engine = self.reactor.engine();
        self.assignment.board.with(|board| {
            board.engine = Some(engine);
            board.traffic = shared.traffic;
            board.counts = counts;
            if with_latencies {
                board.interval.absorb(&mut shared.recorder);
            }
        });
    }

    fn client_of(&self, id: ConnectionHandle) -> Option<u32> {
        let client = *self.by_slot.get(id.slot as usize)?;
        let link = &self.clients.entries.get(client as usize)?.link;
        (link.socket == Some(id)).then_some(client)
    }

    fn now(&self) -> Ns {
        self.assignment.clock.now()
    }
}

/// One read buffer serves all clients of a worker.
const READ_BYTES: usize = 64 * 1024;
/// Shortest sleep: sends due within it leave together, which is what their slip may be.
const PACE: Duration = Duration::from_micros(100);
const PUBLISH_EVERY: Duration = Duration::from_millis(20);
const PUBLISH_LATENCIES_EVERY: Duration = Duration::from_millis(200);
/// How long closing all connections may take.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// Buffers kept for the next turn.
const SPARE_MAX: usize = 1024;
