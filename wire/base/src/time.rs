//! Time as a fact. A driver reads the clocks once per tick and passes [`Now`] with everything it reports.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ids::UnixMs;

/// The moment at which a fact is handled: both clocks of a host, read together.
///
/// Order: `mono_ms` is never smaller in a later call; `unix` may step, as wall clocks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back and began with the process or later: for deadlines and rates.
    pub mono_ms: u64,
    /// Wall clock: for ids, time stamps, tokens, and what clients are told.
    pub unix: UnixMs,
}

impl From<SystemTime> for UnixMs {
    /// Returns 0 for a time before 1970: nothing good can be said about the clock that gave it.
    fn from(time: SystemTime) -> Self {
        Self(
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wall_clock_before_1970_reads_0() {
        assert_eq!(UnixMs::from(UNIX_EPOCH + Duration::from_micros(1_999)), UnixMs(1));
        assert_eq!(UnixMs::from(UNIX_EPOCH - Duration::from_secs(1)), UnixMs(0));
    }
}
