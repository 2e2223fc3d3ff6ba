//! What every mode needs to know: where, how many, how long.

use std::net::{IpAddr, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use runtime::{EngineChoice, descriptors};

use crate::clock::Ns;
use crate::diagnosis::Punctuality;
use crate::error::RunError;
use crate::interrupt::Interrupt;
use crate::measure::LatencyLimits;
use crate::target::Target;
use crate::units::Rate;

/// Settings of a run that do not depend on its mode.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the load goes.
    pub target: Target,
    /// Connections to open (default 100).
    pub conns: u32,
    /// Connections opened a second, over all workers (default 2,000).
    pub conn_rate: Rate,
    /// How long a connection may take from TCP until it takes part (default 10 s).
    pub connect_timeout: Duration,
    /// How long the measured part takes (default 10 s).
    pub duration: Duration,
    /// How long the load runs before it is measured (default none); the checker looks at this part too.
    pub warmup: Duration,
    /// How long answers and deliveries may still come after the last send (default 10 s).
    pub grace: Duration,
    /// Threads, each with a reactor and its share of the connections (default 1).
    pub workers: u32,
    /// Source addresses, taken in turn; more of them lift the limit of about 28,000 ports to one target.
    pub source_ips: Vec<IpAddr>,
    /// Decides partners, order of sends and masks (default 1).
    pub seed: u64,
    /// I/O engine (default auto).
    pub engine: EngineChoice,
    /// Directory for `run.json` and `latency.hlog`; it is created.
    pub out: Option<PathBuf>,
    /// Replaces the files of an earlier run in it, which otherwise keep the run from starting.
    pub replace_out: bool,
    /// Of answers and of deliveries, from the intended send time; the run fails above them.
    pub latency_limits: LatencyLimits,
    /// When the tool's own numbers are worth nothing.
    pub punctuality: Punctuality,
    /// The target is restarted or fails over during the run: lost connections, sends missed meanwhile and repeats on
    /// unbroken connections are counted but do not fail it.
    pub allow_disruption: bool,
    /// How often progress is reported (default 1 s).
    pub progress_every: Duration,
    /// Ends the run before its time when asked.
    pub interrupt: Interrupt,
}

impl Settings {
    /// Returns the defaults for a target.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            conns: 100,
            conn_rate: Rate::per_second(2000).expect("2,000 is a rate"),
            connect_timeout: Duration::from_secs(10),
            duration: Duration::from_secs(10),
            warmup: Duration::ZERO,
            grace: Duration::from_secs(10),
            workers: 1,
            source_ips: Vec::new(),
            seed: 1,
            engine: EngineChoice::Auto,
            out: None,
            replace_out: false,
            latency_limits: LatencyLimits::default(),
            punctuality: Punctuality::default(),
            allow_disruption: false,
            progress_every: Duration::from_secs(1),
            interrupt: Interrupt::default(),
        }
    }

    /// Checks what can be known before the first connect, and lifts the limit on descriptors as far as it goes.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        if self.conns == 0 {
            return Err(RunError::usage("--conns", "at least 1"));
        }
        if self.workers == 0 || self.workers > WORKERS_MAX {
            return Err(RunError::usage("--workers", format!("1 to {WORKERS_MAX}")));
        }
        if self.duration.is_zero() || self.warmup + self.duration > LENGTH_MAX {
            return Err(RunError::usage(
                "--duration",
                "above 0, and at most 72h with the warm-up",
            ));
        }
        self.check_source_ips()?;
        self.check_descriptors()
    }

    /// Returns the length of the schedule.
    pub(crate) fn length(&self) -> Duration {
        self.warmup + self.duration
    }

    /// Returns the measured part of the schedule.
    pub(crate) fn measured(&self) -> Range<Ns> {
        Ns(0) + self.warmup..Ns(0) + self.length()
    }

    fn check_source_ips(&self) -> Result<(), RunError> {
        for ip in &self.source_ips {
            let usage = |reason: String| RunError::usage("--source-ips", reason);
            if ip.is_ipv4() != self.target.address.is_ipv4() {
                return Err(usage(format!("{ip} is not of the target's address family")));
            }
            // Whatever socket it is bound to, the kernel knows which addresses are its own.
            UdpSocket::bind((*ip, 0))
                .map_err(|error| usage(format!("{ip} is no address of this machine: {error}")))?;
        }
        Ok(())
    }

    fn check_descriptors(&self) -> Result<(), RunError> {
        let needed = u64::from(self.conns) + DESCRIPTORS_SPARE;
        match descriptors::raise_limit().now {
            Some(current) if current < needed => {
                let reason = format!("{needed} descriptors are needed and {current} allowed (ulimit -n)");
                Err(RunError::usage("--conns", reason))
            }
            _ => Ok(()),
        }
    }
}

const WORKERS_MAX: u32 = 256;
/// The intended time in a message has 48 bits of nanoseconds: 78 hours.
const LENGTH_MAX: Duration = Duration::from_secs(72 * 3600);
/// For the engine, the terminal and the results.
const DESCRIPTORS_SPARE: u64 = 64;
