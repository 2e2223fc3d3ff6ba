//! `chat` against a stub server that keeps its promises, and against stubs that break one.

mod support;

use std::time::Duration;

use loadtest::{Audit, Outcome, Pairing, Punctuality, Rate, Report, Settings, Target, chat};
use runtime::EngineChoice;
use support::{Fault, SECRET, Stub, closed_address, engines};

/// A short run that a busy machine does not turn into a generator-limited one.
fn options(url: &str, engine: EngineChoice) -> chat::Options {
    let settings = Settings {
        conns: 6,
        duration: Duration::from_millis(500),
        grace: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        engine,
        punctuality: Punctuality {
            slip_p99_max: Duration::from_secs(60),
            missed_share_max: 1.0,
        },
        ..Settings::new(Target::parse(url, false).unwrap())
    };
    chat::Options {
        rate: Rate::per_second(400).unwrap(),
        ..chat::Options::new(settings)
    }
}

fn run(options: &chat::Options) -> Report {
    chat::run(options, |_| {}).unwrap()
}

/// Runs against a stub with one fault, on every engine, and hands each report over.
fn with_fault(fault: Fault, check: impl Fn(&Report)) {
    for engine in engines() {
        let stub = Stub::chat(fault);
        let report = run(&options(&stub.url(), engine));
        println!("{report}");
        check(&report);
    }
}

fn audit(report: &Report) -> &Audit {
    report.audit.as_ref().unwrap()
}

#[test]
fn an_honest_target_passes_and_every_message_is_accounted_for() {
    for engine in engines() {
        for (workers, pairs) in [(1, Pairing::Random), (2, Pairing::Random), (2, Pairing::Ring)] {
            let stub = Stub::chat(Fault::Honest);
            let mut options = options(&stub.url(), engine);
            options.settings.workers = workers;
            options.settings.conns = 7;
            options.pairs = pairs;
            let report = run(&options);
            println!("{report}");
            assert_eq!((report.verdict.outcome, report.exit_code()), (Outcome::Pass, 0));
            assert_eq!(report.verdict.reasons, Vec::<String>::new());
            let traffic = report.traffic;
            assert_eq!(
                (
                    traffic.scheduled,
                    traffic.sent,
                    traffic.accepted,
                    traffic.delivered
                ),
                (200, 200, 200, 200)
            );
            assert_eq!((audit(&report).pairs_judged, traffic.in_flight), (7, 0));
            assert_eq!(
                (
                    report.ack_us.count,
                    report.delivery_us.count,
                    report.service_us.count
                ),
                (200, 200, 200)
            );
            assert_eq!(
                (report.connects.live_at_end, report.connects.live_us.count),
                (7, 7)
            );
            let world = stub.world.lock().unwrap();
            assert!(world.acks > 0);
            assert_eq!((world.pongs, traffic.pings), (7, 7));
        }
    }
}

#[test]
fn warm_up_is_sent_and_audited_but_not_measured() {
    let stub = Stub::chat(Fault::Honest);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.settings.warmup = Duration::from_millis(250);
    let report = run(&options);
    assert_eq!(
        (
            report.traffic.accepted,
            report.ack_us.count,
            report.delivery_us.count
        ),
        (300, 200, 200)
    );
    assert!((report.achieved.accepted_per_s - 400.0).abs() < 1e-6);
}

#[test]
fn a_lost_message_is_reported() {
    with_fault(Fault::Lose, |report| {
        assert_eq!((audit(report).lost, report.exit_code()), (1, 2));
        assert_eq!(report.verdict.outcome, Outcome::AuditFailed);
        assert!(
            report
                .final_line()
                .contains(" lost=1 dup=0 reordered=0 verdict=audit-failed")
        );
    });
}

#[test]
fn a_repeated_message_is_reported_unless_a_failover_is_expected() {
    with_fault(Fault::Repeat, |report| {
        assert_eq!(
            (audit(report).repeats_live, audit(report).lost, report.exit_code()),
            (1, 0, 2)
        );
    });
    let stub = Stub::chat(Fault::Repeat);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.settings.allow_disruption = true;
    let report = run(&options);
    assert_eq!((audit(&report).repeats_live, report.exit_code()), (1, 0));
}

#[test]
fn a_message_under_a_second_seq_is_reported() {
    with_fault(Fault::Duplicate, |report| {
        assert_eq!(
            (audit(report).duplicates, audit(report).gaps, report.exit_code()),
            (1, 0, 2)
        );
        assert!(report.final_line().contains(" dup=1 "));
    });
}

#[test]
fn a_reordered_message_is_reported() {
    with_fault(Fault::Reorder, |report| {
        assert_eq!(
            (audit(report).reordered, audit(report).lost, report.exit_code()),
            (1, 0, 2)
        );
    });
}

