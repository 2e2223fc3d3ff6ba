//! Commands that a router has not answered yet.

use std::collections::BTreeMap;

use wire_base::ids::{ConnectionHandle, MessageId};
use wire_base::slots::Slot;
use wire_link::RequestId;

use crate::limits::{ANSWER_MS_MAX, PENDING_MAX};
use crate::routes::{RouterId, Routes};
use crate::time::Now;

/// The commands in flight of one worker, found by request id and, since all wait equally long, kept in order of age.
///
/// Shape: at most [`PENDING_MAX`] entries of [`PENDING_BYTES`]; the memory of a busy time is kept.
pub(super) struct Pending {
    entries: Vec<Entry>,
    /// First of the unused entries, linked by `next`.
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
    /// How many sends to a slot wait for a router that does not own it any more.
    moved: BTreeMap<Slot, u32>,
}

/// A command that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The connection that asked; it may be gone by now.
    pub(super) connection: ConnectionHandle,
    /// The client's id, repeated in the answer.
    pub(super) id: Option<u32>,
    /// Decides how it is answered if it fails.
    pub(super) kind: Kind,
    /// Who was asked.
    pub(super) router: RouterId,
    /// The slot of its conversation, if it is a send.
    pub(super) slot: Option<Slot>,
}

/// What decides about the form of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `rejected`, with the message id if the client gave one.
    Send(Option<MessageId>),
    /// `error`, and its answer may be as large as a frame.
    Page,
    /// `error`.
    Other,
}

struct Entry {
    /// Counts the uses of the entry, so that a late answer meets nobody.
    generation: u32,
    prev: u32,
    next: u32,
    due_ms: u64,
    /// Counted in [`Pending::moved`].
    is_moved: bool,
    request: Option<Request>,
}

/// Bytes of one entry.
pub(crate) const PENDING_BYTES: usize = size_of::<Entry>();

impl Pending {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            len: 0,
            moved: BTreeMap::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no request can be added.
    pub(super) const fn is_full(&self) -> bool {
        self.len >= PENDING_MAX
    }

    /// Adds a request; returns the id that its answer will repeat.
    ///
    /// Panics: when full; the caller looked.
    pub(super) fn insert(&mut self, request: Request, now: Now) -> RequestId {
        assert!(!self.is_full(), "the caller looked");
        if self.free == NONE {
            self.free = self.entries.len() as u32;
            self.entries.push(Entry {
                generation: 0,
                prev: NONE,
                next: NONE,
                due_ms: 0,
                is_moved: false,
                request: None,
            });
        }
        let index = self.free;
        let newest = std::mem::replace(&mut self.newest, index);
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.generation = entry.generation.wrapping_add(1);
        (entry.prev, entry.next) = (newest, NONE);
        entry.due_ms = now.mono_ms + ANSWER_MS_MAX;
        entry.request = Some(request);
        let id = RequestId(u64::from(entry.generation) << 32 | u64::from(index));
        match self.entries.get_mut(newest as usize) {
            Some(before) => before.next = index,
            None => self.oldest = index,
        }
        self.len += 1;
        id
    }

    /// Returns whether a request has had no answer yet.
    pub(super) fn holds(&self, id: RequestId) -> bool {
        let entry = self.entries.get(id.0 as u32 as usize);
        entry.is_some_and(|entry| entry.generation == (id.0 >> 32) as u32 && entry.request.is_some())
    }

    /// Returns whether sends to a slot wait that another router must answer first.
    pub(super) fn is_moving(&self, slot: Slot) -> bool {
        self.moved.contains_key(&slot)
    }

    /// Notes the owner of every slot: sends that wait for another router hold up those to come.
    pub(super) fn handle_view(&mut self, routes: &Routes) {
        self.moved.clear();
        for entry in &mut self.entries {
            let request = entry.request.as_ref();
            let slot = request.and_then(|request| Some((request.slot?, request.router)));
            let moved = slot.filter(|&(slot, router)| routes.of_conversations(slot) != router);
            entry.is_moved = moved.is_some();
            if let Some((slot, _)) = moved {
                *self.moved.entry(slot).or_default() += 1;
            }
        }
    }

