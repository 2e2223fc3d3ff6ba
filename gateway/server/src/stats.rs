//! The counters of a worker, copied now and then to where the admin listener can read them without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gateway_core::stats::{Kind, Metric, Stats};
use runtime::ReactorStats;

use exposition::{Sample, Value};

/// What one worker last published.
pub struct Published {
    worker: u16,
    sockets_max: u64,
    /// Names, labels and help: the same at every publication.
    metrics: OnceLock<Vec<Metric>>,
    values: OnceLock<Box<[AtomicU64]>>,
    /// Changes with everything that counts; tells an idle worker that there is nothing new.
    mark: AtomicU64,
    /// The worker has no link to a router that it had one to.
    link_lost: AtomicBool,
}

impl Published {
    /// Returns an empty publication of a worker.
    pub fn new(worker: u16, sockets_max: usize) -> Self {
        Self {
            worker,
            sockets_max: sockets_max as u64,
            metrics: OnceLock::new(),
            values: OnceLock::new(),
            mark: AtomicU64::new(u64::MAX),
            link_lost: AtomicBool::new(false),
        }
    }

    /// Copies the counters.
    pub(crate) fn publish(&self, hub: &Stats, reactor: ReactorStats) {
        let all = || all(hub, reactor, self.sockets_max);
        let metrics = self.metrics.get_or_init(|| all().collect());
        let values = self
            .values
            .get_or_init(|| metrics.iter().map(|_| AtomicU64::new(0)).collect());
        for (metric, value) in all().zip(values) {
            value.store(metric.value, Ordering::Relaxed);
        }
        self.mark.store(mark(reactor), Ordering::Relaxed);
    }

    /// Notes whether the worker lacks a link that it had.
    pub(crate) fn set_lost_link(&self, is_lost: bool) {
        self.link_lost.store(is_lost, Ordering::Relaxed);
    }

    /// Returns whether the worker lacks a link that it had.
    pub(crate) fn has_lost_link(&self) -> bool {
        self.link_lost.load(Ordering::Relaxed)
    }

    /// Returns whether something happened since the last publication.
    pub(crate) fn is_behind(&self, reactor: ReactorStats) -> bool {
        self.mark.load(Ordering::Relaxed) != mark(reactor)
    }

    /// Returns how many sockets the worker may hold.
    pub(crate) fn sockets_max(&self) -> u64 {
        self.sockets_max
    }

    /// Returns the samples of this worker.
    pub fn samples(&self) -> Vec<Sample> {
        let (Some(metrics), Some(values)) = (self.metrics.get(), self.values.get()) else {
            return Vec::new();
        };
        let sample = |(metric, value): (&Metric, &AtomicU64)| {
            let value = value.load(Ordering::Relaxed);
            let mut labels = vec![("worker", self.worker.to_string())];
            labels.extend(
                metric
                    .labels
                    .iter()
                    .map(|(name, value)| (*name, (*value).to_owned())),
            );
            let value = match metric.kind {
                Kind::Counter => Value::Counter(value),
                Kind::Gauge => Value::Gauge(value as f64),
            };
            Sample {
                name: metric.name,
                help: metric.help,
                labels,
                value,
            }
        };
        metrics.iter().zip(values).map(sample).collect()
    }
}

/// Everything the reactor does ends in a completion or an event, a sleep that merely timed out does not.
fn mark(reactor: ReactorStats) -> u64 {
    reactor
        .completions
        .wrapping_add(reactor.accepted)
        .wrapping_add(reactor.sends)
}

fn all(hub: &Stats, reactor: ReactorStats, sockets_max: u64) -> impl Iterator<Item = Metric> {
    let metric = |kind, name, help, value| Metric {
        name,
        labels: &[],
        kind,
        help,
        value,
    };
    let counter = |name, help, value| metric(Kind::Counter, name, help, value);
    let gauge = |name, help, value| metric(Kind::Gauge, name, help, value);
    hub.metrics().chain([
        counter(
            "gateway_reactor_waits_total",
            "Ticks: times the reactor was asked to wait.",
            reactor.waits,
        ),
        counter(
            "gateway_reactor_completions_total",
            "Completions or readiness events taken.",
            reactor.completions,
        ),
        counter(
            "gateway_accepts_failed_total",
            "Connections the kernel could not hand over.",
            reactor.accepts_failed,
        ),
        counter(
            "gateway_accept_pauses_total",
            "Times clients had to wait in the backlog because all sockets were taken.",
            reactor.accept_pauses,
        ),
        gauge(
            "gateway_sockets",
            "Sockets open, also those without an upgrade.",
            reactor.sockets_open,
        ),
        gauge(
            "gateway_sockets_max",
            "Sockets at which no more are accepted.",
            sockets_max,
        ),
        counter(
            "gateway_sends_total",
            "Writes handed to the kernel.",
            reactor.sends,
        ),
        counter(
            "gateway_sends_short_total",
            "Writes the kernel took only in part.",
            reactor.sends_short,
        ),
        counter(
            "gateway_cq_overflows_total",
            "Times the completion queue overflowed.",
            reactor.cq_overflows,
        ),
    ])
}
