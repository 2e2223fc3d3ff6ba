//! What the wall clock of the machine is believed: stamps, checks of ids and retention all use the time this gives.
//!
//! A clock that is wrong for a moment (a board without a battery that boots in 1970 or in a year to come, until NTP sets
//! it) must not leave records that say so for ever. So a reading is taken at once only where monotonic time and the log
//! make it likely; another one must first stand for a while.

use wire_base::ids::UnixMs;

use crate::time::Now;

/// A wall clock that goes on by monotonic time and follows the machine's where that is believed.
///
/// Order: [`Clock::start`] once the log is read, then [`Clock::advance`] once a tick.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Now,
    /// A reading was believed since the start; until then `now.unix` is what was noted and what passed since.
    is_set: bool,
    doubted: Option<Doubted>,
}

/// A reading that is not believed, and since when the clock has said so.
#[derive(Clone, Copy, Debug)]
struct Doubted {
    reading: Now,
    since_mono_ms: u64,
}

impl Clock {
    /// Returns the clock of a router whose newest record or checkpoint is of `noted`, 0 when there is none.
    pub fn start(reading: Now, noted: UnixMs) -> Self {
        let mut clock = Self {
            now: Now {
                unix: noted,
                ..reading
            },
            is_set: false,
            doubted: None,
        };
        clock.advance(reading);
        clock
    }

    /// Takes what both clocks of the machine say, and returns what is believed.
    ///
    /// The wall time of it differs from that before and the monotonic time since by at most [`JUMP_MS_MAX`], unless the
    /// machine's clock has stood by another time for [`SETTLE_MS`].
    pub fn advance(&mut self, reading: Now) -> Now {
        let passed_ms = reading.mono_ms.saturating_sub(self.now.mono_ms);
        let expected = UnixMs(self.now.unix.0.saturating_add(passed_ms));
        self.now = Now {
            unix: expected,
            ..reading
        };
        if self.is_likely(reading.unix) || self.has_stood(reading) {
            self.now.unix = reading.unix;
            self.is_set = true;
            self.doubted = None;
        }
        self.now
    }

    /// Returns what was believed at the last reading.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns whether the wall clock is known; until then nothing may be stamped with it.
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// Returns what the machine's clock says, when it is not believed.
    pub fn doubted(&self) -> Option<UnixMs> {
        self.doubted.map(|doubted| doubted.reading.unix)
    }

    fn is_likely(&self, unix: UnixMs) -> bool {
        let (UnixMs(said), UnixMs(expected)) = (unix, self.now.unix);
        if !is_possible(unix) {
            return false;
        }
        match self.is_set {
            true => said.abs_diff(expected) <= JUMP_MS_MAX,
            false if expected < POSSIBLE_FROM.0 => true, // No record says otherwise.
            false => {
                (expected.saturating_sub(JUMP_MS_MAX)..=expected.saturating_add(DOWN_MS_MAX)).contains(&said)
            }
        }
    }

    /// Returns whether the machine's clock has gone on from one doubted reading for long enough.
    fn has_stood(&mut self, reading: Now) -> bool {
        let since_mono_ms = match self.doubted {
            Some(doubted) if goes_on(doubted.reading, reading) => doubted.since_mono_ms,
            _ => reading.mono_ms,
        };
        self.doubted = Some(Doubted {
            reading,
            since_mono_ms,
        });
        is_possible(reading.unix) && reading.mono_ms - since_mono_ms >= SETTLE_MS
    }
}

/// Returns whether a clock that works can say so: this program is younger than anything before.
pub fn is_possible(unix: UnixMs) -> bool {
    unix >= POSSIBLE_FROM
}

/// Returns whether the wall clock went on from one reading to the next as the monotonic one did.
fn goes_on(before: Now, after: Now) -> bool {
    let expected = before
        .unix
        .0
        .saturating_add(after.mono_ms.saturating_sub(before.mono_ms));
    after.unix.0.abs_diff(expected) <= JUMP_MS_MAX
}

