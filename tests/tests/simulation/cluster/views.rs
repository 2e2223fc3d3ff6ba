//! Who owns which slot: one truth, which nodes and gateways learn of at different times.

use std::collections::BTreeMap;

use router_core::topology::{PartitionId, Topology};
use wire_base::slots::Slot;

use super::plan::NODES;
use super::world::World;

/// Who owns each slot, as somebody knows; the number grows with each change of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(BTreeMap<PartitionId, (Option<usize>, u64)>);

/// The truth, and the news of it that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Views {
    newest: View,
    news: BTreeMap<(u64, u64), News>,
    changes: u64,
    /// When the slots of a silent node are given to others.
    pub(crate) evictions: BTreeMap<(u64, usize), ()>,
}

#[derive(Clone, Copy, Debug)]
struct News {
    to: Reader,
    id: PartitionId,
    owner: Option<usize>,
    version: u64,
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    Node(usize),
    Gateway(usize),
}

impl View {
    pub(crate) fn owner(&self, id: PartitionId) -> Option<usize> {
        self.0.get(&id).and_then(|(owner, _)| *owner)
    }

    /// Returns owner and number of a slot.
    pub(crate) fn at(&self, id: PartitionId) -> Option<(usize, u64)> {
        let (owner, version) = self.0.get(&id)?;
        owner.map(|owner| (owner, *version))
    }

    /// Returns the number of a slot if it is a node's.
    pub(crate) fn version_at(&self, node: usize, id: PartitionId) -> Option<u64> {
        self.at(id)
            .filter(|(owner, _)| *owner == node)
            .map(|(_, version)| version)
    }

    /// Returns what is a node's.
    pub(crate) fn of(&self, node: usize) -> Vec<(PartitionId, u64)> {
        let all = self.0.iter();
        let own = all.filter(|(_, (owner, _))| *owner == Some(node));
        own.map(|(id, (_, version))| (*id, *version)).collect()
    }

    /// Takes news; returns whether they are any: what is older than what is known is none.
    fn learn(&mut self, news: &News) -> bool {
        let known = self.0.entry(news.id).or_default();
        let is_newer = known.1 < news.version;
        if is_newer {
            *known = (news.owner, news.version);
        }
        is_newer
    }
}

impl Views {
    pub(crate) fn new(topology: Topology) -> Self {
        let mut views = Self::default();
        for (number, id) in partitions(topology).into_iter().enumerate() {
            views.newest.0.insert(id, (Some(number % NODES), 1));
        }
        views.changes = 1;
        views
    }

    pub(crate) fn newest(&self) -> View {
        self.newest.clone()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.news.is_empty()
    }

    pub(crate) fn all(&self) -> Vec<PartitionId> {
        self.newest.0.keys().copied().collect()
    }

    pub(crate) fn owner(&self, id: PartitionId) -> Option<usize> {
        self.newest.owner(id)
    }
}

impl World {
    /// Gives a slot to a node, or to nobody; who is there learns of it in a while, each in its own time.
    pub(crate) fn assign(&mut self, id: PartitionId, owner: Option<usize>) {
        self.views.changes += 1;
        let version = self.views.changes;
        self.views.newest.0.insert(id, (owner, version));
        let nodes = (0..NODES).map(Reader::Node);
        let readers = nodes.chain((0..self.gateways.len()).map(Reader::Gateway));
        for (number, to) in readers.enumerate() {
            let at_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.news);
            let news = News {
                to,
                id,
                owner,
                version,
            };
            self.views
                .news
                .insert((at_ms, version * 100 + number as u64), news);
        }
        self.remark(format!("{id:?} goes to {owner:?}"));
    }

    /// Lets everybody learn what has arrived; who is paused learns it later.
    pub(crate) fn spread_news(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        while let Some(entry) = self
            .views
            .news
            .first_entry()
            .filter(|entry| entry.key().0 <= now.mono_ms)
        {
            let (at, news) = entry.remove_entry();
            match news.to {
                Reader::Node(node) if self.nodes[node].runs(now) => {
                    self.nodes[node].view.learn(&news);
                }
                Reader::Node(node) if self.nodes[node].node.is_some() => {
                    late.push(((now.mono_ms + 1, at.1), news))
                }
                Reader::Node(_) => {} // It asks when it starts.
                Reader::Gateway(gateway) => {
                    if self.gateways[gateway].view.learn(&news) {
                        self.reroute_sessions(gateway, news.id);
                    }
                }
            }
        }
        self.views.news.extend(late);
    }

    /// Gives the slots of nodes that were silent for too long to others.
    pub(crate) fn evict(&mut self) {
        while let Some(entry) = self.views.evictions.first_entry() {
            if entry.key().0 > self.now.mono_ms {
                return;
            }
            let (_, node) = *entry.key();
            entry.remove();
            if !self.nodes[node].runs(self.now) {
                self.coverage.note("node evicted");
                self.empty_node(node);
            }
        }
    }

    /// Gives everything that a node has to the others.
    pub(crate) fn empty_node(&mut self, node: usize) {
        for (id, _) in self.views.newest().of(node) {
            let to = (node + 1 + self.rng.below(NODES - 1)) % NODES;
            self.assign(id, Some(to));
        }
    }
}

fn partitions(topology: Topology) -> Vec<PartitionId> {
    match topology {
        Topology::OnePartition => vec![PartitionId::One],
        Topology::PartitionPerSlot {
            conversation_slots,
            user_slots,
        } => {
            let conversations = (0..conversation_slots).map(|slot| PartitionId::Conversation(Slot(slot)));
            let users = (0..user_slots).map(|slot| PartitionId::User(Slot(slot)));
            conversations.chain(users).collect()
        }
    }
}
