//! The links between gateways and nodes: batches in order, with delay, and no more of them than there is room for.

use std::collections::VecDeque;

use bytes::Bytes;
use router_core::node::Node;
use router_core::topology::PartitionId;
use wire_base::ids::ConnectionHandle;
use wire_link::codec::{BatchWriter, decode_from_router, decode_to_router};
use wire_link::{FromRouter, LINK_VERSION, LinkHello, LinkId, LinkKind, RequestId, ToRouter};

use super::world::World;
use crate::transcript::{Link, Seen};

/// One link.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) link: Link,
    node: usize,
    id: LinkId,
    writer: BatchWriter,
    to_node: VecDeque<(u64, Bytes)>,
    to_gateway: VecDeque<(u64, Vec<FromRouter>)>,
    /// The node has something for which there is no room.
    is_blocked: bool,
    /// What the node was asked about slots that it does not own: each is to be refused at once.
    refusals: Vec<(Asked, PartitionId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Send(RequestId),
    Open(ConnectionHandle),
}

impl Line {
    /// Takes what has arrived at the gateway.
    pub(crate) fn take_arrived(&mut self, now_ms: u64) -> Option<Vec<FromRouter>> {
        let arrived = self.to_gateway.pop_front_if(|(at_ms, _)| *at_ms <= now_ms);
        arrived.map(|(_, records)| records)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.writer.is_empty() && self.to_node.is_empty() && self.to_gateway.is_empty()
    }

    /// A slot was taken: what is asked about it may be served.
    pub(crate) fn expect_nothing_of(&mut self, node: usize, id: PartitionId) {
        self.refusals.retain(|(_, of)| self.node != node || *of != id);
    }

    fn note_answers(&mut self, records: &[FromRouter]) {
        for record in records {
            let answered = match record {
                FromRouter::Rejected(rejected) => Asked::Send(rejected.request),
                FromRouter::SessionRefused(refused) => Asked::Open(refused.connection),
                _ => continue,
            };
            if let Some(at) = self.refusals.iter().position(|(asked, _)| *asked == answered) {
                self.refusals.remove(at);
            }
        }
    }
}

impl World {
    /// Opens the links that are missing.
    pub(crate) fn relink(&mut self) {
        for gateway in 0..self.gateways.len() {
            for at in 0..self.nodes.len() {
                let may_link = self.gateways[gateway].relinks_at_ms[at] <= self.now.mono_ms;
                if may_link && !self.links.contains_key(&(gateway, at)) {
                    self.link(gateway, at);
                }
            }
        }
    }

