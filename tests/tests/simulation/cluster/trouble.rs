//! What goes wrong in a cluster: slots that move, nodes that stop or stand still, links that break, a store out of reach.

use super::plan::NODES;
use super::world::World;

impl World {
    /// Lets something go wrong, by the dice.
    pub(crate) fn trouble(&mut self) {
        let rates = self.plan.rates;
        if self.rng.permille(rates.move_slot) {
            self.move_slot();
        }
        if self.rng.permille(rates.move_many) {
            self.coverage.note("slots moved in bulk");
            let node = self.rng.below(NODES);
            self.empty_node(node);
        }
        if self.rng.permille(rates.take_again) {
            let all = self.views.all();
            let id = all[self.rng.below(all.len())];
            let owner = self.views.owner(id);
            self.coverage.note("slot released and taken again at once");
            self.assign(id, owner);
        }
        if self.rng.permille(rates.kill) {
            self.kill_some();
        }
        if self.rng.permille(rates.pause) {
            self.pause_some();
        }
        if self.rng.permille(rates.break_link) {
            let gateway = self.rng.below(self.gateways.len());
            let node = self.rng.below(NODES);
            self.coverage.note("link broke");
            self.unlink(gateway, node);
        }
        if self.rng.permille(rates.deafen) {
            let gateway = self.rng.below(self.gateways.len());
            self.gateways[gateway].deaf_until_ms = self.now.mono_ms + self.rng.within(20..1_500);
            self.coverage.note("link stood still");
        }
        if self.rng.permille(rates.store_down) {
            let node = self.rng.below(NODES);
            self.coverage.note("store out of reach");
            self.store.cut_off.insert(node);
        }
        if self.rng.permille(30) {
            let node = self.rng.below(NODES);
            self.store.cut_off.remove(&node);
        }
        self.restart_nodes();
    }

    /// Gives a slot to somebody else, or for a while to nobody.
    fn move_slot(&mut self) {
        let all = self.views.all();
        let id = all[self.rng.below(all.len())];
        if self.rng.percent(20) {
            self.coverage.note("slot without an owner");
            return self.assign(id, None);
        }
        let node = self.rng.below(NODES);
        self.assign(id, Some(node));
    }

    fn kill_some(&mut self) {
        let node = self.rng.below(NODES);
        if self.nodes[node].node.is_none() {
            return;
        }
        self.coverage.note("node killed");
        self.kill_node(node);
        self.nodes[node].starts_at_ms = self.now.mono_ms + self.rng.within(1..4_000);
        self.evict_later(node);
    }

    fn pause_some(&mut self) {
        let node = self.rng.below(NODES);
        if !self.nodes[node].runs(self.now) {
            return;
        }
        self.coverage.note("node paused");
        self.nodes[node].paused_until_ms = self.now.mono_ms + self.rng.within(10..6_000);
        self.remark(format!(
            "node {node} stands still until {}",
            self.nodes[node].paused_until_ms
        ));
        self.evict_later(node);
    }

    fn evict_later(&mut self, node: usize) {
        let lease_ms = self.plan.delays.lease;
        self.views
            .evictions
            .insert((self.now.mono_ms + lease_ms, node), ());
    }

    pub(crate) fn restart_nodes(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].node.is_none() && self.nodes[node].starts_at_ms <= self.now.mono_ms {
                self.start_node(node);
            }
        }
    }
}
