//! The HTTP API as the router knows it: one link, and what waits for room in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::pipe::{Endpoint, SendError};
use wire_link::{FromRouter, ToRouter};

use crate::transcript::Link;

pub(crate) struct Api {
    link: Option<(Link, Endpoint)>,
    /// What wakes its thread. Reading and writing only then shows a wake-up that the link forgot.
    woken: Arc<AtomicBool>,
    writer: BatchWriter,
    /// Batches that found no room.
    refused: VecDeque<Bytes>,
}

/// What a link brought.
pub(crate) struct Brought {
    pub(crate) records: Vec<FromRouter>,
    pub(crate) has_ended: bool,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self {
            link: None,
            woken: Arc::new(AtomicBool::new(false)),
            writer: BatchWriter::new(),
            refused: VecDeque::new(),
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
