//! The embedded driver: carries out what one [`Node`] intends, over one log, one store, and pipes.
//!
//! [`Router::tick`] gives the node its facts (batches, what log and store report, the clocks) and takes its intentions. It
//! decides nothing. Log and store work where [`Disks`] says: at once ([`Inline`], as at the start and in tests), or each on
//! a thread of its own ([`Threads`]), so that the next group is received and checked while the last one is being synced.
//!
//! Reading order: this file; `log_worker` and `store_worker` do the work, `answers` reads the store; `start` makes the store
//! hold what the log has; `thread` gives the driver its clock and its thread; `data_dir` and `check` know where files lie.
//!
//! A crash between any two steps is a crash: a start reads the log from the last offset that the store has and folds
//! the rest again, to the same rows.

mod answers;
mod check;
mod data_dir;
mod disks;
mod links;
mod log_worker;
mod start;
mod store_worker;
mod thread;

use std::sync::Arc;

use router_core::node::{Condition, Intention, Node, Notice};
use router_core::time::Now;
use router_storage::log::Log;
use router_storage::store::Store;
use wire_link::pipe::Endpoint;
use wire_link::port::LinkWaker;

pub use self::check::{CheckError, DataDirCheck, check_data_dir};
pub use self::data_dir::{DataDirError, EmbeddedRouter, log_path, open_data_dir, store_path};
pub use self::disks::{Disks, Inline, Threads};
pub use self::log_worker::LogJob;
pub use self::start::{FOLD_VERSION, StartError, StartReport};
pub use self::store_worker::{Rows, StoreJob};
pub use self::thread::{RouterThread, clocks, spawn};

use self::links::Links;
use crate::health::{Health, Readiness};
use crate::metrics::{Counters, Metrics};

/// A router that runs alone: every slot is its own.
///
/// Order: [`Router::open`], [`Router::add_link`] for each client, then [`Router::tick`] whenever a link has something and
/// at the latest at [`Router::poll_timeout`].
pub struct Router<B> {
    node: Node,
    disks: B,
    links: Links<Endpoint>,
    health: StopSign,
    metrics: Metrics,
    counters: Arc<Counters>,
}

/// Says so when a router ends, however it does.
struct StopSign(Health);

/// What a tick leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// There is more that needs no waiting: tick again at once.
    pub is_busy: bool,
    /// Part of it is a report of the log or the store.
    pub is_reported: bool,
}

/// Why a router cannot go on at all. It has told nobody anything since the cause, and does not any more.
///
/// A disk or a store that fails is no such reason: the router then stays up, answers `unavailable`, and
/// [`Health`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The machine under it went down, and was a simulated one.
    #[error("the machine crashed")]
    Crashed,
}

impl<B: Disks> Router<B> {
    /// Adds a client. The link lives until either side closes it.
    pub fn add_link(&mut self, endpoint: Endpoint) {
        self.links.add(endpoint, &mut self.node);
        self.publish_stats();
    }

    /// Sets what is called when a link needs a tick; at most once. It is called at once, for whatever came before.
    pub fn set_waker(&self, waker: &LinkWaker) {
        self.links.set_waker(waker);
    }

    /// Returns a handle that says whether messages are taken.
    pub fn health(&self) -> Health {
        self.health.0.clone()
    }

    /// Returns a handle on the counters.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Does everything there is to do, each part within its bounds.
    ///
    /// Errors: the router is over; drop it, which closes its links.
    pub fn tick(&mut self, now: Now) -> Result<Progress, Fatal> {
        let mut is_busy = self.work(now);
        if self.disks.is_crashed() {
            return Err(Fatal::Crashed);
        }
        self.links.send(&mut self.node);
        self.publish_stats();
        let is_reported = self.disks.has_done();
        is_busy |= is_reported || self.poll_timeout().is_some_and(|due_ms| due_ms <= now.mono_ms);
        Ok(Progress { is_busy, is_reported })
    }

    /// Does a tick but for what leaves by the links. Returns whether there is more that needs no waiting.
    fn work(&mut self, now: Now) -> bool {
        self.node.handle_now(now);
        let mut is_busy = self.links.receive(&mut self.node);
        while let Some(done) = self.disks.poll_done() {
            self.node.handle_report(done);
        }
        is_busy |= self.node.advance();
        self.carry_out();
        is_busy
    }

    /// Does what log and store were given, and syncs the store so that the next start has nothing to replay. Not needed for
    /// safety.
    pub fn close(self) {
        let complete = self.node.complete_through();
        self.disks.close(complete);
    }

