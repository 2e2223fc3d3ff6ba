//! A gateway worker as the router knows it: one link, the connections behind it, and what it keeps while the link is down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use wire_base::ids::{ConnectionHandle, Position, SessionNumber};
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::pipe::{Endpoint, SendError};
use wire_link::{FromRouter, LinkKind, ToRouter};

use crate::transcript::Link;

pub(crate) struct Gateway {
    pub(crate) kind: LinkKind,
    link: Option<(Link, Endpoint)>,
    /// What wakes the thread of a gateway. Reading and writing only then shows a wake-up that the link forgot.
    woken: Arc<AtomicBool>,
    writer: BatchWriter,
    /// Batches that found no room.
    refused: VecDeque<Bytes>,
    /// It reads nothing until then.
    pub(crate) deaf_until_ms: u64,
    /// It opens no link before.
    pub(crate) relinks_at_ms: u64,
    pub(crate) sessions: BTreeMap<ConnectionHandle, Session>,
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
    /// `None` until the router answered.
    pub(crate) number: Option<SessionNumber>,
    pub(crate) acked: Option<Position>,
    pub(crate) forwarded: Option<Position>,
    /// What the client got and has not acked.
    pub(crate) unacked: VecDeque<Position>,
    pub(crate) is_synced: bool,
    /// The client is gone, and the gateway does not know.
    pub(crate) is_vanished: bool,
}

/// What a link brought.
pub(crate) struct Brought {
    pub(crate) records: Vec<FromRouter>,
    pub(crate) has_ended: bool,
}

impl Gateway {
    pub(crate) fn new(kind: LinkKind) -> Self {
        Self {
            kind,
            link: None,
            woken: Arc::new(AtomicBool::new(false)),
            writer: BatchWriter::new(),
            refused: VecDeque::new(),
            deaf_until_ms: 0,
            relinks_at_ms: 0,
            sessions: BTreeMap::new(),
            slots: Vec::new(),
        }
    }

    pub(crate) fn link(&self) -> Option<Link> {
        self.link.as_ref().map(|(link, _)| *link)
    }

    /// Takes a new link.
    pub(crate) fn attach(&mut self, link: Link, endpoint: Endpoint) {
        let woken = Arc::clone(&self.woken);
        endpoint.set_waker(Arc::new(move || woken.store(true, Ordering::Relaxed)));
        self.link = Some((link, endpoint));
    }

    /// Closes the link and forgets what did not get through.
    pub(crate) fn detach(&mut self) -> Option<Link> {
        self.writer.take();
        self.refused.clear();
        self.link.take().map(|(link, _)| link)
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

    /// Returns whether the link takes what is said: it stands, and nothing waits for room.
    pub(crate) fn can_say(&self) -> bool {
        self.link.is_some() && self.refused.is_empty()
    }

    /// Adds a record to the batch of this tick.
    pub(crate) fn say(&mut self, record: &ToRouter) {
        if self.writer.is_full() {
            self.refused.push_back(self.writer.take());
        }
        self.writer.push_to_router(record);
    }

    /// Hands the batch to the link, as far as there is room.
    pub(crate) fn hand_over(&mut self) {
        let Some((_, endpoint)) = &self.link else { return };
        if !self.writer.is_empty() {
            self.refused.push_back(self.writer.take());
        }
        while let Some(batch) = self.refused.pop_front() {
            match endpoint.try_send(batch) {
                Ok(()) => {}
                Err(SendError::Full(batch)) => {
                    self.refused.push_front(batch);
                    return;
                }
                Err(SendError::Closed(_)) => return, // Heard with the rest of what the link brings.
            }
        }
    }

    /// Says something that is no record.
    pub(crate) fn babble(&mut self) {
        if let Some((_, endpoint)) = &self.link {
            // Without room for it, the link is left as it is.
            let _ = endpoint.try_send(Bytes::from_static(&[7, 0, 0, 0, 99, 1, 2, 3, 4, 5, 6]));
        }
    }

    /// Takes what the link brought.
    pub(crate) fn listen(&mut self) -> Brought {
        let mut brought = Brought {
            records: Vec::new(),
            has_ended: false,
        };
        let Some((_, endpoint)) = &self.link else {
            return brought;
        };
        self.woken.store(false, Ordering::Relaxed);
        loop {
            match endpoint.try_recv() {
                Ok(Some(batch)) => {
                    let records = decode_from_router(batch);
                    brought
                        .records
                        .extend(records.map(|record| record.expect("the router keeps to the layout")));
                }
                Ok(None) => return brought,
                Err(_) => {
                    brought.has_ended = true;
                    return brought;
                }
            }
        }
    }

    /// Returns whether the gateway's thread would look at its link now.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Returns whether something waits for room.
    pub(crate) fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}
