//! The driver's ends of the links: batches between their pipes and the node.

use std::sync::Arc;

use router_core::node::Node;
use wire_link::pipe::{Endpoint, SendError};
use wire_link::port::LinkWaker;
use wire_link::{LinkId, LinkTable};

/// All links that are up.
#[derive(Default)]
pub(super) struct Links {
    endpoints: LinkTable<Endpoint>,
}

impl Links {
    pub(super) fn add(&mut self, endpoint: Endpoint, node: &mut Node) {
        node.handle_link_up(self.endpoints.insert(endpoint));
    }

    pub(super) fn close(&mut self, id: LinkId) {
        self.endpoints.remove(id);
    }

    /// Sets what the pipes call when one of them has something, or room.
    pub(super) fn set_waker(&self, waker: &LinkWaker) {
        for (_, endpoint) in self.endpoints.iter() {
            endpoint.set_waker(Arc::clone(waker));
        }
    }

    /// Gives the node what the links brought, as far as it wants it. Returns whether there was any.
    pub(super) fn receive(&mut self, node: &mut Node) -> bool {
        let mut is_any = false;
        let mut closed = Vec::new();
        for (id, endpoint) in self.endpoints.iter() {
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
        for (id, endpoint) in self.endpoints.iter() {
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
