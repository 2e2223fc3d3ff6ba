//! The command line.
//!
//! Numbers may begin with a sign, so that a negative one is refused as a value of its flag, by name, and not as an unknown
//! flag.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use gateway_server::config::EngineSetting;

use crate::settings::{parse_address, parse_bytes, parse_seconds};

/// An edge tier for real-time messaging: many WebSocket connections per host, durable and ordered delivery.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Gateway, router and embedded store in one process.
    #[command(after_help = SERVE_SIGNALS)]
    Serve(Box<ServeArgs>),
    /// Starts a server, connects 1,000 clients through real sockets, shows messages flowing, and reports.
    Demo(DemoArgs),
    /// Answers every WebSocket message with itself: for conformance suites and engine benchmarks.
    Echo(EchoArgs),
    /// Prints a development token for a user, signed with a shared secret.
    Token(TokenArgs),
    /// Prints or checks settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Looks after a data directory.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Prints a script with which a shell completes commands and flags
    Completions {
        /// For this shell
        shell: Shell,
    },
    /// Writes the manual pages, one a command, into a directory
    Man {
        /// A directory that exists
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

const SERVE_SIGNALS: &str = "\
Signals:
  TERM, INT (Ctrl-C), QUIT, USR2  Drain: /readyz says 503 for --drain-delay-ms, then clients are told to reconnect,
                                  requests finish, the store is synced, exit code 0. A second one of these ends
                                  the process at once, with exit code 1.
  HUP                             Reads the key file of the tokens again.
  USR1                            Writes the state of the server to the log.
  PIPE, XFSZ                      Ignored: a file at its size limit counts as a full disk.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArg {
    Auto,
    Uring,
    Poll,
}

impl From<EngineArg> for EngineSetting {
    fn from(flag: EngineArg) -> Self {
        match flag {
            EngineArg::Auto => Self::Auto,
            EngineArg::Uring => Self::Uring,
            EngineArg::Poll => Self::Poll,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublicAlgorithm {
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "ES256")]
    Es256,
    #[value(name = "EdDSA")]
    EdDsa,
}

/// Flags win over the environment (`TIDEGATE_` and the setting's path, e.g. `TIDEGATE_GATEWAY__WORKERS`), which
/// wins over the file. A flag that is not given changes nothing.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where clients connect [default: 127.0.0.1:9000; port 0 takes a free one]
    #[arg(long, value_parser = parse_address, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The HTTP API [default: 127.0.0.1:9001]
    #[arg(long, value_parser = parse_address, value_name = "ADDR")]
    pub(crate) api: Option<SocketAddr>,
    /// Health and metrics [default: 127.0.0.1:9002]
    #[arg(long, value_parser = parse_address, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Data directory of the embedded store [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Gateway workers [default: one per core]
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) workers: Option<u16>,
    /// How long /readyz says 503 before a drain begins, in ms [default: 1000]
    #[arg(long, allow_negative_numbers = true, value_name = "MS")]
    pub(crate) drain_delay_ms: Option<u32>,
    /// The reactor of the workers [default: auto]
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineArg>,
    /// No tokens: the user is taken from the path or from hello. Loopback addresses only, and pages from there.
    #[arg(long)]
    pub(crate) insecure_dev: bool,
    /// Tokens are HS256 with the secret in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_hs256_secret_file: Option<PathBuf>,
    /// Tokens are signed with the private half of this PEM key
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_public_key: Option<PathBuf>,
    /// Algorithm of --jwt-public-key
    #[arg(long, value_enum)]
    pub(crate) jwt_alg: Option<PublicAlgorithm>,
    /// Required `iss` of tokens
    #[arg(long, value_name = "S")]
    pub(crate) jwt_issuer: Option<String>,
    /// Required `aud` of tokens
    #[arg(long, value_name = "S")]
    pub(crate) jwt_audience: Option<String>,
    /// Settings file (TOML), `-` for standard input; `tidegate config default` prints one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Clients
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 1_000,
        value_name = "N"
    )]
    pub(crate) conns: u32,
    /// Messages per second, all clients together
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 2_000,
        value_name = "N"
    )]
    pub(crate) rate: u32,
    /// How long: seconds, or with a unit (10s, 5m)
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value = "10s",
        value_parser = parse_seconds,
        value_name = "D"
    )]
    pub(crate) seconds: u32,
    /// Keep the server running afterwards, until Ctrl-C, to connect to it oneself
    #[arg(long)]
    pub(crate) stay: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9000", value_parser = parse_address, value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Worker threads; 0: one per core
    #[arg(long, allow_negative_numbers = true, default_value_t = 0, value_name = "N")]
    pub(crate) workers: u16,
    /// The reactor
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) engine: EngineArg,
    /// Largest message: bytes, or with a unit (64KiB, 1MB)
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value = "64MiB",
        value_parser = parse_bytes,
        value_name = "SIZE"
    )]
    pub(crate) message_bytes_max: u64,
    /// Allow an address that is not loopback
    #[arg(long)]
    pub(crate) allow_public: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user (`sub`), 1 to 2^53 - 1
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) user: u64,
    /// Bind the token to a device (`dev`)
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) device: Option<u32>,
    /// File with the shared secret; the server takes the same with --jwt-hs256-secret-file
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_hs256_secret_file: PathBuf,
    /// Lifetime: seconds, or with a unit (30m, 1h)
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value = "1h",
        value_parser = parse_seconds,
        value_name = "D"
    )]
    pub(crate) seconds: u32,
    /// Give the token `scope: service`: it may act for any user over HTTP
    #[arg(long)]
    pub(crate) service: bool,
    /// `iss` of the token
    #[arg(long, value_name = "S")]
    pub(crate) jwt_issuer: Option<String>,
    /// `aud` of the token
    #[arg(long, value_name = "S")]
    pub(crate) jwt_audience: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every setting with its unit, default and meaning, as a file to start from
    Default,
    /// Reads the settings as `serve` would and says what is wrong with them
    Check(Box<ServeArgs>),
    /// Reads the settings as `serve` would and prints each with where it comes from
    Show(Box<ServeArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Verifies the log of a stopped server, byte by byte, and says what a start would do with any damage
    Check {
        /// Data directory
        #[arg(long, default_value = "data", value_name = "DIR")]
        data: PathBuf,
    },
}
