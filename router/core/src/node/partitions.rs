//! The partitions of a node, and which of them a step looks at.
//!
//! A step costs by what happened, not by how many slots are owned. It looks at a partition to which something happened since
//! the last look, whose time has come, or for which there is room again in a budget that all share. Whoever gets hold of one
//! to change it has named it for the next look by that, so that none is forgotten.
//!
//! All are looked at when something changes that concerns all, which is seldom: the condition of the node, a link that fills,
//! empties or ends, the end of the process.
//!
//! Where debug assertions are on, each step of every other node has the others do all they can as well, and asserts that it
//! is nothing; the rest of the nodes that are simulated run as in production.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::Discriminant;

use super::Shared;
use super::condition::Condition;
use super::partition::Partition;
use crate::fair_queue::FairQueue;
use crate::topology::PartitionId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    owned: BTreeMap<PartitionId, Partition>,
    /// To be looked at in this step, or the next one.
    touched: BTreeSet<PartitionId>,
    /// When the others are, on the monotonic clock. Shape: each at most once, as [`Partition::look_due_ms`] says.
    dues: BTreeSet<(u64, PartitionId)>,
    /// Those that may have something for their log and were looked at while the store was too far behind.
    held_back: BTreeSet<PartitionId>,
    /// Those with sessions that may want pages.
    readers: FairQueue<PartitionId>,
    /// The condition that all have seen.
    seen: Option<Discriminant<Condition>>,
    /// See [`Partitions::assert_others_have_nothing`].
    is_checked: bool,
    /// The monotonic clock for their sessions; at its end when the process is, so that no ack waits.
    now_ms: u64,
}

