//! A log and a store, verified whole and explained to an operator; nothing is changed.
//!
//! [`check_log`] reads every byte of a log and says what start would do with it. [`check_store`] reads every row of a
//! store and whether the rows agree with one another. Both print themselves.

mod lists_check;
mod log_check;
mod store_check;

pub use log_check::{LogCheck, LogDamage, SegmentCheck, Verdict, check_log};
pub use store_check::{StoreCheck, TableCheck, check_store};

use std::fmt;

use wire_base::ids::UnixMs;

/// Prints a time as people write it, in UTC.
struct Utc(UnixMs);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.0 / DAY_MS, self.0.0 % DAY_MS);
        let (year, month, day) = civil_from_days(days);
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z",
            ms % 1000
        )
    }
}

/// Returns year, month and day of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // Days since 0000-03-01.
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

const DAY_MS: u64 = 24 * 3600 * 1000;

#[cfg(test)]
mod tests;
