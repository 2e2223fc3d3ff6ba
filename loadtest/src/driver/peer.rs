//! One simulated client as the driver keeps it, and what a mode may do with it.

use runtime::{ConnectionHandle, SendBuf};
use wire_base::random::Random;
use wire_ws::upgrade::{HeadBuffer, Key};
use wire_ws::{Opcode, Reader, encode_close, encode_frame};

use crate::clock::Ns;
use crate::funnel::{Ending, Funnel, Stage};
use crate::measure::Recorder;
use crate::traffic::Traffic;

/// The clients of one worker, by their index within it.
pub(crate) struct Clients<S> {
    pub(super) entries: Vec<Client<S>>,
    pub(super) shared: Shared,
    /// The whole run's number of the first one.
    first: u32,
}

/// One simulated client.
pub(super) struct Client<S> {
    pub(super) link: Link,
    pub(super) session: S,
}

/// The connection of a client, if it has one.
#[derive(Default)]
pub(super) struct Link {
    pub(super) socket: Option<ConnectionHandle>,
    pub(super) state: State,
    pub(super) reader: Reader,
    /// Frames of this tick, sent together at its end.
    pub(super) out: Vec<u8>,
    /// What the kernel did not take; goes out before anything else.
    pub(super) rest: Option<Box<SendBuf>>,
    /// No `Writable` has come since the last `SendShort`.
    pub(super) blocked: bool,
    /// In the list of those with something to send.
    pub(super) dirty: bool,
    /// The first attempt is over.
    pub(super) settled: bool,
    pub(super) was_live: bool,
    /// Counts the attempts, so that an old deadline does not end a new one.
    pub(super) attempt: u16,
    pub(super) since: Ns,
    /// Only until the upgrade is answered.
    pub(super) upgrade: Option<Box<Upgrade>>,
    /// Set by a mode that gives the connection up.
    pub(super) abandoned: Option<Box<Ending>>,
}

const _: () = assert!(size_of::<Link>() <= 96);

/// An upgrade under way.
pub(super) struct Upgrade {
    pub(super) key: Key,
    pub(super) head: HeadBuffer,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// No socket.
    #[default]
    Down,
    /// TCP is under way.
    Connecting,
    /// The upgrade is under way.
    Upgrading,
    /// Frames flow, the client does not take part yet.
    Open,
    /// The client takes part.
    Live,
    /// The tool sent a close frame.
    Closing,
}

/// What all clients of a worker share.
pub(super) struct Shared {
    pub(super) funnel: Funnel,
    pub(super) traffic: Traffic,
    pub(super) recorder: Recorder,
    /// Clients with something to send.
    pub(super) dirty: Vec<u32>,
    /// Empty buffers that were used before.
    pub(super) spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    pub(super) random: Random,
}

impl Shared {
    /// Returns a masking key for a frame.
    fn mask(&mut self) -> [u8; 4] {
        (self.random.next() as u32).to_ne_bytes()
    }
}

impl<S: Default> Clients<S> {
    /// Returns `count` clients that are not connected.
    pub(super) fn new(count: u32, first: u32, seed: u64) -> Self {
        let entries = (0..count)
            .map(|_| Client {
                link: Link::default(),
                session: S::default(),
            })
            .collect();
        let shared = Shared {
            funnel: Funnel::new(),
            traffic: Traffic::default(),
            recorder: Recorder::new(),
            dirty: Vec::new(),
            spare: Vec::new(),
            scratch: Vec::new(),
            random: Random::for_purpose(seed, PURPOSE_MASKS + u64::from(first)),
        };
        Self {
            entries,
            shared,
            first,
        }
    }
}