impl Partitions {
    /// Returns none. `seed` decides whether this node's steps are checked.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            is_checked: cfg!(debug_assertions) && seed.is_multiple_of(2),
            ..Self::default()
        }
    }

    /// Learns the time.
    pub(super) fn handle_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Learns that the process is about to end.
    pub(super) fn handle_stopping(&mut self) {
        self.handle_now(u64::MAX);
        self.touch_all();
    }

    pub(super) fn insert(&mut self, id: PartitionId, partition: Partition) {
        self.owned.insert(id, partition);
        self.touched.insert(id);
    }

    pub(super) fn remove(&mut self, id: &PartitionId) -> Option<Partition> {
        let partition = self.owned.remove(id)?;
        self.touched.remove(id);
        self.held_back.remove(id);
        self.readers.remove(*id);
        if let Some(due_ms) = partition.look_due_ms {
            self.dues.remove(&(due_ms, *id));
        }
        Some(partition)
    }

    pub(super) fn contains_key(&self, id: &PartitionId) -> bool {
        self.owned.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    pub(super) fn get(&self, id: &PartitionId) -> Option<&Partition> {
        self.owned.get(id)
    }

    /// Returns all of them, to read.
    pub(super) fn values(&self) -> impl Iterator<Item = &Partition> {
        self.owned.values()
    }

    /// Returns a partition to which something happens.
    pub(super) fn get_mut(&mut self, id: &PartitionId) -> Option<&mut Partition> {
        let partition = self.owned.get_mut(id)?;
        self.touched.insert(*id);
        if let Some(due_ms) = partition.look_due_ms.take() {
            self.dues.remove(&(due_ms, *id));
        }
        partition.sessions.handle_now(self.now_ms);
        Some(partition)
    }

    /// Does with each partition what happens to all of them.
    pub(super) fn for_each(&mut self, happens: impl Fn(&mut Partition)) {
        self.touch_all();
        self.owned.values_mut().for_each(happens);
    }

    fn touch_all(&mut self) {
        self.dues.clear();
        for (id, partition) in &mut self.owned {
            self.touched.insert(*id);
            partition.look_due_ms = None;
            partition.sessions.handle_now(self.now_ms);
        }
    }

    /// Begins the looks of a step, once its facts are in: adds those to which nothing happened, and who can go on now.
    pub(super) fn begin_looks(&mut self, shared: &mut Shared) {
        let condition = std::mem::discriminant(&shared.condition);
        if self.seen.replace(condition) != Some(condition) {
            self.touch_all();
        }
        while let Some((due_ms, id)) = self.dues.first().copied()
            && due_ms <= shared.now.mono_ms
        {
            self.dues.remove(&(due_ms, id));
            self.get_mut(&id);
        }
        if shared.has_room_for_rows() {
            for id in std::mem::take(&mut self.held_back) {
                self.get_mut(&id);
            }
        }
        if self.is_checked {
            self.assert_others_have_nothing(shared);
        }
    }

    /// Looks at each that was named.
    pub(super) fn look(&mut self, shared: &mut Shared, work: impl Fn(&mut Partition, &mut Shared)) {
        for id in &self.touched {
            if let Some(partition) = self.owned.get_mut(id) {
                shared.stats.partition_looks += 1;
                partition.sessions.handle_now(self.now_ms);
                work(partition, shared);
            }
        }
    }

    /// Asks for pages of sessions that are behind, partitions in turn: there are only so many at once for all of them.
    pub(super) fn pump_pages(&mut self, shared: &mut Shared) {
        self.touched.iter().for_each(|id| self.readers.insert(*id));
        let mut unfinished = Vec::new();
        while shared.has_room_for_pages()
            && let Some(id) = self.readers.pop()
        {
            if let Some(partition) = self.get_mut(&id)
                && partition.pump_pages(shared)
            {
                unfinished.push(id);
            }
        }
        unfinished.into_iter().for_each(|id| self.readers.insert(id));
    }

    /// Ends the looks of a step: notes when each is to be looked at again.
    pub(super) fn end_looks(&mut self, shared: &Shared) {
        // Else those that were not looked at would not know: it changes by facts, and before the looks.
        debug_assert_eq!(self.seen, Some(std::mem::discriminant(&shared.condition)));
        for id in std::mem::take(&mut self.touched) {
            let Some(partition) = self.owned.get_mut(&id) else {
                continue;
            };
            partition.look_due_ms = partition.due_ms(shared);
            self.dues.extend(partition.look_due_ms.map(|due_ms| (due_ms, id)));
            if !shared.has_room_for_rows() {
                self.held_back.insert(id);
            }
        }
    }

    /// Returns when the next step is due even without a fact, on the monotonic clock.
    pub(super) fn due_ms(&self, shared: &Shared) -> Option<u64> {
        let can_log = !self.held_back.is_empty() && shared.has_room_for_rows();
        let can_read = self.readers.len() > 0 && shared.has_room_for_pages();
        let at_once = (can_log || can_read).then_some(shared.now.mono_ms);
        let touched = self.touched.iter().filter_map(|id| self.owned.get(id));
        let touched = touched.filter_map(|partition| partition.due_ms(shared));
        let first = self.dues.first().map(|(due_ms, _)| *due_ms);
        at_once.into_iter().chain(first).chain(touched).min()
    }

    /// Has those that a step passes over do all they can.
    ///
    /// Panics: where it is anything: a look was forgotten.
    fn assert_others_have_nothing(&mut self, shared: &mut Shared) {
        let are_pages_asked = self.readers.len() == 0;
        for (id, partition) in &mut self.owned {
            if self.touched.contains(id) {
                continue;
            }
            let due_ms = partition.due_ms(shared);
            assert!(
                due_ms.is_none_or(|due_ms| due_ms > shared.now.mono_ms),
                "{id:?} was due at {due_ms:?}"
            );
            partition.sessions.handle_now(self.now_ms);
            let before = (shared.trace(), partition.trace());
            partition.form_group(shared);
            partition.fold_pending(shared);
            if are_pages_asked {
                partition.pump_pages(shared);
            }
            partition.pump_outbox(shared);
            assert_eq!(
                before,
                (shared.trace(), partition.trace()),
                "{id:?} had something to do, and nobody knew"
            );
        }
    }
}
