//! A worker in virtual time: scripted clients on sockets with as much room as a test gives them, and a scripted router.
//!
//! Both ends speak through the real codecs. A tick is what a driver does between two sleeps.

mod client;
mod router;

use std::collections::BTreeMap;

use wire_base::ids::{ConnectionHandle, UnixMs};

use wire_link::LinkId;

pub(crate) use client::{Client, Seen, frame, request};
pub(crate) use router::{Router, batch};

use crate::application::Application;
use crate::config::HubConfig;
use crate::hub::Hub;
use crate::output::{Output, Reading};
use crate::time::Now;

/// What a driver reads at once.
const READ_BYTES: usize = 64 * 1024;
/// The link to the first router.
pub(crate) const LINK: LinkId = LinkId {
    slot: 3,
    generation: 1,
};
/// The link to the second, where a test has one.
pub(crate) const OTHER: LinkId = LinkId {
    slot: 1,
    generation: 5,
};
/// 2026-01-01T00:00:00Z.
pub(crate) const START: UnixMs = UnixMs(1_767_225_600_000);

pub(crate) struct World<A: Application> {
    pub(crate) hub: Hub<A>,
    pub(crate) now: Now,
    pub(crate) clients: BTreeMap<ConnectionHandle, Client>,
    pub(crate) router: Router,
    pub(crate) other: Router,
    slots: Vec<u32>,
}

impl<A: Application> World<A> {
    pub(crate) fn new(config: HubConfig, application: A) -> Self {
        config.check().unwrap();
        Self {
            hub: Hub::new(config, application, 7),
            now: Now {
                mono_ms: 1_000,
                unix: START,
            },
            clients: BTreeMap::new(),
            router: Router::default(),
            other: Router::default(),
            slots: Vec::new(),
        }
    }

    /// Connects a client in the first free slot.
    pub(crate) fn accept(&mut self) -> ConnectionHandle {
        let is_taken = |slot: u32| {
            self.clients
                .iter()
                .any(|(id, client)| id.slot == slot && !client.is_closed)
        };
        let slot = (0..).find(|&slot| !is_taken(slot)).unwrap();
        if slot as usize >= self.slots.len() {
            self.slots.resize(slot as usize + 1, 0);
        }
        self.slots[slot as usize] += 1;
        let id = ConnectionHandle {
            slot,
            generation: self.slots[slot as usize],
        };
        self.clients.insert(id, Client::default());
        self.hub.handle_accepted(id, self.now);
        id
    }

    pub(crate) fn client(&mut self, id: ConnectionHandle) -> &mut Client {
        self.clients.get_mut(&id).unwrap()
    }

    /// Brings bytes of a client to its socket, and ends the tick.
    pub(crate) fn send_bytes(&mut self, id: ConnectionHandle, bytes: &[u8]) {
        self.client(id).unread.extend_from_slice(bytes);
        self.tick();
    }

    /// Sends a text message, and ends the tick.
    pub(crate) fn send_text(&mut self, id: ConnectionHandle, text: &str) {
        let frame = client::frame(wire_ws::Opcode::Text, text.as_bytes());
        self.send_bytes(id, &frame);
    }

    /// Ends what a client sends, and ends the tick.
    pub(crate) fn send_end(&mut self, id: ConnectionHandle) {
        self.hub.handle_end_of_stream(id, self.now);
        self.tick();
    }

    /// Upgrades at a path with header lines; returns the status.
    pub(crate) fn upgrade_with(&mut self, id: ConnectionHandle, path: &str, headers: &str) -> u16 {
        self.send_bytes(id, client::request(path, headers).as_bytes());
        self.client(id).status()
    }

    /// Connects and upgrades at `/ws`.
    pub(crate) fn connect(&mut self) -> ConnectionHandle {
        let id = self.accept();
        assert_eq!(self.upgrade_with(id, "/ws", ""), 101);
        id
    }

