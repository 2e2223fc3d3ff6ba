//! Entries addressed by small, dense, reused numbers that somebody else hands out.

/// A table of entries in pages, so that growing never moves one and a quiet page gives its memory back.
///
/// Shape: one page of 256 entries for each 256 slots in use; a page without entries holds no memory.
pub(crate) struct Slab<T> {
    pages: Vec<Page<T>>,
    len: usize,
}

struct Page<T> {
    entries: Option<Box<[Option<T>]>>,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }

    /// Returns the number of entries.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let page = self.pages.get(slot as usize / PAGE_ENTRIES)?;
        page.entries.as_ref()?[slot as usize % PAGE_ENTRIES].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(slot as usize / PAGE_ENTRIES)?;
        page.entries.as_mut()?[slot as usize % PAGE_ENTRIES].as_mut()
    }

    /// Puts an entry into a slot.
    ///
    /// Panics: when the slot is taken; the caller looked.
    pub(crate) fn insert(&mut self, slot: u32, entry: T) {
        let page = slot as usize / PAGE_ENTRIES;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || Page {
                entries: None,
                len: 0,
            });
        }
        let page = &mut self.pages[page];
        let entries = page
            .entries
            .get_or_insert_with(|| (0..PAGE_ENTRIES).map(|_| None).collect());
        let place = &mut entries[slot as usize % PAGE_ENTRIES];
        assert!(place.is_none(), "slot {slot} is taken");
        *place = Some(entry);
        page.len += 1;
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let page = self.pages.get_mut(slot as usize / PAGE_ENTRIES)?;
        let entry = page.entries.as_mut()?[slot as usize % PAGE_ENTRIES].take()?;
        page.len -= 1;
        if page.len == 0 {
            page.entries = None;
        }
        self.len -= 1;
        Some(entry)
    }

    /// Returns the first slot in use at or after `slot`.
    pub(crate) fn next_from(&self, slot: u32) -> Option<u32> {
        let first_page = slot as usize / PAGE_ENTRIES;
        let mut start = slot as usize % PAGE_ENTRIES;
        for (index, page) in self.pages.iter().enumerate().skip(first_page) {
            if let Some(entries) = &page.entries
                && let Some(found) = entries[start..].iter().position(Option::is_some)
            {
                return Some((index * PAGE_ENTRIES + start + found) as u32);
            }
            start = 0;
        }
        None
    }
}

const PAGE_ENTRIES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_slot_until_they_are_removed() {
        let mut slab = Slab::new();
        slab.insert(3, 'a');
        slab.insert(700, 'b');
        assert_eq!(
            (slab.get(3), slab.get(700), slab.get(4), slab.get(9_999)),
            (Some(&'a'), Some(&'b'), None, None)
        );
        *slab.get_mut(3).unwrap() = 'c';
        assert_eq!(slab.remove(3), Some('c'));
        assert_eq!((slab.remove(3), slab.get(3), slab.len()), (None, None, 1));
    }

    #[test]
    fn slots_in_use_are_walked_in_order() {
        let mut slab = Slab::new();
        for slot in [0, 255, 256, 1_000] {
            slab.insert(slot, ());
        }
        let mut walked = Vec::new();
        let mut from = 0;
        while let Some(slot) = slab.next_from(from) {
            walked.push(slot);
            from = slot + 1;
        }
        assert_eq!(walked, [0, 255, 256, 1_000]);
    }

    #[test]
    fn a_page_without_entries_holds_no_memory() {
        let mut slab = Slab::new();
        slab.insert(300, ());
        slab.remove(300);
        assert!(slab.pages.iter().all(|page| page.entries.is_none()));
        assert_eq!(slab.next_from(0), None);
    }
}
