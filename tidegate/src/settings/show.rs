//! Settings in force, as a file of settings that says where each came from.

use std::fmt::Write;

use figment::Figment;

use super::layers::DEFAULT;
use super::{Settings, known};
use crate::exit::Usage;

/// Returns the file. Secrets are not in it: settings name the files that hold them.
///
/// Errors: a number that a file cannot hold.
pub(super) fn effective(settings: &Settings, layers: &Figment) -> Result<String, Usage> {
    let values = toml::Table::try_from(settings).map_err(|error| Usage(format!("settings: {error}")))?;
    let mut file =
        "# The settings in force; behind each the file, variable or flag it comes from, or \"default\".\n"
            .to_owned();
    let mut section = "";
    for known in known::all() {
        if known.section != section {
            section = known.section;
            // Writing to a string does not fail, here and below.
            let _ = writeln!(file, "\n[{section}]");
        }
        let line = match values.get(section).and_then(|settings| settings.get(known.name)) {
            Some(value) => format!("{} = {value}", known.name),
            None => format!("# {} is not set", known.name),
        };
        let source = layers.find_metadata(&known.to_string());
        let source = source.map_or(DEFAULT, |metadata| &metadata.name);
        let _ = writeln!(file, "{line:<SOURCE_COLUMN$} # {source}");
    }
    Ok(file)
}

const SOURCE_COLUMN: usize = 48;
