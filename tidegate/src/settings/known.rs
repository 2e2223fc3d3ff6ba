//! The names of all settings, as the printed default file has them, and the one that somebody may have meant.

use std::fmt;

use super::DEFAULT_FILE;

/// A setting by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
}

impl Known {
    /// Returns the environment variable of the setting.
    pub(super) fn variable(self) -> String {
        format!("{PREFIX}{}__{}", self.section, self.name).to_ascii_uppercase()
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

/// What the variables of all settings begin with.
pub(super) const PREFIX: &str = "TIDEGATE_";

/// Returns all settings in the order of the default file. A test holds the file to the code.
pub(super) fn all() -> impl Iterator<Item = Known> {
    let mut section = None;
    DEFAULT_FILE.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(name);
        }
        let (name, _) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
        let is_name = !name.contains(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
        let section = section.filter(|_| is_name)?;
        Some(Known { section, name })
    })
}

/// Returns the setting that was probably meant by one that there is not: the same name in another section, or one that
/// a few slips of the hand lead to.
pub(super) fn meant_by(section: &str, name: &str) -> Option<Known> {
    let written = format!("{section}.{name}");
    let elsewhere = all().find(|known| known.name == name);
    let slips = |known: &Known| strsim::osa_distance(&written, &known.to_string());
    elsewhere.or_else(|| {
        all()
            .min_by_key(slips)
            .filter(|known| slips(known) <= SLIPS_MAX.min(written.len() / 3))
    })
}

/// With more, a suggestion is a guess.
const SLIPS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(section: &str, name: &str) -> Option<String> {
        meant_by(section, name).map(|known| known.to_string())
    }

    #[test]
    fn slips_and_wrong_sections_are_recognized() {
        for (section, name, meant) in [
            ("gateway", "worker", "gateway.workers"),
            ("gatway", "workers", "gateway.workers"),
            ("gateway", "ping_interval", "gateway.ping_interval_ms"),
            ("gateway", "data_dir", "router.data_dir"),
            ("auth", "jwt_hs256_secretfile", "auth.jwt_hs256_secret_file"),
            ("log", "leve", "log.level"),
        ] {
            assert_eq!(suggestion(section, name).as_deref(), Some(meant));
        }
        assert_eq!(suggestion("gateway", "colour_of_the_sky"), None);
        assert_eq!(suggestion("x", "y"), None);
    }

    #[test]
    fn a_variable_is_the_path_in_capitals() {
        let known = meant_by("gateway", "worker").unwrap();
        assert_eq!(known.variable(), "TIDEGATE_GATEWAY__WORKERS");
    }
}
