//! How many files and sockets this process may hold open.

use std::fmt;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The limit on open descriptors (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What held before.
    pub before: Option<u64>,
    /// What holds now; `None`: no limit.
    pub now: Option<u64>,
}

/// Raises the soft limit to the hard one, as every program may that does not use `select(2)`: login shells start with a
/// soft limit of 1,024 and a hard one far above.
pub fn raise_limit() -> DescriptorLimit {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    // A refusal shows in what is read back.
    let _ = setrlimit(Resource::Nofile, limit);
    DescriptorLimit {
        before,
        now: getrlimit(Resource::Nofile).current,
    }
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = |limit: Option<u64>| match limit {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        };
        number(self.now)?;
        if self.before == self.now {
            return Ok(());
        }
        f.write_str(" (raised from ")?;
        match self.before {
            Some(before) => write!(f, "{before})"),
            None => f.write_str("unlimited)"),
        }
    }
}
