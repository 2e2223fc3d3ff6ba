//! The buffers of sends between their submission and the proof that the kernel is done with them.

use std::collections::VecDeque;

use super::tag::COUNT_MASK;
use crate::reactor::{ConnectionHandle, SendBuf};

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
    pub(super) id: ConnectionHandle,
    /// Taken out when a completion tells that the send did not succeed.
    pub(super) buf: Option<SendBuf>,
    /// What the entry of a send of several runs points to.
    _message: Option<Box<Message>>,
    /// Place of its entry among all entries ever pushed, wrapping.
    entry: u32,
}

impl Outgoing {
    /// Keeps the buffer of the send whose entry is number `entry`; returns the number to tag it with, and where its bytes are.
    pub(super) fn push(&mut self, id: ConnectionHandle, buf: SendBuf, entry: u32) -> (u32, Place) {
        // Neither a `Vec` nor `Bytes` moves its bytes when the value itself moves, nor does a `Box`.
        let message = Message::of(&buf);
        let place = match &message {
            None => {
                let bytes = buf.one_run().unwrap_or_default();
                Place::Run(bytes.as_ptr(), bytes.len() as u32)
            }
            Some(message) => Place::Runs(&raw const message.header),
        };
        let number = self.first.wrapping_add(self.sends.len() as u32);
        self.sends.push_back(Outgo {
            id,
            buf: Some(buf),
            _message: message,
            entry,
        });
        (number & COUNT_MASK, place)
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

/// Where the bytes of a send are, for as long as its [`Outgo`] is kept.
pub(super) enum Place {
    /// Start and length.
    Run(*const u8, u32),
    /// Of several runs.
    Runs(*const libc::msghdr),
}

/// The runs of a send, as the kernel reads them.
struct Message {
    header: libc::msghdr,
    /// What `header` points to.
    _runs: Vec<libc::iovec>,
}

impl Message {
    /// Returns the message of a buffer of several runs.
    fn of(buf: &SendBuf) -> Option<Box<Self>> {
        let SendBuf::Runs(runs) = buf else { return None };
        let run = |run: &bytes::Bytes| libc::iovec {
            iov_base: run.as_ptr().cast_mut().cast(),
            iov_len: run.len(),
        };
        let mut runs: Vec<libc::iovec> = runs.iter().map(run).collect();
        // SAFETY: all zeros is a header without address, runs and control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = runs.as_mut_ptr();
        header.msg_iovlen = runs.len();
        Some(Box::new(Self { header, _runs: runs }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionHandle {
        ConnectionHandle { slot, generation: 0 }
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
