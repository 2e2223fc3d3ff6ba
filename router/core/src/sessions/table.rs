//! Where readers are found: by user and device, and by slot.

use std::collections::HashMap;

use wire_base::ids::{DeviceId, Position, UserId};

use super::reader::Reader;

/// The readers, in a slab; those of one user form a chain.
///
/// Shape: a slot for each session and a map entry for each user. The map hashes with std's keyed SipHash, because user
/// ids come from peers, and is never iterated.
#[derive(Debug, Default)]
pub(super) struct Table {
    users: HashMap<UserId, User>,
    slots: Vec<Option<Chained>>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct User {
    /// The newest entry of the inbox.
    head: Position,
    first: u32,
}

#[derive(Debug)]
struct Chained {
    reader: Reader,
    /// The next reader of the user, or [`NONE`].
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Table {
    /// Returns the reader in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Reader> {
        Some(&self.slots.get(slot as usize)?.as_ref()?.reader)
    }

    /// Returns the reader in a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Reader> {
        Some(&mut self.slots.get_mut(slot as usize)?.as_mut()?.reader)
    }

    /// Returns the slot of a device's session.
    pub(super) fn find(&self, user: UserId, device: DeviceId) -> Option<u32> {
        self.of_user(user)
            .find(|slot| self.get(*slot).is_some_and(|reader| reader.device == device))
    }

    /// Returns the slots of a user's sessions, newest first.
    pub(super) fn of_user(&self, user: UserId) -> impl Iterator<Item = u32> {
        let first = self.users.get(&user).map_or(NONE, |user| user.first);
        std::iter::successors((first != NONE).then_some(first), |slot| self.next(*slot))
    }

    /// Returns the slot after this one in a user's chain.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        let next = self.slots.get(slot as usize)?.as_ref()?.next;
        (next != NONE).then_some(next)
    }

    /// Puts in a reader and returns its slot. `head` is the newest entry of the inbox, as the caller knows.
    pub(super) fn insert(&mut self, reader: Reader, head: Position) -> u32 {
        let user = self
            .users
            .entry(reader.user)
            .or_insert(User { head, first: NONE });
        user.head = user.head.max(head);
        let chained = Some(Chained {
            reader,
            next: user.first,
        });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = chained;
                slot
            }
            None => {
                self.slots.push(chained);
                (self.slots.len() - 1) as u32
            }
        };
        user.first = slot;
        slot
    }

    /// Takes a reader out; the user goes with its last one.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Reader> {
        let Chained { reader, next } = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        let before = self.of_user(reader.user).take_while(|at| *at != slot).last();
        match before.and_then(|before| self.slots[before as usize].as_mut()) {
            Some(before) => before.next = next,
            None if next == NONE => {
                self.users.remove(&reader.user);
            }
            None => {
                if let Some(user) = self.users.get_mut(&reader.user) {
                    user.first = next;
                }
            }
        }
        Some(reader)
    }

    /// Returns the newest entry of a user with sessions.
    pub(super) fn head(&self, user: UserId) -> Option<Position> {
        self.users.get(&user).map(|user| user.head)
    }

    /// Moves the head of a user with sessions and returns the one before and the first slot; `None` when it stays.
    pub(super) fn advance_head(&mut self, user: UserId, position: Position) -> Option<(Position, u32)> {
        let user = self.users.get_mut(&user).filter(|user| user.head < position)?;
        Some((std::mem::replace(&mut user.head, position), user.first))
    }

    /// Returns the number of slots, used or free.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Returns the number of readers.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
