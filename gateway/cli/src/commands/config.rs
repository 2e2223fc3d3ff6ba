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

/// Checks the settings, the key files included, without starting anything.
pub(super) fn check(args: &ServeArgs) -> Result<()> {
    let settings = Settings::load(args)?;
    auth::verifier(&settings.auth)?;
    logging::check(&settings.log)?;
    println!("the settings are good");
    Ok(())
}
