//! What waits for something, each at most once, served in turn.

use std::collections::BTreeSet;
use std::ops::Bound;

/// A set taken round-robin in order.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    waiting: BTreeSet<T>,
    /// The one served last.
    last: Option<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeSet::new(),
            last: None,
        }
    }
}

impl<T: Copy + Ord> FairQueue<T> {
    /// Adds one; what waits already keeps its turn.
    pub(crate) fn insert(&mut self, item: T) {
        self.waiting.insert(item);
    }

    /// Drops one.
    pub(crate) fn remove(&mut self, item: T) {
        self.waiting.remove(&item);
    }

    /// Takes out the one whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let item = *self
            .waiting
            .range((after, Bound::Unbounded))
            .next()
            .or_else(|| self.waiting.first())?;
        self.waiting.remove(&item);
        self.last = Some(item);
        Some(item)
    }

    /// Returns how many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes over what waits in another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.waiting.append(&mut other.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_waiting_is_served_before_anyone_is_served_again() {
        let mut queue = FairQueue::default();
        for item in [5, 1, 9] {
            queue.insert(item);
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            let item = queue.pop().unwrap();
            served.push(item);
            queue.insert(item);
        }
        assert_eq!(served, [1, 5, 9, 1, 5, 9]);
    }

    #[test]
    fn one_waits_once_and_can_leave() {
        let mut queue = FairQueue::default();
        queue.insert(3);
        queue.insert(3);
        queue.insert(4);
        queue.remove(4);
        assert_eq!([queue.pop(), queue.pop()], [Some(3), None]);
    }
}
