//! The Autobahn test suite, cases 1 to 10 (301 of them), against `tidegate echo` on both engines.
//!
//! `WSTEST` names its runner (`./tests/install` sets it up; it needs CPython 2.7). Without one the cases are skipped,
//! and the run says so. `AUTOBAHN_CASES` narrows the cases, for example `6.4.*`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tidegate_tests::server::{self, field};
use tidegate_tests::{Engine, host};

/// Number of cases in the sections 1 to 10 of autobahntestsuite 0.8.2.
const CASES: usize = 301;

#[test]
fn every_case_passes_on_uring() -> Result<()> {
    conforms(Engine::Uring)
}

#[test]
fn every_case_passes_on_poll() -> Result<()> {
    conforms(Engine::Poll)
}

fn conforms(engine: Engine) -> Result<()> {
    let Some(wstest) = std::env::var_os("WSTEST") else {
        println!(
            "SKIPPED: Autobahn on {engine:?}: WSTEST is not set (it needs CPython 2.7; see ./tests/install)"
        );
        return Ok(());
    };
    if !host::has(engine) {
        return Ok(());
    }
    let cases = std::env::var("AUTOBAHN_CASES").unwrap_or_else(|_| "*".to_owned());
    let mut echo = server::echo(engine)?;
    let ready = echo.ready_line(Duration::from_secs(20))?;
    let address = field(&ready, "listen").context("no listen in the ready line")?;
    let directory = tempfile::tempdir()?;
    let reports = directory.path().join("reports");
    let spec = json!({
        "outdir": reports,
        "servers": [{"agent": "tidegate", "url": format!("ws://{address}")}],
        "cases": [cases],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let spec_path = directory.path().join("spec.json");
    std::fs::write(&spec_path, spec.to_string())?;
    let output = Command::new(wstest)
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&spec_path)
        .output()?;
    let index = std::fs::read_to_string(reports.join("index.json")).with_context(|| {
        format!(
            "wstest made no report: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let index: Value = serde_json::from_str(&index)?;
    let results = index["tidegate"]
        .as_object()
        .context("no results for the agent")?;
    let mut bad = Vec::new();
    for (case, result) in results {
        let (behaviour, close) = (result["behavior"].as_str(), result["behaviorClose"].as_str());
        let good = |verdict: Option<&str>| match verdict {
            Some("OK") => true,
            // Fail-fast on UTF-8 is required here, not only allowed.
            Some("INFORMATIONAL") => !case.starts_with("6.4."),
            _ => false,
        };
        if !good(behaviour) || !good(close) {
            bad.push(format!("{case}: {behaviour:?}, close {close:?}"));
        }
    }
    println!(
        "Autobahn on {engine:?}: {} cases, {} bad",
        results.len(),
        bad.len()
    );
    if cases == "*" && results.len() != CASES {
        bail!("{} cases ran instead of {CASES}", results.len());
    }
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    Ok(())
}