    fn link(&mut self, gateway: usize, at: usize) {
        let Some(node) = self.nodes[at].node.as_mut() else {
            return;
        };
        let link = Link(self.opened_links);
        self.opened_links += 1;
        let id = LinkId {
            slot: gateway as u16,
            generation: link.0 as u16,
        };
        node.handle_link_up(id);
        let line = Line {
            link,
            node: at,
            id,
            writer: BatchWriter::new(),
            to_node: VecDeque::new(),
            to_gateway: VecDeque::new(),
            is_blocked: false,
            refusals: Vec::new(),
        };
        self.links.insert((gateway, at), line);
        self.see(Seen::LinkUp { link, gateway });
        let hello = LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Gateway,
            node: format!("gateway {gateway}"),
            epoch: 1,
            worker: 0,
        };
        self.say(gateway, at, ToRouter::Hello(hello));
    }

    /// Ends a link, whoever does, and all that was on its way.
    pub(crate) fn unlink(&mut self, gateway: usize, at: usize) {
        let Some(line) = self.links.remove(&(gateway, at)) else {
            return;
        };
        if let Some(node) = self.nodes[at].node.as_mut() {
            node.handle_link_down(line.id);
        }
        let pause_ms = self.rng.within(0..200);
        self.gateways[gateway].relinks_at_ms[at] = self.now.mono_ms + pause_ms;
        self.see(Seen::LinkDown(line.link));
        self.lose_link(gateway, line.link);
    }

    /// Takes note that a node has closed a link.
    pub(crate) fn end_link(&mut self, at: usize, id: LinkId) {
        let ended = self
            .links
            .iter()
            .find(|((_, node), line)| *node == at && line.id == id);
        if let Some((gateway, _)) = ended.map(|(key, _)| *key) {
            self.unlink(gateway, at);
        }
    }

    /// Says something on a link, if it stands; returns whether it does.
    pub(crate) fn say(&mut self, gateway: usize, at: usize, record: ToRouter) -> bool {
        let Some(line) = self.links.get_mut(&(gateway, at)) else {
            return false;
        };
        line.writer.push_to_router(&record);
        let link = line.link;
        if line.writer.is_full() {
            self.flush(gateway, at);
        }
        self.see(Seen::Said(link, record));
        true
    }

    /// Sends off what was said on all links.
    pub(crate) fn flush_links(&mut self) {
        let keys: Vec<_> = self.links.keys().copied().collect();
        for (gateway, at) in keys {
            self.flush(gateway, at);
        }
    }

    fn flush(&mut self, gateway: usize, at: usize) {
        let at_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.link);
        if let Some(line) = self.links.get_mut(&(gateway, at))
            && !line.writer.is_empty()
        {
            let at_ms = line.to_node.back().map_or(at_ms, |last| last.0.max(at_ms));
            line.to_node.push_back((at_ms, line.writer.take()));
        }
    }

    /// Gives a node what has arrived on its links.
    pub(crate) fn bring_batches(&mut self, at: usize) {
        let (topology, now_ms) = (self.plan.topology(), self.now.mono_ms);
        let Some(node) = self.nodes[at].node.as_mut() else {
            return;
        };
        for line in self.links.values_mut().filter(|line| line.node == at) {
            if line.is_blocked && line.to_gateway.len() < BATCHES_MAX {
                line.is_blocked = false;
                node.handle_link_room(line.id);
            }
            if !node.wants_batch(line.id) {
                continue;
            }
            let Some((_, batch)) = line.to_node.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) else {
                continue;
            };
            for record in decode_to_router(batch.clone()).flatten() {
                let (asked, id) = match record {
                    ToRouter::Send(send) => (Asked::Send(send.request), topology.of_draft(&send.draft)),
                    ToRouter::SessionOpen(open) => {
                        (Asked::Open(open.connection), topology.of_user(open.user))
                    }
                    _ => continue,
                };
                if !node.owns(id) {
                    line.refusals.push((asked, id));
                    self.coverage.note("asked of who does not own it");
                }
            }
            node.handle_batch(line.id, batch);
        }
    }

    /// Takes from a node what there is room for, and judges that it refused what is not its own.
    pub(crate) fn take_batches(&mut self, at: usize) {
        let mut late = Vec::new();
        let Some(node) = self.nodes[at].node.as_mut() else {
            return;
        };
        for line in self.links.values_mut().filter(|line| line.node == at) {
            take_from(
                node,
                line,
                self.now.mono_ms + self.rng.within(0..self.plan.delays.link),
            );
            self.coverage.add("link full", u64::from(line.is_blocked));
            if node.wants_batch(line.id) && !line.is_blocked {
                late.append(&mut line.refusals);
            }
        }
        for (asked, id) in late {
            self.violated(format!(
                "node {at} does not own {id:?}, and does not refuse {asked:?} at once"
            ));
        }
        self.check_bounds(at);
    }

    fn check_bounds(&mut self, at: usize) {
        let stats = self.nodes[at].stats();
        let links_max = self.plan.backlog_bytes_max() * stats.links;
        if stats.link_backlog > links_max {
            self.violated(format!("more than {links_max} bytes wait in links: {stats:?}"));
        }
        let rows_max = self.plan.node.unapplied_bytes_max as u64 + ROWS_SLACK_BYTES;
        if stats.unapplied_bytes > rows_max {
            self.violated(format!(
                "more than {rows_max} bytes wait for the store: {stats:?}"
            ));
        }
    }
}

fn take_from(node: &mut Node, line: &mut Line, at_ms: u64) {
    while let Some(batch) = node.poll_batch(line.id) {
        if line.to_gateway.len() >= BATCHES_MAX {
            node.handle_refused(line.id, batch);
            line.is_blocked = true;
            return;
        }
        let records = decode_from_router(batch).map(|record| record.expect("a node keeps to the layout"));
        let records: Vec<_> = records.collect();
        line.note_answers(&records);
        let at_ms = line.to_gateway.back().map_or(at_ms, |last| last.0.max(at_ms));
        line.to_gateway.push_back((at_ms, records));
    }
}

/// Batches that a link has room for.
const BATCHES_MAX: usize = 3;
/// Rows of what was on its way into logs when the bound was reached, and of what others have appended.
const ROWS_SLACK_BYTES: u64 = 4 << 20;
