//! The only clock: read once per tick by a driver, which hands the time on as a fact.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads monotonic and wall time. Copies share one origin, so their monotonic times compare across workers.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

/// One reading of a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the clock was made; never goes back.
    pub mono_ms: u64,
    /// Milliseconds since 1970; goes wherever the host sets it.
    pub unix_ms: u64,
}

impl Clock {
    /// Returns a clock whose monotonic time starts now.
    #[allow(clippy::new_without_default, reason = "a clock depends on when it is made")]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Reads both times.
    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.origin.elapsed().as_millis() as u64,
            // A host set before 1970 gets 0: nothing good can be said about its time.
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
        }
    }
}
