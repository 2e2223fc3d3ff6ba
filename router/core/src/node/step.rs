//! One step of a node: everything that the facts so far allow, and when the next one is due.

use wire_link::FromRouter;

use super::{Intention, Node};
use crate::sessions::LinkId;

impl Node {
    /// Does everything that the facts so far allow, each part within its bounds. Returns whether there is more that waits for
    /// nobody: then call it again at once.
    pub fn advance(&mut self) -> bool {
        self.settle_partitions();
        self.settle_links();
        self.retry_condition();
        if self.has_begun {
            self.keep_up();
        }
        // What was just asked again most likely helps: nobody is refused in front of the answer.
        let is_busy = !self.shared.is_retrying && self.receive();
        self.partitions.begin_looks(&mut self.shared);
        self.partitions.look(&mut self.shared, |partition, shared| {
            partition.form_group(shared);
            partition.fold_pending(shared);
        });
        self.settle_partitions();
        self.partitions.pump_pages(&mut self.shared);
        self.serve_questions();
        self.partitions.look(&mut self.shared, |partition, shared| {
            partition.pump_outbox(shared);
            partition.form_group(shared); // A status that was just looked up goes with what was just received.
        });
        self.partitions.end_looks(&self.shared);
        self.settle_partitions();
        self.shared.flush_when_due();
        is_busy
    }

    /// Returns when [`Node::advance`] is due even without a fact, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.shared.links.has_freed() {
            return Some(self.shared.now.mono_ms);
        }
        let upkeep = self.has_begun.then(|| self.upkeep.due_ms()).flatten();
        let retry = self.shared.condition.retry_ms();
        let dues = [retry, upkeep, self.clock_due_ms(), self.shared.flush_due_ms];
        let of_partitions = self.partitions.due_ms(&self.shared);
        dues.into_iter().flatten().chain(of_partitions).min()
    }

    /// Ends the sessions of a link, forgets what it asked, and closes it.
    pub(super) fn end_link(&mut self, link: LinkId) {
        if self.shared.links.remove(link) {
            self.partitions.for_each(|partition| {
                partition.sessions.handle_link_down(link);
                partition.opens.remove_link(link);
            });
            self.shared.questions.remove_link(link);
            self.shared.intentions.push_back(Intention::CloseLink(link));
        }
    }

    /// Tells the sessions of links that emptied, and seals what can go.
    fn settle_links(&mut self) {
        for link in self.shared.links.take_freed() {
            let Some(updates) = self.shared.links.take_held_updates(link) else {
                continue;
            };
            for update in updates {
                self.shared.stats.status_updates += update.to.len() as u64;
                self.shared.links.push(link, &FromRouter::StatusUpdate(update));
            }
            self.partitions
                .for_each(|partition| partition.sessions.handle_link_room(link));
        }
    }

    /// Stops the sessions of a link that is full.
    pub(super) fn stop_sessions(&mut self, link: LinkId) {
        self.partitions
            .for_each(|partition| partition.sessions.handle_link_full(link));
    }

    /// Does what a partition cannot do by itself: what it found out about a link is news for the others, and one that cannot
    /// go on is released.
    fn settle_partitions(&mut self) {
        while let Some(link) = self.shared.filled.pop() {
            // It may be gone by now, and another one in its place.
            if self.shared.links.is_full(link) {
                self.stop_sessions(link);
            }
        }
        while let Some((id, update)) = self.shared.told.pop_front() {
            match self.partitions.get(&id) {
                Some(partition) => partition.tell(&mut self.shared, &update),
                None => self.shared.intentions.push_back(Intention::TellOwner {
                    partition: id,
                    update,
                }),
            }
        }
        while let Some(id) = self.shared.given_up.pop() {
            self.handle_slot_released(id);
            self.shared.intentions.push_back(Intention::GivenUp(id));
        }
    }
}
