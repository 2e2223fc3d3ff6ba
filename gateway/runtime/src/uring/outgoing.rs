//! The buffers of sends between their submission and the proof that the kernel is done with them.

use std::collections::VecDeque;

use super::tag::COUNT_MASK;
use crate::reactor::{SendBuf, SocketId};

/// Sends in the order of their submission.
///
/// A send that succeeds posts no completion, so its end is known from two facts: the kernel has consumed its entry, and
/// every completion posted until then has been looked at. `MSG_DONTWAIT` makes the kernel decide a send while it
/// consumes the entry.
#[derive(Default)]
pub(super) struct Outgoing {
    sends: VecDeque<Outgo>,
    /// Number of the first of them.
    first: u32,
}

pub(super) struct Outgo {
    pub(super) id: SocketId,
    /// Taken out when a completion tells that the send did not succeed.
    pub(super) buf: Option<SendBuf>,
    /// Place of its entry among all entries ever pushed, wrapping.
    entry: u32,
}

impl Outgoing {
    /// Keeps the buffer of the send whose entry is number `entry`; returns the number to tag it with, and the buffer's place.
    pub(super) fn push(&mut self, id: SocketId, buf: SendBuf, entry: u32) -> (u32, *const u8, u32) {
        // Neither a `Vec` nor `Bytes` moves its bytes when the value itself moves.
        let (start, len) = (buf.as_slice().as_ptr(), buf.len() as u32);
        let number = self.first.wrapping_add(self.sends.len() as u32);
        self.sends.push_back(Outgo {
            id,
            buf: Some(buf),
            entry,
        });
        (number & COUNT_MASK, start, len)
    }

    /// Returns the send of a completion.
    pub(super) fn find(&mut self, number: u32) -> Option<&mut Outgo> {
        let index = number.wrapping_sub(self.first) & COUNT_MASK;
        self.sends.get_mut(index as usize)
    }

    /// Takes the next send whose entry comes before `consumed`, the number of entries the kernel has consumed.
    ///
    /// Order: every completion posted for those entries must have been handled.
    pub(super) fn pop_done(&mut self, consumed: u32) -> Option<Outgo> {
        let front = self.sends.front()?;
        // Entries still in the queue are at most its size ahead, so the sign of the difference decides.
        if (front.entry.wrapping_sub(consumed) as i32) >= 0 {
            return None;
        }
        self.first = self.first.wrapping_add(1);
        self.sends.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> SocketId {
        SocketId { slot, generation: 0 }
    }

    #[test]
    fn sends_end_in_order_and_only_once_consumed_even_where_the_counters_wrap() {
        let mut outgoing = Outgoing {
            first: COUNT_MASK,
            ..Outgoing::default()
        };
        let start = u32::MAX;
        let numbers: Vec<u32> = (0..3)
            .map(|n| {
                outgoing
                    .push(id(n), SendBuf::Owned(vec![n as u8]), start.wrapping_add(2 * n))
                    .0
            })
            .collect();
        assert_eq!(numbers, [COUNT_MASK, 0, 1]);
        assert_eq!(outgoing.find(0).unwrap().id, id(1));
        assert!(outgoing.pop_done(start).is_none());
        assert_eq!(outgoing.pop_done(start.wrapping_add(1)).unwrap().id, id(0));
        assert!(outgoing.pop_done(start.wrapping_add(2)).is_none());
        assert_eq!(outgoing.find(1).unwrap().id, id(2));
        assert_eq!(outgoing.pop_done(start.wrapping_add(5)).unwrap().id, id(1));
        assert_eq!(outgoing.pop_done(start.wrapping_add(5)).unwrap().id, id(2));
        assert!(outgoing.find(2).is_none());
    }
}
