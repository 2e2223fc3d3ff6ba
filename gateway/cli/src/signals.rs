//! SIGTERM and SIGINT: the first asks the process to end in order, the second ends it at once.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a watch looks whether everything still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Catches both signals for as long as the process lives.
///
/// Order: install before anything listens, so that whoever reads the ready line may signal at once. A signal during the
/// start is remembered until somebody waits for it.
pub(crate) struct Signals {
    asked: Receiver<()>,
}

impl Signals {
    /// Starts to catch. From the second signal on, the process ends at once with exit code 1, whatever it does.
    pub(crate) fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (ask, asked) = sync_channel(1);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                next(&mut terminate, &mut interrupt).await;
                // Nobody may be left to ask: then the process is about to end anyway.
                let _ = ask.send(());
                next(&mut terminate, &mut interrupt).await;
            });
            std::process::exit(1);
        })?;
        Ok(Self { asked })
    }

    /// Returns whether the process has been asked to end, waiting for that for a while.
    pub(crate) fn asked_within(&self, time: Duration) -> bool {
        match self.asked.recv_timeout(time) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread of the signals never ends"),
        }
    }

    /// Blocks until the process is asked to end.
    pub(crate) fn wait(&self) {
        while !self.asked_within(WATCH_INTERVAL) {}
    }

    /// Blocks until the process is asked to end (`None`), or until `watch` finds something.
    pub(crate) fn wait_or<T>(&self, watch: impl Fn() -> Option<T>) -> Option<T> {
        while !self.asked_within(WATCH_INTERVAL) {
            if let Some(found) = watch() {
                return Some(found);
            }
        }
        None
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
