//! The most memory the API may hold, as a sum of named terms, printed at start.

use std::fmt;

use wire_base::limits::FRAME_BYTES_MAX;
use wire_link::BATCH_BYTES_MAX;

use super::BODIES_BYTES_MAX;

/// The sum. All terms are bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Connections the sum is for.
    pub connections: usize,
    /// Heads that arrive.
    pub heads_bytes: usize,
    /// Bodies that arrive or are looked at.
    pub bodies_bytes: usize,
    /// Answers that clients have not taken, each as large as a frame.
    pub answers_bytes: usize,
    /// Questions for the router: a batch that is gathered, and one that found no room in the link.
    pub questions_bytes: usize,
}

impl MemoryBudget {
    pub(super) const fn of(connections: usize) -> Self {
        Self {
            connections,
            heads_bytes: connections * bounded_http::HEAD_BYTES_MAX,
            bodies_bytes: BODIES_BYTES_MAX,
            answers_bytes: connections * FRAME_BYTES_MAX,
            questions_bytes: 2 * BATCH_BYTES_MAX,
        }
    }

    /// Returns the sum.
    pub const fn total_bytes(&self) -> usize {
        self.heads_bytes + self.bodies_bytes + self.answers_bytes + self.questions_bytes
    }
}

impl fmt::Display for MemoryBudget {
    /// Prints one line for each term, and the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = format!("heads of {} connections, at most", self.connections);
        for (name, bytes) in [
            (heads.as_str(), self.heads_bytes),
            ("bodies, at most", self.bodies_bytes),
            ("answers not taken, at most", self.answers_bytes),
            ("questions for the router, at most", self.questions_bytes),
        ] {
            writeln!(f, "{name:<38}{:>10.1} MiB", mib(bytes))?;
        }
        write!(
            f,
            "{:<38}{:>10.1} MiB",
            "the API, at most",
            mib(self.total_bytes())
        )
    }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / 1_048_576.0
}
