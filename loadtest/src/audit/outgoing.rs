//! The sender's half of a pair's ledger: what was sent, and what became of it.

use wire_base::ids::Seq;
use wire_base::random::mix;

/// Sends of one pair, in 32 bytes however many there are.
///
/// A print is the sum of a hash of each member of a set: equal prints mean equal sets (but for one chance in 2^64),
/// and a member can be added in any order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outgoing {
    /// Numbers given out; the last one.
    pub(super) issued: u32,
    /// Numbers the target refused for good; they must not be delivered.
    pub(super) refused: u32,
    /// Sends repeated because their outcome was unknown; they may arrive behind later ones.
    pub(super) retried: u32,
    pub(super) refused_print: u64,
    /// Of (number, seq) as `sent` told it.
    pub(super) accepted_print: u64,
}

const _: () = assert!(size_of::<Outgoing>() <= 32);

impl Outgoing {
    /// Returns the number of a new send.
    pub(crate) fn issue(&mut self) -> u32 {
        self.issued += 1;
        self.issued
    }

    /// Notes that the target promised to keep the message.
    pub(crate) fn accept(&mut self, number: u32, seq: Seq) {
        self.accepted_print = self.accepted_print.wrapping_add(placed(number, seq));
    }

    /// Notes that the target refused the message and did not keep it.
    pub(crate) fn refuse(&mut self, number: u32) {
        self.refused += 1;
        self.refused_print = self.refused_print.wrapping_add(mix(u64::from(number)));
    }

    /// Notes that the message was sent again.
    pub(crate) fn retry(&mut self) {
        self.retried += 1;
    }
}

/// Returns the part that one message and its seq have in a print.
pub(super) fn placed(number: u32, seq: Seq) -> u64 {
    mix(mix(seq.0) ^ u64::from(number))
}
