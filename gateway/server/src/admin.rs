//! The admin listener: `/healthz`, `/readyz` and `/metrics`. It never shares a port with clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
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
    /// Goes up and down.
    Gauge(f64),
    /// Counts per upper bound (not cumulative; the last bound is infinite).
    Histogram {
        /// Sum of the observations.
        sum: f64,
        /// Their number.
        count: u64,
        /// Upper bound and observations at or below it and above the one before.
        buckets: Vec<(f64, u64)>,
    },
}

/// Gives its samples when asked.
pub type Metrics = Arc<dyn Fn() -> Vec<Sample> + Send + Sync>;
/// Says whether a part can do its work, or why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the listener shows.
#[derive(Clone, Default)]
pub struct Admin {
    /// Where `/metrics` comes from.
    pub metrics: Vec<Metrics>,
    /// All must be well for `/readyz` to answer 200.
    pub readiness: Vec<Readiness>,
}

/// Serves until the future `stopped` ends, and then for at most [`DRAIN_TIMEOUT`].
///
/// Errors: those of accepting connections.
pub async fn serve(
    listener: tokio::net::TcpListener,
    admin: Admin,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    let (stop, mut stopping) = tokio::sync::watch::channel(false);
    let told = async move {
        let _ = stopping.changed().await;
    };
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(told)
        .into_future();
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = stopped => {}
    }
    let _ = stop.send(true);
    // Who has sent half a request, or reads nothing, does not hold up the end of the process.
    tokio::time::timeout(DRAIN_TIMEOUT, serving)
        .await
        .unwrap_or(Ok(()))
}

/// How long requests in flight may take once the listener is told to end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons: Vec<String> = admin.readiness.iter().filter_map(|check| check().err()).collect();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", reasons.join("; ")),
        )
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(admin)));
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) if accepts_openmetrics(&headers) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body)
        }
        Ok(()) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            (
                StatusCode::OK,
                [(header::CONTENT_TYPE, content_type)],
                classic(&body),
            )
        }
        Err(error) => {
            let content_type = "text/plain; charset=utf-8";
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, content_type)],
                error.to_string(),
            )
        }
    }
}

/// Returns whether OpenMetrics is named in `Accept` and no less welcome than plain text (RFC 9110 section 12.5.1).
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let ranges: Vec<(&str, f32)> = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(weighted)
        .collect();
    let weight_of = |name: &str| {
        let weights = ranges
            .iter()
            .filter(|(range, _)| range.eq_ignore_ascii_case(name));
        weights.map(|(_, weight)| *weight).reduce(f32::max)
    };
    let plain = weight_of("text/plain")
        .or(weight_of("text/*"))
        .or(weight_of("*/*"));
    weight_of("application/openmetrics-text")
        .is_some_and(|weight| weight > 0.0 && weight >= plain.unwrap_or(0.0))
}

/// Splits an element of `Accept` into media range and weight; a weight that is no number counts as none.
fn weighted(element: &str) -> (&str, f32) {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("q"));
    (range, weight.map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0)))
}

/// Turns OpenMetrics text into the older Prometheus text: there the descriptions of a counter carry its whole name, and
/// nothing marks the end.
fn classic(openmetrics: &str) -> String {
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

/// One scrape: the samples of all sources, the series of a metric together.
struct Scrape(Admin);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrape of {} sources", self.0.metrics.len())
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<&'static str, Vec<Sample>> = BTreeMap::new();
        for sample in self.0.metrics.iter().flat_map(|source| source()) {
            families.entry(sample.name).or_default().push(sample);
        }
        for (name, samples) in &families {
            let kind = match samples[0].value {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
                Value::Histogram { .. } => MetricType::Histogram,
            };
            // The library appends `_total` to counters itself.
            let name = if matches!(kind, MetricType::Counter) {
                name.trim_end_matches("_total")
            } else {
                name
            };
            let mut family = encoder.encode_descriptor(name, samples[0].help, None, kind)?;
            for sample in samples {
                let mut series = family.encode_family(&sample.labels)?;
                match &sample.value {
                    Value::Counter(count) => ConstCounter::new(*count).encode(series)?,
                    Value::Gauge(value) => ConstGauge::new(*value).encode(series)?,
                    Value::Histogram { sum, count, buckets } => {
                        series.encode_histogram::<[(&str, &str); 0]>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(samples: Vec<Sample>) -> String {
        let admin = Admin {
            metrics: vec![Arc::new(move || samples.clone())],
            readiness: Vec::new(),
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(admin)));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn series_of_one_metric_stand_together_with_one_description() {
        let sample = |worker: u16, count| Sample {
            name: "gateway_accepts_total",
            help: "Connections accepted.",
            labels: vec![("worker", worker.to_string())],
            value: Value::Counter(count),
        };
        let text = scrape(vec![sample(0, 3), sample(1, 4)]);
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
        let openmetrics = scrape(vec![Sample {
            name: "router_sends_total",
            help: "Sends.",
            labels: vec![],
            value,
        }]);
        let expected =
            "# HELP router_sends_total Sends.\n# TYPE router_sends_total counter\nrouter_sends_total 3\n";
        assert_eq!(classic(&openmetrics), expected);
    }

    #[test]
    fn the_weights_of_accept_decide_between_the_two_texts() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, openmetrics) in [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("text/plain, Application/OpenMetrics-Text", true),
            ("application/openmetrics-text;q=0,text/plain", false),
            ("application/openmetrics-text; q=0.4, text/*; q=0.5", false),
            ("application/openmetrics-text;q=none", false),
            ("text/plain", false),
            ("*/*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(accepts_openmetrics(&headers), openmetrics, "{accept}");
        }
    }

    #[test]
    fn histograms_are_cumulative_and_end_at_infinity() {
        let value = Value::Histogram {
            sum: 2.5,
            count: 3,
            buckets: vec![(1.0, 2), (f64::INFINITY, 1)],
        };
        let text = scrape(vec![Sample {
            name: "router_commit_seconds",
            help: "Commits.",
            labels: vec![],
            value,
        }]);
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
