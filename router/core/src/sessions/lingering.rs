//! Slots that wait for their time, spread so that those that came together do not all leave together.

use std::collections::VecDeque;

/// Slots with the time at which they leave: between the linger time and twice of it after they came.
///
/// Shape: in each lane everything waits equally long, so that it is in order by itself. A slot may stand in it more than once;
/// who takes it out knows whether it still means something.
#[derive(Debug)]
pub(super) struct Lingering {
    linger_ms: u64,
    lanes: [VecDeque<Waiting>; LANES],
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_ms: u64,
    slot: u32,
}

const LANES: usize = 8;

impl Lingering {
    pub(super) fn new(linger_ms: u64) -> Self {
        Self {
            linger_ms,
            lanes: Default::default(),
        }
    }

    pub(super) fn insert(&mut self, slot: u32, now_ms: u64) {
        let lane = slot as usize % LANES;
        let spread_ms = self.linger_ms * lane as u64 / LANES as u64;
        self.lanes[lane].push_back(Waiting {
            due_ms: now_ms.saturating_add(self.linger_ms + spread_ms),
            slot,
        });
    }

    /// Takes out one whose time has come.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<u32> {
        let is_due = |waiting: &mut Waiting| waiting.due_ms <= now_ms;
        let taken = self.lanes.iter_mut().find_map(|lane| lane.pop_front_if(is_due));
        taken.map(|waiting| waiting.slot)
    }

    /// Returns when the next one leaves.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let fronts = self.lanes.iter().filter_map(VecDeque::front);
        fronts.map(|waiting| waiting.due_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leaves_between_once_and_twice_the_time_and_not_all_at_once() {
        let mut lingering = Lingering::new(80);
        for slot in 0..16 {
            lingering.insert(slot, 1_000);
        }
        let mut left = Vec::new();
        for now_ms in 1_000..1_200 {
            assert_eq!(lingering.due_ms() == Some(now_ms), {
                let before = left.len();
                left.extend(std::iter::from_fn(|| lingering.pop(now_ms)).map(|_| now_ms));
                left.len() > before
            });
        }
        assert_eq!(left.len(), 16);
        assert_eq!((left[0], left[15]), (1_080, 1_150));
        left.dedup();
        assert_eq!(left.len(), 8);
    }
}
