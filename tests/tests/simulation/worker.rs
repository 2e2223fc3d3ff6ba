//! A gateway worker: the Hub that ships, on sockets that take as much as they like, and on a link to the router.
//!
//! What passes on the link is tapped, record by record, for the auditor; what a client does and is shown is in
//! [`crate::client`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gateway_core::{Auth, Hub, HubConfig, Output, Reading, RouterId, Sessions, SessionsConfig};
use wire_base::ids::{ConnectionHandle, SessionNumber};
use wire_base::limits::WINDOW_BYTES_MAX;
use wire_base::time::Now;
use wire_link::codec::{BatchWriter, decode_from_router, decode_to_router};
use wire_link::pipe::{Endpoint, SendError};
use wire_link::{FromRouter, LinkId, RequestId, ToRouter};

use crate::client::{Client, News};
use crate::coverage::Coverage;
use crate::transcript::{Link, Seen};

pub(crate) struct Worker {
    hub: Hub<Sessions>,
    link: Option<Uplink>,
    /// What wakes the thread of a gateway. Reading and writing only then shows a wake-up that the link forgot.
    woken: Arc<AtomicBool>,
    pub(crate) clients: BTreeMap<ConnectionHandle, Client>,
    /// How often each slot was used.
    slots: Vec<u32>,
    links: u16,
    requests: Requests,
    /// What passed on the link, and what clients were shown, in the order of both.
    seen: Vec<Seen>,
    news: VecDeque<(ConnectionHandle, News)>,
}

struct Uplink {
    link: Link,
    id: LinkId,
    endpoint: Endpoint,
    /// It gave this back, and the Hub has it until there is room.
    refused: Option<Bytes>,
    /// The sessions of this worker as the router named them last.
    sessions: BTreeMap<ConnectionHandle, SessionNumber>,
}

/// The Hub uses its request ids again. In the transcript each question has a number of its own, in the order of asking.
#[derive(Default)]
struct Requests {
    numbers: BTreeMap<RequestId, RequestId>,
    last: u64,
}

impl Requests {
    /// Numbers a question, and shows it by its number.
    fn ask(&mut self, record: &mut ToRouter) {
        let request = match record {
            ToRouter::Send(it) => &mut it.request,
            ToRouter::Status(it) => &mut it.request,
            ToRouter::History(it) => &mut it.request,
            ToRouter::Conversations(it) => &mut it.request,
            _ => return,
        };
        self.last += 1;
        self.numbers.insert(*request, RequestId(self.last));
        *request = RequestId(self.last);
    }

    /// Shows an answer by the number of its question; one that nobody asked for keeps its own.
    fn answer(&self, record: &mut FromRouter) {
        let request = match record {
            FromRouter::Sent(it) => &mut it.request,
            FromRouter::Rejected(it) => &mut it.request,
            FromRouter::Done(request) => request,
            FromRouter::Failed(it) => &mut it.request,
            FromRouter::HistoryPage(it) => &mut it.request,
            FromRouter::ConversationsPage(it) => &mut it.request,
            _ => return,
        };
        *request = self
            .numbers
            .get(request)
            .copied()
            .unwrap_or(RequestId(u64::MAX - request.0));
    }
}

impl Worker {
    pub(crate) fn new(gateway: usize, seed: u64) -> Self {
        let config = SessionsConfig {
            gateway: format!("gateway {gateway}"),
            epoch: 1,
            worker: gateway as u16,
            auth: Auth::InsecureDev,
            origins: Vec::new(),
            sends_per_s: 0,
        };
        let mut hub_config = HubConfig::default();
        if seed % 2 == 1 {
            // So little that slow clients run over.
            hub_config.outbox_bytes_max = WINDOW_BYTES_MAX;
        }
        Self {
            hub: Hub::new(hub_config, Sessions::new(config), seed),
            link: None,
            woken: Arc::new(AtomicBool::new(false)),
            clients: BTreeMap::new(),
            slots: Vec::new(),
            links: 0,
            requests: Requests::default(),
            seen: Vec::new(),
            news: VecDeque::new(),
        }
    }

    // ---- the link

    pub(crate) fn link(&self) -> Option<Link> {
        self.link.as_ref().map(|up| up.link)
    }

    /// Takes a new link.
    pub(crate) fn attach(&mut self, link: Link, endpoint: Endpoint, now: Now) {
        let woken = Arc::clone(&self.woken);
        endpoint.set_waker(Arc::new(move || woken.store(true, Ordering::Relaxed)));
        self.links += 1;
        let id = LinkId {
            slot: 0,
            generation: self.links,
        };
        self.link = Some(Uplink {
            link,
            id,
            endpoint,
            refused: None,
            sessions: BTreeMap::new(),
        });
        self.hub.handle_link_up(id, RouterId(0), now);
    }

