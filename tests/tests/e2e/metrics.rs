//! docs/metrics.md says exactly what a scrape shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidegate_tests::{ServerOptions, host, http};

/// Type, label names and meaning by name.
type Metrics = BTreeMap<String, (String, String, String)>;

fn scraped(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut help = "";
    for line in text.lines() {
        if let Some((_, sentence)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = sentence;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let labels = labels(text, name);
            metrics.insert(name.to_owned(), (kind.to_owned(), labels, help.to_owned()));
        }
    }
    metrics
}

/// The names of the labels of a metric's series, in alphabetical order, without the bound of a bucket.
fn labels(text: &str, name: &str) -> String {
    let series = text.lines().filter_map(|line| line.strip_prefix(name));
    let lists = series.filter_map(|rest| rest.strip_prefix("_bucket").unwrap_or(rest).strip_prefix('{'));
    let names: BTreeSet<&str> = lists
        .filter_map(|list| list.split_once('}'))
        .flat_map(|(list, _)| list.split("\","))
        .filter_map(|label| label.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| *name != "le")
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Reads the rows of the tables: name, type, labels, meaning.
fn documented(text: &str) -> Metrics {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [name, kind, labels, help] = cells[..] else {
            panic!("not four cells: {row}")
        };
        let cells = (kind.to_owned(), labels.replace('`', ""), help.to_owned());
        (name.trim_end_matches('`').to_owned(), cells)
    })
    .collect()
}

#[test]
fn every_metric_stands_in_the_docs_and_no_other() -> Result<()> {
    let server = ServerOptions::new(host::engine()).start()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let text = loop {
        // The workers publish their first numbers with their first ticks.
        let text = http::get(server.admin, "/metrics", None)?.text;
        if text.contains("gateway_sockets_max") {
            break text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let scraped = scraped(&text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let documented = documented(&std::fs::read_to_string(path)?);
    let row = |(name, (kind, labels, help)): (&String, &(String, String, String))| {
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
    };
    let (scraped, documented): (Vec<_>, Vec<_>) = (
        scraped.iter().map(row).collect(),
        documented.iter().map(row).collect(),
    );
    let lacking: Vec<_> = scraped.iter().filter(|row| !documented.contains(row)).collect();
    let stale: Vec<_> = documented.iter().filter(|row| !scraped.contains(row)).collect();
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "docs/metrics.md lacks {lacking:#?}\nand has in excess {stale:#?}"
    );
    Ok(())
}

#[test]
fn the_metrics_of_the_process_are_those_of_the_kernel() -> Result<()> {
    let server = ServerOptions::new(host::engine()).start()?;
    let metric = |name: &str| http::metric(server.admin, name, "");
    assert!(metric("process_resident_memory_bytes")? > 1e6);
    assert!(metric("process_virtual_memory_bytes")? >= metric("process_resident_memory_bytes")?);
    assert!(metric("process_open_fds")? > 10.0);
    assert!(metric("process_max_fds")? > metric("process_open_fds")?);
    assert!(metric("process_threads")? >= 4.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let age = now.as_secs_f64() - metric("process_start_time_seconds")?;
    assert!((-2.0..600.0).contains(&age), "{age} s old");
    let before = metric("process_cpu_seconds_total")?;
    for _ in 0..300 {
        metric("process_cpu_seconds_total")?;
    }
    assert!(metric("process_cpu_seconds_total")? > before);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(http::metric(server.admin, "tidegate_build_info", &version)?, 1.0);
    Ok(())
}
