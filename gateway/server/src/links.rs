//! The driver's ends of its links: at most one to each router, which comes and goes.

use bytes::Bytes;
use gateway_core::RouterId;
use wire_link::port::{LinkWaker, SendError};
use wire_link::{LinkId, LinkPort, LinkTable};

/// The links of one worker.
pub(crate) struct Links<P> {
    table: LinkTable<Link<P>>,
    /// Routers whose link was lost, and that have no new one.
    lost: Vec<RouterId>,
}

struct Link<P> {
    port: P,
    router: RouterId,
    /// It gave a batch back; its waker tells when to try again.
    is_refused: bool,
}

/// What a link has for the Hub.
pub(crate) enum Received {
    /// A batch.
    Batch(Bytes),
    /// Nothing now: it calls when it has.
    Nothing,
    /// It is over.
    Over,
}

/// What became of a batch.
pub(crate) enum Sent {
    /// The port has it.
    Taken,
    /// There is no room.
    Refused(Bytes),
    /// The link is over.
    Over,
}

impl<P: LinkPort> Links<P> {
    pub(crate) const fn new() -> Self {
        Self {
            table: LinkTable::new(),
            lost: Vec::new(),
        }
    }

    /// Takes a link to a router, in place of the one there may be; returns its id.
    pub(crate) fn insert(&mut self, router: RouterId, mut port: P, waker: LinkWaker) -> LinkId {
        port.set_waker(waker);
        let old = self.table.iter().find(|(_, link)| link.router == router);
        let old = old.map(|(id, _)| id);
        if let Some(old) = old {
            self.table.remove(old);
        }
        self.lost.retain(|&lost| lost != router);
        let is_refused = false;
        self.table.insert(Link {
            port,
            router,
            is_refused,
        })
    }

    /// Gives up a link; returns whether it was there.
    pub(crate) fn lose(&mut self, id: LinkId) -> bool {
        let Some(link) = self.table.remove(id) else {
            return false;
        };
        self.lost.push(link.router);
        true
    }

    /// Returns whether a router has no link that had one.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Returns the first link behind another, or of all.
    pub(crate) fn next_after(&self, id: Option<LinkId>) -> Option<LinkId> {
        self.table.next_after(id)
    }

    pub(crate) fn receive(&mut self, id: LinkId) -> Received {
        match self.table.get_mut(id).map(|link| link.port.try_recv()) {
            Some(Ok(Some(batch))) => Received::Batch(batch),
            Some(Ok(None)) | None => Received::Nothing,
            Some(Err(_)) => Received::Over,
        }
    }

    pub(crate) fn send(&mut self, id: LinkId, batch: Bytes) -> Sent {
        let Some(link) = self.table.get_mut(id) else {
            return Sent::Taken; // The Hub has heard of its end, or is about to.
        };
        match link.port.try_send(batch) {
            Ok(()) => Sent::Taken,
            Err(SendError::Full(batch)) => {
                link.is_refused = true;
                Sent::Refused(batch)
            }
            Err(SendError::Closed(_)) => Sent::Over,
        }
    }

    /// Returns whether a link gave a batch back and may have room now; it counts as told.
    pub(crate) fn take_refused(&mut self, id: LinkId) -> bool {
        let link = self.table.get_mut(id);
        link.is_some_and(|link| std::mem::take(&mut link.is_refused))
    }
}
