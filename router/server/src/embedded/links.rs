//! The driver's ends of the links: batches between their ports and the node.
//!
//! A tick looks only at links that called since the last one, that the node would not read then, or that the node has
//! something for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;
use router_core::node::Node;
use wire_link::port::{LinkPort, LinkWaker, SendError};
use wire_link::{LinkId, LinkTable};

/// All links that are up.
pub(super) struct Links<P> {
    links: LinkTable<Link<P>>,
    /// Links that may have a batch; each has `is_readable`.
    readable: Vec<LinkId>,
    calls: Arc<Calls>,
}

struct Link<P> {
    port: P,
    bell: Arc<Bell>,
    /// Stands in `readable`.
    is_readable: bool,
}

/// Who called. Shape: each link at most once.
#[derive(Default)]
struct Calls {
    rung: SegQueue<LinkId>,
    /// Wakes the thread of the router.
    thread: OnceLock<LinkWaker>,
}

/// What a port calls when it has something, or room.
struct Bell {
    link: LinkId,
    /// Stands in [`Calls::rung`], or was taken out and not looked after yet.
    is_rung: AtomicBool,
    calls: Arc<Calls>,
}

impl Bell {
    fn ring(&self) {
        // Whoever rang it first has woken the thread, which will look at the port after it has lifted the mark.
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.calls.rung.push(self.link);
            if let Some(thread) = self.calls.thread.get() {
                thread();
            }
        }
    }
}

/// Whether a link has more for the node.
enum Read {
    /// No: it calls when it has.
    Nothing,
    /// Perhaps, but the node wants none now.
    NotNow,
    /// It is over.
    Over,
}

impl<P: LinkPort> Links<P> {
    pub(super) fn new() -> Self {
        Self {
            links: LinkTable::new(),
            readable: Vec::new(),
            calls: Arc::default(),
        }
    }

    pub(super) fn add(&mut self, mut port: P, node: &mut Node) {
        let link = self.links.next_id();
        let bell = Arc::new(Bell {
            link,
            is_rung: AtomicBool::new(false),
            calls: Arc::clone(&self.calls),
        });
        let rung = Arc::clone(&bell);
        // Called at once, for whatever came before.
        port.set_waker(Arc::new(move || rung.ring()));
        let is_readable = false;
        self.links.insert(Link {
            port,
            bell,
            is_readable,
        });
        node.handle_link_up(link);
    }

    pub(super) fn close(&mut self, id: LinkId) {
        self.links.remove(id);
    }

    /// Sets what wakes the thread of the router, and calls it once.
    pub(super) fn set_waker(&self, waker: &LinkWaker) {
        let first = self.calls.thread.set(Arc::clone(waker)).is_ok();
        assert!(first, "a router has one thread for its life");
        waker();
    }

    /// Gives the node what the links brought, as far as it wants it. Returns whether there was any.
    pub(super) fn receive(&mut self, node: &mut Node) -> bool {
        self.answer_calls(node);
        let mut is_any = false;
        for id in std::mem::take(&mut self.readable) {
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            let read = link.read(id, node, &mut is_any);
            link.is_readable = matches!(read, Read::NotNow);
            match read {
                Read::Nothing => {}
                Read::NotNow => self.readable.push(id),
                Read::Over => node.handle_link_down(id),
            }
        }
        is_any
    }

    /// Gives the links what the node has for them, as far as they have room.
    pub(super) fn send(&mut self, node: &mut Node) {
        while let Some(id) = node.poll_link() {
            while let Some(batch) = node.poll_batch(id) {
                let sent = match self.links.get_mut(id) {
                    Some(link) => link.port.try_send(batch),
                    None => Err(SendError::Closed(batch)),
                };
                match sent {
                    Ok(()) => {}
                    Err(SendError::Full(batch)) => node.handle_refused(id, batch),
                    Err(SendError::Closed(_)) => node.handle_link_down(id),
                }
            }
        }
    }

    fn answer_calls(&mut self, node: &mut Node) {
        while let Some(id) = self.calls.rung.pop() {
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            // Lifted before the look: who rings behind it is heard at the next tick.
            link.bell.is_rung.swap(false, Ordering::AcqRel);
            node.handle_link_room(id); // A call does not say what for; trying is as cheap as asking.
            if !std::mem::replace(&mut link.is_readable, true) {
                self.readable.push(id);
            }
        }
    }
}

impl<P: LinkPort> Link<P> {
    fn read(&mut self, id: LinkId, node: &mut Node, is_any: &mut bool) -> Read {
        while node.wants_batch(id) {
            match self.port.try_recv() {
                Ok(Some(batch)) => {
                    *is_any = true;
                    node.handle_batch(id, batch);
                }
                Ok(None) => return Read::Nothing,
                Err(_) => return Read::Over,
            }
        }
        Read::NotNow
    }
}

#[cfg(test)]
mod tests;
