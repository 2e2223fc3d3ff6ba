//! The open-loop schedule: when each pair sends, fixed in advance, whatever the target does.
//!
//! Sends are spread evenly: send number `j` of the whole run is due `j / rate` after the start and belongs to the pair
//! whose turn it is in one seeded order, over and over. A worker holds the turns of its own pairs, so that all workers
//! together keep the one schedule without talking to each other.

use std::ops::Range;
use std::time::Duration;

use wire_base::random::Random;

use crate::clock::Ns;
use crate::units::Rate;

/// A send that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Who sends to whom.
    pub(crate) pair: u32,
    /// Distance from the start of the schedule; latency is counted from here.
    pub(crate) intended: Ns,
}

/// One worker's part of the schedule.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The turns of this worker's pairs within a round, in order: (turn, pair).
    turns: Vec<(u32, u32)>,
    /// Turns in a round, over all workers.
    round: u64,
    rounds_done: u64,
    next: usize,
    rate: Rate,
    /// Sends of the whole schedule, over all workers.
    total: u64,
    /// The next send; it is looked at far more often than it changes.
    due: Option<Due>,
}

impl Schedule {
    /// Returns the part of `own` pairs in the schedule of `pairs` pairs over `length`.
    pub(crate) fn new(pairs: u32, own: &Range<u32>, rate: Rate, length: Duration, seed: u64) -> Self {
        let order = Random::for_purpose(seed, PURPOSE_TURNS).permutation(pairs);
        let turns = (0..).zip(order).filter(|(_, pair)| own.contains(pair)).collect();
        let total = rate.events_within(length.as_nanos() as u64);
        let mut schedule = Self {
            turns,
            round: u64::from(pairs),
            rounds_done: 0,
            next: 0,
            rate,
            total,
            due: None,
        };
        schedule.due = schedule.find_due();
        schedule
    }

    /// Returns the next send, without taking it; `None` when the schedule is over.
    pub(crate) fn peek(&self) -> Option<Due> {
        self.due
    }

    fn find_due(&self) -> Option<Due> {
        let (turn, pair) = *self.turns.get(self.next)?;
        let index = self.rounds_done * self.round + u64::from(turn);
        (index < self.total).then(|| Due {
            pair,
            intended: Ns(self.rate.due_ns(index)),
        })
    }

    /// Takes the send last peeked at.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
        if self.next == self.turns.len() {
            self.next = 0;
            self.rounds_done += 1;
        }
        self.due = self.find_due();
    }

    /// Ends the schedule at `until`; returns how many sends due before it were left.
    pub(crate) fn abandon(&mut self, until: Ns) -> u64 {
        self.total = self.total.min(self.rate.events_within(until.0));
        let left = self.left();
        self.total = 0;
        self.due = None;
        left
    }

    fn left(&self) -> u64 {
        let started = self.rounds_done * self.round;
        let whole_rounds = self.total.saturating_sub(started) / self.round;
        let rest = self.total.saturating_sub(started) % self.round;
        let in_rest = self.turns.partition_point(|(turn, _)| u64::from(*turn) < rest) as u64;
        (whole_rounds * self.turns.len() as u64 + in_rest).saturating_sub(self.next as u64)
    }
}

const PURPOSE_TURNS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::block;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(mut schedule: Schedule) -> Vec<Due> {
        let mut all = Vec::new();
        while let Some(due) = schedule.peek() {
            schedule.advance();
            all.push(due);
        }
        all
    }

    fn rate(per_s: u64) -> Rate {
        Rate::per_second(per_s).unwrap()
    }

    #[test]
    fn sends_are_spread_evenly_and_in_order() {
        let all = drain(Schedule::new(10, &(0..10), rate(1000), SECOND, 4));
        assert_eq!(all.len(), 1000);
        for (index, due) in all.iter().enumerate() {
            assert_eq!(due.intended, Ns(index as u64 * 1_000_000));
        }
        for pair in 0..10 {
            let times: Vec<u64> = all
                .iter()
                .filter(|due| due.pair == pair)
                .map(|due| due.intended.0)
                .collect();
            assert_eq!(times.len(), 100);
            assert!(times.windows(2).all(|two| two[1] - two[0] == 10_000_000));
        }
    }

    #[test]
    fn workers_share_one_schedule_without_overlap() {
        let whole = drain(Schedule::new(37, &(0..37), rate(5000), SECOND, 8));
        for workers in [2, 3, 5] {
            let parts = (0..workers)
                .map(|worker| Schedule::new(37, &block(37, workers, worker), rate(5000), SECOND, 8));
            let mut joined: Vec<Due> = parts.flat_map(drain).collect();
            joined.sort_by_key(|due| due.intended);
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn the_number_left_counts_down_to_nothing() {
        for (own, length) in [
            (0..7, SECOND),
            (3..5, SECOND),
            (0..7, Duration::from_millis(3)),
            (6..7, Duration::ZERO),
        ] {
            let mut schedule = Schedule::new(7, &own, rate(500), length, 2);
            let mut left = drain(schedule.clone()).len() as u64;
            assert_eq!(schedule.left(), left);
            while schedule.peek().is_some() {
                schedule.advance();
                left -= 1;
                assert_eq!(schedule.left(), left);
            }
            assert_eq!(left, 0);
        }
    }

    #[test]
    fn a_schedule_cut_short_has_left_only_what_was_due_by_then() {
        let mut schedule = Schedule::new(10, &(0..10), rate(1000), SECOND, 4);
        for _ in 0..20 {
            schedule.advance();
        }
        assert_eq!(schedule.clone().abandon(Ns(50_000_000)), 30);
        assert_eq!(schedule.clone().abandon(Ns(0)), 0);
        assert_eq!(schedule.clone().abandon(Ns::NEVER), 980);
        assert_eq!(schedule.abandon(Ns(5_000_000)), 0);
        assert_eq!((schedule.peek(), schedule.abandon(Ns::NEVER)), (None, 0));
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let schedule = |seed| drain(Schedule::new(50, &(0..50), rate(100), SECOND, seed));
        assert_eq!(schedule(1), schedule(1));
        assert_ne!(schedule(1), schedule(2));
    }

    #[test]
    fn a_worker_without_pairs_has_nothing_to_send() {
        let schedule = Schedule::new(3, &(3..3), rate(10), SECOND, 1);
        assert_eq!((schedule.peek(), schedule.left()), (None, 0));
    }
}
