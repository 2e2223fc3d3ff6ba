//! The way of a connection: how long each stage took, why attempts failed, how connections ended.

use std::collections::BTreeMap;
use std::io;

use hdrhistogram::Histogram;
use serde::Serialize;
use wire::client::Code;

use crate::measure::{Latency, empty_histogram};

/// A stage of a connection, each measured from the start of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// TCP is connected.
    Tcp,
    /// The upgrade was answered with 101.
    Upgrade,
    /// `welcome` has come.
    Welcome,
    /// The client is in step and takes part: `synced` has come, or the mode needs no more than the upgrade.
    Live,
}

/// Why a connection, or an attempt at one, is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The system said no.
    Io(io::ErrorKind),
    /// It was not live in time.
    Timeout,
    /// Another status than 101.
    Status(u16),
    /// Not a valid answer to the upgrade.
    BadUpgrade(&'static str),
    /// A close frame; 1005 when it holds no code.
    Closed(u16),
    /// The stream ended without a close frame.
    EndOfStream,
    /// The target broke RFC 6455; the code says how.
    Violation(u16),
    /// The target broke its own protocol.
    BadEvent(String),
    /// The target refused the hello.
    Refused(Code),
}

impl Ending {
    /// Returns the key it is counted under.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Io(kind) => match kind {
                io::ErrorKind::ConnectionRefused => "refused".to_owned(),
                io::ErrorKind::ConnectionReset => "reset".to_owned(),
                io::ErrorKind::AddrNotAvailable => "no_local_port".to_owned(),
                io::ErrorKind::TimedOut => "tcp_timeout".to_owned(),
                other => format!("io: {other}"),
            },
            Self::Timeout => "timeout".to_owned(),
            Self::Status(status) => format!("http_{status}"),
            Self::BadUpgrade(why) => format!("bad_upgrade: {why}"),
            Self::Closed(code) => format!("close_{code}"),
            Self::EndOfStream => "no_close_frame".to_owned(),
            Self::Violation(code) => format!("violation_{code}"),
            Self::BadEvent(what) => format!("bad_event: {what}"),
            Self::Refused(code) => format!("hello_{}", code.name()),
        }
    }
}

/// Counts and times of one worker's connections.
#[derive(Debug)]
pub(crate) struct Funnel {
    pub(crate) attempts: u64,
    /// Clients whose first attempt is over, well or badly.
    pub(crate) settled: u32,
    /// Clients live now.
    pub(crate) live: u32,
    /// Clients live when the tool began to close connections.
    pub(crate) live_at_end: u32,
    pub(crate) reconnects: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) losses: BTreeMap<String, u64>,
    /// `error` events by code, and answers that fit no send.
    pub(crate) errors: BTreeMap<String, u64>,
    stages: [Histogram<u64>; 4],
}

impl Funnel {
    pub(crate) fn new() -> Self {
        Self {
            attempts: 0,
            settled: 0,
            live: 0,
            live_at_end: 0,
            reconnects: 0,
            failures: BTreeMap::new(),
            losses: BTreeMap::new(),
            errors: BTreeMap::new(),
            stages: [0; 4].map(|_| empty_histogram()),
        }
    }

    /// Records that a stage was reached `ns` after the start of the attempt.
    pub(crate) fn reach(&mut self, stage: Stage, ns: u64) {
        self.stages[stage as usize].saturating_record(ns);
    }

    /// Counts an attempt that failed before the client was live.
    pub(crate) fn count_failure(&mut self, ending: &Ending) {
        count(&mut self.failures, ending.label(), 1);
    }

    /// Counts the end of a live connection that the tool did not want.
    pub(crate) fn count_loss(&mut self, ending: &Ending) {
        count(&mut self.losses, ending.label(), 1);
    }

    /// Counts an event that says something went wrong.
    pub(crate) fn count_error(&mut self, label: &str) {
        count(&mut self.errors, label.to_owned(), 1);
    }

    /// Adds another worker's.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.settled += other.settled;
        self.live += other.live;
        self.live_at_end += other.live_at_end;
        self.reconnects += other.reconnects;
        for (into, from) in [
            (&mut self.failures, &other.failures),
            (&mut self.losses, &other.losses),
            (&mut self.errors, &other.errors),
        ] {
            for (label, times) in from {
                count(into, label.clone(), *times);
            }
        }
        for (into, from) in self.stages.iter_mut().zip(&other.stages) {
            into.add(from).expect("all funnels have the same bounds");
        }
    }

    /// Returns the part of the report.
    pub(crate) fn report(&self) -> Connects {
        let times = |stage: Stage| Latency::of(&self.stages[stage as usize]);
        Connects {
            attempts: self.attempts,
            live_at_end: u64::from(self.live_at_end),
            reconnects: self.reconnects,
            failures: self.failures.clone(),
            losses: self.losses.clone(),
            errors: self.errors.clone(),
            tcp_us: times(Stage::Tcp),
            upgrade_us: times(Stage::Upgrade),
            welcome_us: times(Stage::Welcome),
            live_us: times(Stage::Live),
        }
    }
}

/// Adds to a count; a label of the target's making gets one of its own only while there are few.
fn count(counts: &mut BTreeMap<String, u64>, label: String, times: u64) {
    let known = counts.len() < LABELS_MAX || counts.contains_key(&label);
    *counts
        .entry(if known { label } else { "other".to_owned() })
        .or_default() += times;
}

const LABELS_MAX: usize = 64;

/// The connect funnel in a report; times count from the start of the attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Connects {
    /// TCP connects started.
    pub attempts: u64,
    /// Clients connected and in step when the run ended.
    pub live_at_end: u64,
    /// Clients that were live again after a loss.
    pub reconnects: u64,
    /// Attempts that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Live connections that ended without the tool's wish, by close code or reason.
    pub losses: BTreeMap<String, u64>,
    /// `error` events by code, `resync`, and answers that fit no send.
    pub errors: BTreeMap<String, u64>,
    /// Until TCP was connected.
    pub tcp_us: Latency,
    /// Until 101.
    pub upgrade_us: Latency,
    /// Until `welcome`.
    pub welcome_us: Latency,
    /// Until `synced`, or until 101 where the mode has no hello.
    pub live_us: Latency,
}
