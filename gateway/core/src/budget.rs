//! The most memory a worker may hold, as a sum of named terms, printed at start.

use std::fmt;

use crate::config::HubConfig;
use crate::connections::idle_bytes;
use crate::limits::{LINK_BYTES_MAX, PENDING_MAX, SPARE_BYTES_MAX, SPARE_OUTBOXES_MAX};
use crate::outbox::{Outbox, SPARE_OUTBOX_BYTES};
use crate::sessions::PENDING_BYTES;
use wire_link::BATCH_BYTES_MAX;

/// The sum of one worker. All terms are bounds; only the first is reached by idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Connections the sum is for.
    pub connections: u32,
    /// Their slab entries and places in the timer wheel.
    pub entries_bytes: usize,
    /// Bytes waiting for clients, here and in the transport.
    pub outboxes_bytes: usize,
    /// Outboxes and transports themselves, if no socket took anything. A driver adds its transports.
    pub blocked_bytes: usize,
    /// Incomplete messages and input that waits.
    pub input_bytes: usize,
    /// Commands without an answer.
    pub pending_bytes: usize,
    /// Batches waiting for links; each router beyond the first may add [`crate::limits::LINK_BATCH_BYTES`].
    pub link_bytes: usize,
    /// Send buffers and outboxes kept for reuse.
    pub spare_bytes: usize,
}

impl MemoryBudget {
    pub(crate) const fn of<S>(config: &HubConfig) -> Self {
        Self {
            connections: config.connections_max,
            entries_bytes: config.connections_max as usize * idle_bytes::<S>(),
            outboxes_bytes: config.outbox_total_bytes_max,
            blocked_bytes: config.connections_max as usize * size_of::<Outbox>(),
            input_bytes: config.input_total_bytes_max,
            pending_bytes: PENDING_MAX * PENDING_BYTES,
            link_bytes: LINK_BYTES_MAX + BATCH_BYTES_MAX,
            spare_bytes: SPARE_BYTES_MAX + SPARE_OUTBOXES_MAX * SPARE_OUTBOX_BYTES,
        }
    }

    /// Returns the sum.
    pub const fn total_bytes(&self) -> usize {
        self.entries_bytes
            + self.outboxes_bytes
            + self.blocked_bytes
            + self.input_bytes
            + self.pending_bytes
            + self.link_bytes
            + self.spare_bytes
    }
}

impl fmt::Display for MemoryBudget {
    /// Prints one line for each term, and the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line =
            |name: &str, bytes: usize| writeln!(f, "{name:<34}{:>10.1} MiB", bytes as f64 / 1_048_576.0);
        line(
            &format!("{} connections, idle", self.connections),
            self.entries_bytes,
        )?;
        line("outboxes, at most", self.outboxes_bytes)?;
        line("outboxes themselves, at most", self.blocked_bytes)?;
        line("incomplete input, at most", self.input_bytes)?;
        line("pending requests, at most", self.pending_bytes)?;
        line("batches for the links, at most", self.link_bytes)?;
        line("spare buffers, at most", self.spare_bytes)?;
        write!(
            f,
            "{:<34}{:>10.1} MiB",
            "a worker, at most",
            self.total_bytes() as f64 / 1_048_576.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Session;

    #[test]
    fn the_sum_is_that_of_its_lines_and_a_million_idle_sessions_take_under_128_mib() {
        let config = HubConfig {
            connections_max: 1_000_000,
            ..HubConfig::default()
        };
        let budget = MemoryBudget::of::<Session>(&config);
        assert!(budget.entries_bytes <= 128_000_000);
        let text = budget.to_string();
        assert_eq!(text.lines().count(), 8);
        let mib = |line: &str| {
            line.split_whitespace()
                .rev()
                .nth(1)
                .unwrap()
                .parse::<f64>()
                .unwrap()
        };
        let lines: Vec<f64> = text.lines().map(mib).collect();
        assert!((lines[..7].iter().sum::<f64>() - lines[7]).abs() < 0.5, "{text}");
    }
}
