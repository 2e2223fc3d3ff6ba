//! `tidegate config`.

use anyhow::Result;

use crate::args::ServeArgs;
use crate::auth;
use crate::settings::{DEFAULT_FILE, Settings};

/// Prints the documented default file.
pub(super) fn print_default() -> Result<()> {
    print!("{DEFAULT_FILE}");
    Ok(())
}

/// Checks the settings, the key files included, without starting anything.
pub(super) fn check(args: &ServeArgs) -> Result<()> {
    let settings = Settings::load(args)?;
    auth::verifier(&settings.auth)?;
    println!("the settings are good");
    Ok(())
}
