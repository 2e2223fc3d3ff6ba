//! Slots of a slab by the hash of a key that lies in the slab and nowhere else.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// Which slot holds a key, for 5 to 10 bytes each.
///
/// Shape: `key_of` says which key a slot holds; it is asked for slots in the table alone. Keys are hashed with std's keyed SipHash
/// because they come from peers; the table is never iterated, so the hash makes no difference to any result.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    slots: HashTable<u32>,
    hasher: RandomState,
}

impl SlotTable {
    /// Returns the slot of a key.
    pub(crate) fn get<K: Eq + Hash>(&self, key: &K, key_of: impl Fn(u32) -> K) -> Option<u32> {
        let found = self
            .slots
            .find(self.hasher.hash_one(key), |slot| key_of(*slot) == *key);
        found.copied()
    }

    /// Puts in the slot of a key that has none.
    pub(crate) fn insert<K: Hash>(&mut self, key: &K, slot: u32, key_of: impl Fn(u32) -> K) {
        let Self { slots, hasher } = self;
        slots.insert_unique(hasher.hash_one(key), slot, |slot| hasher.hash_one(key_of(*slot)));
    }

    /// Names another slot for a key; `None`: it has none any more.
    pub(crate) fn replace<K: Hash>(&mut self, key: &K, before: u32, slot: Option<u32>) {
        if let Ok(mut held) = self
            .slots
            .find_entry(self.hasher.hash_one(key), |at| *at == before)
        {
            match slot {
                Some(slot) => *held.get_mut() = slot,
                None => {
                    held.remove();
                }
            }
        }
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
