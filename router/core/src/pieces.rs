//! A slab that grows piece by piece.

use std::ops::{Index, IndexMut};

/// Items by index; a new one goes where one was released, or to the end.
///
/// A released item lies where it was until a new one takes its index: whoever holds the indices says what is valid.
///
/// Shape: pieces of [`PIECE_ITEMS`]. One block of memory would be doubled to grow, and with it copied: the former one, too
/// small for the next, stays with the allocator, and half of the new one is empty.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
    /// What was released.
    free: Vec<u32>,
}

const PIECE_ITEMS: usize = 256;

impl<T> Pieces<T> {
    /// Adds an item and returns its index.
    ///
    /// Panics: at the 2^32nd.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self[index] = item;
            return index;
        }
        let index = u32::try_from(self.len()).expect("fewer than 2^32 items");
        if self.len() == self.pieces.len() * PIECE_ITEMS {
            self.pieces.push(Vec::with_capacity(PIECE_ITEMS));
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(item);
        }
        index
    }

    /// Lets a new item take an index. Order: not twice.
    pub(crate) fn release(&mut self, index: u32) {
        self.free.push(index);
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.pieces.get(index / PIECE_ITEMS)?.get(index % PIECE_ITEMS)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.pieces
            .get_mut(index / PIECE_ITEMS)?
            .get_mut(index % PIECE_ITEMS)
    }

    /// Returns how many items there are that were not released.
    pub(crate) fn in_use(&self) -> usize {
        self.len() - self.free.len()
    }

    /// Returns the end of the indices.
    pub(crate) fn len(&self) -> usize {
        match self.pieces.split_last() {
            Some((last, full)) => full.len() * PIECE_ITEMS + last.len(),
            None => 0,
        }
    }
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Index<u32> for Pieces<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.pieces[index as usize / PIECE_ITEMS][index as usize % PIECE_ITEMS]
    }
}

impl<T> IndexMut<u32> for Pieces<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pieces[index as usize / PIECE_ITEMS][index as usize % PIECE_ITEMS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_index_and_their_place_in_memory() {
        let mut pieces = Pieces::default();
        let first = pieces.insert(0);
        let place = &raw const pieces[first];
        for number in 1..1_000 {
            assert_eq!(pieces.insert(number), number);
        }
        assert_eq!(pieces.len(), 1_000);
        assert!((0..1_000).all(|index| pieces[index] == index));
        assert_eq!((pieces.get(999), pieces.get(1_000)), (Some(&999), None));
        assert_eq!(&raw const pieces[first], place);
        *pieces.get_mut(256).unwrap() = 7;
        assert_eq!(pieces[256], 7);
        pieces.release(256);
        assert_eq!((pieces.in_use(), pieces.len()), (999, 1_000));
        assert_eq!((pieces.insert(8), pieces[256]), (256, 8));
    }
}
