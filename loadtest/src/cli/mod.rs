//! The `loadtest` command: options in, report and exit code out.
//!
//! Exit codes: 0 pass, 1 fault of the tool or the host, 2 the audit or a threshold failed, 3 the tool was the limit,
//! 4 the target is down, 64 usage, 130 interrupted.

mod args;
mod progress;
mod signals;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Mode};
use progress::Progress;

use crate::error::RunError;
use crate::report::Report;
use crate::{chat, echo, idle};

/// Runs the command.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match execute(&arguments.mode) {
        Ok(report) => {
            if arguments.mode.common().json {
                print(&report.to_json());
                eprintln!("{}", report.final_line());
            } else {
                print(&report);
            }
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(mode: &Mode) -> Result<Report, RunError> {
    let interrupt = signals::catch().map_err(RunError::Signals)?;
    let mut progress = Progress::new();
    let on_progress = |snapshot: &_| progress.show(snapshot);
    match mode {
        Mode::Chat(arguments) => {
            let mut options = arguments.options()?;
            options.settings.interrupt = interrupt;
            chat::run(&options, on_progress)
        }
        Mode::Echo(arguments) => {
            let mut options = arguments.options()?;
            options.settings.interrupt = interrupt;
            echo::run(&options, on_progress)
        }
        Mode::Idle(arguments) => {
            let mut options = arguments.options()?;
            options.settings.interrupt = interrupt;
            idle::run(&options, on_progress)
        }
    }
}

/// Prints to standard output; a reader that went away is no reason to change the exit code.
fn print(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints what clap has to say; help and version are no errors.
fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

const EXIT_USAGE: u8 = 64;
