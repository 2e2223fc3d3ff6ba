//! The result of a run. Its JSON form is `run.json`; README.md describes every field.

mod display;
mod verdict;

use std::time::UNIX_EPOCH;

use serde::Serialize;

pub(crate) use display::Us;
pub use verdict::{Outcome, Verdict};

use crate::audit::Audit;
use crate::diagnosis::Generator;
use crate::error::RunError;
use crate::funnel::Connects;
use crate::measure::{Latency, Series};
use crate::output::write_report;
use crate::plan::Pairing;
use crate::run::Summary;
use crate::settings::Settings;
use crate::traffic::Traffic;

/// The result of a run. [`std::fmt::Display`] gives it as a page of text.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Names this layout; a field that changes its meaning changes the number.
    pub schema: &'static str,
    /// Version of the tool.
    pub version: &'static str,
    /// `chat`, `echo` or `idle`.
    pub mode: &'static str,
    /// Address as given.
    pub target: String,
    /// Engine of the tool; `None` when it never started.
    pub engine: Option<&'static str>,
    /// When the run began, in ms since 1970.
    pub started_unix_ms: u64,
    /// It was asked to end before its time; everything here is about the part that ran.
    pub interrupted: bool,
    /// What was asked for.
    pub asked: Asked,
    /// What was reached, in the measured part.
    pub achieved: Achieved,
    /// How connecting went.
    pub connects: Connects,
    /// Counts over the whole run, warm-up included.
    pub traffic: Traffic,
    /// From the intended send time to the answer (`sent` or the echo), in us.
    pub ack_us: Latency,
    /// From the write to the answer, in us: without the waiting that a late send hides.
    pub service_us: Latency,
    /// From the intended send time to the arrival at the receiver, in us.
    pub delivery_us: Latency,
    /// What the checker found; `None` where the mode sends nothing.
    pub audit: Option<Audit>,
    /// The tool about itself.
    pub generator: Generator,
    /// The judgement.
    pub verdict: Verdict,
}

/// What was asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Asked {
    /// Connections.
    pub conns: u32,
    /// Connections a second.
    pub conn_rate: f64,
    /// Messages a second; `None` in a closed loop or without messages.
    pub rate: Option<f64>,
    /// Closed loop: messages under way over all connections. Open loop: unanswered sends allowed a connection.
    pub in_flight: Option<u64>,
    /// Messages in one write.
    pub pipeline: Option<u32>,
    /// Who writes to whom.
    #[serde(serialize_with = "pairing_name")]
    pub pairs: Option<Pairing>,
    /// Size of a message's content.
    pub payload_bytes: usize,
    /// Window of the hello.
    pub window: Option<u16>,
    /// Measured part of the schedule.
    pub duration_s: f64,
    /// Part of the schedule before it.
    pub warmup_s: f64,
    /// Threads of the tool.
    pub workers: u32,
    /// Seed of the plan.
    pub seed: u64,
}

impl Asked {
    /// Returns what all modes have in common.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            conns: settings.conns,
            conn_rate: settings.conn_rate.as_per_second(),
            duration_s: settings.duration.as_secs_f64(),
            warmup_s: settings.warmup.as_secs_f64(),
            workers: settings.workers,
            seed: settings.seed,
            ..Self::default()
        }
    }
}

/// What was reached, in the measured part of the schedule.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Achieved {
    /// Length of the measured part; shorter than asked when the run was interrupted.
    pub measured_s: f64,
    /// Messages answered a second.
    pub accepted_per_s: f64,
    /// Messages delivered a second.
    pub delivered_per_s: f64,
}

impl Report {
    /// Puts a report together and judges it.
    pub(crate) fn new(
        mode: &'static str,
        settings: &Settings,
        asked: Asked,
        summary: Summary,
        audit: Option<Audit>,
    ) -> Self {
        let latency = |series: Series| Latency::of(summary.latencies.series(series));
        let measured_s = summary.measured.as_secs_f64();
        let per_s = |count: u64| {
            if measured_s > 0.0 {
                count as f64 / measured_s
            } else {
                0.0
            }
        };
        let traffic = summary.traffic;
        let missed_here = traffic.missed_late + traffic.missed_in_flight_full;
        let generator = Generator {
            cpu_cores: summary.cpu_cores,
            loop_lag_us: latency(Series::Lag),
            slip_us: latency(Series::Slip),
            missed_share: missed_here as f64 / (traffic.scheduled as f64).max(1.0),
        };
        let (ack_us, delivery_us) = (latency(Series::Ack), latency(Series::Delivery));
        let mut report = Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            mode,
            target: settings.target.url.clone(),
            engine: summary.engine.map(runtime::Engine::name),
            started_unix_ms: summary
                .started
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis() as u64,
            interrupted: summary.is_interrupted,
            asked,
            achieved: Achieved {
                measured_s,
                accepted_per_s: per_s(ack_us.count),
                delivered_per_s: per_s(if mode == "echo" {
                    // An echo is answer and delivery in one.
                    ack_us.count
                } else {
                    delivery_us.count
                }),
            },
            connects: summary.funnel.report(),
            traffic,
            ack_us,
            service_us: latency(Series::Service),
            delivery_us,
            audit,
            generator,
            verdict: Verdict {
                outcome: Outcome::Pass,
                reasons: Vec::new(),
            },
        };
        report.verdict = Verdict::of(&report, settings, summary.is_down);
        report
    }

    /// Writes the report where the settings say, and returns it.
    pub(crate) fn written(self, settings: &Settings) -> Result<Self, RunError> {
        if let Some(directory) = &settings.out {
            write_report(directory, &self)?;
        }
        Ok(self)
    }

    /// Returns the content of `run.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only string keys")
    }

    /// Returns the exit code of the command.
    pub fn exit_code(&self) -> u8 {
        self.verdict.outcome.exit_code()
    }

    /// Returns the latency that a user of the target feels: until delivery, or until the echo.
    pub fn felt(&self) -> &Latency {
        if self.delivery_us.count > 0 {
            &self.delivery_us
        } else {
            &self.ack_us
        }
    }
}

fn pairing_name<S: serde::Serializer>(pairing: &Option<Pairing>, serializer: S) -> Result<S::Ok, S::Error> {
    pairing.map(Pairing::name).serialize(serializer)
}

const SCHEMA: &str = "tidegate-loadtest-run-1";
