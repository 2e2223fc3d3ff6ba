//! How a side names its links, and where it keeps what belongs to each.

use std::fmt;

/// One link, as the side that holds one end of it knows it: a slot that is used again, and the number of that use.
///
/// Shape: 4 bytes, since a router keeps one in every session.
/// Order: an id stands for one link only, so that a fact about a link that is over never meets its successor. It would after 65,536
/// uses of the slot; facts are late by less than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// Index among the links of that side.
    pub slot: u16,
    /// Counts the uses of the slot, from 1.
    pub generation: u16,
}

impl fmt::Display for LinkId {
    /// Prints slot and generation, as in `3.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Most links of one side.
pub const LINKS_MAX: usize = 1 << 16;

/// What a side keeps for each of its links.
///
/// Shape: as many slots as there ever were links at once; the one freed last is used first.
#[derive(Debug)]
pub struct LinkTable<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u16,
    link: Option<T>,
}

impl<T> LinkTable<T> {
    /// Returns a table without links.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Returns whether there are [`LINKS_MAX`] links.
    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= LINKS_MAX
    }

    /// Returns the id that the next [`Self::insert`] will give.
    pub fn next_id(&self) -> LinkId {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u16);
        let generation = self
            .slots
            .get(usize::from(slot))
            .map_or(0, |used| used.generation);
        LinkId {
            slot,
            generation: generation.wrapping_add(1),
        }
    }

    /// Puts a link in.
    ///
    /// Panics: when the table is full; whoever accepts links looks.
    pub fn insert(&mut self, link: T) -> LinkId {
        assert!(!self.is_full(), "the caller looked");
        let id = self.next_id();
        let slot = Slot {
            generation: id.generation,
            link: Some(link),
        };
        match self.free.pop() {
            Some(free) => self.slots[usize::from(free)] = slot,
            None => self.slots.push(slot),
        }
        id
    }

    /// Returns a link, unless it is over.
    pub fn get(&self, id: LinkId) -> Option<&T> {
        let slot = self.slots.get(usize::from(id.slot))?;
        slot.link.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// Returns a link, unless it is over.
    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut T> {
        let slot = self.slots.get_mut(usize::from(id.slot))?;
        slot.link.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Takes a link out; from then on its id stands for nothing.
    pub fn remove(&mut self, id: LinkId) -> Option<T> {
        let slot = self.slots.get_mut(usize::from(id.slot))?;
        if slot.generation != id.generation {
            return None;
        }
        let link = slot.link.take()?;
        self.free.push(id.slot);
        Some(link)
    }

    /// Returns the first link behind another, or of all; by slot.
    pub fn next_after(&self, id: Option<LinkId>) -> Option<LinkId> {
        let start = id.map_or(0, |id| usize::from(id.slot) + 1);
        let behind = (start..).zip(self.slots.get(start..)?);
        behind
            .filter(|(_, used)| used.link.is_some())
            .map(|(slot, used)| LinkId {
                slot: slot as u16,
                generation: used.generation,
            })
            .next()
    }

    /// Returns every link, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &T)> {
        let ids = std::iter::successors(self.next_after(None), |&id| self.next_after(Some(id)));
        ids.filter_map(|id| Some((id, self.get(id)?)))
    }
}

impl<T> Default for LinkTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_the_old_id_stands_for_nothing() {
        let mut table = LinkTable::new();
        let (a, b) = (table.insert("a"), table.insert("b"));
        assert_eq!((a.to_string(), b.to_string()), ("0.1".into(), "1.1".into()));
        assert_eq!(table.remove(a), Some("a"));
        assert_eq!((table.remove(a), table.get(a)), (None, None));
        let next = table.next_id();
        let c = table.insert("c");
        assert_eq!((c, c.to_string()), (next, "0.2".into()));
        assert!(table.get(a).is_none() && table.get_mut(a).is_none() && table.remove(a).is_none());
        assert_eq!(table.get(c), Some(&"c"));
        assert_eq!(table.get_mut(b), Some(&mut "b"));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(c, &"c"), (b, &"b")]);
        let walk = |table: &LinkTable<_>| [None, Some(a), Some(b)].map(|id| table.next_after(id));
        assert_eq!(walk(&table), [Some(c), Some(b), None]);
        table.remove(c);
        assert_eq!(walk(&table), [Some(b), Some(b), None]);
        table.insert("c");
        assert_eq!(table.insert("d").to_string(), "2.1");
    }
}
