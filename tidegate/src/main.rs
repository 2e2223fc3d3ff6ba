//! The `tidegate` binary. Thin: it parses, layers the settings, and hands over to the libraries.
//!
//! Reading order: [`args`] (the command line), [`settings`] (file, environment and flags in one precedence),
//! [`commands`] (one file a command), [`node`] (a whole server, put together), [`logging`].

mod args;
mod auth;
mod commands;
mod exit;
#[cfg(feature = "heap-profile")]
mod heap_profile;
mod logging;
mod node;
mod settings;
mod signals;

use clap::Parser;

fn main() -> std::process::ExitCode {
    exit::report(commands::run(args::Cli::parse()))
}