    /// Logs at once what waits for company: the process is about to end.
    pub fn stop_lingering(&mut self) {
        self.node.handle_stopping();
    }

    /// Returns whether nothing is under way that a stop would leave to the next start.
    pub fn is_quiet(&self) -> bool {
        self.node.is_quiet() && !self.disks.has_done()
    }

    /// Returns when a tick is due even if no link needs one, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.node.poll_timeout()
    }

    /// Gives the node's intentions to those who do them.
    fn carry_out(&mut self) {
        while let Some(intention) = self.node.poll_intention() {
            match intention {
                Intention::Append { id, group } => self.disks.submit_log(LogJob::Append { id, group }),
                Intention::ProbeLog => self.disks.submit_log(LogJob::Probe),
                Intention::Apply { rows, ticket } => {
                    self.disks.submit_store(StoreJob::Apply(Rows { rows, ticket }));
                }
                Intention::FlushRows => self.disks.submit_store(StoreJob::Flush),
                Intention::RetryStore => self.disks.submit_store(StoreJob::Retry),
                Intention::Ask(ask) => self.disks.submit_store(StoreJob::Ask(ask)),
                Intention::Persist => self.disks.submit_store(StoreJob::Persist),
                Intention::Prune(step) => self.disks.submit_store(StoreJob::Prune(step)),
                Intention::TrimLog { below } => self.disks.submit_log(LogJob::Trim { below }),
                Intention::CloseLink(link) => self.links.close(link),
                Intention::Note(notice) => self.note(&notice),
                Intention::Consume { .. }
                | Intention::FindEnd { .. }
                | Intention::GivenUp(_)
                | Intention::TellOwner { .. } => {
                    unreachable!("nobody else writes to the one log, and nobody else owns it")
                }
            }
        }
    }

    fn note(&self, notice: &Notice) {
        match notice {
            Notice::LinkUp(link, hello) => {
                let (kind, node, worker) = (hello.kind, &hello.node, hello.worker);
                tracing::info!(%link, ?kind, node, worker, "link up");
            }
            Notice::LinkRefused(link, reason) => {
                tracing::error!(%link, reason, "a link is refused and closed");
            }
            Notice::ClockDoubted { said, expected } => tracing::warn!(
                said_ms = said.0,
                expected_ms = expected.0,
                "the wall clock jumped; it is believed once it has stood by that for a minute"
            ),
            Notice::ClockBelieved(now) => tracing::warn!(now_ms = now.0, "the wall clock is believed again"),
            Notice::LogDiffers { partition, offset } => {
                tracing::error!(
                    ?partition,
                    offset = offset.0,
                    "the log holds another record than was appended"
                );
            }
            Notice::ConditionChanged(condition) => {
                let readiness = readiness(*condition);
                tracing::warn!(%readiness, "readiness changed");
                self.health.0.set(readiness);
            }
        }
    }

    fn publish_stats(&self) {
        let stats = self.node.stats();
        self.counters.copy(&stats);
        self.counters.ready.set(u64::from(self.health.0.is_ready()));
    }
}

impl<L: Log, S: Store> Router<Inline<L, S>> {
    /// Gives log and store a thread each, which wake `driver`.
    ///
    /// Errors: those of starting a thread.
    pub fn with_threads(self, driver: std::thread::Thread) -> std::io::Result<Router<Threads>>
    where
        L: 'static,
        S: Send + 'static,
    {
        self.try_with_disks(|inline| Threads::start(inline, driver))
    }
}

impl<B: Disks> Router<B> {
    /// Has the work on log and store done elsewhere from now on.
    ///
    /// Errors: those of `place`; the router is over then.
    pub fn try_with_disks<C: Disks, E>(self, place: impl FnOnce(B) -> Result<C, E>) -> Result<Router<C>, E> {
        let Self {
            node,
            disks,
            links,
            health,
            metrics,
            counters,
        } = self;
        Ok(Router {
            node,
            disks: place(disks)?,
            links,
            health,
            metrics,
            counters,
        })
    }
}

impl Drop for StopSign {
    fn drop(&mut self) {
        self.0.set(Readiness::Stopped);
    }
}

fn readiness(condition: Condition) -> Readiness {
    match condition {
        Condition::Ready => Readiness::Ready,
        Condition::ClockUnset { .. } => Readiness::ClockUnset,
        Condition::LogFull { .. } => Readiness::LogFull,
        Condition::StoreFull { .. } => Readiness::StoreFull,
        Condition::StoreStopped { .. } => Readiness::StoreStopped,
        Condition::LogFailed => Readiness::LogFailed,
        Condition::StoreFailed => Readiness::StoreFailed,
    }
}
