//! A bounded memory of what the store holds, in order of use.

use std::hash::Hash;

use wire_base::ids::Offset;

use crate::pieces::Pieces;
use crate::slot_table::SlotTable;

/// Values by key, the least recently used one first to go, but never one that the store does not hold yet.
///
/// Shape: a slab of entries in a doubly linked list of use, and a table of slots by key: beside a value and its key
/// about 32 bytes. `capacity` is kept by [`Cache::evict`] alone, so that nothing a record needs can leave between its
/// look-ups and its fold; in between, the memory is larger by what was touched.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    slots: SlotTable,
    entries: Pieces<Entry<K, V>>,
    /// Ends of the list of use; [`NONE`] when empty.
    oldest: u32,
    newest: u32,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    /// `None` in a slot that was released.
    value: Option<V>,
    older: u32,
    newer: u32,
    /// The offset after the newest record whose effects the value holds, 0 for none; the store holds it once that record
    /// is applied.
    written_end: u64,
}

const NONE: u32 = u32::MAX;

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    /// Returns an empty memory that is cut back to `capacity` values.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: SlotTable::default(),
            entries: Pieces::default(),
            oldest: NONE,
            newest: NONE,
            capacity: capacity.min(NONE as usize - 1),
        }
    }

    /// Returns the value without counting it as used.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let slot = self.slot_of(key)?;
        self.entries[slot].value.as_ref()
    }

    /// Returns the value as the most recently used one, for reading.
    pub(crate) fn touch(&mut self, key: &K) -> Option<&V> {
        let slot = self.slot_of(key)?;
        self.unlink(slot);
        self.link_newest(slot);
        self.entries[slot].value.as_ref()
    }

    /// Returns the value as the most recently used one, for writing the effects of the record at `offset`.
    pub(crate) fn write(&mut self, key: &K, offset: Offset) -> Option<&mut V> {
        let slot = self.slot_of(key)?;
        self.unlink(slot);
        self.link_newest(slot);
        let entry = &mut self.entries[slot];
        entry.written_end = entry.written_end.max(end_of(Some(offset)));
        entry.value.as_mut()
    }

    /// Does the same, with an empty value where there is none.
    pub(crate) fn write_or_default(&mut self, key: K, offset: Offset) -> &mut V
    where
        V: Default,
    {
        let slot = match self.slot_of(&key) {
            Some(slot) => {
                self.unlink(slot);
                self.link_newest(slot);
                slot
            }
            None => self.insert_new(key),
        };
        let entry = &mut self.entries[slot];
        entry.written_end = entry.written_end.max(end_of(Some(offset)));
        entry.value.get_or_insert_default()
    }

    /// Returns the value for a change that is no effect of a record; it keeps its place.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slot_of(key)?;
        self.entries[slot].value.as_mut()
    }

    /// Puts in a value as the most recently used one. `written` is `None` when it was read from the store.
    pub(crate) fn insert(&mut self, key: K, value: V, written: Option<Offset>) {
        if let Some(slot) = self.slot_of(&key) {
            self.unlink(slot);
            let entry = &mut self.entries[slot];
            entry.value = Some(value);
            entry.written_end = entry.written_end.max(end_of(written));
            self.link_newest(slot);
            return;
        }
        let slot = self.insert_new(key);
        let entry = &mut self.entries[slot];
        (entry.value, entry.written_end) = (Some(value), end_of(written));
    }

    /// Drops the least recently used values until `capacity` are left, or until one is not in the store yet.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub(crate) fn evict(&mut self, applied: Option<Offset>) {
        while self.slots.len() > self.capacity
            && self.oldest != NONE
            && self.entries[self.oldest].written_end <= end_of(applied)
        {
            self.pop_oldest();
        }
    }

    /// Takes out the least recently used value.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let slot = self.oldest;
        let value = self.entries.get_mut(slot)?.value.take()?;
        let key = self.entries[slot].key;
        self.unlink(slot);
        self.slots.replace(&key, slot, None);
        self.entries.release(slot);
        Some((key, value))
    }

    /// Returns how many values are held.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes a slot for a key that is not there, as the most recently used one, without a value yet.
    fn insert_new(&mut self, key: K) -> u32 {
        let slot = self.entries.insert(Entry {
            key,
            value: None,
            older: NONE,
            newer: NONE,
            written_end: 0,
        });
        let entries = &self.entries;
        self.slots.insert(&key, slot, |at| entries[at].key);
        self.link_newest(slot);
        slot
    }

    fn slot_of(&self, key: &K) -> Option<u32> {
        self.slots.get(key, |at| self.entries[at].key)
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { older, newer, .. } = self.entries[slot];
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer].older = older,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let older = self.newest;
        let entry = &mut self.entries[slot];
        (entry.older, entry.newer) = (older, NONE);
        match older {
            NONE => self.oldest = slot,
            older => self.entries[older].newer = slot,
        }
        self.newest = slot;
    }
}

/// Returns the offset after a record, 0 for none.
fn end_of(written: Option<Offset>) -> u64 {
    written.map_or(0, |offset| offset.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_value_goes_first() {
        let mut cache = Cache::new(2);
        for key in [1, 2, 3] {
            cache.insert(key, key * 10, None);
        }
        cache.touch(&1);
        cache.evict(None);
        assert_eq!(
            (cache.get(&1), cache.get(&2), cache.get(&3)),
            (Some(&10), None, Some(&30))
        );
    }

    #[test]
    fn a_value_that_the_store_does_not_hold_yet_stays_and_so_does_everything_used_after_it() {
        let mut cache = Cache::new(0);
        cache.insert('a', 1, None);
        cache.insert('b', 2, Some(Offset(7)));
        cache.insert('c', 3, None);
        cache.evict(Some(Offset(6)));
        assert_eq!(
            (cache.get(&'a'), cache.get(&'b'), cache.get(&'c')),
            (None, Some(&2), Some(&3))
        );
        cache.evict(Some(Offset(7)));
        assert_eq!(cache.len(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_in_order_of_use(
            steps in prop::collection::vec((0u8..4, 0u8..8, 0u64..20), 1..200),
            capacity in 0usize..6,
        ) {
            let mut cache = Cache::new(capacity);
            let mut model: Vec<(u8, u64, Option<Offset>)> = Vec::new();
            for (step, key, number) in steps {
                let offset = Offset(number);
                let found = model.iter().position(|entry| entry.0 == key);
                match step {
                    0 => {
                        cache.insert(key, number, Some(offset));
                        let written = found.map(|at| model.remove(at)).and_then(|entry| entry.2);
                        model.push((key, number, written.max(Some(offset))));
                    }
                    1 => {
                        let value = cache.touch(&key).copied();
                        prop_assert_eq!(value, found.map(|at| model[at].1));
                        if let Some(at) = found {
                            let entry = model.remove(at);
                            model.push(entry);
                        }
                    }
                    2 => {
                        if let Some(value) = cache.write(&key, offset) {
                            *value += 1;
                        }
                        if let Some(at) = found {
                            let (key, value, written) = model.remove(at);
                            model.push((key, value + 1, written.max(Some(offset))));
                        }
                    }
                    _ => {
                        cache.evict(Some(offset));
                        while model.len() > capacity && model[0].2 <= Some(offset) {
                            model.remove(0);
                        }
                    }
                }
                prop_assert_eq!(cache.len(), model.len());
                for key in 0..8 {
                    let expected = model.iter().find(|entry| entry.0 == key).map(|entry| &entry.1);
                    prop_assert_eq!(cache.get(&key), expected);
                }
            }
        }
    }
}
