//! Structured logs on standard error. No line per message or per connection: those are metrics.

use std::io::IsTerminal;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::exit::Usage;
use crate::settings::{LogFormat, LogSettings};

/// Checks the settings without starting anything.
///
/// Errors: [`Usage`] for a level that is none.
pub(crate) fn check(settings: &LogSettings) -> Result<EnvFilter> {
    EnvFilter::try_new(&settings.level)
        .map_err(|error| Usage(format!("log.level: {:?}: {error}", settings.level)).into())
}

/// Starts logging as set.
///
/// Errors: [`Usage`] for a level that is none.
pub(crate) fn start(settings: &LogSettings) -> Result<()> {
    let filter = check(settings)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
