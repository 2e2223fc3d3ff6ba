//! The load tool of Tidegate: many simulated clients over the real protocol, every message checked.
//!
//! Reading order:
//! 1. [`chat`], [`echo`], [`idle`]: the modes, each an `Options` and a `run`. `population` is the seam they plug into.
//! 2. `plan` and `schedule`: who writes to whom and when, fixed before the run. `identity`: what a message says.
//! 3. `audit`: the checker. `measure`, `funnel`, `traffic`, `diagnosis`: what is counted.
//! 4. `driver`: a worker, which owns sockets and WebSocket. `run`: the coordinator, which owns phases and time.
//! 5. [`Report`]: the result, the verdict and its exit code. [`cli`]: the command.
//!
//! Invariants:
//! - Open loop: a send's latency counts from its intended time, which was fixed before the run. A send that cannot be
//!   made is counted as missed; none is left out silently.
//! - All times come from one clock of one process.
//! - A connection costs a slab entry; the checker costs about 90 bytes a pair, whatever the number of messages.
//! - One seed gives one plan, schedule and order of sends.
//!
//! Deliberately absent: `unsafe`, tasks, a timer a connection, TLS, more than one process.

mod audit;
pub mod chat;
pub mod cli;
mod clock;
mod course;
mod diagnosis;
mod driver;
pub mod echo;
mod error;
mod funnel;
mod identity;
pub mod idle;
mod interrupt;
mod login;
mod measure;
mod output;
mod plan;
mod population;
mod report;
mod run;
mod schedule;
mod settings;
mod snapshot;
mod target;
mod traffic;
mod units;

pub use audit::Audit;
pub use diagnosis::{Generator, Punctuality};
pub use error::RunError;
pub use funnel::Connects;
pub use interrupt::Interrupt;
pub use login::Login;
pub use measure::{Latency, LatencyLimits};
pub use plan::Pairing;
pub use report::{Achieved, Asked, Outcome, Report, Verdict};
pub use settings::Settings;
pub use snapshot::{Activity, Snapshot};
pub use target::Target;
pub use traffic::Traffic;
pub use units::Rate;
