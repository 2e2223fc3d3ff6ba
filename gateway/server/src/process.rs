//! What the kernel counts of this process, under the names that Prometheus' own clients use.

use std::fs;
use std::sync::Arc;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::admin::Metrics;
use exposition::{Sample, Value};

/// Returns the source of the metrics of this process; `descriptors_max` is its limit, where it has one.
pub fn metrics(descriptors_max: Option<u64>) -> Metrics {
    Arc::new(move || samples(descriptors_max))
}

/// Reads what can be read: without `/proc` there are fewer samples.
fn samples(descriptors_max: Option<u64>) -> Vec<Sample> {
    let sample = |name, help, value| Sample {
        name,
        help,
        labels: Vec::new(),
        value,
    };
    let mut samples = Vec::new();
    if let Some(stat) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(Stat::parse)
    {
        let ticks_per_s = clock_ticks_per_second() as f64;
        let bytes = stat.resident_pages * page_size() as u64;
        samples.extend([
            sample(
                "process_cpu_seconds_total",
                "CPU time of the process, user and system.",
                Value::Seconds(stat.cpu_ticks as f64 / ticks_per_s),
            ),
            sample(
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                Value::Gauge(bytes as f64),
            ),
            sample(
                "process_virtual_memory_bytes",
                "Address space of the process.",
                Value::Gauge(stat.virtual_bytes as f64),
            ),
            sample(
                "process_threads",
                "Threads of the process.",
                Value::Gauge(stat.threads as f64),
            ),
        ]);
        if let Some(boot_s) = boot_time_s() {
            samples.push(sample(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
                Value::Gauge(boot_s as f64 + stat.start_ticks as f64 / ticks_per_s),
            ));
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        samples.push(sample(
            "process_open_fds",
            "Open descriptors.",
            // The one of the directory that is being read is none of them.
            Value::Gauge(open.count().saturating_sub(1) as f64),
        ));
    }
    if let Some(most) = descriptors_max {
        samples.push(sample(
            "process_max_fds",
            "Descriptors that may be open at once.",
            Value::Gauge(most as f64),
        ));
    }
    samples
}

/// What is read of `/proc/self/stat`.
///
/// Source: proc_pid_stat(5), whose numbers of the fields these are.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// 14 and 15.
    cpu_ticks: u64,
    /// 20.
    threads: u64,
    /// 22, since the machine started.
    start_ticks: u64,
    /// 23.
    virtual_bytes: u64,
    /// 24.
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the process, field 2, stands in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Returns when the machine started, in seconds since 1970.
fn boot_time_s() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let text = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14 15 16 7 18 5000 8192 99 1 2 3\n";
        let stat = Stat {
            cpu_ticks: 42,
            threads: 7,
            start_ticks: 5_000,
            virtual_bytes: 8_192,
            resident_pages: 99,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("42 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