    /// Closes the link; the Hub answers what waited for it.
    pub(crate) fn detach(&mut self, now: Now) -> Option<Link> {
        let up = self.link.take()?;
        self.hub.handle_link_down(up.id, now);
        Some(up.link)
    }

    /// Returns whether the link gave a batch back that it has not taken yet.
    pub(crate) fn is_refused(&self) -> bool {
        self.link.as_ref().is_some_and(|up| up.refused.is_some())
    }

    /// Returns whether the gateway's thread would look at its link now.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Says something that is no record.
    pub(crate) fn babble(&mut self) {
        if let Some(up) = &self.link {
            // Without room for it, the link is left as it is.
            let _ = up
                .endpoint
                .try_send(Bytes::from_static(&[7, 0, 0, 0, 99, 1, 2, 3, 4, 5, 6]));
        }
    }

    /// Says a record past the Hub, if the link has room for it.
    pub(crate) fn say_past_hub(&mut self, record: ToRouter) {
        let Some(up) = self.link.as_ref().filter(|up| up.refused.is_none()) else {
            return;
        };
        let mut writer = BatchWriter::new();
        writer.push_to_router(&record);
        if up.endpoint.try_send(writer.take()).is_ok() {
            self.seen.push(Seen::Said(up.link, record));
        }
    }

    /// Returns the session of a connection, as the router named it over this link.
    pub(crate) fn session_number(&self, handle: ConnectionHandle) -> Option<SessionNumber> {
        self.link.as_ref()?.sessions.get(&handle).copied()
    }

    /// Takes what the link brought. Returns whether it has ended.
    pub(crate) fn listen(&mut self, now: Now) -> bool {
        self.woken.store(false, Ordering::Relaxed);
        loop {
            let Some(up) = &mut self.link else { return false };
            match up.endpoint.try_recv() {
                Ok(Some(batch)) => {
                    for record in decode_from_router(batch.clone()) {
                        let mut record = record.expect("the router keeps to the layout");
                        if let FromRouter::SessionOpened(opened) = &record {
                            up.sessions.insert(opened.connection, opened.session);
                        }
                        self.requests.answer(&mut record);
                        self.seen.push(Seen::Heard(up.link, record));
                    }
                    let id = up.id;
                    self.hub.handle_link_batch(id, batch, now);
                }
                Ok(None) => break,
                Err(_) => return true,
            }
        }
        if let Some(up) = self.link.as_mut().filter(|up| up.refused.is_some()) {
            let id = up.id;
            self.hub.handle_link_room(id, now);
        }
        false
    }

    // ---- connections

    /// Opens a connection for a client, in the first free slot.
    pub(crate) fn accept(&mut self, client: Client, now: Now) -> ConnectionHandle {
        let slot = (0..).find(|slot| !self.clients.keys().any(|of| of.slot == *slot));
        let slot = slot.expect("there are fewer clients than numbers");
        if self.slots.len() <= slot as usize {
            self.slots.resize(slot as usize + 1, 0);
        }
        self.slots[slot as usize] += 1;
        let handle = ConnectionHandle {
            slot,
            generation: self.slots[slot as usize],
        };
        self.hub.handle_accepted(handle, now);
        self.clients.insert(handle, client);
        handle
    }

    /// Gives every socket its room of a round.
    pub(crate) fn start_round(&mut self) {
        for client in self.clients.values_mut() {
            client.room_left = client.room;
        }
    }

    /// One tick of a driver, and as many more as there is something to do at once.
    pub(crate) fn run(&mut self, now: Now) {
        for _ in 0..TICKS_PER_RUN {
            let has_moved = self.tick(now);
            let is_due = self.hub.poll_timeout().is_some_and(|at_ms| at_ms <= now.mono_ms);
            // What waits for room in the link is due for as long as it waits.
            if !has_moved && (!is_due || self.is_refused()) {
                return;
            }
        }
    }

    /// Returns whether something moved on a socket.
    fn tick(&mut self, now: Now) -> bool {
        let mut has_moved = self.write_sockets(now);
        has_moved |= self.read_sockets(now);
        if self.hub.poll_timeout().is_some_and(|at_ms| at_ms <= now.mono_ms) {
            self.hub.handle_timeout(now);
        }
        self.hub.handle_tick_end(now);
        has_moved | self.carry_out()
    }

