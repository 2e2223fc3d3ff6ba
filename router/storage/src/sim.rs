//! What the simulated adapters share: how they say that their machine went down.

use std::error::Error;
use std::{fmt, io};

/// The simulated machine is down. Stands behind the error of every call until it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

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
