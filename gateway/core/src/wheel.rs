//! One deadline for each connection, in 12 bytes.
//!
//! A hierarchy of rings: the first has a bucket for each of the next 64 ms, the second for each of the next 64 spans
//! of 64 ms, and so on. A bucket is a doubly linked list through the entries themselves. When time reaches a bucket of
//! a higher ring, its entries are dealt out to the rings below.

use std::num::NonZeroU32;

use crate::slab::Slab;

/// Deadlines of connections, by slot, on the scale of `mono_ms`.
///
/// Shape: 12 bytes for each slot ever used, and 1 KiB; setting, cancelling and firing take constant time.
/// Order: `expire` gives every deadline up to its `now` before a later one, those of one ring bucket in any order.
pub(crate) struct Wheel {
    /// Every deadline up to here has been given out.
    now: u64,
    /// First entry of each bucket; the last one is for entries that are due.
    heads: [u32; BUCKETS + 1],
    /// One bit for each bucket with entries, by ring.
    occupied: [u64; RINGS],
    links: Slab<Links>,
}

/// The place of one slot in its bucket.
#[derive(Clone, Copy)]
pub(crate) struct Links {
    /// One more than the slot before, or `HEAD` and the number of the bucket.
    prev: NonZeroU32,
    /// The entry behind, or `NONE`.
    next: u32,
    /// Low half of the deadline.
    deadline: u32,
}

const _: () = assert!(size_of::<Option<Links>>() == 12);

impl Wheel {
    pub(crate) const fn new() -> Self {
        Self {
            now: 0,
            heads: [NONE; BUCKETS + 1],
            occupied: [0; RINGS],
            links: Slab::new(),
        }
    }

    /// Sets the deadline of a slot, in place of an earlier one.
    ///
    /// Shape: a deadline more than [`SPAN_MS`] ahead fires then; whoever set it looks again. One in the past fires
    /// with the next millisecond.
    /// Panics: for a slot of 2^31 - 1 or more.
    pub(crate) fn set(&mut self, slot: u32, deadline_ms: u64) {
        assert!(slot < HEAD.get() - 1, "slots are below 2^31 - 1");
        let deadline_ms = deadline_ms.clamp(self.now + 1, self.now + SPAN_MS);
        match self.links.get(slot) {
            Some(&links) => self.unlink(links),
            None => self.links.insert(
                slot,
                Links {
                    prev: NonZeroU32::MIN,
                    next: NONE,
                    deadline: 0,
                },
            ),
        }
        self.link(slot, deadline_ms);
    }

    /// Sets the deadline of a slot unless it has an earlier one.
    pub(crate) fn set_earlier(&mut self, slot: u32, deadline_ms: u64) {
        if self
            .links
            .get(slot)
            .is_none_or(|links| self.deadline_ms(links) > deadline_ms)
        {
            self.set(slot, deadline_ms);
        }
    }

    /// Removes the deadline of a slot.
    pub(crate) fn cancel(&mut self, slot: u32) {
        if let Some(links) = self.links.remove(slot) {
            self.unlink(links);
        }
    }

