//! Samples of metrics, which gateway, router and process all give, and how they are written for a scrape: OpenMetrics, and the
//! older Prometheus text.
//!
//! Deliberately absent: counters, which stand with what they count, and the listener.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One value of one series at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Metric name with its unit; counters end in `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Label names and values; few and closed.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// What kind of metric a [`Sample`] belongs to.
#[derive(Clone, Debug)]
pub enum Value {
    /// Only grows.
    Counter(u64),
    /// Only grows, in seconds.
    Seconds(f64),
    /// Goes up and down.
    Gauge(f64),
    /// Observations, counted by upper bound.
    Histogram(Histogram),
}

/// Returns samples as OpenMetrics text.
///
/// Errors: a value that the format has no words for.
pub fn openmetrics(samples: Vec<Sample>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(samples)));
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

/// Turns OpenMetrics text into the older Prometheus text: there the descriptions of a counter carry its whole name, and
/// nothing marks the end.
pub fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 1024);
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|typed| typed.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            let sentence = help.take().map_or("", |(_, sentence)| sentence);
            text.push_str(&format!(
                "# HELP {name}{total} {sentence}\n# TYPE {name}{total} {kind}\n"
            ));
        } else if line != "# EOF" {
            text.push_str(&line.replacen("{} ", " ", 1));
            text.push('\n');
        }
    }
    text
}

/// One scrape: the series of a metric stand together.
#[derive(Debug)]
struct Scrape(Vec<Sample>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<&'static str, Vec<&Sample>> = BTreeMap::new();
        for sample in &self.0 {
            families.entry(sample.name).or_default().push(sample);
        }
        for (name, samples) in &families {
            let kind = match samples[0].value {
                Value::Counter(_) | Value::Seconds(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
                Value::Histogram(_) => MetricType::Histogram,
            };
            // The library appends `_total` to counters itself.
            let name = if matches!(kind, MetricType::Counter) {
                name.trim_end_matches("_total")
            } else {
                name
            };
            let mut family = encoder.encode_descriptor(name, samples[0].help, None, kind)?;
            for sample in samples {
                let series = family.encode_family(&sample.labels)?;
                match &sample.value {
                    Value::Counter(count) => ConstCounter::new(*count).encode(series)?,
                    Value::Seconds(seconds) => ConstCounter::new(*seconds).encode(series)?,
                    Value::Gauge(value) => ConstGauge::new(*value).encode(series)?,
                    Value::Histogram(histogram) => histogram.encode(series)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_stand_together_with_one_description() {
        let sample = |worker: u16, count| Sample {
            name: "gateway_accepts_total",
            help: "Connections accepted.",
            labels: vec![("worker", worker.to_string())],
            value: Value::Counter(count),
        };
        let text = openmetrics(vec![sample(0, 3), sample(1, 4)]).unwrap();
        assert_eq!(
            text.matches("# TYPE gateway_accepts counter").count(),
            1,
            "{text}"
        );
        assert!(text.contains("gateway_accepts_total{worker=\"0\"} 3"), "{text}");
        assert!(text.contains("gateway_accepts_total{worker=\"1\"} 4"), "{text}");
    }

    #[test]
    fn the_older_text_describes_a_counter_by_its_whole_name() {
        let value = Value::Counter(3);
        let text = openmetrics(vec![Sample {
            name: "router_sends_total",
            help: "Sends.",
            labels: vec![],
            value,
        }])
        .unwrap();
        let expected =
            "# HELP router_sends_total Sends.\n# TYPE router_sends_total counter\nrouter_sends_total 3\n";
        assert_eq!(classic(&text), expected);
    }

    #[test]
    fn histograms_are_cumulative_and_end_at_infinity() {
        let histogram = Histogram::new([1.0]);
        for seconds in [0.2, 1.0, 1.3] {
            histogram.observe(seconds);
        }
        let value = Value::Histogram(histogram);
        let text = openmetrics(vec![Sample {
            name: "router_commit_seconds",
            help: "Commits.",
            labels: vec![],
            value,
        }])
        .unwrap();
        assert!(
            text.contains("router_commit_seconds_bucket{le=\"1.0\"} 2"),
            "{text}"
        );
        assert!(
            text.contains("router_commit_seconds_bucket{le=\"+Inf\"} 3"),
            "{text}"
        );
    }
}
