//! Worker threads, one per core.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};

/// Starts a named thread on core number `index` of those the process may use (counted round when there are fewer),
/// and runs `f` on it. `f` is told whether the pinning worked: it is an optimisation, so a failure is only reported.
///
/// Errors: the thread could not be started.
pub fn spawn<T: Send + 'static>(
    name: &str,
    index: usize,
    f: impl FnOnce(Pinning) -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let pinning = pin(index);
        if let Pinning::Floating(reason) = pinning {
            tracing::warn!(worker = index, reason, "worker thread is not pinned to a core");
        }
        f(pinning)
    })
}

/// Where a worker thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// On this core only.
    Core(usize),
    /// Wherever the scheduler puts it, for this reason.
    Floating(&'static str),
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(core) => write!(f, "core {core}"),
            Self::Floating(reason) => write!(f, "not pinned: {reason}"),
        }
    }
}

fn pin(index: usize) -> Pinning {
    // The list is that of the calling thread, which inherits it from its parent: spawn workers from a thread that is
    // not pinned itself.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let Some(core) = cores.get(index % cores.len().max(1)) else {
        return Pinning::Floating("the cores of this process cannot be listed");
    };
    if core_affinity::set_for_current(*core) {
        Pinning::Core(core.id)
    } else {
        Pinning::Floating("the kernel refused to set the affinity")
    }
}
