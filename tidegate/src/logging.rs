//! Structured logs on standard error. No line per message or per connection: those are metrics.

use std::ffi::OsStr;
use std::io::IsTerminal;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::exit::Usage;
use crate::settings::{LogFormat, LogSettings};

/// Checks the settings without starting anything.
///
/// Errors: [`Usage`] for a level that is none.
pub(crate) fn check(settings: &LogSettings) -> Result<EnvFilter> {
    let usage = |why: String| Usage(format!("log.level: {:?}: {why}", settings.level));
    // To the library a word that is no level is a target, of which everything is logged, and nothing else.
    let mut words = settings.level.split(',');
    if let Some(word) = words.find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        let levels = LEVELS.join(", ");
        return Err(usage(format!("{word:?} is neither a level ({levels}) nor target=level")).into());
    }
    EnvFilter::try_new(&settings.level).map_err(|error| usage(error.to_string()).into())
}

/// Starts logging as set.
///
/// Errors: [`Usage`] for a level that is none.
pub(crate) fn start(settings: &LogSettings) -> Result<()> {
    let filter = check(settings)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(has_colors(
            std::io::stderr().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
        ));
    match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}

/// Colours are for terminals, and not for those who say no, with any word at all (Source: no-color.org).
fn has_colors(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(level: &str) -> bool {
        let settings = LogSettings {
            level: level.to_owned(),
            ..LogSettings::default()
        };
        match check(&settings) {
            Ok(_) => true,
            Err(error) => {
                assert!(error.to_string().starts_with("log.level: "), "{error}");
                false
            }
        }
    }

    #[test]
    fn colors_are_for_terminals_whose_user_does_not_decline() {
        let (unset, empty, set) = (None, Some(OsStr::new("")), Some(OsStr::new("1")));
        assert!(has_colors(true, unset) && has_colors(true, empty));
        assert!(!has_colors(true, set) && !has_colors(false, unset));
    }

    #[test]
    fn a_level_is_a_level_or_a_directive() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,router_server=debug",
            "warn,[span]=trace",
            "a::b=off",
        ] {
            assert!(is_good(good), "{good}");
        }
        for bad in [
            "shout!",
            "shout",
            "",
            "info,router_server",
            "info,",
            "info,router_server=loud",
            "4 5",
        ] {
            assert!(!is_good(bad), "{bad}");
        }
    }
}
