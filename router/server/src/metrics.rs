//! Counters of the router: written by its one thread, read by any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exposition::{Histogram, Sample, Value};
use router_core::node::NodeStats;
use router_storage::log::LogStats;
use wire_base::code::Code;

/// A handle on the counters; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

macro_rules! table {
    ($($(#[doc = $help:literal])+ $kind:ident $field:ident $name:literal,)+) => {
        /// Every plain counter and gauge, then the ones with a shape of their own.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $help])+ pub(crate) $field: Cell,)+
            /// Sends refused, by code.
            pub(crate) rejected: [Cell; Code::ALL.len()],
            /// How long a group took from its first byte to the end of its sync.
            pub(crate) commit: CommitSeconds,
        }

        impl Counters {
            fn plain(&self) -> impl Iterator<Item = Sample> {
                [$(Sample {
                    name: $name,
                    help: concat!($($help),+).trim_ascii_start(),
                    labels: Vec::new(),
                    value: table!(@value $kind self.$field),
                },)+].into_iter()
            }
        }
    };
    (@value counter $cell:expr) => { Value::Counter($cell.get()) };
    (@value gauge $cell:expr) => { Value::Gauge($cell.get() as f64) };
}

table! {
    /// Messages given a seq.
    counter sends "router_sends_total",
    /// Sends answered with the seq of an earlier one.
    counter duplicates "router_duplicates_total",
    /// Groups of records written to the log.
    counter groups "router_groups_total",
    /// Records written to the log.
    counter records "router_records_total",
    /// Bytes written to the log.
    counter log_bytes "router_log_bytes_total",
    /// Syncs of the log.
    counter fsyncs "router_fsyncs_total",
    /// Times that the log had no room.
    counter log_full "router_log_full_total",
    /// Records folded again at the start.
    counter replayed "router_replayed_records_total",
    /// Damaged last groups cut off the log at the start.
    counter cut_groups "router_cut_groups_total",
    /// Acks written to the log.
    counter acks "router_acks_total",
    /// Messages handed to sessions, each connection counted.
    counter deliveries "router_deliveries_total",
    /// Status updates handed to sessions, each connection counted.
    counter status_updates "router_status_updates_total",
    /// Status updates lost because a link stood still; clients see the newer watermark in history.
    counter status_updates_lost "router_status_updates_lost_total",
    /// Pages of stored messages read for sessions that catch up.
    counter backlog_pages "router_backlog_pages_total",
    /// Pages of history and of conversations read.
    counter history_pages "router_history_pages_total",
    /// Batches that a link had no room for.
    counter link_refusals "router_link_refusals_total",
    /// Links closed because their client broke the format.
    counter link_faults "router_link_faults_total",
    /// Look-ups that missed memory and went to the store.
    counter store_reads "router_store_reads_total",
    /// Reads and writes that the store failed.
    counter store_errors "router_store_errors_total",
    /// Times that the wall clock was not believed.
    counter clock_doubts "router_clock_doubts_total",
    /// Syncs of the store.
    counter store_persists "router_store_persists_total",
    /// Steps of deleting what is past retention.
    counter sweep_steps "router_sweep_steps_total",
    /// Links open.
    gauge links "router_links",
    /// Sessions open.
    gauge sessions "router_sessions",
    /// Sessions that wait for a page of stored messages, those of links that stand still among them.
    gauge sessions_behind "router_sessions_behind",
    /// Devices whose ack waits to be logged.
    gauge acks_waiting "router_acks_waiting",
    /// Records that are in the log and not yet synced in the store: what a start after a crash replays.
    gauge store_lag "router_store_lag_records",
    /// Bytes that wait for room in links.
    gauge link_backlog "router_link_backlog_bytes",
    /// 1 while messages are taken.
    gauge ready "router_ready",
}

impl Metrics {
    /// Returns every sample; the names and their order never change.
    pub fn samples(&self) -> Vec<Sample> {
        let counters = &self.0;
        let rejected = Code::ALL
            .iter()
            .zip(&counters.rejected)
            .map(|(code, cell)| Sample {
                name: "router_rejected_total",
                help: "Sends refused, by code.",
                labels: vec![("code", code.name().to_owned())],
                value: Value::Counter(cell.get()),
            });
        let commit = Sample {
            name: "router_commit_seconds",
            help: "Time from the first byte of a group to the end of its sync.",
            labels: Vec::new(),
            value: Value::Histogram(counters.commit.0.clone()),
        };
        counters.plain().chain(rejected).chain([commit]).collect()
    }

    /// Returns where the router counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0)
    }
}

