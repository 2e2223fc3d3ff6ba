//! Clocks: time that passes for all, small steps of the wall clock that everybody sees, and a wall clock of the router's
//! machine that is wrong by days for less than a minute, while the monotonic one goes on.

use router_core::clock::{self, JUMP_MS_MAX, SETTLE_MS};
use router_core::time::Now;
use wire_base::ids::UnixMs;

use crate::transcript::Seen;
use crate::world::World;

/// How the wall clock of the router's machine is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leap {
    off_ms: i64,
    until_ms: u64,
}

impl World {
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix.0 += ms;
    }

    /// Returns what the clocks of the router's machine say.
    pub(crate) fn machine_now(&self) -> Now {
        let off_ms = self.leap.map_or(0, |leap| leap.off_ms);
        Now {
            unix: UnixMs(self.now.unix.0.saturating_add_signed(off_ms)),
            ..self.now
        }
    }

    fn is_clock_in_doubt(&self) -> bool {
        self.doubt_until_ms > self.now.mono_ms
    }

    /// Lets a router that may be waiting for its clock look at it every second, before hours pass at once.
    fn wait_for_clock(&mut self) {
        while self.is_clock_in_doubt() {
            self.advance(1_000);
            self.round();
        }
    }

    /// Time passes, or the wall clock alone is set.
    pub(crate) fn jump(&mut self) {
        self.wait_for_clock();
        let minutes = self.rng.pick(&[1, 2, 16, 16, 20, 70, 3_000]);
        match self.rng.within(0..4) {
            0..2 => {
                self.advance(minutes * 60_000);
                self.coverage
                    .add("time passed that empties the window", u64::from(minutes > 15));
            }
            2 => self.now.unix.0 += self.rng.within(1..STEP_MS_MAX),
            _ => {
                let back_ms = self.rng.within(1..2_000);
                if self.set_back_ms + back_ms < SET_BACK_MS_MAX {
                    self.set_back_ms += back_ms;
                    self.now.unix.0 -= back_ms;
                    self.coverage.note("wall clock set back");
                }
            }
        }
    }

    /// About a month passes: hour by hour, or in one rest of everything.
    pub(crate) fn pass_month(&mut self) {
        self.wait_for_clock();
        let hours = self.rng.within(29 * 24..34 * 24);
        self.coverage.note("month passed");
        self.coverage.add(
            "month passed that ends within retention",
            u64::from(hours < 30 * 24),
        );
        if self.rng.percent(25) {
            self.coverage.note("month passed at once");
            return self.advance(hours * HOUR_MS);
        }
        for _ in 0..hours {
            self.advance(HOUR_MS);
            self.round();
        }
    }

    /// Puts the wall clock of the router's machine wrong by days, unless it is, or nothing in the log says so.
    pub(crate) fn leap(&mut self) {
        if self.leap.is_some() || self.last_sent.is_none() {
            return;
        }
        let days = self.rng.within(LEAP_DAYS_MIN..4_000) as i64;
        let is_back = self.rng.percent(50);
        let off_ms = days * DAY_MS as i64 * if is_back { -1 } else { 1 };
        let until_ms = self.now.mono_ms + self.rng.within(1..LEAP_MS_MAX);
        self.leap = Some(Leap { off_ms, until_ms });
        self.see(Seen::Leap {
            until_ms: until_ms + LOOK_MS,
        });
        // What is doubted has to stand by the right time once more.
        if self.is_clock_in_doubt() {
            self.doubt_until(until_ms + SETTLE_MS);
        }
        self.coverage.note(if is_back {
            "clock wrong by days, back"
        } else {
            "clock wrong by days, ahead"
        });
    }

    pub(crate) fn end_leap_when_due(&mut self) {
        if self.leap.is_some_and(|leap| leap.until_ms <= self.now.mono_ms) {
            self.leap = None;
        }
    }

    /// Notes that a router that starts now may wait until it knows the time: its clock is wrong, or its log is of long ago.
    pub(crate) fn doubt_clock(&mut self) {
        // Before anything was answered, the log may have records from the first start on.
        let newest = self.last_sent.unwrap_or(FIRST.unix);
        let is_log_old = newest.0 + DOWN_MS_MAX <= self.now.unix.0;
        let wrong_until_ms = self.leap.map(|leap| leap.until_ms);
        if is_log_old {
            self.doubt_until(wrong_until_ms.unwrap_or(self.now.mono_ms) + SETTLE_MS);
        } else if let Some(wrong_until_ms) = wrong_until_ms {
            self.doubt_until(wrong_until_ms);
        }
    }

    fn doubt_until(&mut self, mono_ms: u64) {
        let until_ms = mono_ms + LOOK_MS;
        self.doubt_until_ms = until_ms;
        self.coverage.note("clock in doubt");
        self.see(Seen::Doubt { until_ms });
    }
}

/// When every run begins.
pub(crate) const FIRST: Now = Now {
    mono_ms: 1_000,
    unix: UnixMs(1_800_000_000_000),
};
const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
/// Below what the auditor allows for.
const SET_BACK_MS_MAX: u64 = 8_000;
/// A step of the wall clock that is followed at once, also when several come before the router looks.
const STEP_MS_MAX: u64 = 1_000;
/// A clock that is wrong for less than a minute moves nothing, ...
const LEAP_MS_MAX: u64 = 50_000;
/// ... if it is by more than the week for which a machine may have been down.
const LEAP_DAYS_MIN: u64 = 8;
/// A little less than that week: the newest record that the log has may be older than the last that was answered.
const DOWN_MS_MAX: u64 = 6 * DAY_MS;
/// How much later a clock is believed because the rounds between two looks at it take seconds.
const LOOK_MS: u64 = 15_000;
const _: () = assert!(LEAP_MS_MAX < SETTLE_MS && STEP_MS_MAX < JUMP_MS_MAX);
const _: () = assert!(LEAP_DAYS_MIN * DAY_MS > clock::DOWN_MS_MAX && DOWN_MS_MAX < clock::DOWN_MS_MAX);
