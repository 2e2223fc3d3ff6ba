//! Progress on standard error: a bar on a terminal, a line a second elsewhere and for who wants no control characters.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Us;
use crate::snapshot::{Activity, Snapshot};

/// The display of one run.
pub(super) struct Progress {
    /// `None`: lines.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Returns the display that standard error allows.
    pub(super) fn new() -> Self {
        let bar = can_draw().then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Shows how far the run is.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        let Some(bar) = &self.bar else {
            eprintln!("{}", line(snapshot));
            return;
        };
        let (done, all) = match snapshot.activity {
            Activity::Connecting => (u64::from(snapshot.connected), u64::from(snapshot.conns)),
            _ => (
                snapshot.elapsed.as_millis() as u64,
                snapshot.length.as_millis() as u64,
            ),
        };
        bar.set_length(all);
        bar.set_position(done);
        bar.set_message(line(snapshot));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns whether standard error is a terminal that takes control characters, and nobody asked for none.
///
/// Source: no-color.org.
fn can_draw() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    std::io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

fn line(snapshot: &Snapshot) -> String {
    let Snapshot {
        activity,
        conns,
        connected,
        failed,
        sent_per_s,
        accepted_per_s,
        delivered_per_s,
        ..
    } = *snapshot;
    let mut line = format!("{:<11} {connected}/{conns} connected", activity.name());
    if failed > 0 {
        line += &format!(", {failed} failed");
    }
    if activity == Activity::Connecting {
        return line;
    }
    let (elapsed, length) = (snapshot.elapsed.as_secs_f64(), snapshot.length.as_secs_f64());
    line += &format!(", {elapsed:.0}/{length:.0} s");
    if snapshot.traffic.scheduled == 0 {
        return line;
    }
    line += &format!(", {sent_per_s:.0} sent/s, {accepted_per_s:.0} answered/s");
    let us = |time: Duration| Us(time.as_nanos() as f64 / 1000.0);
    if !snapshot.ack_p99.is_zero() {
        line += &format!(
            ", answer p50 {} p99 {}",
            us(snapshot.ack_p50),
            us(snapshot.ack_p99)
        );
    }
    if !snapshot.delivery_p99.is_zero() {
        let (p50, p99) = (us(snapshot.delivery_p50), us(snapshot.delivery_p99));
        line += &format!(", {delivered_per_s:.0} delivered/s, delivery p50 {p50} p99 {p99}");
    }
    if snapshot.traffic.missed() > 0 {
        line += &format!(", {} missed", snapshot.traffic.missed());
    }
    line
}

const BAR: &str = "{bar:30} {msg}";
