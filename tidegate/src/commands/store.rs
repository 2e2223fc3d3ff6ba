//! `tidegate store`.

use std::path::Path;

use anyhow::Result;

/// Verifies a data directory and prints what was found; damage is a fault (exit code 1).
pub(super) fn check(data: &Path) -> Result<()> {
    let report = router_server::embedded::check_data_dir(data)?;
    println!("{report}");
    if !report.is_sound() {
        anyhow::bail!("{} is damaged", data.display());
    }
    Ok(())
}
