//! Slots: what routers own of conversations and users.

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{ConversationId, UserId};

/// A unit of ownership: a fixed hash range of conversations or of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// Returns the slot of a conversation: xxh3_64 of the 16 bytes of its id, modulo `count`.
    ///
    /// Panics: when `count` is 0.
    pub fn of_conversation(id: ConversationId, count: u16) -> Self {
        Self((xxh3_64(id.get().as_bytes()) % u64::from(count)) as u16)
    }

    /// Returns the slot of a user: xxh3_64 of the id as 8 little-endian bytes, modulo `count`.
    ///
    /// Panics: when `count` is 0.
    pub fn of_user(id: UserId, count: u16) -> Self {
        Self((xxh3_64(&id.get().to_le_bytes()) % u64::from(count)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserId {
        UserId::new(n).unwrap()
    }

    /// Those of users were computed from the description of XXH3 too. Whoever changes the hash loses what is stored under it.
    #[test]
    fn slots_are_those_of_the_golden_vectors() {
        let users = [1, 2, 3, 1_000_000, UserId::MAX].map(user);
        let slots = |count| users.map(|user| Slot::of_user(user, count).0);
        let pairs = [(1, 2), (1, 3), (7, 1_000_000)];
        let conversations = pairs.map(|(a, b)| ConversationId::direct(user(a), user(b)));
        let conversation_slots = |count| conversations.map(|id| Slot::of_conversation(id, count).0);
        assert_eq!(
            (
                slots(64),
                slots(2_048),
                conversation_slots(64),
                conversation_slots(1_024)
            ),
            (
                [46, 3, 61, 32, 27],
                [302, 579, 1_661, 352, 539],
                [41, 29, 3],
                [937, 413, 579]
            )
        );
    }

    #[test]
    fn every_slot_gets_its_share() {
        let mut users = [0; 16];
        for n in 1..=16_000 {
            users[usize::from(Slot::of_user(user(n), 16).0)] += 1;
        }
        assert!(
            users.iter().all(|count| (850..1_150).contains(count)),
            "{users:?}"
        );
    }
}
