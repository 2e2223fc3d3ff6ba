//! The random numbers of a run: one seed decides everything.

use wire_base::random::Random;

/// The dice of a run.
#[derive(Clone, Debug)]
pub(crate) struct Rng(Random);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// Returns a number from `range`, which is not empty.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.0.below(range.end - range.start)
    }

    /// Returns an index below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.index(count)
    }

    /// Returns true so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    /// Returns true so many times in a thousand.
    pub(crate) fn permille(&mut self, chance: u64) -> bool {
        self.within(0..1000) < chance
    }

    /// Returns one of the choices.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Returns a number below 2^80 or so, for ids.
    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}
