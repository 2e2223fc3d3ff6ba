//! The only clock: read once per tick by a driver, which hands the time on as a fact.

use std::time::{Instant, SystemTime};

use wire_base::time::Now;

/// Reads monotonic and wall time. Copies share one origin, so their monotonic times compare across workers.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
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
            unix: SystemTime::now().into(),
        }
    }
}
