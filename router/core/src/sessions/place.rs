//! A position whose generation is known from elsewhere.

use wire_base::ids::{Offset, Position};

/// A place in an inbox, in the order of the inbox: 10 bytes, where a [`Position`] has 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(Rust, packed(2))]
pub(super) struct Place {
    offset: u64,
    index: u16,
}

const _: () = assert!(size_of::<Place>() == 10);

impl Place {
    /// Returns the place of a position in an inbox of a generation, of which it must be.
    pub(super) fn of(position: Position, generation: u32) -> Self {
        debug_assert_eq!(position.generation, generation, "another inbox");
        Self {
            offset: position.offset.0,
            index: position.index,
        }
    }

    /// Returns the position of this place in an inbox of a generation.
    pub(super) const fn in_generation(self, generation: u32) -> Position {
        Position {
            generation,
            offset: Offset(self.offset),
            index: self.index,
        }
    }
}
