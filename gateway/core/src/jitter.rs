//! Spread without a clock and without hidden state: the same seed and connection give the same jitter.

use wire_base::ids::ConnectionHandle;
use wire_base::random::mix;

/// Source of jitter of one hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jitter {
    seed: u64,
}

impl Jitter {
    /// Returns the source of a seed.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns a number below `bound` for a connection, the same as long as it lives; 0 for a bound of 0.
    pub(crate) fn of(self, connection: ConnectionHandle, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let key = (connection.generation as u64) << 32 | connection.slot as u64;
        mix(self.seed ^ mix(key)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_repeatable_and_covers_its_range() {
        let jitter = Jitter::seeded(7);
        let of = |slot| jitter.of(ConnectionHandle { slot, generation: 1 }, 5_000);
        assert_eq!(of(3), of(3));
        let values: Vec<u64> = (0..1_000).map(of).collect();
        assert!(values.iter().all(|&ms| ms < 5_000));
        assert!(values.iter().any(|&ms| ms < 500) && values.iter().any(|&ms| ms >= 4_500));
        assert_eq!(
            jitter.of(
                ConnectionHandle {
                    slot: 3,
                    generation: 1
                },
                0
            ),
            0
        );
    }
}