    /// Returns a slot whose deadline is at or before `now_ms`, and forgets that deadline; `None` when there is no more.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Option<u32> {
        loop {
            let due = self.heads[DUE];
            if due != NONE {
                self.cancel(due);
                return Some(due);
            }
            match self.next_bucket_ms() {
                Some(at_ms) if at_ms <= now_ms => {
                    self.now = at_ms;
                    self.deal_out();
                }
                _ => {
                    self.now = self.now.max(now_ms);
                    return None;
                }
            }
        }
    }

    /// Returns when to call `expire` next; at or before the earliest deadline.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.heads[DUE] != NONE {
            Some(self.now)
        } else {
            self.next_bucket_ms()
        }
    }

    /// Returns the next moment at which a bucket has to be looked at.
    fn next_bucket_ms(&self) -> Option<u64> {
        let of_ring = |(ring, &occupied): (usize, &u64)| {
            let shift = ring as u32 * RING_BITS;
            let current = self.now >> shift;
            // Distance to the next occupied bucket, from 1: the current one stands for a whole turn.
            let turned = occupied.rotate_right((current as u32 + 1) % RING_BUCKETS as u32);
            (occupied != 0).then(|| (current + 1 + u64::from(turned.trailing_zeros())) << shift)
        };
        self.occupied.iter().enumerate().filter_map(of_ring).min()
    }

    /// Moves the entries of every bucket that begins now to where they belong now, from the highest ring down.
    fn deal_out(&mut self) {
        for ring in (0..RINGS).rev() {
            let bucket = bucket_of(ring, self.now);
            let bit = 1 << (bucket % RING_BUCKETS);
            let begins_now = self.now.is_multiple_of(1 << (ring as u32 * RING_BITS));
            if !begins_now || self.occupied[ring] & bit == 0 {
                continue;
            }
            self.occupied[ring] &= !bit;
            let mut slot = std::mem::replace(&mut self.heads[bucket], NONE);
            while let Some(&links) = self.links.get(slot) {
                self.link(slot, self.deadline_ms(&links));
                slot = links.next;
            }
        }
    }

    /// Puts a slot into the bucket of its deadline, as its first entry.
    fn link(&mut self, slot: u32, deadline_ms: u64) {
        let ahead = deadline_ms.saturating_sub(self.now);
        let bucket = if ahead == 0 {
            DUE
        } else {
            let ring = ahead.ilog2() / RING_BITS;
            self.occupied[ring as usize] |= 1 << (bucket_of(ring as usize, deadline_ms) % RING_BUCKETS);
            bucket_of(ring as usize, deadline_ms)
        };
        let next = std::mem::replace(&mut self.heads[bucket], slot);
        if let Some(next) = self.links.get_mut(next) {
            next.prev = NonZeroU32::MIN.saturating_add(slot);
        }
        if let Some(links) = self.links.get_mut(slot) {
            *links = Links {
                prev: HEAD | bucket as u32,
                next,
                deadline: deadline_ms as u32,
            };
        }
    }

    /// Takes an entry out of its bucket.
    fn unlink(&mut self, links: Links) {
        if let Some(next) = self.links.get_mut(links.next) {
            next.prev = links.prev;
        }
        let prev = links.prev.get();
        if prev < HEAD.get() {
            if let Some(prev) = self.links.get_mut(prev - 1) {
                prev.next = links.next;
            }
            return;
        }
        let bucket = (prev - HEAD.get()) as usize;
        self.heads[bucket] = links.next;
        if links.next == NONE && bucket != DUE {
            self.occupied[bucket / RING_BUCKETS] &= !(1 << (bucket % RING_BUCKETS));
        }
    }

    /// Returns the whole deadline: the one with that low half that is nearest to `now`.
    fn deadline_ms(&self, links: &Links) -> u64 {
        let ahead = links.deadline.wrapping_sub(self.now as u32) as i32;
        self.now.saturating_add_signed(i64::from(ahead))
    }
}

/// Returns the bucket of a moment in a ring.
const fn bucket_of(ring: usize, at_ms: u64) -> usize {
    ring * RING_BUCKETS + (at_ms >> (ring as u32 * RING_BITS)) as usize % RING_BUCKETS
}

const RING_BITS: u32 = 6;
const RING_BUCKETS: usize = 1 << RING_BITS;
const RINGS: usize = 4;
const BUCKETS: usize = RINGS * RING_BUCKETS;
/// The bucket of entries whose time has come.
const DUE: usize = BUCKETS;
/// Farthest deadline, 4.6 hours.
const SPAN_MS: u64 = (1 << (RING_BITS * RINGS as u32)) - 1;
const NONE: u32 = u32::MAX;
const HEAD: NonZeroU32 = NonZeroU32::new(1 << 31).unwrap();

const _: () = assert!(SPAN_MS < i32::MAX as u64); // The low half of a deadline tells it exactly.
const _: () = assert!(RING_BUCKETS == u64::BITS as usize);

#[cfg(test)]
mod tests;
