//! Latencies: recorded by workers, taken by the coordinator once an interval, written to an interval log.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is measured. Each is a histogram of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// From the intended send time to the target's answer: `sent`, or the echo.
    Ack,
    /// From the write to the answer: what a closed loop would report.
    Service,
    /// From the intended send time to the arrival at the receiver.
    Delivery,
    /// From the intended send time to the write: the tool's own delay.
    Slip,
    /// How long a worker did not look at its sockets, per turn of its loop.
    Lag,
}

impl Series {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Ack, Self::Service, Self::Delivery, Self::Slip, Self::Lag];

    /// Returns the tag in the interval log.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Service => "service",
            Self::Delivery => "delivery",
            Self::Slip => "slip",
            Self::Lag => "lag",
        }
    }
}

/// One histogram a series.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    histograms: [Histogram<u64>; Series::ALL.len()],
}

impl Recorder {
    /// Returns an empty recorder.
    ///
    /// Shape: about 200 KiB a series, for 0.1 us to 10 minutes at three significant digits.
    pub(crate) fn new() -> Self {
        Self {
            histograms: Series::ALL.map(|_| empty_histogram()),
        }
    }

    /// Records a value; one above the range counts as its end.
    pub(crate) fn record(&mut self, series: Series, ns: u64) {
        self.histograms[series as usize].saturating_record(ns);
    }

    /// Returns the histogram of a series.
    pub(crate) fn series(&self, series: Series) -> &Histogram<u64> {
        &self.histograms[series as usize]
    }

    /// Moves all values of `other` into this one.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        for (into, from) in self.histograms.iter_mut().zip(&mut other.histograms) {
            if !from.is_empty() {
                into.add(&*from).expect("all recorders have the same bounds");
                from.reset();
            }
        }
    }
}

pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("the bounds are valid")
}

const LOWEST_NS: u64 = 100;
const HIGHEST_NS: u64 = 600_000_000_000;

/// A latency distribution in a report, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Half are at or below.
    pub p50: f64,
    /// 90 of 100 are at or below.
    pub p90: f64,
    /// 95 of 100 are at or below.
    pub p95: f64,
    /// 99 of 100 are at or below.
    pub p99: f64,
    /// 999 of 1,000 are at or below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |q: f64| us(histogram.value_at_quantile(q));
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1000.0,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: us(histogram.max()),
        }
    }

    /// Returns the 99th percentile.
    pub fn p99_duration(&self) -> Duration {
        duration(self.p99)
    }
}

/// The largest percentiles that a run allows; `None` for one that may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyLimits {
    /// Of the median.
    pub p50: Option<Duration>,
    /// Of the 95th percentile.
    pub p95: Option<Duration>,
    /// Of the 99th percentile.
    pub p99: Option<Duration>,
    /// Of the 99.9th percentile.
    pub p999: Option<Duration>,
}

impl LatencyLimits {
    /// Returns a sentence for each limit that the latency of `what` is above.
    pub(crate) fn exceeded(&self, what: &str, latency: &Latency) -> Vec<String> {
        [
            ("p50", self.p50, latency.p50),
            ("p95", self.p95, latency.p95),
            ("p99", self.p99, latency.p99),
            ("p99.9", self.p999, latency.p999),
        ]
        .into_iter()
        .filter_map(|(name, limit, us)| Some((name, limit?, duration(us))))
        .filter(|(_, limit, found)| found > limit)
        .map(|(name, limit, found)| format!("{name} of {what} is {found:.1?}, {limit:.1?} allowed"))
        .collect()
    }
}

fn duration(us: f64) -> Duration {
    Duration::from_nanos((us * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_three_digits_from_microseconds_to_minutes() {
        for ns in [25_000, 1_234_567, 98_765_432_100] {
            let mut recorder = Recorder::new();
            recorder.record(Series::Ack, ns);
            let latency = Latency::of(recorder.series(Series::Ack));
            let error = (latency.p50 * 1000.0 - ns as f64).abs() / ns as f64;
            assert!(error < 0.001, "{ns}: {latency:?}");
        }
    }

    #[test]
    fn each_limit_is_held_against_its_own_percentile() {
        let mut recorder = Recorder::new();
        for ms in 1..=1000 {
            recorder.record(Series::Ack, ms * 1_000_000);
        }
        let latency = Latency::of(recorder.series(Series::Ack));
        let limit = |ms| Some(Duration::from_millis(ms));
        let kept = LatencyLimits {
            p50: limit(501),
            p95: limit(951),
            p99: limit(991),
            p999: limit(1000),
        };
        assert_eq!(kept.exceeded("answers", &latency), Vec::<String>::new());
        let broken = LatencyLimits {
            p50: limit(499),
            p95: limit(949),
            p99: limit(989),
            p999: limit(998),
        };
        let names: Vec<String> = broken
            .exceeded("answers", &latency)
            .iter()
            .map(|sentence| sentence.split(" is ").next().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "p50 of answers",
                "p95 of answers",
                "p99 of answers",
                "p99.9 of answers"
            ]
        );
    }

    #[test]
    fn absorbed_values_move_and_stay_in_their_series() {
        let (mut total, mut interval) = (Recorder::new(), Recorder::new());
        interval.record(Series::Delivery, 5_000);
        interval.record(Series::Lag, u64::MAX);
        total.absorb(&mut interval);
        total.absorb(&mut interval);
        assert_eq!(
            Series::ALL.map(|series| total.series(series).len()),
            [0, 0, 1, 0, 1]
        );
        assert!(interval.series(Series::Delivery).is_empty());
    }
}
