//! `tidegate completions` and `tidegate man`: the command line, told to shells and to `man`.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

/// Prints the script for a shell.
pub(super) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Writes `tidegate.1` and a page for each command below it.
///
/// Errors: the directory does not exist or cannot be written to.
pub(super) fn pages(directory: &Path) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), directory).with_context(|| directory.display().to_string())
}
