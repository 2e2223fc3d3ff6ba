//! Was it the tool? Its own CPU time, and the verdict on its own punctuality.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::measure::Latency;

/// Returns the CPU time of the calling thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The tool about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Generator {
    /// CPU cores its workers used while the schedule ran.
    pub cpu_cores: f64,
    /// How long a worker did not look at its sockets, per turn of its loop.
    pub loop_lag_us: Latency,
    /// From the intended send time to the write.
    pub slip_us: Latency,
    /// Share of the schedule left out because of the tool: too late, or its bound of sends in flight reached.
    pub missed_share: f64,
}

/// How unpunctual the tool may be before its numbers are worth nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Punctuality {
    /// Largest 99th percentile of the slip.
    pub slip_p99_max: Duration,
    /// Largest share of the schedule left out.
    pub missed_share_max: f64,
}

impl Default for Punctuality {
    /// 20 ms and 1 %.
    fn default() -> Self {
        Self {
            slip_p99_max: Duration::from_millis(20),
            missed_share_max: 0.01,
        }
    }
}

impl Generator {
    /// Returns a sentence for each way in which the tool, not the target, set the limit.
    pub(crate) fn limits(&self, allowed: &Punctuality) -> Vec<String> {
        let slip = self.slip_us.p99_duration();
        let late = (slip > allowed.slip_p99_max).then(|| {
            format!(
                "sends left {slip:.1?} late (p99), {:.1?} allowed",
                allowed.slip_p99_max
            )
        });
        let missed = (self.missed_share > allowed.missed_share_max).then(|| {
            format!(
                "{:.2} % of the schedule was left out, {:.2} % allowed: raise --in-flight or --workers, or lower --rate",
                self.missed_share * 100.0,
                allowed.missed_share_max * 100.0
            )
        });
        late.into_iter().chain(missed).collect()
    }
}