#[test]
fn a_seq_other_than_the_one_in_sent_is_reported() {
    with_fault(Fault::WrongSeq, |report| {
        assert_eq!((audit(report).mismatched, report.exit_code()), (1, 2))
    });
}

#[test]
fn changed_content_is_reported() {
    with_fault(Fault::Damage, |report| {
        assert_eq!(
            (audit(report).damaged, audit(report).lost, report.exit_code()),
            (1, 1, 2)
        );
    });
}

#[test]
fn a_message_to_the_wrong_user_is_reported() {
    with_fault(Fault::Misdeliver, |report| {
        assert_eq!((audit(report).ghosts, report.exit_code()), (1, 2))
    });
}

#[test]
fn a_missing_seq_is_reported() {
    with_fault(Fault::Gap, |report| {
        assert_eq!(
            (audit(report).gaps, audit(report).lost, report.exit_code()),
            (1, 0, 2)
        )
    });
}

#[test]
fn refused_sends_are_no_loss_but_fail_the_run() {
    with_fault(Fault::Refuse, |report| {
        assert_eq!(
            (
                report.traffic.refused,
                report.traffic.accepted,
                report.traffic.delivered
            ),
            (20, 180, 180)
        );
        assert_eq!(audit(report).defects(false), Vec::<String>::new());
        assert_eq!(
            (report.verdict.outcome, report.exit_code()),
            (Outcome::ThresholdFailed, 2)
        );
        assert_eq!(report.connects.errors.get("rate_limited"), Some(&20));
    });
}

#[test]
fn an_unavailable_send_is_repeated_with_the_same_id_until_it_is_answered() {
    with_fault(Fault::Unavailable, |report| {
        assert!(report.traffic.retried >= 15, "{}", report.traffic.retried);
        assert_eq!(
            (
                report.traffic.accepted,
                report.traffic.delivered,
                report.exit_code()
            ),
            (200, 200, 0)
        );
    });
}

#[test]
fn a_send_without_an_answer_is_unknown_and_not_lost() {
    with_fault(Fault::Silent, |report| {
        assert_eq!(
            (
                audit(report).unknown,
                audit(report).lost,
                report.traffic.in_flight
            ),
            (1, 0, 1)
        );
        assert_eq!(
            (report.verdict.outcome, report.exit_code()),
            (Outcome::ThresholdFailed, 2)
        );
    });
}

#[test]
fn clients_that_are_cut_off_come_back_by_cursor_and_lose_nothing() {
    for engine in engines() {
        let stub = Stub::chat(Fault::CutOff);
        let mut options = options(&stub.url(), engine);
        options.settings.duration = Duration::from_millis(1500);
        let report = run(&options);
        println!("{report}");
        assert_eq!(report.connects.losses.get("close_4503"), Some(&6));
        assert_eq!((report.connects.reconnects, report.connects.live_at_end), (6, 6));
        assert_eq!(audit(&report).defects(false), Vec::<String>::new());
        assert_eq!(audit(&report).pairs_judged, 6);
        assert_eq!(
            (report.verdict.outcome, report.exit_code()),
            (Outcome::ThresholdFailed, 2)
        );
        let resumed = stub
            .world
            .lock()
            .unwrap()
            .hellos
            .iter()
            .filter(|hello| hello["cursor"].is_string())
            .count();
        assert_eq!(resumed, 6);

        let stub = Stub::chat(Fault::CutOff);
        options.settings.target = Target::parse(&stub.url(), false).unwrap();
        options.settings.allow_disruption = true;
        let report = run(&options);
        assert_eq!(
            (report.connects.reconnects, report.exit_code()),
            (6, 0),
            "{report}"
        );
        assert!(report.traffic.retried >= 6);
    }
}

#[test]
fn a_replaced_client_stays_away_and_its_inbox_is_not_judged() {
    with_fault(Fault::Replaced, |report| {
        assert_eq!(report.connects.losses.get("close_4409"), Some(&1));
        assert_eq!((report.connects.reconnects, report.connects.live_at_end), (0, 5));
        assert_eq!(
            (audit(report).pairs_judged, audit(report).lost, report.exit_code()),
            (5, 0, 2)
        );
        assert!(report.traffic.missed_offline > 0);
    });
}

#[test]
fn failures_to_get_in_are_counted_by_reason() {
    for (fault, label) in [
        (Fault::NoEntry, "hello_too_many_devices"),
        (Fault::NotFound, "http_404"),
        (Fault::Mute, "timeout"),
    ] {
        with_fault(fault, |report| {
            assert_eq!(
                report.connects.failures.get(label),
                Some(&6),
                "{:?}",
                report.connects.failures
            );
            assert_eq!(
                (report.verdict.outcome, report.exit_code()),
                (Outcome::TargetDown, 4)
            );
            assert_eq!(report.traffic.sent, 0);
        });
    }
    with_fault(Fault::Babble, |report| {
        let (label, count) = report.connects.failures.iter().next().unwrap();
        assert!(label.starts_with("bad_event: ") && *count == 6, "{label}");
    });
}

