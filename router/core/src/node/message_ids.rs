//! Message ids for senders that name none.

use uuid::Builder;
use wire_base::ids::{MessageId, UnixMs};

/// Makes UUIDv7s from the time it is given and a random sequence of its own.
///
/// Shape: SplitMix64, seeded once. It keeps ids apart; nothing relies on their being hard to guess.
#[derive(Debug)]
pub(super) struct MessageIds(u64);

impl MessageIds {
    /// Returns the sequence of a seed, which must be random per process.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns another id.
    pub(super) fn next(&mut self, time: UnixMs) -> MessageId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.draw().to_le_bytes());
        random[8..].copy_from_slice(&self.draw().to_le_bytes()[..2]);
        let id = Builder::from_unix_timestamp_millis(time.0, &random).into_uuid();
        MessageId::new(id).expect("its version bits are set, so it is not nil")
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_differ_and_carry_their_time() {
        let mut ids = MessageIds::seeded(7);
        let made: BTreeSet<_> = (0..10_000).map(|_| ids.next(UnixMs(1_700_000_000_123))).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.unix_ms() == Some(1_700_000_000_123)));
    }
}
