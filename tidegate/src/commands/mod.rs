//! One file a command.

mod config;
mod demo;
mod echo;
mod manual;
mod serve;
mod store;
mod token;

use anyhow::Result;

use crate::args::{Cli, Command, ConfigCommand, StoreCommand};

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Config(ConfigCommand::Default) => config::print_default(),
        Command::Config(ConfigCommand::Check(args)) => config::check(&args),
        Command::Config(ConfigCommand::Show(args)) => config::show(&args),
        Command::Store(StoreCommand::Check { data }) => store::check(&data),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(&directory),
    }
}
