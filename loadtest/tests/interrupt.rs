//! Runs that are asked to end before their time.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use loadtest::{Outcome, Punctuality, Rate, Report, Settings, Target, chat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Fault, Stub};

/// The command under way; killed with the value.
struct Running {
    child: Child,
    progress: BufReader<ChildStderr>,
}

impl Running {
    fn start(arguments: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let progress = BufReader::new(child.stderr.take().unwrap());
        Self { child, progress }
    }

    /// Waits for a line of progress that starts with a word.
    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            assert_ne!(self.progress.read_line(&mut line).unwrap(), 0, "no line `{word}`");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; returns exit code and standard output.
    fn end(mut self) -> (Option<i32>, String) {
        let mut printed = String::new();
        let mut output = self.child.stdout.take().unwrap();
        output.read_to_string(&mut printed).unwrap();
        println!("{printed}");
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_a_run_in_order_with_report_audit_and_files() {
    for (signal, mode) in [
        (Signal::INT, "chat --rate 200"),
        (Signal::TERM, "echo --rate 200"),
    ] {
        let stub = if mode.starts_with("chat") {
            Stub::chat(Fault::Honest)
        } else {
            Stub::echo(Fault::Honest)
        };
        let directory = tempfile::tempdir().unwrap();
        let (url, out) = (stub.url(), directory.path().display());
        let mut run = Running::start(&format!(
            "{mode} --target {url} --conns 4 --duration 60s --max-slip 1h --max-missed 100 --out {out}"
        ));
        run.wait_for("measuring");
        run.signal(signal);
        let (code, printed) = run.end();
        assert_eq!(code, Some(130));
        assert!(printed.contains("\n  ! interrupted: "), "{printed}");
        assert!(
            printed
                .trim_end()
                .ends_with(" lost=0 dup=0 reordered=0 verdict=interrupted"),
            "{printed}"
        );
        let report: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join("run.json")).unwrap()).unwrap();
        assert_eq!(report["interrupted"], true);
        assert_eq!(
            report["verdict"]["reasons"].as_array().unwrap().len(),
            1,
            "{report}"
        );
        let measured_s = report["achieved"]["measured_s"].as_f64().unwrap();
        assert!(measured_s > 0.0 && measured_s < 60.0, "{measured_s}");
        // What the schedule still held is not missed.
        let traffic = &report["traffic"];
        assert_eq!(traffic["sent"], traffic["delivered"], "{traffic}");
        assert!(traffic["sent"].as_u64().unwrap() > 0);
        assert!(traffic["scheduled"].as_u64().unwrap() < 12_000, "{traffic}");
        assert!(report["audit"]["pairs_judged"] == 4 && report["audit"]["unknown"] == 0);
        let log = std::fs::read_to_string(directory.path().join("latency.hlog")).unwrap();
        assert!(log.contains("Tag=ack"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once_without_a_report() {
    // One send stays unanswered, so that the first signal alone would leave it waiting.
    let stub = Stub::chat(Fault::Silent);
    let mut run = Running::start(&format!(
        "chat --target {} --conns 4 --rate 200 --duration 60s",
        stub.url()
    ));
    run.wait_for("measuring");
    run.signal(Signal::INT);
    run.signal(Signal::TERM);
    assert_eq!(run.end(), (Some(130), String::new()));
}

#[test]
fn a_signal_while_connecting_blames_nobody() {
    let stub = Stub::chat(Fault::Mute);
    let mut run = Running::start(&format!(
        "chat --target {} --conns 4 --connect-timeout 60s",
        stub.url()
    ));
    run.wait_for("connecting");
    run.signal(Signal::INT);
    let (code, printed) = run.end();
    assert_eq!(code, Some(130));
    let reasons: Vec<&str> = printed.lines().filter(|line| line.starts_with("  !")).collect();
    assert_eq!(reasons, ["  ! interrupted: 0.0 of 10.0 s were measured"]);
    assert!(printed.contains(", 0.000 % of the schedule missed"), "{printed}");
}

/// Runs against a stub with one fault, and interrupts that after 100 sends.
fn interrupted(fault: Fault) -> Report {
    let stub = Stub::chat(fault);
    let settings = Settings {
        conns: 4,
        duration: Duration::from_secs(60),
        punctuality: Punctuality {
            slip_p99_max: Duration::from_secs(60),
            missed_share_max: 1.0,
        },
        progress_every: Duration::from_millis(20),
        ..Settings::new(Target::parse(&stub.url(), false).unwrap())
    };
    let interrupt = settings.interrupt.clone();
    let options = chat::Options {
        rate: Rate::per_second(400).unwrap(),
        ..chat::Options::new(settings)
    };
    let report = chat::run(&options, |snapshot| {
        if snapshot.traffic.sent >= 100 {
            interrupt.ask();
        }
    })
    .unwrap();
    println!("{report}");
    report
}

#[test]
fn a_defect_found_before_the_interrupt_outweighs_it() {
    let report = interrupted(Fault::Lose);
    assert_eq!(
        (report.verdict.outcome, report.exit_code()),
        (Outcome::AuditFailed, 2)
    );
    assert!(report.interrupted);
    assert_eq!(report.audit.unwrap().lost, 1);
}

#[test]
fn deliveries_that_may_be_under_way_are_not_lost() {
    let report = interrupted(Fault::Withhold);
    assert_eq!(
        (report.verdict.outcome, report.exit_code()),
        (Outcome::Interrupted, 130)
    );
    let audit = report.audit.unwrap();
    assert_eq!((audit.pairs, audit.pairs_judged, audit.lost), (4, 0, 0));
}
