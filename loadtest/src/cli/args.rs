//! The options of the command, and the settings they stand for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use runtime::EngineChoice;

use crate::diagnosis::Punctuality;
use crate::echo::Load;
use crate::error::RunError;
use crate::login::Login;
use crate::measure::LatencyLimits;
use crate::plan::Pairing;
use crate::settings::Settings;
use crate::target::Target;
use crate::units::{Rate, parse_count, parse_duration};
use crate::{chat, echo, idle};

/// Load tool of Tidegate: simulates many clients over the real protocol and checks every message.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) mode: Mode,
}

const EXIT_CODES: &str = "Exit codes: 0 pass, 1 fault of the tool or the host, 2 the audit or a threshold failed, \
3 the tool was the limit, 4 the target is down, 64 usage, 130 interrupted. The first SIGINT or SIGTERM ends the run in \
order, with a report on the part that ran; the second ends it at once.";

#[derive(Debug, Subcommand)]
pub(super) enum Mode {
    /// Clients log in and write to each other on a fixed schedule; every message is checked for loss, repeats and order.
    #[command(args_override_self = true)]
    Chat(ChatArguments),
    /// Plain WebSocket messages to a target that echoes them; for measuring engines.
    #[command(args_override_self = true)]
    Echo(EchoArguments),
    /// Clients log in, answer pings and stay; for measuring memory.
    #[command(args_override_self = true)]
    Idle(IdleArguments),
}

/// Options of every mode.
#[derive(Debug, Args)]
pub(super) struct CommonArguments {
    /// Where the load goes.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9000")]
    target: String,
    /// Allow a target that is not this machine.
    #[arg(long)]
    i_own_this_target: bool,
    /// Connections to open.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_count)]
    conns: u32,
    /// Connections opened a second.
    #[arg(long, value_name = "R", default_value = "2k/s")]
    conn_rate: Rate,
    /// How long a connection may take until it takes part.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    connect_timeout: Duration,
    /// How long the measured part takes.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How long answers and deliveries may still come after the last send.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    grace: Duration,
    /// Threads, each with a reactor and its share of the connections.
    #[arg(long, value_name = "W", default_value_t = 1)]
    workers: u32,
    /// Source addresses, taken in turn.
    #[arg(long, value_name = "IP,IP", value_delimiter = ',')]
    source_ips: Vec<IpAddr>,
    /// Decides partners and order; the same seed repeats them.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// I/O engine: auto, uring or poll.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineChoice,
    /// Directory for run.json and latency.hlog; those of an earlier run are not replaced.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the files of an earlier run in --out.
    #[arg(long, requires = "out")]
    force: bool,
    /// Print the report as JSON (the final line goes to standard error).
    #[arg(long)]
    pub(super) json: bool,
    /// The target is restarted or fails over meanwhile: lost connections, sends missed in that time and repeats on
    /// unbroken connections are counted but do not fail the run.
    #[arg(long)]
    allow_disruption: bool,
}

/// Options of the modes that measure latency.
#[derive(Debug, Args)]
pub(super) struct MeasureArguments {
    /// How long the load runs before it is measured.
    #[arg(long, value_name = "D", default_value = "0s", value_parser = parse_duration)]
    warmup: Duration,
    /// Fail above this median, of answers and of deliveries, from the intended send time.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    max_p50: Option<Duration>,
    /// Fail above this 95th percentile, of answers and of deliveries, from the intended send time.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    max_p95: Option<Duration>,
    /// Fail above this 99th percentile, of answers and of deliveries, from the intended send time.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    max_p99: Option<Duration>,
    /// Fail above this 99.9th percentile, of answers and of deliveries, from the intended send time.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    max_p999: Option<Duration>,
    /// Call the run generator-limited above this 99th percentile of the tool's own delay.
    #[arg(long, value_name = "D", default_value = "20ms", value_parser = parse_duration)]
    max_slip: Duration,
    /// Call the run generator-limited above this share of missed sends, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    max_missed: f64,
}

/// Who the clients are.
#[derive(Debug, Args)]
pub(super) struct LoginArguments {
    /// User of the first client; the others follow.
    #[arg(long, value_name = "ID", default_value_t = 1)]
    user_base: u64,
    /// Secret to make HS256 tokens with; without it the target must run in --insecure-dev. One line feed at its end is
    /// not part of it.
    #[arg(long, value_name = "FILE")]
    token_hs256_secret_file: Option<PathBuf>,
    /// `iss` of the tokens.
    #[arg(long, value_name = "S", requires = "token_hs256_secret_file")]
    token_issuer: Option<String>,
    /// `aud` of the tokens.
    #[arg(long, value_name = "S", requires = "token_hs256_secret_file")]
    token_audience: Option<String>,
    /// Messages in flight to a client without its ack.
    #[arg(long, value_name = "N", default_value_t = 64)]
    window: u16,
}

#[derive(Debug, Args)]
pub(super) struct ChatArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    measure: MeasureArguments,
    #[command(flatten)]
    login: LoginArguments,
    /// Messages a second, over all clients.
    #[arg(long, value_name = "R", default_value = "1000/s")]
    rate: Rate,
    /// Who writes to whom.
    #[arg(long, value_enum, default_value = "random")]
    pairs: Pairing,
    /// Size of a message's content.
    #[arg(long, value_name = "B", default_value_t = 64)]
    payload_bytes: usize,
    /// Sends a connection may have unanswered; one more is a missed send.
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
}

