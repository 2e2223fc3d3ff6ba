//! Signals: some ask the process to end, in order at the first and at once at the second; the others ask for something else.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a watch looks whether everything still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// What a signal asks for; the first is heeded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// TERM, INT, QUIT, USR2: end in order.
    End,
    /// HUP: read again what can be.
    Reload,
    /// USR1: say how things stand.
    State,
}

/// Catches signals for as long as the process lives.
///
/// Order: install before anything listens, so that whoever reads the ready line may signal at once. A signal during the
/// start is remembered until somebody waits for it.
pub(crate) struct Signals {
    asked: Arc<Open>,
}

/// What was asked for and is not heeded yet: each at most once.
#[derive(Default)]
struct Open {
    asked: Mutex<BTreeSet<Asked>>,
    changed: Condvar,
}

impl Signals {
    /// Starts to catch. From the second signal to end on, the process ends at once with exit code 1, whatever it does.
    pub(crate) fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut caught = {
            let _context = runtime.enter();
            Caught::install()?
        };
        let asked = Arc::new(Open::default());
        let open = Arc::clone(&asked);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                caught.pass_on_until_end(&open).await;
                caught.pass_on_until_end(&open).await;
            });
            std::process::exit(1);
        })?;
        Ok(Self { asked })
    }

    /// Returns what the process has been asked, waiting for that for a while.
    fn next_within(&self, time: Duration) -> Option<Asked> {
        let is_none = |asked: &mut BTreeSet<Asked>| asked.is_empty();
        let waited = self
            .asked
            .changed
            .wait_timeout_while(self.asked.lock(), time, is_none);
        let (mut asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        asked.pop_first()
    }

    /// Returns whether the process has been asked to end, waiting for that for a while.
    pub(crate) fn asked_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match self.next_within(end.saturating_duration_since(Instant::now())) {
                Some(Asked::End) => return true,
                Some(other) => ignore(other),
                None => return false,
            }
        }
    }

    /// Blocks until the process is asked to end.
    pub(crate) fn wait(&self) {
        while !self.asked_within(WATCH_INTERVAL) {}
    }

    /// Blocks until the process is asked to end (`None`), or until `watch` finds something; hands on what else is asked.
    pub(crate) fn wait_or<T>(&self, watch: impl Fn() -> Option<T>, serve: impl Fn(Asked)) -> Option<T> {
        loop {
            match self.next_within(WATCH_INTERVAL) {
                Some(Asked::End) => return None,
                Some(other) => serve(other),
                None => {}
            }
            if let Some(found) = watch() {
                return Some(found);
            }
        }
    }
}

impl Open {
    fn ask(&self, asked: Asked) {
        self.lock().insert(asked);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Asked>> {
        // Nothing panics while it is held.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ignore(asked: Asked) {
    match asked {
        Asked::End => {}
        Asked::Reload => tracing::info!("SIGHUP: there is nothing to read again"),
        Asked::State => tracing::info!("SIGUSR1: there is no state to show"),
    }
}

/// Each kind of signal once.
struct Caught {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user2: Signal,
    hang_up: Signal,
    user1: Signal,
    /// Caught and nothing else, so that the write which meets the limit fails in place of the process. SIGPIPE needs
    /// none: the standard library ignores it.
    _file_size: Signal,
}

impl Caught {
    fn install() -> Result<Self> {
        let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user2: signal(SignalKind::user_defined2())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            _file_size: signal(file_size)?,
        })
    }

    /// Passes on what is asked for, up to the next request to end.
    async fn pass_on_until_end(&mut self, open: &Open) {
        loop {
            let asked = self.next().await;
            open.ask(asked);
            if asked == Asked::End {
                return;
            }
        }
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.quit.recv() => Asked::End,
            _ = self.user2.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::State,
        }
    }
}