    /// Removes the request of an answer; `None` when nobody waits for it any more.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Request> {
        self.holds(id).then(|| self.remove(id.0 as u32))?
    }

    /// Removes the request that a router answers; `None` when nobody waits for it any more, or not for this router.
    pub(super) fn take_from(&mut self, router: RouterId, id: RequestId) -> Option<Request> {
        let entry = self.entries.get(id.0 as u32 as usize)?;
        let request = entry.request.as_ref()?;
        (request.router == router).then(|| self.take(id))?
    }

    /// Removes some requests, oldest first.
    pub(super) fn take_all(&mut self, is_meant: impl Fn(&Request) -> bool) -> Vec<Request> {
        let mut taken = Vec::new();
        let mut index = self.oldest;
        while let Some(entry) = self.entries.get(index as usize) {
            let next = entry.next;
            if entry.request.as_ref().is_some_and(&is_meant) {
                taken.extend(self.remove(index));
            }
            index = next;
        }
        taken
    }

    /// Removes the oldest request, if it has waited too long.
    pub(super) fn take_expired(&mut self, now: Now) -> Option<Request> {
        self.next_ms().filter(|&at_ms| at_ms <= now.mono_ms)?;
        self.remove(self.oldest)
    }

    /// Returns when the oldest request has waited too long.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.entries.get(self.oldest as usize).map(|entry| entry.due_ms)
    }

    fn remove(&mut self, index: u32) -> Option<Request> {
        let entry = self.entries.get_mut(index as usize)?;
        let request = entry.request.take()?;
        let (prev, next) = (entry.prev, entry.next);
        let moved = request.slot.filter(|_| std::mem::take(&mut entry.is_moved));
        entry.next = std::mem::replace(&mut self.free, index);
        match self.entries.get_mut(prev as usize) {
            Some(before) => before.next = next,
            None => self.oldest = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(behind) => behind.prev = prev,
            None => self.newest = prev,
        }
        self.len -= 1;
        if let Some(slot) = moved
            && let Some(count) = self.moved.get_mut(&slot)
        {
            *count -= 1;
            if *count == 0 {
                self.moved.remove(&slot);
            }
        }
        Some(request)
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire_base::ids::UnixMs;

    use super::*;

    fn request(n: u32) -> Request {
        Request {
            connection: ConnectionHandle {
                slot: n,
                generation: 1,
            },
            id: Some(n),
            kind: Kind::Other,
            router: RouterId(0),
            slot: None,
        }
    }

    const fn at(mono_ms: u64) -> Now {
        Now {
            mono_ms,
            unix: UnixMs(0),
        }
    }

    #[test]
    fn an_answer_is_taken_once_and_a_reused_entry_does_not_take_a_late_one() {
        let mut pending = Pending::new();
        let first = pending.insert(request(1), at(0));
        assert_eq!(pending.take(first), Some(request(1)));
        assert_eq!(pending.take(first), None);
        let second = pending.insert(request(2), at(0));
        assert_eq!(pending.take(first), None);
        assert_eq!(pending.take(RequestId(u64::MAX)), None);
        assert_eq!(pending.take(second), Some(request(2)));
    }

    #[test]
    fn a_request_expires_after_fifteen_seconds_and_not_before() {
        let mut pending = Pending::new();
        pending.insert(request(1), at(1_000));
        pending.insert(request(2), at(2_000));
        assert_eq!(pending.take_expired(at(15_999)), None);
        assert_eq!(pending.take_expired(at(16_000)), Some(request(1)));
        assert_eq!(pending.take_expired(at(16_000)), None);
        assert_eq!(pending.next_ms(), Some(17_000));
    }

    proptest! {
        #[test]
        fn requests_are_kept_in_order_of_age(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200)) {
            let mut pending = Pending::new();
            let mut model: Vec<(RequestId, Request)> = Vec::new();
            for (n, (add, which)) in steps.into_iter().enumerate() {
                if add || model.is_empty() {
                    model.push((pending.insert(request(n as u32), at(n as u64)), request(n as u32)));
                } else {
                    let (id, expected) = model.remove(which.index(model.len()));
                    prop_assert_eq!(pending.take(id), Some(expected));
                }
                prop_assert_eq!(pending.len(), model.len());
            }
            let left: Vec<Request> = model.into_iter().map(|(_, request)| request).collect();
            let (even, odd): (Vec<_>, Vec<_>) = left.into_iter().partition(|request| request.id.unwrap() % 2 == 0);
            prop_assert_eq!(pending.take_all(|request| request.id.unwrap() % 2 == 0), even);
            prop_assert_eq!(pending.take_all(|_| true), odd);
            prop_assert_eq!((pending.len(), pending.next_ms()), (0, None));
        }
    }
}