impl<S> Clients<S> {
    /// Returns the number of clients.
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns a client that takes part now.
    pub(crate) fn live(&mut self, index: u32) -> Option<Peer<'_, S>> {
        (self.entries[index as usize].link.state == State::Live).then(|| self.peer(index))
    }

    /// Returns whether a client takes part now.
    pub(crate) fn is_live(&self, index: u32) -> bool {
        self.entries[index as usize].link.state == State::Live
    }

    /// Returns the sessions, by index.
    pub(crate) fn into_sessions(self) -> impl Iterator<Item = S> {
        self.entries.into_iter().map(|client| client.session)
    }

    /// Returns the counts of this worker's messages.
    pub(crate) fn traffic(&mut self) -> &mut Traffic {
        &mut self.shared.traffic
    }

    pub(super) fn peer(&mut self, index: u32) -> Peer<'_, S> {
        let Client { link, session } = &mut self.entries[index as usize];
        Peer {
            index,
            number: self.first + index,
            session,
            link,
            shared: &mut self.shared,
        }
    }
}

/// A client with an open connection, for as long as a mode looks at it.
pub(crate) struct Peer<'a, S> {
    /// Its index within the worker.
    pub(crate) index: u32,
    /// Its number in the whole run.
    pub(crate) number: u32,
    /// What the mode keeps for it.
    pub(crate) session: &'a mut S,
    link: &'a mut Link,
    shared: &'a mut Shared,
}

impl<S> Peer<'_, S> {
    /// Sends one text message that `write` appends to an empty buffer.
    pub(crate) fn send_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.send(Opcode::Text, write);
    }

    /// Sends one binary message that `write` appends to an empty buffer.
    pub(crate) fn send_binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.send(Opcode::Binary, write);
    }

    /// Returns the bytes that wait for the connection to take them.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.link.out.len() + self.link.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Notes that the target answered the hello.
    pub(crate) fn reach_welcome(&mut self, now: Ns) {
        self.shared
            .funnel
            .reach(Stage::Welcome, now.since(self.link.since));
    }

    /// Notes that the client takes part from now on.
    pub(crate) fn become_live(&mut self, now: Ns) {
        if self.link.state != State::Open {
            return;
        }
        self.link.state = State::Live;
        self.shared.funnel.live += 1;
        if self.link.was_live {
            self.shared.funnel.reconnects += 1;
        } else {
            self.shared.funnel.reach(Stage::Live, now.since(self.link.since));
        }
        self.link.was_live = true;
        settle(self.link, &mut self.shared.funnel);
    }

    /// Counts an event that says something went wrong.
    pub(crate) fn count_error(&mut self, label: &str) {
        self.shared.funnel.count_error(label);
    }

    /// Gives the connection up once the message at hand is handled.
    pub(crate) fn abandon(&mut self, ending: Ending) {
        self.link.abandoned.get_or_insert(Box::new(ending));
    }

    /// Returns the counts of this worker's messages.
    pub(crate) fn traffic(&mut self) -> &mut Traffic {
        &mut self.shared.traffic
    }

    /// Returns the latencies since they were last published.
    pub(crate) fn recorder(&mut self) -> &mut Recorder {
        &mut self.shared.recorder
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        let mask = self.shared.mask();
        encode_frame(self.outgoing(), Opcode::Pong, payload, Some(mask));
        self.shared.traffic.pings += 1;
    }

    pub(super) fn close(&mut self, code: u16) {
        let mask = self.shared.mask();
        encode_close(self.outgoing(), code, "", Some(mask));
    }

    /// Sends bytes that are not a frame.
    pub(super) fn send_raw(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.outgoing());
    }

    fn send(&mut self, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        let mask = self.shared.mask();
        let mut scratch = std::mem::take(&mut self.shared.scratch);
        scratch.clear();
        write(&mut scratch);
        encode_frame(self.outgoing(), opcode, &scratch, Some(mask));
        self.shared.scratch = scratch;
    }

    /// Returns the buffer of this tick, which will be sent at its end.
    fn outgoing(&mut self) -> &mut Vec<u8> {
        if self.link.out.capacity() == 0 {
            self.link.out = self.shared.spare.pop().unwrap_or_default();
        }
        if !self.link.dirty {
            self.link.dirty = true;
            self.shared.dirty.push(self.index);
        }
        &mut self.link.out
    }
}

/// Notes that a client's first attempt is over.
pub(super) fn settle(link: &mut Link, funnel: &mut Funnel) {
    if !link.settled {
        link.settled = true;
        funnel.settled += 1;
    }
}

const PURPOSE_MASKS: u64 = 1 << 32;
