//! When clients connect: first at a steady rate, later again when they lost their connection; and by when they must be live.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::clock::Ns;
use crate::units::Rate;

/// The connect times of one worker's clients.
#[derive(Debug)]
pub(super) struct Ramp {
    start: Ns,
    rate: Rate,
    /// The next client that has never been connected.
    next: u32,
    count: u32,
    /// By when attempts must be live: (time, client, attempt). Ascending, for all attempts have the same time.
    deadlines: VecDeque<(Ns, u32, u16)>,
    /// At most one a client.
    retries: BinaryHeap<Reverse<(Ns, u32)>>,
}

impl Ramp {
    /// Returns the ramp of `count` clients, the first of which is due at `start`.
    pub(super) fn new(count: u32, rate: Rate, start: Ns) -> Self {
        Self {
            start,
            rate,
            next: 0,
            count,
            deadlines: VecDeque::new(),
            retries: BinaryHeap::new(),
        }
    }

    /// Takes a client that is due to connect; `settled` is how many first attempts are over.
    pub(super) fn poll_connect(&mut self, now: Ns, settled: u32) -> Option<u32> {
        if self.retries.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            return self.retries.pop().map(|Reverse((_, client))| client);
        }
        let due = self.first_due(settled).is_some_and(|at| at <= now);
        due.then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Lets a client connect again at `at`.
    pub(super) fn retry(&mut self, client: u32, at: Ns) {
        self.retries.push(Reverse((at, client)));
    }

    /// Notes by when an attempt must be live.
    pub(super) fn watch(&mut self, client: u32, attempt: u16, deadline: Ns) {
        self.deadlines.push_back((deadline, client, attempt));
    }

    /// Takes an attempt whose time is over; it may long be live.
    pub(super) fn poll_expired(&mut self, now: Ns) -> Option<(u32, u16)> {
        let (deadline, client, attempt) = *self.deadlines.front()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_front();
        Some((client, attempt))
    }

    /// Returns when there is something to do next.
    pub(super) fn poll_timeout(&self, settled: u32) -> Option<Ns> {
        let retry = self.retries.peek().map(|Reverse((at, _))| *at);
        let deadline = self.deadlines.front().map(|(at, ..)| *at);
        [self.first_due(settled), retry, deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns when the next first attempt is due; `None` while too many are under way, or when all were made.
    fn first_due(&self, settled: u32) -> Option<Ns> {
        let room = self.next.saturating_sub(settled) < OPENING_MAX;
        (room && self.next < self.count).then(|| Ns(self.start.0 + self.rate.due_ns(u64::from(self.next))))
    }
}

/// First attempts under way at a time, so that a slow target's backlog does not overflow and look like a refusal.
const OPENING_MAX: u32 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(count: u32) -> Ramp {
        Ramp::new(count, Rate::per_second(1000).unwrap(), Ns(5_000_000))
    }

    #[test]
    fn clients_connect_at_the_rate_and_once() {
        let mut ramp = ramp(3);
        assert_eq!(ramp.poll_connect(Ns(4_999_999), 0), None);
        assert_eq!(ramp.poll_timeout(0), Some(Ns(5_000_000)));
        assert_eq!(
            (
                ramp.poll_connect(Ns(5_000_000), 0),
                ramp.poll_connect(Ns(5_000_000), 0)
            ),
            (Some(0), None)
        );
        assert_eq!(
            [0; 3].map(|_| ramp.poll_connect(Ns(9_000_000), 1)),
            [Some(1), Some(2), None]
        );
        assert_eq!(ramp.poll_timeout(3), None);
    }

    #[test]
    fn a_slow_target_is_not_flooded() {
        let mut ramp = ramp(10_000);
        let started = std::iter::from_fn(|| ramp.poll_connect(Ns(u64::MAX), 0)).count();
        assert_eq!(started, 512);
        assert_eq!(ramp.poll_timeout(0), None);
        assert_eq!(ramp.poll_connect(Ns(u64::MAX), 1), Some(512));
    }

    #[test]
    fn retries_and_deadlines_come_in_time_order() {
        let mut ramp = ramp(0);
        ramp.retry(4, Ns(30));
        ramp.retry(5, Ns(20));
        ramp.watch(4, 1, Ns(25));
        assert_eq!(ramp.poll_timeout(0), Some(Ns(20)));
        assert_eq!(
            [0; 3].map(|_| ramp.poll_connect(Ns(30), 0)),
            [Some(5), Some(4), None]
        );
        assert_eq!(
            (
                ramp.poll_expired(Ns(24)),
                ramp.poll_expired(Ns(25)),
                ramp.poll_expired(Ns(26))
            ),
            (None, Some((4, 1)), None)
        );
    }
}
