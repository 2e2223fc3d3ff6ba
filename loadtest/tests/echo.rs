//! `echo` and `idle` against stub servers.

mod support;

use std::time::Duration;

use loadtest::echo::Load;
use loadtest::{Audit, Outcome, Punctuality, Rate, Report, Settings, Target, echo, idle};
use runtime::EngineChoice;
use support::{Fault, Stub, engines};

fn settings(url: &str, engine: EngineChoice) -> Settings {
    Settings {
        conns: 4,
        duration: Duration::from_millis(400),
        grace: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(2),
        engine,
        punctuality: Punctuality {
            slip_p99_max: Duration::from_secs(60),
            missed_share_max: 1.0,
        },
        ..Settings::new(Target::parse(url, false).unwrap())
    }
}

fn options(url: &str, engine: EngineChoice) -> echo::Options {
    echo::Options::new(settings(url, engine))
}

fn run(options: &echo::Options) -> Report {
    let report = echo::run(options, |_| {}).unwrap();
    println!("{report}");
    report
}

fn audit(report: &Report) -> &Audit {
    report.audit.as_ref().unwrap()
}

#[test]
fn a_closed_loop_keeps_its_messages_under_way_and_loses_none() {
    for engine in engines() {
        for (load, pipeline, workers, text) in [
            (4, 1, 1, false),
            (2, 1, 1, true),
            (64, 16, 2, false),
            (12, 1, 2, true),
        ] {
            let stub = Stub::echo(Fault::Honest);
            let mut options = options(&stub.url(), engine);
            options.load = Load::InFlight(load);
            options.pipeline = pipeline;
            options.text = text;
            options.settings.workers = workers;
            let report = run(&options);
            assert_eq!((report.verdict.outcome, report.exit_code()), (Outcome::Pass, 0));
            let traffic = report.traffic;
            assert!(traffic.sent >= u64::from(load) * 2, "{}", traffic.sent);
            assert_eq!(
                (
                    traffic.accepted,
                    traffic.in_flight,
                    traffic.sent % u64::from(pipeline)
                ),
                (traffic.sent, 0, 0)
            );
            assert!(report.ack_us.count > 0 && report.ack_us.count <= traffic.sent);
        }
    }
}

#[test]
fn an_open_loop_sends_what_the_schedule_says() {
    for engine in engines() {
        let stub = Stub::echo(Fault::Honest);
        let mut options = options(&stub.url(), engine);
        options.load = Load::Rate(Rate::per_second(500).unwrap());
        options.payload_bytes = 1000;
        let report = run(&options);
        assert_eq!(
            (report.traffic.sent, report.traffic.accepted, report.exit_code()),
            (200, 200, 0)
        );
        assert_eq!((report.ack_us.count, report.generator.slip_us.count), (200, 200));
    }
}

#[test]
fn an_echo_that_is_lost_repeated_reordered_or_changed_is_reported() {
    // A lost echo shows as the next one coming too early.
    let cases = [
        (Fault::Lose, 1, 0, 0),
        (Fault::Repeat, 0, 1, 0),
        (Fault::Reorder, 1, 0, 0),
        (Fault::Damage, 0, 0, 1),
    ];
    for engine in engines() {
        for (fault, reordered, duplicates, damaged) in cases {
            let stub = Stub::echo(fault);
            let mut options = options(&stub.url(), engine);
            options.settings.conns = 1;
            options.load = Load::InFlight(4);
            let report = run(&options);
            let audit = audit(&report);
            let found = (audit.reordered, audit.duplicates, audit.damaged);
            assert_eq!(found, (reordered, duplicates, damaged), "{fault:?}");
            assert_eq!((audit.lost, report.exit_code()), (0, 2), "{fault:?}");
        }
    }
}

#[test]
fn echoes_that_never_come_are_sends_without_an_answer() {
    for engine in engines() {
        let stub = Stub::echo(Fault::Mute);
        let report = run(&options(&stub.url(), engine));
        assert_eq!((audit(&report).unknown, audit(&report).lost), (4, 0));
        assert_eq!(
            (report.verdict.outcome, report.exit_code()),
            (Outcome::ThresholdFailed, 2)
        );
    }
}

#[test]
fn idle_clients_log_in_answer_pings_and_stay() {
    for engine in engines() {
        let stub = Stub::chat(Fault::Honest);
        let mut settings = settings(&stub.url(), engine);
        settings.conns = 50;
        settings.workers = 2;
        let report = idle::run(&idle::Options::new(settings), |_| {}).unwrap();
        println!("{report}");
        assert_eq!((report.exit_code(), report.connects.live_at_end), (0, 50));
        assert_eq!((report.traffic.pings, stub.world.lock().unwrap().pongs), (50, 50));
        assert_eq!((report.traffic.sent, report.audit), (0, None));
    }
}