/// By how much the machine's clock may be set while the router runs, and be behind the newest record at a start, and is
/// followed at once.
pub const JUMP_MS_MAX: u64 = 10_000;
/// How long ago the newest record may be at a start without any doubt. A longer rest is no error: it costs
/// [`SETTLE_MS`].
pub const DOWN_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// How long the machine's clock has to stand by what is unlikely. NTP corrects a wrong one within this at a boot.
pub const SETTLE_MS: u64 = 60_000;
/// 2026-01-01, before this program was.
const POSSIBLE_FROM: UnixMs = UnixMs(1_767_225_600_000);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;
    const NOON: u64 = 1_800_000_000_000;

    /// Reads the clocks every second for so long, with the wall clock off by this; returns how far off is believed.
    fn run(clock: &mut Clock, mono_ms: &mut u64, ms: u64, off_ms: i64) -> i64 {
        let end = *mono_ms + ms;
        while *mono_ms < end {
            *mono_ms += 1_000;
            clock.advance(at(*mono_ms, off_ms));
        }
        clock.now.unix.0 as i64 - (NOON + *mono_ms) as i64
    }

    fn at(mono_ms: u64, off_ms: i64) -> Now {
        Now {
            mono_ms,
            unix: UnixMs((NOON + mono_ms).saturating_add_signed(off_ms)),
        }
    }

    #[test]
    fn small_steps_are_followed_at_once_and_the_readings_of_a_bad_moment_never() {
        let mut mono_ms = 0;
        let mut clock = Clock::start(at(0, 0), UnixMs(NOON));
        assert!(clock.is_set());
        assert_eq!(run(&mut clock, &mut mono_ms, 1_000, 9_000), 9_000);
        assert_eq!(run(&mut clock, &mut mono_ms, 1_000, 0), 0);
        for days in [31, -31, 4_000] {
            let off_ms = days * DAY_MS as i64;
            assert_eq!(run(&mut clock, &mut mono_ms, SETTLE_MS, off_ms), 0, "{days}");
            assert!(clock.doubted().is_some());
            assert_eq!(run(&mut clock, &mut mono_ms, 1_000, 0), 0);
            assert_eq!(clock.doubted(), None);
        }
    }

    #[test]
    fn a_clock_that_stands_by_another_time_is_believed_both_ways() {
        let mut mono_ms = 0;
        let mut clock = Clock::start(at(0, 0), UnixMs(NOON));
        for off_ms in [40 * DAY_MS as i64, 0, -2 * 3_600_000] {
            assert_eq!(run(&mut clock, &mut mono_ms, SETTLE_MS + 1_000, off_ms), off_ms);
        }
    }

    #[test]
    fn a_clock_that_never_says_the_same_is_never_believed() {
        let mut mono_ms = 0;
        let mut clock = Clock::start(at(0, 0), UnixMs(NOON));
        for day in 1..1_000 {
            assert_eq!(run(&mut clock, &mut mono_ms, 5_000, day * DAY_MS as i64), 0);
        }
    }

    #[test]
    fn a_start_takes_a_time_from_the_newest_record_to_a_week_later_and_waits_with_any_other() {
        for (log_time, is_set) in [
            (0, true),
            (NOON, true),
            (NOON + JUMP_MS_MAX, true),
            (NOON - DOWN_MS_MAX, true),
            (NOON + JUMP_MS_MAX + 1, false),
            (NOON - DOWN_MS_MAX - 1, false),
        ] {
            let mut clock = Clock::start(at(0, 0), UnixMs(log_time));
            assert_eq!(clock.is_set(), is_set, "{log_time}");
            let mut mono_ms = 0;
            assert_eq!(run(&mut clock, &mut mono_ms, SETTLE_MS + 1_000, 0), 0);
            assert!(clock.is_set());
        }
    }

    #[test]
    fn a_boot_at_1970_waits_for_as_long_as_it_takes() {
        for log_time in [0, NOON] {
            let mut mono_ms = 0;
            let mut clock = Clock::start(at(0, -(NOON as i64)), UnixMs(log_time));
            run(&mut clock, &mut mono_ms, DAY_MS, -(NOON as i64));
            assert!(!clock.is_set());
            assert_eq!(run(&mut clock, &mut mono_ms, 1_000, 0), 0);
            assert!(clock.is_set(), "at once where it is likely");
        }
    }

    #[test]
    fn a_running_router_goes_on_by_monotonic_time_where_the_clock_falls_to_1970() {
        let mut mono_ms = 0;
        let mut clock = Clock::start(at(0, 0), UnixMs(NOON));
        assert_eq!(run(&mut clock, &mut mono_ms, DAY_MS, -(NOON as i64)), 0);
        assert!(clock.is_set());
    }
}
