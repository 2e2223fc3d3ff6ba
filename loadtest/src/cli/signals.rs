//! SIGINT and SIGTERM: the first ends the run in order, the second ends the process at once.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::interrupt::Interrupt;
use crate::report::Outcome;

/// Catches both signals for as long as the process lives; returns what the first one asks.
pub(super) fn catch() -> io::Result<Interrupt> {
    let interrupt = Interrupt::default();
    for signal in [SIGINT, SIGTERM] {
        // In this order: what ends the process looks at what an earlier signal has asked.
        let code = Outcome::Interrupted.exit_code().into();
        flag::register_conditional_shutdown(signal, code, interrupt.flag())?;
        flag::register(signal, interrupt.flag())?;
    }
    Ok(interrupt)
}
