//! Time as facts: what the driver read once for a tick, and the log's own time.

use wire_base::ids::{Offset, UnixMs};
pub use wire_base::time::Now;

/// Where and when a record stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its offset.
    pub offset: Offset,
    /// Log time at it.
    pub time: UnixMs,
}

/// Log time: the running maximum of the records' wall clocks, so that it never goes back where those do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTime(UnixMs);

impl LogTime {
    /// Takes the time of the next record and returns log time at it.
    pub fn advance(&mut self, time: UnixMs) -> UnixMs {
        self.0 = self.0.max(time);
        self.0
    }

    /// Returns log time at the newest record.
    pub fn get(self) -> UnixMs {
        self.0
    }

    /// Returns the time to put into a record that is about to be appended: never below what the log has.
    ///
    /// Log time is then the time of the newest record, so a replay may begin anywhere and still give every record
    /// the same time.
    pub fn stamp(self, now: UnixMs) -> UnixMs {
        self.0.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_stays_where_it_is_while_the_clock_is_behind() {
        let mut log_time = LogTime::default();
        let seen: Vec<_> = [5, 3, 9, 8].map(|ms| log_time.advance(UnixMs(ms)).0).to_vec();
        assert_eq!(seen, [5, 5, 9, 9]);
        assert_eq!(log_time.stamp(UnixMs(7)), UnixMs(9));
        assert_eq!(log_time.stamp(UnixMs(11)), UnixMs(11));
    }
}
