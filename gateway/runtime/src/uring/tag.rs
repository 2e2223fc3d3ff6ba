//! What a completion says about its request: operation, generation and slot in 64 bits.

use crate::reactor::ConnectionHandle;

/// The `user_data` of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) operation: Operation,
    /// The low bits of a socket's generation; of a send: its number, since its buffer must be found.
    pub(super) count: u32,
    /// The socket's slot, or the index of a listener.
    pub(super) slot: u32,
}

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    /// Oneshot poll of a listener.
    Listen = 1,
    /// Multishot poll of a socket for reading and hang-up.
    PollRead,
    /// Oneshot poll of a socket for writing, after a short send.
    PollWrite,
    /// Oneshot poll of a connecting socket.
    Connect,
    /// A send.
    Send,
    /// The end of one pending poll of a socket, linked to the following close.
    Cancel,
    /// The close of a socket.
    Close,
    /// Multishot poll of the waker.
    Wake,
}

/// How many bits of a generation travel. A slot is not used again before its close has completed, so that a stale
/// completion is at most a few generations late.
pub(super) const COUNT_MASK: u32 = (1 << 24) - 1;

impl Tag {
    pub(super) const fn new(operation: Operation, count: u32, slot: u32) -> Self {
        Self {
            operation,
            count: count & COUNT_MASK,
            slot,
        }
    }

    pub(super) const fn of_socket(operation: Operation, id: ConnectionHandle) -> Self {
        Self::new(operation, id.generation, id.slot)
    }

    pub(super) const fn encode(self) -> u64 {
        (self.operation as u64) << 56 | (self.count as u64) << 32 | self.slot as u64
    }

    /// Returns `None` for a value that [`Tag::encode`] never gives.
    pub(super) const fn decode(user_data: u64) -> Option<Self> {
        let operation = match (user_data >> 56) as u8 {
            1 => Operation::Listen,
            2 => Operation::PollRead,
            3 => Operation::PollWrite,
            4 => Operation::Connect,
            5 => Operation::Send,
            6 => Operation::Cancel,
            7 => Operation::Close,
            8 => Operation::Wake,
            _ => return None,
        };
        Some(Self {
            operation,
            count: (user_data >> 32) as u32 & COUNT_MASK,
            slot: user_data as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_survives_the_round_trip_with_all_bits() {
        for code in 1..=8u64 {
            let tag = Tag::decode(code << 56 | u64::from(COUNT_MASK) << 32 | u64::from(u32::MAX)).unwrap();
            assert_eq!(tag.encode() >> 56, code);
            assert_eq!((tag.count, tag.slot), (COUNT_MASK, u32::MAX));
            assert_eq!(Tag::decode(tag.encode()), Some(tag));
        }
        assert_eq!(Tag::decode(0), None);
        assert_eq!(Tag::decode(9 << 56), None);
    }

    #[test]
    fn a_generation_keeps_its_low_bits() {
        let id = ConnectionHandle {
            slot: 3,
            generation: 0x0500_0007,
        };
        assert_eq!(Tag::of_socket(Operation::Close, id).count, 7);
    }
}
