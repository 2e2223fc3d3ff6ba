//! SIGTERM and SIGINT.

use std::future::pending;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// How often a watch looks whether everything still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Blocks until the process is asked to end.
pub(crate) fn wait() -> Result<()> {
    block_on(pending::<()>()).map(|_| ())
}

/// Blocks until the process is asked to end (`None`), or until `watch` finds something.
pub(crate) fn wait_or<T>(watch: impl Fn() -> Option<T>) -> Result<Option<T>> {
    block_on(async {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            if let Some(found) = watch() {
                return found;
            }
        }
    })
}

/// Ends the process at once, with exit code 1, when it is asked again.
pub(crate) fn exit_at_the_next() {
    std::thread::spawn(|| {
        if wait().is_ok() {
            std::process::exit(1);
        }
    });
}

/// Returns what `other` gives, or `None` when a signal comes first.
fn block_on<T>(other: impl Future<Output = T>) -> Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(None),
            _ = interrupt.recv() => Ok(None),
            found = other => Ok(Some(found)),
        }
    })
}
