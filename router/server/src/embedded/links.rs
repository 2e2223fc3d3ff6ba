//! The driver's ends of the links: batches between their pipes and the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use router_core::node::Node;
use router_core::sessions::LinkId;
use wire_link::pipe::{Endpoint, PipeWaker, SendError};

/// All links that are up. Ids are not used again.
#[derive(Default)]
pub(super) struct Links {
    endpoints: BTreeMap<LinkId, Endpoint>,
    next: u32,
}

impl Links {
    pub(super) fn add(&mut self, endpoint: Endpoint, node: &mut Node) {
        let id = LinkId(self.next);
        self.next += 1;
        self.endpoints.insert(id, endpoint);
        node.handle_link_up(id);
    }

    pub(super) fn close(&mut self, id: LinkId) {
        self.endpoints.remove(&id);
    }

    /// Sets what the pipes call when one of them has something, or room.
    pub(super) fn set_waker(&self, waker: &PipeWaker) {
        for endpoint in self.endpoints.values() {
            endpoint.set_waker(Arc::clone(waker));
        }
    }

    /// Gives the node what the links brought, as far as it wants it. Returns whether there was any.
    pub(super) fn receive(&mut self, node: &mut Node) -> bool {
        let mut is_any = false;
        let mut closed = Vec::new();
        for (&id, endpoint) in &self.endpoints {
            while node.wants_batch(id) {
                match endpoint.try_recv() {
                    Ok(Some(batch)) => {
                        is_any = true;
                        node.handle_batch(id, batch);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        closed.push(id);
                        break;
                    }
                }
            }
        }
        closed.into_iter().for_each(|id| node.handle_link_down(id));
        is_any
    }

    /// Gives the links what the node has for them, as far as they have room.
    pub(super) fn send(&mut self, node: &mut Node) {
        let mut closed = Vec::new();
        for (&id, endpoint) in &self.endpoints {
            node.handle_link_room(id); // A pipe does not say whether it has; trying is as cheap as asking.
            while let Some(batch) = node.poll_batch(id) {
                match endpoint.try_send(batch) {
                    Ok(()) => {}
                    Err(SendError::Full(batch)) => node.handle_refused(id, batch),
                    Err(SendError::Closed(_)) => {
                        closed.push(id);
                        break;
                    }
                }
            }
        }
        closed.into_iter().for_each(|id| node.handle_link_down(id));
    }
}
