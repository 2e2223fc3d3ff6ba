//! `loadtest echo`: plain WebSocket messages to a target that sends them back; for measuring engines.
//!
//! Closed loop: a fixed number of messages is under way, and each that comes back lets the next connection send. Open
//! loop: messages leave on a fixed schedule. Every echo is checked byte for byte and for order.

mod payload;
mod population;

use std::sync::Arc;

use population::{Drive, Echo, Pattern};

use crate::audit::Audit;
use crate::error::RunError;
use crate::plan::block;
use crate::report::{Asked, Report};
use crate::run::{Crew, conduct};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::units::Rate;
use payload::PAYLOAD_BYTES_MIN;
use wire_base::limits::FRAME_BYTES_MAX;

/// What decides when a message leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many messages are under way, over all connections.
    InFlight(u32),
    /// So many leave a second, over all connections, whatever comes back.
    Rate(Rate),
}

/// What an echo run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all modes have in common.
    pub settings: Settings,
    /// Closed or open loop (default: one message under way a connection).
    pub load: Load,
    /// Messages in one write, in the closed loop; the next write waits for all of them (default 1).
    pub pipeline: u32,
    /// Size of a message, at least 20 (default 64).
    pub payload_bytes: usize,
    /// Sends text messages rather than binary ones.
    pub text: bool,
}

impl Options {
    /// Returns the defaults.
    pub fn new(settings: Settings) -> Self {
        Self {
            load: Load::InFlight(settings.conns),
            settings,
            pipeline: 1,
            payload_bytes: 64,
            text: false,
        }
    }

    fn check(&self) -> Result<(), RunError> {
        self.settings.check()?;
        if !(PAYLOAD_BYTES_MIN..=FRAME_BYTES_MAX).contains(&self.payload_bytes) {
            let reason = format!("{PAYLOAD_BYTES_MIN} to {FRAME_BYTES_MAX}");
            return Err(RunError::usage("--payload-bytes", reason));
        }
        match self.load {
            Load::Rate(_) if self.pipeline != 1 => {
                Err(RunError::usage("--pipeline", "goes with --inflight, not --rate"))
            }
            Load::InFlight(_) if !(1..=PIPELINE_MAX).contains(&self.pipeline) => {
                Err(RunError::usage("--pipeline", format!("1 to {PIPELINE_MAX}")))
            }
            Load::InFlight(messages) if messages < self.pipeline * self.settings.workers => Err(
                RunError::usage("--inflight", "at least one --pipeline for each of --workers"),
            ),
            Load::InFlight(messages)
                if u64::from(messages) > u64::from(self.settings.conns) * IN_FLIGHT_PER_CONN =>
            {
                Err(RunError::usage(
                    "--inflight",
                    format!("at most {IN_FLIGHT_PER_CONN} for each of --conns"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Runs it; see [`crate::chat::run`].
pub fn run(options: &Options, mut on_progress: impl FnMut(&Snapshot) + Send) -> Result<Report, RunError> {
    options.check()?;
    let settings = &options.settings;
    let crew = Crew {
        settings,
        path: "/",
        subprotocols: &[],
    };
    let conducted = conduct(&crew, &mut on_progress, |course, clock| {
        let pattern = Arc::new(Pattern {
            payload_bytes: options.payload_bytes,
            text: options.text,
            pipeline: options.pipeline,
            in_flight_max: IN_FLIGHT_PER_CONN as usize,
            measured: settings.measured(),
            course: Arc::clone(course),
            clock: *clock,
        });
        (0..settings.workers)
            .map(|worker| {
                let clients = block(settings.conns, settings.workers, worker);
                let drive = match options.load {
                    Load::Rate(rate) => {
                        let schedule =
                            Schedule::new(settings.conns, &clients, rate, settings.length(), settings.seed);
                        Drive::Open(schedule)
                    }
                    Load::InFlight(messages) => {
                        let share = block(messages / options.pipeline, settings.workers, worker);
                        Drive::closed(&clients, share.len() as u32, settings.seed)
                    }
                };
                Echo::new(Arc::clone(&pattern), clients.start, drive)
            })
            .collect()
    })?;
    let (outcomes, summary) = conducted.split();
    let faults = outcomes.iter().fold(Audit::default(), |mut sum, faults| {
        sum.add_faults(faults);
        sum
    });
    let pairs = u64::from(settings.conns);
    let audit = Audit {
        pairs,
        pairs_judged: pairs,
        ..faults
    };
    let (rate, in_flight) = match options.load {
        Load::Rate(rate) => (Some(rate.as_per_second()), None),
        Load::InFlight(messages) => (None, Some(u64::from(messages))),
    };
    let asked = Asked {
        rate,
        in_flight,
        pipeline: Some(options.pipeline),
        payload_bytes: options.payload_bytes,
        ..Asked::of(settings)
    };
    Report::new("echo", settings, asked, summary, Some(audit)).written(settings)
}

const PIPELINE_MAX: u32 = 1024;
/// Bounds what a connection keeps about its messages under way.
const IN_FLIGHT_PER_CONN: u64 = 1024;
