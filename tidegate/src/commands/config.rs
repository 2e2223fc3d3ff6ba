//! `tidegate config`.

use anyhow::Result;

use crate::args::ServeArgs;
use crate::settings::{DEFAULT_FILE, Settings};
use crate::{auth, logging};

/// Prints the documented default file.
pub(super) fn print_default() -> Result<()> {
    print!("{DEFAULT_FILE}");
    Ok(())
}

/// Prints the settings in force with their sources, also those that `serve` would refuse; then says why it would.
pub(super) fn show(args: &ServeArgs) -> Result<()> {
    let (file, verdict) = Settings::show(args)?;
    print!("{file}");
    verdict
}

/// Checks the settings, the key files included, without starting anything.
pub(super) fn check(args: &ServeArgs) -> Result<()> {
    let settings = Settings::load(args)?;
    auth::verifier(&settings.auth)?;
    logging::check(&settings.log)?;
    println!("the settings are good");
    Ok(())
}
