//! `tidegate demo`: a server on a temporary store, many clients through real sockets, a live display, a report.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway_server::descriptors::DescriptorBudget;
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::{Outcome, Rate, Report, RunError, Snapshot, Target, chat};

use crate::args::DemoArgs;
use crate::exit::Usage;
use crate::logging;
use crate::node::Node;
use crate::settings::{LogSettings, Settings};
use crate::signals::Signals;

/// Runs the demonstration; a lost, doubled or reordered message is a fault.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let rate =
        Rate::per_second(args.rate.into()).ok_or_else(|| Usage("--rate: must be at least 1".to_owned()))?;
    logging::start(&LogSettings {
        level: "warn".to_owned(),
        ..LogSettings::default()
    })?;
    let signals = Signals::install()?;
    let descriptors = DescriptorBudget::claim();
    check_descriptors(args.conns, descriptors)?;
    let directory = TemporaryDirectory::create()?;
    let mut settings = Settings::default();
    settings.auth.insecure_dev = true;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.gateway.listen = loopback;
    settings.api.listen = loopback;
    settings.admin.listen = loopback;
    settings.router.data_dir = directory.0.join("data");
    settings.gateway.drain_ms = DRAIN_MS;
    let node = Node::start(&settings, descriptors)?;
    println!("{}", node.ready_line());

    let target = Target::parse(&format!("ws://{}", node.listen), false)?;
    let mut common = loadtest::Settings::new(target);
    common.conns = args.conns;
    common.workers = 1;
    common.duration = Duration::from_secs(args.seconds.into());
    let mut options = chat::Options::new(common);
    options.rate = rate;
    println!(
        "{} clients, {} messages/s for {} s, every one written and fsynced before it counts as sent",
        args.conns, args.rate, args.seconds
    );
    let Some(report) = watch(options, &signals) else {
        println!("\ninterrupted");
        return node.drain(Duration::ZERO);
    };
    let report = report.map_err(|error| Usage(error.to_string()))?;
    println!("\n{report}\n");
    how_to_connect(&node, args.stay);
    if args.stay {
        signals.wait();
    }
    node.drain(Duration::ZERO)?;
    match report.verdict.outcome {
        Outcome::Pass | Outcome::GeneratorLimited | Outcome::ThresholdFailed | Outcome::Interrupted => Ok(()),
        Outcome::AuditFailed | Outcome::TargetDown => {
            bail!("the demonstration failed: {}", report.verdict.outcome.name())
        }
    }
}

/// Runs the load on a thread of its own and shows how it goes; `None` when a signal comes first.
fn watch(options: chat::Options, signals: &Signals) -> Option<Result<Report, RunError>> {
    let (shown, snapshots) = mpsc::channel();
    let load = thread::spawn(move || {
        chat::run(&options, |snapshot| {
            // Nobody watches once a signal has come.
            let _ = shown.send(*snapshot);
        })
    });
    let mut display = Display::new();
    while !load.is_finished() {
        if signals.asked_within(DISPLAY_INTERVAL) {
            return None;
        }
        for snapshot in snapshots.try_iter() {
            display.show(&snapshot);
        }
    }
    for snapshot in snapshots.try_iter() {
        display.show(&snapshot);
    }
    display.finish();
    Some(load.join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Checks that both ends of every connection fit into this process.
fn check_descriptors(conns: u32, descriptors: DescriptorBudget) -> Result<()> {
    let needed = 2 * u64::from(conns) + DESCRIPTORS_SPARE;
    match descriptors.limit() {
        Some(limit) if limit < needed => Err(Usage(format!(
            "--conns: {conns} clients and their server need {needed} descriptors, and {limit} are allowed (ulimit -Hn)"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// For the engines, log and store, and the load tool's own reserve.
const DESCRIPTORS_SPARE: u64 = 128;
/// Nobody but the demonstration itself has to be told to come back later.
const DRAIN_MS: u32 = 500;
const DISPLAY_INTERVAL: Duration = Duration::from_millis(100);

fn how_to_connect(node: &Node, stays: bool) {
    if stays {
        println!("The server stays until Ctrl-C. Connect to it:");
        println!("  npx wscat -c ws://{}/ws", node.listen);
    } else {
        println!("To connect yourself, start a server (or give `demo --stay`):");
        println!("  tidegate serve --insecure-dev --data ./data");
        println!("  npx wscat -c ws://127.0.0.1:9000/ws");
    }
    println!("then say:");
    println!("  {{\"type\":\"hello\",\"user_id\":1}}");
    println!("  {{\"type\":\"send\",\"receiver_id\":2,\"content\":\"hello\"}}");
    let api = if stays {
        node.api
    } else {
        SocketAddr::from(([127, 0, 0, 1], 9001))
    };
    println!("and look at user 2's inbox:");
    println!("  curl -s 'http://{api}/conversations?user_id=2'");
}

/// A bar on a terminal, a line a second elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    next_line_s: u64,
}

impl Display {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{wide_bar} {pos:>5}/{len} ms\n{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, next_line_s: 0 }
    }

    fn show(&mut self, snapshot: &Snapshot) {
        let line = format!(
            "{:<11} {:>5} of {} connected | sent {:>6.0}/s delivered {:>6.0}/s | sent p50 {:>6.2?} p99 {:>6.2?} | delivered p99 {:>6.2?}",
            snapshot.activity.name(),
            snapshot.connected,
            snapshot.conns,
            snapshot.accepted_per_s,
            snapshot.delivered_per_s,
            snapshot.ack_p50,
            snapshot.ack_p99,
            snapshot.delivery_p99,
        );
        match &self.bar {
            Some(bar) => {
                bar.set_length(snapshot.length.as_millis() as u64);
                bar.set_position(snapshot.elapsed.as_millis() as u64);
                bar.set_message(line);
            }
            None if snapshot.elapsed.as_secs() >= self.next_line_s => {
                self.next_line_s = snapshot.elapsed.as_secs() + 1;
                println!("{line}");
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// A directory that goes when the demonstration ends.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
