//! Under load a wait goes on for a moment after the first event, so that one pass of a worker's loop serves several.
//!
//! A pass costs system calls, wake-ups of other threads and, behind the router, a sync of the log, whether it serves one
//! event or fifty. Network cards moderate their interrupts for the same reason, and in the same way: only while there are many.

use std::time::{Duration, Instant};

use crate::reactor::ReactorConfig;

/// Decides how long the next wait gathers events.
pub(crate) struct Coalesce {
    /// Zero: never.
    longest: Duration,
    over_per_s: u64,
    began: Instant,
    completions_at_begin: u64,
    is_busy: bool,
}

impl Coalesce {
    pub(crate) fn new(config: &ReactorConfig) -> Self {
        Self {
            longest: config.coalesce,
            over_per_s: config.coalesce_over_per_s,
            began: Instant::now(),
            completions_at_begin: 0,
            is_busy: false,
        }
    }

    /// Returns how long the next wait may gather events; zero while there are few. `completions` counts events since the start.
    pub(crate) fn next(&mut self, completions: u64) -> Duration {
        if self.longest.is_zero() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let lasted = now - self.began;
        if lasted >= PERIOD {
            let events = completions - self.completions_at_begin;
            self.is_busy = events * 1000 > self.over_per_s * lasted.as_millis() as u64;
            (self.began, self.completions_at_begin) = (now, completions);
        }
        if self.is_busy {
            self.longest
        } else {
            Duration::ZERO
        }
    }
}

/// Events at which a wait returns at once.
pub(crate) const ENOUGH: u32 = 128;
/// How often the rate of events is looked at.
const PERIOD: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn coalesce(longest: Duration) -> Coalesce {
        Coalesce::new(&ReactorConfig {
            coalesce: longest,
            ..ReactorConfig::default()
        })
    }

    #[test]
    fn only_many_events_are_gathered() {
        let mut coalesce = coalesce(Duration::from_micros(500));
        let mut after = |events: u64, completions: &mut u64| {
            coalesce.began -= PERIOD;
            *completions += events;
            coalesce.next(*completions)
        };
        let mut completions = 0;
        assert_eq!(after(10, &mut completions), Duration::ZERO);
        assert_eq!(after(1_000_000, &mut completions), Duration::from_micros(500));
        assert_eq!(after(10, &mut completions), Duration::ZERO);
    }

    #[test]
    fn without_a_time_nothing_is() {
        let mut coalesce = coalesce(Duration::ZERO);
        coalesce.began -= PERIOD;
        assert_eq!(coalesce.next(1_000_000), Duration::ZERO);
    }
}
