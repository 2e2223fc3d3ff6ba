//! What the simulated adapters share: when their machine goes down, and how they say so.

use std::error::Error;
use std::{fmt, io};

/// The simulated machine is down. Stands behind the error of every call until it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

/// The power of a simulated machine, which fails in a chosen operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Power {
    is_down: bool,
    operations: u64,
    fails_at: Option<u64>,
}

impl Power {
    /// Lets so many operations more through; in the one after them it fails.
    pub(crate) fn fail_after(&mut self, operations: u64) {
        self.fails_at = Some(self.operations + operations + 1);
    }

    /// Counts an operation; returns whether the machine goes down in it.
    pub(crate) fn begin(&mut self) -> Result<bool, Crashed> {
        self.check()?;
        self.operations += 1;
        self.is_down = self.fails_at == Some(self.operations);
        Ok(self.is_down)
    }

    pub(crate) fn check(&self) -> Result<(), Crashed> {
        if self.is_down { Err(Crashed) } else { Ok(()) }
    }

    /// Returns with nothing planned.
    pub(crate) fn restore(&mut self) {
        self.is_down = false;
        self.fails_at = None;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }
}

/// Returns whether an error has its cause in a simulated machine that went down.
pub fn is_crash(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error skips what it was made of when asked for its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<Crashed>() || inner.is_some_and(|inner| inner.is::<Crashed>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl fmt::Display for Crashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated machine crashed")
    }
}

impl Error for Crashed {}