    /// Lets time pass, with every tick that a driver would wake up for.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..1_000_000 {
            let next = self.hub.poll_timeout().unwrap_or(u64::MAX).max(self.now.mono_ms);
            if next > end {
                self.set_mono(end);
                return;
            }
            self.set_mono(next);
            self.tick();
        }
        panic!("the hub never sleeps");
    }

    /// What a driver does until it sleeps: ticks, as long as there is something to do at once.
    pub(crate) fn tick(&mut self) {
        for _ in 0..10_000 {
            self.step();
            let is_due = self
                .hub
                .poll_timeout()
                .is_some_and(|at_ms| at_ms <= self.now.mono_ms);
            let can_read =
                |client: &Client| !client.is_paused && !client.is_closed && !client.unread.is_empty();
            if !is_due && !self.clients.values().any(can_read) {
                return;
            }
        }
        panic!("the hub never sleeps");
    }

    /// One tick.
    pub(crate) fn step(&mut self) {
        self.report_sockets();
        self.read_sockets();
        if self
            .hub
            .poll_timeout()
            .is_some_and(|at_ms| at_ms <= self.now.mono_ms)
        {
            self.hub.handle_timeout(self.now);
        }
        self.hub.handle_tick_end(self.now);
        self.carry_out();
    }

    /// Carries out intentions, and keeps a driver's promises.
    pub(crate) fn carry_out(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { id, frames } => {
                    let client = self.client(id);
                    assert!(!client.is_closed && !client.is_ending, "a send after the end");
                    assert!(
                        client.unsent.is_empty(),
                        "a send while an earlier one is unfinished"
                    );
                    client.unsent = frames.to_vec();
                    client.is_news = true;
                    client.take();
                    self.hub.recycle(frames.own);
                }
                Output::ShutdownWrite(id) => {
                    let client = self.client(id);
                    assert!(!client.is_ending, "an end of stream twice");
                    client.is_ending = true;
                    client.is_ended = client.unsent.is_empty();
                }
                Output::Close(id) => {
                    let client = self.client(id);
                    assert!(!client.is_closed, "a socket closed twice");
                    client.is_closed = true;
                }
                Output::ResumeReading(id) => self.client(id).is_paused = false,
                Output::Link { link, batch } => {
                    assert!([LINK, OTHER].contains(&link));
                    let router = if link == LINK {
                        &mut self.router
                    } else {
                        &mut self.other
                    };
                    if let Err(batch) = router.take(batch) {
                        self.hub.handle_link_refused(link, batch);
                    }
                }
                Output::CloseLink(link) => self.hub.handle_link_down(link, self.now),
            }
        }
    }

    /// Reports what the transports hold after the sends of the last tick, lets sockets that have room take of it, and reports
    /// those that have taken all.
    fn report_sockets(&mut self) {
        let ids: Vec<ConnectionHandle> = self.clients.keys().copied().collect();
        for id in ids {
            let client = self.client(id);
            if client.is_closed {
                continue;
            }
            if std::mem::take(&mut client.is_news) && !client.unsent.is_empty() {
                let unsent = client.unsent.len();
                self.hub.handle_blocked(id, unsent, self.now);
            }
            let client = self.client(id);
            if !client.unsent.is_empty() && client.room > 0 {
                client.take();
                match client.unsent.len() {
                    0 => self.hub.handle_writable(id, self.now),
                    unsent => self.hub.handle_blocked(id, unsent, self.now),
                }
            }
            let client = self.client(id);
            client.is_ended |= client.is_ending && client.unsent.is_empty();
        }
    }

    fn read_sockets(&mut self) {
        let ids: Vec<ConnectionHandle> = self.clients.keys().copied().collect();
        for id in ids {
            let client = self.client(id);
            if client.is_paused || client.is_closed || client.unread.is_empty() {
                continue;
            }
            let count = client.unread.len().min(READ_BYTES);
            let mut bytes: Vec<u8> = client.unread.drain(..count).collect();
            match self.hub.handle_received(id, &mut bytes, self.now) {
                Reading::Continue => {}
                Reading::Paused => self.client(id).is_paused = true,
                Reading::Stopped => self.client(id).unread.clear(),
            }
        }
    }

    fn set_mono(&mut self, mono_ms: u64) {
        self.now.unix.0 += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }
}
