//! What the clients of one worker did so far, in numbers.

use std::ops::AddAssign;

use serde::Serialize;

/// Counts of messages since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Sends whose time came, sent or missed.
    pub scheduled: u64,
    /// Messages written to a connection for the first time.
    pub sent: u64,
    /// Messages the target promised to keep (`sent`), or echoed.
    pub accepted: u64,
    /// Messages the target refused for good.
    pub refused: u64,
    /// Messages written again because their outcome was unknown.
    pub retried: u64,
    /// Messages that reached their receiver for the first time.
    pub delivered: u64,
    /// Messages written and not answered yet.
    pub in_flight: u64,
    /// Sends left out because too many of the connection were unanswered.
    pub missed_in_flight_full: u64,
    /// Sends left out because the connection was down.
    pub missed_offline: u64,
    /// Sends left out because the tool came to them after the run was over.
    pub missed_late: u64,
    /// WebSocket pings answered.
    pub pings: u64,
}

impl Traffic {
    /// Returns the sends left out.
    pub fn missed(&self) -> u64 {
        self.missed_in_flight_full + self.missed_offline + self.missed_late
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        let Self {
            scheduled,
            sent,
            accepted,
            refused,
            retried,
            delivered,
            in_flight,
            missed_in_flight_full,
            missed_offline,
            missed_late,
            pings,
        } = other;
        self.scheduled += scheduled;
        self.sent += sent;
        self.accepted += accepted;
        self.refused += refused;
        self.retried += retried;
        self.delivered += delivered;
        self.in_flight += in_flight;
        self.missed_in_flight_full += missed_in_flight_full;
        self.missed_offline += missed_offline;
        self.missed_late += missed_late;
        self.pings += pings;
    }
}
