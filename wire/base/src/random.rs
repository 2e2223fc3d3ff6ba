//! Numbers that look random and repeat from a seed: the same on every machine. Never for secrets.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A sequence of random numbers.
///
/// Shape: 8 bytes. The sequence is part of what a seed means to people who repeat a run, so it stays SplitMix64.
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// Returns the sequence of a seed; seeds that differ by one give sequences that have nothing in common.
    pub fn seeded(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Returns the sequence of a seed for one purpose, so that purposes do not share a sequence.
    pub fn for_purpose(seed: u64, purpose: u64) -> Self {
        Self::seeded(mix(seed ^ mix(purpose)))
    }

    /// Returns the next number.
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator worth the name"
    )]
    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    ///
    /// Shape: uniform but for one chance in 2^64 / `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns an index below `count`, which is not 0.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// Returns true half of the time.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Returns 0 to `count - 1` in random order.
    pub fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.index(last + 1));
        }
        order
    }
}

/// Returns a number that looks random and stands for `value`: no two values share one.
///
/// Sums of them mean equal sets but for one chance in 2^64.
pub fn mix(value: u64) -> u64 {
    Random::seeded(value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = Random::seeded(0);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(
            first,
            [
                0xe220_a839_7b1d_cdaf,
                0x6e78_9e6a_a1b9_65f4,
                0x06c4_5d18_8009_454f
            ]
        );
        assert_eq!(mix(0), first[0]);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::seeded(7);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.below(10)).collect();
        assert!((0..10).all(|number| drawn.contains(&number)) && drawn.iter().all(|&number| number < 10));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.index(1), 0);
    }

    #[test]
    fn a_permutation_holds_each_number_once_and_repeats_from_its_seed() {
        let order = Random::for_purpose(7, 1).permutation(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order, sorted);
        assert_eq!(order, Random::for_purpose(7, 1).permutation(1000));
        assert_ne!(order, Random::for_purpose(7, 2).permutation(1000));
    }
}
