//! The command itself: exit codes, what it prints, what it writes.

mod support;

use std::process::{Command, Output};

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;
use support::{Fault, SECRET, Stub, closed_address};

fn loadtest(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// A short chat that a busy machine does not turn into a generator-limited one.
fn chat(url: &str, more: &str) -> Output {
    loadtest(&format!(
        "chat --target {url} --conns 4 --rate 200 --duration 500ms --grace 500ms --max-slip 1h --max-missed 100 {more}"
    ))
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Returns why the run did not pass, in the order of the report.
fn reasons(output: &Output) -> Vec<String> {
    let lines = stdout(output).lines();
    lines
        .filter_map(|line| line.strip_prefix("  ! "))
        .map(str::to_owned)
        .collect()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_usage_error_exits_with_64_and_names_the_setting() {
    let cases = [
        ("", "Usage"),
        ("chatter", "chatter"),
        ("chat --conns many", "--conns"),
        ("chat --conns 1", "--conns"),
        ("chat --conns 0", "--conns"),
        ("chat --conns 1000M", "--conns"),
        ("chat --rate 0", "--rate"),
        ("chat --rate -5", "-5"),
        ("chat --duration 0s", "--duration"),
        ("chat --duration soon", "--duration"),
        ("chat --duration 1000h", "--duration"),
        ("chat --workers 0", "--workers"),
        ("chat --payload-bytes 10", "--payload-bytes"),
        ("chat --payload-bytes 10001", "--payload-bytes"),
        ("chat --in-flight 0", "--in-flight"),
        ("chat --window 0", "--window"),
        ("chat --window 257", "--window"),
        ("chat --user-base 0", "--user-base"),
        ("chat --user-base 9007199254740991", "--user-base"),
        ("chat --engine kqueue", "--engine"),
        ("chat --pairs zipf", "--pairs"),
        ("chat --source-ips ::1", "--source-ips"),
        ("chat --source-ips here", "--source-ips"),
        ("chat --source-ips 127.0.0.1,192.0.2.1", "--source-ips: 192.0.2.1"),
        (
            "chat --token-hs256-secret-file /nowhere/at/all",
            "--token-hs256-secret-file",
        ),
        ("chat --token-issuer x", "--token-hs256-secret-file"),
        ("chat --target http://127.0.0.1", "--target"),
        ("chat --target ws://192.0.2.1:9000", "--i-own-this-target"),
        ("chat --max-missed 101", "--max-missed"),
        ("chat --force", "--out"),
        ("echo --inflight 4 --rate 5", "--rate"),
        ("echo --rate 5 --pipeline 2", "--pipeline"),
        ("echo --pipeline 0", "--pipeline"),
        ("echo --inflight 0", "--inflight"),
        ("echo --conns 1 --inflight 5k", "--inflight"),
        ("echo --payload-bytes 19", "--payload-bytes"),
        ("idle --rate 5", "--rate"),
    ];
    for (arguments, named) in cases {
        let output = loadtest(arguments);
        assert_eq!(code(&output), Some(64), "loadtest {arguments}: {output:?}");
        assert!(
            stderr(&output).contains(named),
            "loadtest {arguments}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "loadtest {arguments}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in ["--help", "--version", "chat --help"] {
        let output = loadtest(arguments);
        assert_eq!(code(&output), Some(0), "{arguments}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn each_outcome_has_its_exit_code_and_ends_the_last_line() {
    let cases = [
        (Some(Fault::Honest), "", 0, "pass"),
        (Some(Fault::Lose), "", 2, "audit-failed"),
        (
            Some(Fault::Honest),
            "--max-p50 1h --max-p95 1h --max-p99 1h --max-p999 1h",
            0,
            "pass",
        ),
        (Some(Fault::Honest), "--max-p50 1ns", 2, "threshold-failed"),
        (Some(Fault::Honest), "--max-p95 1ns", 2, "threshold-failed"),
        (Some(Fault::Honest), "--max-p99 1ns", 2, "threshold-failed"),
        (Some(Fault::Honest), "--max-p999 1ns", 2, "threshold-failed"),
        (
            Some(Fault::Honest),
            "--rate 1M/s --in-flight 1 --max-missed 1",
            3,
            "generator-limited",
        ),
        (None, "", 4, "target-down"),
    ];
    for (fault, more, expected, verdict) in cases {
        let stub = fault.map(Stub::chat);
        let address = stub.as_ref().map_or_else(closed_address, |stub| stub.address);
        let output = chat(&format!("ws://{address}"), more);
        assert_eq!(code(&output), Some(expected), "{more}: {output:?}");
        let last = stdout(&output).lines().last().unwrap();
        assert!(
            last.starts_with("result asked=") && last.ends_with(&format!(" verdict={verdict}")),
            "{last}"
        );
    }
}

#[test]
fn a_dead_port_gets_no_advice_about_the_load() {
    let url = format!("ws://{}", closed_address());
    for mode in ["chat", "echo --rate 1000", "idle"] {
        let output = loadtest(&format!("{mode} --target {url} --conns 4 --duration 500ms"));
        assert_eq!(code(&output), Some(4), "{output:?}");
        let reasons = reasons(&output);
        assert_eq!(
            reasons[0],
            format!("no connection to {url} succeeded: refused (4 times)")
        );
        assert!(
            reasons.iter().all(|reason| !reason.contains("--in-flight")),
            "{reasons:?}"
        );
    }
}

#[test]
fn a_close_is_reported_with_its_code_and_reason() {
    for (fault, label) in [
        (Fault::CloseEarly, "close_1013: come back later"),
        (Fault::CloseLive, "close_1011: out of memory"),
    ] {
        let stub = Stub::chat(fault);
        let output = chat(&stub.url(), "--connect-timeout 400ms");
        assert_eq!(code(&output), Some(4), "{output:?}");
        assert!(reasons(&output)[0].contains(label), "{:?}", reasons(&output));
        let kind = if fault == Fault::CloseEarly {
            "failed"
        } else {
            "lost"
        };
        let connects = stdout(&output)
            .lines()
            .find(|line| line.starts_with(&format!("  {kind} ")));
        assert!(connects.unwrap().contains(label), "{}", stdout(&output));
    }
}

#[test]
fn a_target_that_echoes_nothing_has_not_lost_what_it_never_promised() {
    let stub = Stub::echo(Fault::Mute);
    let output = loadtest(&format!(
        "echo --target {} --conns 4 --duration 300ms --grace 300ms",
        stub.url()
    ));
    assert_eq!(code(&output), Some(2), "{output:?}");
    assert_eq!(
        reasons(&output),
        [
            "4 sends without an answer".to_owned(),
            format!(
                "{} answered nothing at all: is it a target for `echo`?",
                stub.url()
            )
        ]
    );
    let last = stdout(&output).lines().last().unwrap();
    assert!(
        last.ends_with(" lost=0 dup=0 reordered=0 verdict=threshold-failed"),
        "{last}"
    );
}

#[test]
fn echoes_are_deliveries_too() {
    let stub = Stub::echo(Fault::Honest);
    let output = loadtest(&format!(
        "echo --target {} --conns 4 --rate 200 --duration 500ms --max-slip 1h --max-missed 100",
        stub.url()
    ));
    assert_eq!(code(&output), Some(0), "{output:?}");
    let has = |text: &str| stdout(&output).lines().any(|line| line.contains(text));
    assert!(
        has(" 100 delivered") && has("rate         200.0 answers/s, 200.0 deliveries/s"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn progress_is_a_line_a_second_where_there_is_no_terminal() {
    let stub = Stub::chat(Fault::Honest);
    let output = chat(&stub.url(), "--duration 2500ms");
    let lines: Vec<&str> = stderr(&output)
        .lines()
        .filter(|line| line.starts_with("measuring"))
        .collect();
    assert!(
        lines.len() >= 2 && lines[0].contains("4/4 connected"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn json_goes_to_standard_output_and_the_files_to_the_directory() {
    let stub = Stub::chat(Fault::Honest);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("deep/er");
    let output = chat(&stub.url(), &format!("--json --out {}", out.display()));
    assert_eq!(code(&output), Some(0), "{output:?}");
    assert!(
        stderr(&output)
            .lines()
            .last()
            .unwrap()
            .starts_with("result asked=200/s")
    );
    let printed: Value = serde_json::from_str(stdout(&output)).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(printed, written);
    assert_eq!(written["traffic"]["delivered"], 100);
    assert_eq!(written["verdict"]["outcome"], "pass");

    // The interval log holds every measured value once.
    let log = std::fs::read(out.join("latency.hlog")).unwrap();
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for entry in IntervalLogIterator::new(&log) {
        let Ok(LogEntry::Interval(interval)) = entry else {
            continue;
        };
        let bytes = base64_decode(interval.encoded_histogram());
        let histogram: hdrhistogram::Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        *counts
            .entry(interval.tag().unwrap().as_str().to_owned())
            .or_default() += histogram.len();
    }
    assert_eq!(
        (
            counts["ack"],
            counts["delivery"],
            counts["service"],
            counts["slip"]
        ),
        (100, 100, 100, 100)
    );
}

#[test]
fn the_files_of_an_earlier_run_are_replaced_only_by_force() {
    let stub = Stub::chat(Fault::Honest);
    let directory = tempfile::tempdir().unwrap();
    for name in ["run.json", "latency.hlog"] {
        let file = directory.path().join(name);
        std::fs::write(&file, "of an earlier run").unwrap();
        let output = chat(&stub.url(), &format!("--out {}", directory.path().display()));
        assert_eq!(code(&output), Some(64), "{output:?}");
        let named = format!("--out: {} is there already; --force", file.display());
        assert!(stderr(&output).contains(&named), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of an earlier run");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

        let output = chat(
            &stub.url(),
            &format!("--out {} --force", directory.path().display()),
        );
        assert_eq!(code(&output), Some(0), "{output:?}");
        let report: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join("run.json")).unwrap()).unwrap();
        assert!(report["ack_us"]["p95"].as_f64() >= report["ack_us"]["p90"].as_f64());
        let log = std::fs::read_to_string(directory.path().join("latency.hlog")).unwrap();
        assert!(log.contains("Tag=ack") && !log.contains("earlier"), "{log}");
        for name in ["run.json", "latency.hlog"] {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_a_fault_of_the_host() {
    let stub = Stub::chat(Fault::Honest);
    let output = chat(&stub.url(), "--out /proc/nowhere");
    assert_eq!(code(&output), Some(1), "{output:?}");
    assert!(stderr(&output).contains("--out"), "{}", stderr(&output));
}

#[test]
fn the_secret_file_may_end_in_a_line_feed() {
    let stub = Stub::chat(Fault::Honest);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, [SECRET, b"\n"].concat()).unwrap();
    let login = format!(
        "--token-hs256-secret-file {} --token-issuer tests",
        file.display()
    );
    let output = chat(&stub.url(), &login);
    assert_eq!(code(&output), Some(0), "{output:?}");
}

#[test]
fn the_readme_describes_every_field_of_run_json() {
    let stub = Stub::chat(Fault::Honest);
    let output = chat(&stub.url(), "--json");
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut undescribed = Vec::new();
    for (name, value) in report.as_object().unwrap() {
        let inner = value.as_object().into_iter().flat_map(|object| object.keys());
        let names = std::iter::once(name).chain(inner);
        undescribed.extend(
            names
                .filter(|name| !readme.contains(&format!("`{name}`")))
                .cloned(),
        );
    }
    assert_eq!(undescribed, Vec::<String>::new());
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