impl Counters {
    /// Takes over what a log counted.
    pub(crate) fn copy_log(&self, stats: &LogStats) {
        self.groups.set(stats.groups);
        self.records.set(stats.records);
        self.log_bytes.set(stats.bytes);
        self.fsyncs.set(stats.syncs);
    }

    /// Takes over what a node counted.
    pub(crate) fn copy(&self, stats: &NodeStats) {
        let pairs = [
            (&self.sends, stats.sends),
            (&self.duplicates, stats.duplicates),
            (&self.log_full, stats.log_full),
            (&self.acks, stats.acks),
            (&self.deliveries, stats.deliveries),
            (&self.status_updates, stats.status_updates),
            (&self.status_updates_lost, stats.status_updates_lost),
            (&self.backlog_pages, stats.backlog_pages),
            (&self.history_pages, stats.history_pages),
            (&self.link_refusals, stats.link_refusals),
            (&self.link_faults, stats.link_faults),
            (&self.store_reads, stats.store_reads),
            (&self.store_errors, stats.store_errors),
            (&self.clock_doubts, stats.clock_doubts),
            (&self.store_persists, stats.store_persists),
            (&self.sweep_steps, stats.sweep_steps),
            (&self.store_lag, stats.store_lag),
            (&self.links, stats.links),
            (&self.sessions, stats.sessions),
            (&self.sessions_behind, stats.sessions_behind),
            (&self.acks_waiting, stats.acks_waiting),
            (&self.link_backlog, stats.link_backlog),
        ];
        for (cell, value) in pairs {
            cell.set(value);
        }
        for (cell, value) in self.rejected.iter().zip(stats.rejected) {
            cell.set(value);
        }
    }
}

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, count: u64) {
        // One thread writes, so this needs no atomic read-modify-write.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long commits take.
#[derive(Debug)]
pub(crate) struct CommitSeconds(Histogram);

impl CommitSeconds {
    pub(crate) fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Default for CommitSeconds {
    fn default() -> Self {
        Self(Histogram::new(COMMIT_BOUNDS_S))
    }
}

/// From a write cache that answers at once to a disk in trouble.
const COMMIT_BOUNDS_S: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_name_starts_with_router_and_counters_end_in_total() {
        for sample in Metrics::default().samples() {
            assert!(sample.name.starts_with("router_"), "{sample:?}");
            assert!(
                sample.help.ends_with('.') && !sample.help.starts_with(' '),
                "{sample:?}"
            );
            assert_eq!(
                sample.name.ends_with("_total"),
                matches!(sample.value, Value::Counter(_)),
                "{sample:?}"
            );
        }
    }

    #[test]
    fn a_clone_sees_what_was_counted() {
        let metrics = Metrics::default();
        let counters = metrics.counters();
        let mut stats = NodeStats {
            sends: 5,
            ..NodeStats::default()
        };
        stats.rejected[Code::ALL.iter().position(|code| *code == Code::Conflict).unwrap()] = 1;
        counters.copy(&stats);
        let samples: BTreeMap<_, _> = metrics
            .clone()
            .samples()
            .into_iter()
            .map(|s| ((s.name, s.labels.clone()), s.value))
            .collect();
        let counter = |key| match samples[&key] {
            Value::Counter(count) => count,
            ref other => panic!("{other:?}"),
        };
        assert_eq!(counter(("router_sends_total", vec![])), 5);
        let label = |code: &str| ("router_rejected_total", vec![("code", code.to_owned())]);
        assert_eq!(counter(label("conflict")), 1);
        assert_eq!(counter(label("busy")), 0);
    }
}
