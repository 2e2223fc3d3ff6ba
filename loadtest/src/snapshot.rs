//! How a run is going, for a live display.

use std::time::Duration;

use crate::traffic::Traffic;

/// What the run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Connections are opened.
    Connecting,
    /// The load runs and is not measured yet.
    WarmingUp,
    /// The load runs and is measured.
    Measuring,
    /// Nothing new is sent; the last answers and deliveries are awaited.
    Draining,
}

impl Activity {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// The state of a run since the last snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// What it is doing.
    pub activity: Activity,
    /// How much of the schedule, warm-up included, is over.
    pub elapsed: Duration,
    /// How long the schedule is.
    pub length: Duration,
    /// Connections wanted.
    pub conns: u32,
    /// Connections that take part now.
    pub connected: u32,
    /// Attempts to connect that failed so far.
    pub failed: u64,
    /// Messages sent a second.
    pub sent_per_s: f64,
    /// Messages answered a second.
    pub accepted_per_s: f64,
    /// Messages delivered a second.
    pub delivered_per_s: f64,
    /// Intended send time to answer: half are at or below; zero while nothing is measured.
    pub ack_p50: Duration,
    /// 99 of 100 are at or below.
    pub ack_p99: Duration,
    /// Intended send time to delivery: half are at or below.
    pub delivery_p50: Duration,
    /// 99 of 100 are at or below.
    pub delivery_p99: Duration,
    /// Everything since the start.
    pub traffic: Traffic,
}
