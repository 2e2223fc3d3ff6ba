//! The run's one clock. Every time in a run is a distance from its start, on every worker alike.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wire_base::ids::UnixMs;

/// Nanoseconds since the run's clock was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ns(pub(crate) u64);

impl Ns {
    /// Later than anything that happens.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Returns how long after `earlier` this is; nothing when it is not.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Ns {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_nanos() as u64))
    }
}

impl Sub for Ns {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }
}

/// Started once a run, copied to every worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    start_unix: Duration,
}

impl Clock {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        let start_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            start_unix,
        }
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> Ns {
        Ns(self.start.elapsed().as_nanos() as u64)
    }

    /// Returns the wall time of a moment of this clock.
    pub(crate) fn unix(&self, at: Ns) -> UnixMs {
        UnixMs((self.start_unix + Duration::from_nanos(at.0)).as_millis() as u64)
    }

    /// Returns the wall time at which the clock was started.
    pub(crate) fn start_time(&self) -> SystemTime {
        UNIX_EPOCH + self.start_unix
    }
}
