//! Where readers are found: by user and device, and by slot.

use wire_base::ids::{DeviceId, Position, UserId};

use super::place::Place;
use super::reader::Reader;
use crate::pieces::Pieces;
use crate::slot_table::SlotTable;

/// The readers, in a slab; those of one user form a chain.
///
/// Shape: a slot for each session, and of each user the first slot in a table by the user's id. What slots were used is kept for the
/// next ones, until the last session is gone.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The first reader of each user.
    users: SlotTable,
    slots: Pieces<Option<Chained>>,
}

#[derive(Debug)]
struct Chained {
    reader: Reader,
    /// The newest entry of the user's inbox; of the first reader of a user alone it is kept true.
    head: Place,
    /// The next reader of the user, or [`NONE`].
    next: u32,
}

/// What an idle session costs beside 5 to 10 bytes of the table.
const _: () = assert!(size_of::<Option<Chained>>() <= 112);

const NONE: u32 = u32::MAX;

impl Table {
    /// Returns the reader in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Reader> {
        Some(&self.slots.get(slot)?.as_ref()?.reader)
    }

    /// Returns the reader in a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Reader> {
        Some(&mut self.slots.get_mut(slot)?.as_mut()?.reader)
    }

    /// Returns the slot of a device's session.
    pub(super) fn find(&self, user: UserId, device: DeviceId) -> Option<u32> {
        self.of_user(user)
            .find(|slot| self.get(*slot).is_some_and(|reader| reader.device == device))
    }

    /// Returns the slots of a user's sessions, newest first.
    pub(super) fn of_user(&self, user: UserId) -> impl Iterator<Item = u32> {
        let first = self.first(user).unwrap_or(NONE);
        std::iter::successors((first != NONE).then_some(first), |slot| self.next(*slot))
    }

    /// Returns the slot after this one in a user's chain.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        let next = self.slots.get(slot)?.as_ref()?.next;
        (next != NONE).then_some(next)
    }

    /// Puts in a reader and returns its slot. `head` is the newest entry of the inbox, as the caller knows.
    pub(super) fn insert(&mut self, reader: Reader, head: Position) -> u32 {
        let user = reader.user;
        let first = self.first(user);
        let head = Place::of(head, head.generation);
        let head = first
            .and_then(|first| self.chained(first))
            .map_or(head, |held| held.head.max(head));
        let slot = self.slots.insert(Some(Chained {
            reader,
            head,
            next: first.unwrap_or(NONE),
        }));
        match first {
            Some(first) => self.users.replace(&Some(user), first, Some(slot)),
            None => {
                let slots = &self.slots;
                self.users.insert(&Some(user), slot, |at| user_of(slots, at));
            }
        }
        slot
    }

    /// Takes a reader out; the user goes with its last one.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Reader> {
        let user = self.get(slot)?.user;
        let before = self.of_user(user).take_while(|at| *at != slot).last();
        let next = self.next(slot);
        if before.is_none() {
            let head = self.chained(slot)?.head;
            if let Some(next) = next.and_then(|next| self.chained_mut(next)) {
                next.head = head;
            }
            self.users.replace(&Some(user), slot, next);
        } else if let Some(before) = before.and_then(|before| self.chained_mut(before)) {
            before.next = next.unwrap_or(NONE);
        }
        let Chained { reader, .. } = self.slots.get_mut(slot)?.take()?;
        self.slots.release(slot);
        if self.len() == 0 {
            *self = Self::default();
        }
        Some(reader)
    }

    /// Returns the newest entry of a user with sessions.
    pub(super) fn head(&self, user: UserId) -> Option<Position> {
        let held = self.chained(self.first(user)?)?;
        Some(held.reader.position_of(held.head))
    }

    /// Moves the head of a user with sessions and returns the one before and the first slot; `None` when it stays.
    pub(super) fn advance_head(&mut self, user: UserId, position: Position) -> Option<(Position, u32)> {
        let first = self.first(user)?;
        let held = self.chained_mut(first)?;
        let position = Place::of(position, held.reader.generation);
        if held.head >= position {
            return None;
        }
        let before = std::mem::replace(&mut held.head, position);
        Some((held.reader.position_of(before), first))
    }

    /// Returns the number of slots, used or free.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Returns the number of readers.
    pub(super) fn len(&self) -> usize {
        self.slots.in_use()
    }

    fn chained(&self, slot: u32) -> Option<&Chained> {
        self.slots.get(slot)?.as_ref()
    }

    fn chained_mut(&mut self, slot: u32) -> Option<&mut Chained> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Returns the slot of a user's newest session.
    fn first(&self, user: UserId) -> Option<u32> {
        self.users.get(&Some(user), |at| user_of(&self.slots, at))
    }
}

/// Returns whose the session in a slot is.
fn user_of(slots: &Pieces<Option<Chained>>, slot: u32) -> Option<UserId> {
    slots[slot].as_ref().map(|held| held.reader.user)
}
