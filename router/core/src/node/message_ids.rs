//! Message ids for senders that name none.

use uuid::Builder;
use wire_base::ids::{MessageId, UnixMs};
use wire_base::random::Random;

/// Makes UUIDv7s from the time it is given and a random sequence of its own.
///
/// Shape: 8 bytes, seeded once. It keeps ids apart; nothing relies on their being hard to guess.
#[derive(Debug)]
pub(super) struct MessageIds(Random);

impl MessageIds {
    /// Returns the sequence of a seed, which must be random per process.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    /// Returns another id.
    pub(super) fn next(&mut self, time: UnixMs) -> MessageId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.0.next().to_le_bytes());
        random[8..].copy_from_slice(&self.0.next().to_le_bytes()[..2]);
        let id = Builder::from_unix_timestamp_millis(time.0, &random).into_uuid();
        MessageId::new(id).expect("its version bits are set, so it is not nil")
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
