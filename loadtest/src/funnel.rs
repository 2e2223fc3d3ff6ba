//! The way of a connection: how long each stage took, why attempts failed, how connections ended.

use std::collections::BTreeMap;
use std::io;

use hdrhistogram::Histogram;
use serde::Serialize;
use wire_base::code::Code;
use wire_ws::CloseFrame;

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
    /// A close frame; 1005 when it holds no code. The reason is the target's.
    Closed { code: u16, reason: String },
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
    /// Returns the end by a close frame; `None` for one that is empty.
    pub(crate) fn closed(frame: Option<CloseFrame<'_>>) -> Self {
        let (code, reason) = frame.map_or((1005, ""), |frame| (frame.code, frame.reason));
        // It is going to be printed on somebody's terminal.
        let reason = reason.replace(char::is_control, "\u{fffd}");
        Self::Closed { code, reason }
    }

    /// Returns the key it is counted under: what it is, and after a colon what the target said.
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
            Self::Closed { code, reason } if reason.is_empty() => format!("close_{code}"),
            Self::Closed { code, reason } => format!("close_{code}: {reason}"),
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

/// Adds to a count; what the target said makes a label of its own only while there are few.
fn count(counts: &mut BTreeMap<String, u64>, mut label: String, times: u64) {
    if counts.len() >= LABELS_MAX && !counts.contains_key(&label) {
        label.truncate(label.find(": ").unwrap_or(label.len()));
    }
    *counts.entry(label).or_default() += times;
}

/// Then only what has no words of the target's gets a new label: a few thousand codes at most.
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
    /// Live connections that ended without the tool's wish, by close code and reason, or by what else ended them.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> Ending {
        Ending::closed(Some(CloseFrame { code, reason }))
    }

    #[test]
    fn a_close_is_counted_by_code_and_reason_without_control_characters() {
        assert_eq!(closed(1011, "out of memory").label(), "close_1011: out of memory");
        assert_eq!(closed(1013, "").label(), "close_1013");
        assert_eq!(Ending::closed(None).label(), "close_1005");
        assert_eq!(
            closed(4000, "\u{1b}[2Jgone\n").label(),
            "close_4000: \u{fffd}[2Jgone\u{fffd}"
        );
    }

    #[test]
    fn a_target_that_never_gives_the_same_reason_is_counted_by_code() {
        let mut funnel = Funnel::new();
        for session in 0..1000 {
            funnel.count_loss(&closed(1011, &format!("session {session}")));
        }
        assert_eq!(funnel.losses.len(), LABELS_MAX + 1);
        assert_eq!(funnel.losses["close_1011"], 1000 - LABELS_MAX as u64);
        assert_eq!(funnel.losses["close_1011: session 0"], 1);
    }
}
