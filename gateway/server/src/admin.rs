//! The admin listener: `/healthz`, `/readyz` and `/metrics`. It never shares a port with clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bounded_http::Bounds;

use exposition::Sample;

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

/// Serves at most `connections_max` connections until the future `stopped` ends, and then for at most [`DRAIN_TIMEOUT`].
pub async fn serve(
    listener: tokio::net::TcpListener,
    admin: Admin,
    connections_max: usize,
    stopped: impl Future<Output = ()>,
) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    let bounds = Bounds {
        name: "the admin listener",
        connections_max,
        drain_timeout: DRAIN_TIMEOUT,
    };
    bounded_http::serve(listener, routes, bounds, stopped).await;
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
    let samples = admin.metrics.iter().flat_map(|source| source()).collect();
    let (status, content_type, body) = match exposition::openmetrics(samples) {
        Ok(body) if accepts_openmetrics(&headers) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, content_type, body)
        }
        Ok(body) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            (StatusCode::OK, content_type, exposition::classic(&body))
        }
        Err(error) => {
            let content_type = "text/plain; charset=utf-8";
            (StatusCode::INTERNAL_SERVER_ERROR, content_type, error.to_string())
        }
    };
    (status, [(header::CONTENT_TYPE, content_type)], body)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
