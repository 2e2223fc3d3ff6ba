//! Readers that wait for something, each at most once, served in turn.

use std::collections::BTreeSet;

/// A set of reader slots, taken round-robin in the order of slots.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeSet<u32>,
    /// The slot after the one served last.
    next: u32,
}

impl Turns {
    /// Adds a reader; one that waits already keeps its turn.
    pub(super) fn insert(&mut self, slot: u32) {
        self.waiting.insert(slot);
    }

    /// Drops a reader.
    pub(super) fn remove(&mut self, slot: u32) {
        self.waiting.remove(&slot);
    }

    /// Takes out the reader whose turn it is.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = *self
            .waiting
            .range(self.next..)
            .next()
            .or_else(|| self.waiting.first())?;
        self.waiting.remove(&slot);
        self.next = slot.wrapping_add(1);
        Some(slot)
    }

    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes over the readers of another set.
    pub(super) fn append(&mut self, mut other: Self) {
        self.waiting.append(&mut other.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_waiting_is_served_before_anyone_is_served_again() {
        let mut turns = Turns::default();
        for slot in [5, 1, 9] {
            turns.insert(slot);
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            let slot = turns.pop().unwrap();
            served.push(slot);
            turns.insert(slot);
        }
        assert_eq!(served, [1, 5, 9, 1, 5, 9]);
    }

    #[test]
    fn a_reader_waits_once_and_can_leave() {
        let mut turns = Turns::default();
        turns.insert(3);
        turns.insert(3);
        turns.insert(4);
        turns.remove(4);
        assert_eq!([turns.pop(), turns.pop()], [Some(3), None]);
    }
}
