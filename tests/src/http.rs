//! The API and admin listeners, over plain HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Status, content type and body of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `content-type`, without parameters.
    pub content_type: String,
    /// `retry-after`, where present.
    pub retry_after: Option<String>,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// Returns the body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {}", self.text))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .new_agent()
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let content_type = header("content-type").unwrap_or_default();
    let retry_after = header("retry-after");
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string()?;
    let content_type = content_type.split(';').next().unwrap_or_default().to_owned();
    Ok(Answer {
        status,
        content_type,
        retry_after,
        text,
    })
}

/// Gets a path.
pub fn get(address: SocketAddr, path: &str, bearer: Option<&str>) -> Result<Answer> {
    let mut request = agent().get(format!("http://{address}{path}"));
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    answer(request.call()?)
}

/// Posts JSON.
pub fn post(address: SocketAddr, path: &str, bearer: Option<&str>, body: &Value) -> Result<Answer> {
    let mut request = agent().post(format!("http://{address}{path}"));
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    answer(request.send_json(body)?)
}

/// Returns the sum of a metric's samples whose labels contain `labels`.
pub fn metric(admin: SocketAddr, name: &str, labels: &str) -> Result<f64> {
    let answer = get(admin, "/metrics", None)?;
    if answer.status != 200 {
        bail!("/metrics answered {}", answer.status);
    }
    let mut sum = None;
    for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (metric, found) = series.split_once('{').unwrap_or((series, ""));
        if metric == name && found.contains(labels) {
            *sum.get_or_insert(0.0) += value.parse::<f64>().with_context(|| line.to_owned())?;
        }
    }
    sum.with_context(|| format!("no sample of {name} with {labels:?}"))
}