    /// Lets sockets take of what the transport holds for them.
    fn write_sockets(&mut self, now: Now) -> bool {
        let mut has_moved = false;
        for (handle, client) in &mut self.clients {
            if client.unsent.is_empty() {
                continue;
            }
            let before = client.unsent.len();
            if std::mem::take(&mut client.is_news) {
                self.hub.handle_blocked(*handle, before, now);
            }
            client.take(&mut |news| self.news.push_back((*handle, news)));
            match client.unsent.len() {
                0 => self.hub.handle_writable(*handle, now),
                unsent if unsent < before => self.hub.handle_blocked(*handle, unsent, now),
                _ => continue,
            }
            has_moved = true;
        }
        has_moved
    }

    fn read_sockets(&mut self, now: Now) -> bool {
        let mut has_moved = false;
        for (handle, client) in &mut self.clients {
            if client.is_gone || client.is_paused || client.is_closed {
                continue;
            }
            if !client.unread.is_empty() {
                let mut bytes = std::mem::take(&mut client.unread);
                has_moved = true;
                match self.hub.handle_received(*handle, &mut bytes, now) {
                    Reading::Continue => {}
                    Reading::Paused => client.is_paused = true,
                    Reading::Stopped => continue,
                }
            }
            if client.has_left && !client.is_paused && !client.is_end_told {
                client.is_end_told = true;
                self.hub.handle_end_of_stream(*handle, now);
            }
        }
        has_moved
    }

    fn carry_out(&mut self) -> bool {
        let mut has_moved = false;
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { id, frames } => {
                    let client = self
                        .clients
                        .get_mut(&id)
                        .expect("a send to a socket that is there");
                    assert!(
                        client.unsent.is_empty(),
                        "a send while an earlier one is unfinished"
                    );
                    client.unsent = frames.to_vec();
                    client.is_news = true;
                    self.hub.recycle(frames.own);
                    client.take(&mut |news| self.news.push_back((id, news)));
                    has_moved = true;
                }
                Output::ShutdownWrite(_) => {}
                Output::ResumeReading(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.is_paused = false;
                        has_moved = true;
                    }
                }
                Output::Close(id) => {
                    let client = self
                        .clients
                        .get_mut(&id)
                        .expect("a close of a socket that is there");
                    assert!(!client.is_closed, "a socket is closed once");
                    client.close();
                    self.news.push_back((id, News::Closed));
                }
                Output::Link { link, batch } => self.send_to_router(link, batch),
                Output::CloseLink(_) => panic!("the router keeps to the layout"),
            }
        }
        has_moved
    }

    fn send_to_router(&mut self, link: LinkId, batch: Bytes) {
        let Some(up) = self.link.as_mut().filter(|up| up.id == link) else {
            panic!("a batch for a link that is over");
        };
        let is_again = up.refused.take().is_none_or(|refused| refused == batch);
        assert!(is_again, "what was refused is sent again before anything else");
        match up.endpoint.try_send(batch.clone()) {
            Ok(()) => {
                for record in decode_to_router(batch) {
                    let mut record = record.expect("the gateway keeps to the layout");
                    self.requests.ask(&mut record);
                    self.seen.push(Seen::Said(up.link, record));
                }
            }
            Err(SendError::Full(batch)) => {
                up.refused = Some(batch.clone());
                self.hub.handle_link_refused(link, batch);
            }
            Err(SendError::Closed(_)) => {} // Heard with the rest of what the link brings.
        }
    }

    /// Closes the socket of a client that has gone without a word.
    pub(crate) fn reset(&mut self, handle: ConnectionHandle, now: Now) {
        self.hub.handle_failed(handle, now);
    }

    /// Adds up what the Hub counted.
    pub(crate) fn add_counters(&self, coverage: &mut Coverage) {
        for metric in self
            .hub
            .stats()
            .metrics()
            .filter(|it| it.name.ends_with("_total"))
        {
            let labels = metric.labels.iter().map(|(_, value)| *value);
            let words: Vec<&str> = std::iter::once(metric.name).chain(labels).collect();
            coverage.add(words.join(" "), metric.value);
        }
    }

    /// Returns what passed on the link since the last call.
    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Returns what clients learned since the last call.
    pub(crate) fn take_news(&mut self) -> VecDeque<(ConnectionHandle, News)> {
        std::mem::take(&mut self.news)
    }
}

/// A Hub that is never done would keep a round for ever.
const TICKS_PER_RUN: usize = 50;