#[test]
fn a_closed_port_is_a_target_that_is_down() {
    for engine in engines() {
        let report = run(&options(&format!("ws://{}", closed_address()), engine));
        assert_eq!(report.connects.failures.get("refused"), Some(&6), "{report}");
        assert_eq!(report.exit_code(), 4);
    }
}

#[test]
fn a_target_that_goes_away_is_down_at_the_end() {
    let stub = std::sync::Mutex::new(Some(Stub::chat(Fault::Honest)));
    let mut options = options(&stub.lock().unwrap().as_ref().unwrap().url(), EngineChoice::Poll);
    options.settings.progress_every = Duration::from_millis(50);
    let report = chat::run(&options, |snapshot| {
        if snapshot.traffic.sent > 20 {
            stub.lock().unwrap().take();
        }
    });
    let report = report.unwrap();
    assert_eq!(
        (report.verdict.outcome, report.exit_code()),
        (Outcome::TargetDown, 4),
        "{report}"
    );
    assert_eq!(audit(&report).pairs_judged, 0);
}

#[test]
fn a_latency_above_the_limit_fails_the_run() {
    let stub = Stub::chat(Fault::Honest);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.settings.latency_limits.p99 = Some(Duration::from_nanos(1));
    let report = run(&options);
    assert_eq!(
        (report.verdict.outcome, report.exit_code()),
        (Outcome::ThresholdFailed, 2)
    );
    assert_eq!(report.verdict.reasons.len(), 2, "{:?}", report.verdict.reasons);
}

#[test]
fn a_rate_beyond_the_sends_allowed_in_flight_is_the_generators_limit() {
    let stub = Stub::chat(Fault::Honest);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.rate = "1M/s".parse().unwrap();
    options.in_flight_max = 1;
    options.settings.duration = Duration::from_millis(200);
    options.settings.punctuality = Punctuality::default();
    let report = run(&options);
    assert_eq!(
        (report.verdict.outcome, report.exit_code()),
        (Outcome::GeneratorLimited, 3),
        "{report}"
    );
    let traffic = report.traffic;
    assert_eq!(traffic.scheduled, 200_000);
    assert_eq!(traffic.sent + traffic.missed(), traffic.scheduled);
    assert!(traffic.missed_in_flight_full > 0);
}

#[test]
fn tokens_are_made_from_the_secret() {
    let stub = Stub::chat(Fault::Honest);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.login.secret = Some(SECRET.to_vec());
    options.login.issuer = Some("tests".to_owned());
    options.login.user_base = 1_000_000;
    let report = run(&options);
    assert_eq!(report.exit_code(), 0, "{report}");
    let world = stub.world.lock().unwrap();
    assert!(
        world
            .hellos
            .iter()
            .all(|hello| hello["user_id"].is_null() && hello["token"].is_string())
    );
}

#[test]
fn a_second_run_on_the_same_target_is_not_confused_by_the_first() {
    let stub = Stub::chat(Fault::Honest);
    let options = options(&stub.url(), EngineChoice::Poll);
    assert_eq!(run(&options).exit_code(), 0);
    let second = run(&options);
    assert_eq!(second.exit_code(), 0, "{second}");
    // The stub knows no acked cursor, so the second run gets the whole backlog of the first.
    assert_eq!((audit(&second).foreign, second.traffic.delivered), (200, 200));
}

#[test]
fn snapshots_show_connecting_then_measuring_and_grow() {
    let stub = Stub::chat(Fault::Honest);
    let mut options = options(&stub.url(), EngineChoice::Poll);
    options.settings.progress_every = Duration::from_millis(100);
    let mut seen = Vec::new();
    chat::run(&options, |snapshot| seen.push(*snapshot)).unwrap();
    assert!(
        seen.iter()
            .any(|s| s.activity == loadtest::Activity::Measuring && s.connected == 6 && s.sent_per_s > 0.0)
    );
    assert!(seen.iter().any(|s| !s.delivery_p99.is_zero()));
    assert!(
        seen.windows(2)
            .all(|two| two[0].traffic.sent <= two[1].traffic.sent)
    );
}

#[test]
fn source_addresses_are_taken_in_turn() {
    for engine in engines() {
        let stub = Stub::chat(Fault::Honest);
        let mut options = options(&stub.url(), engine);
        options.settings.source_ips = vec!["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let report = run(&options);
        assert_eq!(report.exit_code(), 0, "{report}");
    }
}
