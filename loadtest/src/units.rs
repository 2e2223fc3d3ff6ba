//! How people write durations, counts and rates on a command line: `50ms`, `1M`, `2.5k/s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Messages or connections a second, in thousandths, so that slow rates stay exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    milli: u64,
}

impl Rate {
    /// The highest rate: a billion a second.
    pub const MAX_PER_S: u64 = 1_000_000_000;

    /// Returns `per_s` a second; `None` for 0 and for more than [`Rate::MAX_PER_S`].
    pub const fn per_second(per_s: u64) -> Option<Self> {
        if per_s == 0 || per_s > Self::MAX_PER_S {
            None
        } else {
            Some(Self { milli: per_s * 1000 })
        }
    }

    /// Returns the rate in events a second.
    pub fn as_per_second(self) -> f64 {
        self.milli as f64 / 1000.0
    }

    /// Returns the rate of each of several that make this one together.
    pub(crate) fn shared_by(self, count: u32) -> Self {
        Self {
            milli: self.milli.div_ceil(u64::from(count.max(1))),
        }
    }

    /// Returns when event `index` is due, in nanoseconds after event 0.
    pub(crate) fn due_ns(self, index: u64) -> u64 {
        (u128::from(index) * 1_000_000_000_000 / u128::from(self.milli)) as u64
    }

    /// Returns how many events are due within `span_ns`, event 0 being due at its start.
    pub(crate) fn events_within(self, span_ns: u64) -> u64 {
        (u128::from(span_ns) * u128::from(self.milli)).div_ceil(1_000_000_000_000) as u64
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.as_per_second())
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let milli = scaled(number, 1000)
            .ok_or_else(|| format!("`{text}` is not a rate such as 500, 2.5k or 20k/s"))?;
        if milli == 0 || milli > Self::MAX_PER_S * 1000 {
            return Err(format!(
                "`{text}` is outside 0.001 to {} a second",
                Self::MAX_PER_S
            ));
        }
        Ok(Self { milli })
    }
}

/// Reads a count such as `1000`, `20k` or `1M`.
pub(crate) fn parse_count(text: &str) -> Result<u32, String> {
    scaled(text, 1)
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| format!("`{text}` is not a count such as 1000, 20k or 1M"))
}

/// Reads a duration such as `10s`, `50ms`, `100us`, `2m` or `1h`; a bare number is in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (number, unit_ns) = UNITS
        .iter()
        .find_map(|(suffix, ns)| text.strip_suffix(suffix).map(|number| (number, *ns)))
        .unwrap_or((text, 1_000_000_000));
    decimal(number, unit_ns)
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("`{text}` is not a duration such as 10s, 50ms or 2m"))
}

/// Returns `text`, a decimal with an optional `k` or `M`, times `unit`; `None` when that is not a whole number.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => text
            .strip_suffix('M')
            .map_or((text, 1), |number| (number, 1_000_000)),
    };
    decimal(number, unit.checked_mul(factor)?)
}

/// Returns the decimal number `text` times `unit`, exact or not at all.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(fraction.len() as u32);
    let parts = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(fraction.parse().ok()?)?;
    let product = u128::from(parts) * u128::from(unit);
    if product % u128::from(scale) != 0 {
        return None;
    }
    u64::try_from(product / u128::from(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        let cases = [
            ("10s", 10_000_000_000),
            ("1.5s", 1_500_000_000),
            ("50ms", 50_000_000),
            ("100us", 100_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("3", 3_000_000_000),
        ];
        for (text, ns) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.s",
            ".5s",
            "1e3s",
            "10 s",
            "0.5ns",
            "99999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_and_rates_take_thousands_and_millions() {
        assert_eq!(parse_count("1000"), Ok(1000));
        assert_eq!(parse_count("2.5k"), Ok(2500));
        assert_eq!(parse_count("1M"), Ok(1_000_000));
        for text in ["", "k", "1.5", "5000M", "1G", "-3"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        assert_eq!("20k/s".parse::<Rate>(), Ok(Rate { milli: 20_000_000 }));
        assert_eq!("0.25".parse::<Rate>(), Ok(Rate { milli: 250 }));
        for text in ["0", "0/s", "0.0001", "2000M", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn due_times_do_not_drift_and_agree_with_the_count() {
        let rate = Rate { milli: 333 };
        let day_ns = 86_400_000_000_000;
        let events = rate.events_within(day_ns);
        assert!(rate.due_ns(events - 1) < day_ns);
        assert!(rate.due_ns(events) >= day_ns);
        assert_eq!(Rate::per_second(1000).unwrap().due_ns(86_400_000), day_ns);
    }
}