#[derive(Debug, Args)]
pub(super) struct EchoArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    measure: MeasureArguments,
    /// Closed loop: messages under way, over all connections; by default --pipeline for each connection.
    #[arg(long, value_name = "K", value_parser = parse_count, conflicts_with = "rate")]
    inflight: Option<u32>,
    /// Open loop: messages a second, over all connections.
    #[arg(long, value_name = "R")]
    rate: Option<Rate>,
    /// Closed loop: messages in one write; the next write waits for all of them.
    #[arg(long, value_name = "P", default_value_t = 1)]
    pipeline: u32,
    /// Size of a message.
    #[arg(long, value_name = "B", default_value_t = 64)]
    payload_bytes: usize,
    /// Send text messages rather than binary ones.
    #[arg(long)]
    text: bool,
}

#[derive(Debug, Args)]
pub(super) struct IdleArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    login: LoginArguments,
}

impl Mode {
    pub(super) fn common(&self) -> &CommonArguments {
        match self {
            Self::Chat(arguments) => &arguments.common,
            Self::Echo(arguments) => &arguments.common,
            Self::Idle(arguments) => &arguments.common,
        }
    }
}

impl ChatArguments {
    pub(super) fn options(&self) -> Result<chat::Options, RunError> {
        Ok(chat::Options {
            settings: self.measure.apply(self.common.settings()?)?,
            login: self.login.login()?,
            rate: self.rate,
            pairs: self.pairs,
            payload_bytes: self.payload_bytes,
            in_flight_max: self.in_flight,
        })
    }
}

impl EchoArguments {
    pub(super) fn options(&self) -> Result<echo::Options, RunError> {
        let settings = self.measure.apply(self.common.settings()?)?;
        let load = match (self.rate, self.inflight) {
            (Some(rate), _) => Load::Rate(rate),
            (None, Some(messages)) => Load::InFlight(messages),
            (None, None) => Load::InFlight(settings.conns.saturating_mul(self.pipeline)),
        };
        Ok(echo::Options {
            settings,
            load,
            pipeline: self.pipeline,
            payload_bytes: self.payload_bytes,
            text: self.text,
        })
    }
}

impl IdleArguments {
    pub(super) fn options(&self) -> Result<idle::Options, RunError> {
        Ok(idle::Options {
            settings: self.common.settings()?,
            login: self.login.login()?,
        })
    }
}

impl CommonArguments {
    fn settings(&self) -> Result<Settings, RunError> {
        Ok(Settings {
            conns: self.conns,
            conn_rate: self.conn_rate,
            connect_timeout: self.connect_timeout,
            duration: self.duration,
            grace: self.grace,
            workers: self.workers,
            source_ips: self.source_ips.clone(),
            seed: self.seed,
            engine: self.engine,
            out: self.out.clone(),
            replace_out: self.force,
            allow_disruption: self.allow_disruption,
            ..Settings::new(Target::parse(&self.target, self.i_own_this_target)?)
        })
    }
}

impl MeasureArguments {
    fn apply(&self, settings: Settings) -> Result<Settings, RunError> {
        if !(0.0..=100.0).contains(&self.max_missed) {
            return Err(RunError::usage("--max-missed", "0 to 100 percent"));
        }
        let punctuality = Punctuality {
            slip_p99_max: self.max_slip,
            missed_share_max: self.max_missed / 100.0,
        };
        Ok(Settings {
            warmup: self.warmup,
            latency_limits: LatencyLimits {
                p50: self.max_p50,
                p95: self.max_p95,
                p99: self.max_p99,
                p999: self.max_p999,
            },
            punctuality,
            ..settings
        })
    }
}

impl LoginArguments {
    fn login(&self) -> Result<Login, RunError> {
        let secret = self.token_hs256_secret_file.as_ref().map(|path| {
            let mut secret = std::fs::read(path).map_err(|error| {
                RunError::usage(
                    "--token-hs256-secret-file",
                    format!("{}: {error}", path.display()),
                )
            })?;
            if secret.last() == Some(&b'\n') {
                secret.pop();
            }
            Ok::<_, RunError>(secret)
        });
        Ok(Login {
            user_base: self.user_base,
            secret: secret.transpose()?,
            issuer: self.token_issuer.clone(),
            audience: self.token_audience.clone(),
            window: self.window,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_full_command_line_becomes_the_settings_it_says() {
        let line = "loadtest chat --target ws://127.0.0.1:9 --conns 1k --rate 2.5k/s --duration 2m --warmup 500ms --workers 2 \
                    --pairs ring --payload-bytes 100 --window 7 --user-base 40 --source-ips 127.0.0.1,127.0.0.2 --seed 9 \
                    --engine poll --max-p99 50ms --in-flight 3";
        let Mode::Chat(arguments) = Arguments::try_parse_from(line.split_whitespace()).unwrap().mode else {
            panic!()
        };
        let options = arguments.options().unwrap();
        let settings = &options.settings;
        assert_eq!(
            (
                settings.conns,
                settings.workers,
                settings.seed,
                settings.source_ips.len()
            ),
            (1000, 2, 9, 2)
        );
        assert_eq!(
            (settings.duration, settings.warmup),
            (Duration::from_secs(120), Duration::from_millis(500))
        );
        assert_eq!(
            (settings.engine, settings.latency_limits.p99),
            (EngineChoice::Poll, Some(Duration::from_millis(50)))
        );
        assert_eq!(
            (options.rate.as_per_second(), options.pairs),
            (2500.0, Pairing::Ring)
        );
        assert_eq!(
            (
                options.login.window,
                options.login.user_base,
                options.in_flight_max
            ),
            (7, 40, 3)
        );
    }

    #[test]
    fn an_echo_without_a_load_keeps_one_write_a_connection_under_way() {
        let line = "loadtest echo --conns 10 --pipeline 16";
        let Mode::Echo(arguments) = Arguments::try_parse_from(line.split_whitespace()).unwrap().mode else {
            panic!()
        };
        assert_eq!(arguments.options().unwrap().load, Load::InFlight(160));
    }
}
