//! Starts the workers of a gateway, each on its own thread with its own listener, and ends them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway_core::{Application, Hub, HubConfig, RouterId, Routes};
use runtime::{EngineChoice, MailboxSender, Reactor, ReactorConfig, Report, mailbox, worker};
use wire_auth::Verifier;
use wire_link::LinkPort;
use wire_link::pipe::Endpoint;

use crate::admin::Metrics;
use crate::driver::{Control, Driver};
use crate::listen;
use crate::stats::Published;
use crate::transport::Transports;

/// What every worker of a gateway shares.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to listen; port 0 takes a free one, the same for all workers.
    pub listen: SocketAddr,
    /// Worker threads, at least one.
    pub workers: u16,
    /// What the address is called where it was set, for errors.
    pub listen_setting: &'static str,
    /// The reactor.
    pub engine: EngineChoice,
    /// The Hub's settings.
    pub hub: HubConfig,
    /// Sockets of each worker, with or without a session; beyond it clients wait in the backlog of the listener.
    pub sockets_max: usize,
    /// How long a busy worker waits for more events after the first; zero: not at all.
    pub coalesce: Duration,
    /// Where jitter begins; the worker's number is added.
    pub seed: u64,
}

/// A running gateway, whose links are all of one kind.
pub struct Gateway<P = Endpoint> {
    address: SocketAddr,
    report: Report,
    workers: Vec<Worker<P>>,
}

struct Worker<P> {
    thread: JoinHandle<io::Result<()>>,
    control: MailboxSender<Control<P>>,
    published: Arc<Published>,
}

impl<P: LinkPort + 'static> Gateway<P> {
    /// Starts every worker and returns once all accept connections.
    ///
    /// Shape: `application` makes the state of worker n; `links` has one port a worker, to router 0, or is empty where the
    /// application needs no router or gets its links later.
    /// Errors: the address cannot be listened on, or the engine cannot be opened; nothing is left running.
    pub fn start<A: Application + Send + 'static>(
        plan: &Plan,
        application: impl Fn(u16) -> A,
        links: Vec<P>,
    ) -> Result<Self> {
        let count = usize::from(plan.workers);
        if !links.is_empty() && links.len() != count {
            bail!("{} links for {count} workers", links.len());
        }
        let listeners = listen::bind_group(plan.listen_setting, plan.listen, count)?;
        let address = listeners[0].local_addr()?;
        let mut links = links.into_iter();
        let mut workers = Vec::with_capacity(count);
        let mut first_report = None;
        for (number, listener) in (0..plan.workers).zip(listeners) {
            match Worker::start(plan, number, listener, application(number)) {
                Ok((report, worker)) => {
                    if let Some(link) = links.next() {
                        worker.tell(Control::Link(RouterId(0), link));
                    }
                    first_report.get_or_insert(report);
                    workers.push(worker);
                }
                Err(error) => {
                    // The first error says more than what ending the others might.
                    let _ = end(workers, || Control::Stop);
                    return Err(error);
                }
            }
        }
        let report = first_report.context("a gateway needs at least one worker")?;
        Ok(Self {
            address,
            report,
            workers,
        })
    }

    /// Returns where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns which engine runs, and why.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Returns the number of worker threads.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Returns the source of this gateway's metrics.
    pub fn metrics(&self) -> Metrics {
        let published: Vec<Arc<Published>> = self
            .workers
            .iter()
            .map(|worker| Arc::clone(&worker.published))
            .collect();
        Arc::new(move || published.iter().flat_map(|worker| worker.samples()).collect())
    }

    /// Returns what has ended that should run.
    pub fn broken_part(&self) -> Option<&'static str> {
        let mut workers = self.workers.iter();
        workers
            .any(|worker| worker.thread.is_finished())
            .then_some("a gateway worker")
    }

    /// Returns whether a worker has no link to a router that it had one to. Its clients stay; what goes to that router is
    /// answered `unavailable` until [`Self::set_link`] brings another one.
    pub fn has_lost_link(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.any(|worker| worker.published.has_lost_link())
    }

    /// Gives a worker a link to a router, in place of the one there may be.
    ///
    /// Panics: when there is no such worker.
    pub fn set_link(&self, worker: u16, router: RouterId, port: P) {
        self.workers[usize::from(worker)].tell(Control::Link(router, port));
    }

    /// Tells every worker the owner of every slot.
    pub fn set_view(&self, routes: &Routes) {
        for worker in &self.workers {
            worker.tell(Control::View(routes.clone()));
        }
    }

    /// Has every worker check tokens with this key from now on.
    pub fn set_verifier(&self, verifier: &Verifier) {
        for worker in &self.workers {
            worker.tell(Control::Verifier(verifier.clone()));
        }
    }

    /// Tells every client to come back elsewhere, closes with 4503, and returns when all are gone.
    ///
    /// Errors: a worker that had broken before.
    pub fn drain(self) -> Result<()> {
        end(self.workers, || Control::Drain)
    }

    /// Ends every worker at once; the kernel closes the connections.
    ///
    /// Errors: a worker that had broken before.
    pub fn stop(self) -> Result<()> {
        end(self.workers, || Control::Stop)
    }
}

impl<P: LinkPort + 'static> Worker<P> {
    /// Puts something into the mailbox, which is emptied at every tick, unless the worker has ended.
    fn tell(&self, mut control: Control<P>) {
        while let Err(back) = self.control.try_send(control) {
            if self.thread.is_finished() {
                return;
            }
            thread::sleep(MAILBOX_PAUSE);
            control = back;
        }
    }

    /// Starts one worker and returns once it accepts connections.
    fn start<A: Application + Send + 'static>(
        plan: &Plan,
        number: u16,
        listener: TcpListener,
        application: A,
    ) -> Result<(Report, Self)> {
        let (ready, opened) = mpsc::channel();
        let sockets_max = plan.sockets_max;
        let published = Arc::new(Published::new(number, sockets_max));
        let shown = Arc::clone(&published);
        let (engine, hub) = (plan.engine, plan.hub.clone());
        let (seed, coalesce) = (plan.seed.wrapping_add(number.into()), plan.coalesce);
        let run = move |pinning: worker::Pinning| -> io::Result<()> {
            let config = ReactorConfig {
                sockets_max,
                coalesce,
                ..ReactorConfig::default()
            };
            let opened = runtime::open(engine, config).map_err(anyhow::Error::from);
            let opened = opened.and_then(|(mut reactor, report)| {
                reactor.add_listener(listener)?;
                Ok((reactor, report))
            });
            let (reactor, report) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            let (control, mailbox) = mailbox(CONTROLS_MAX, reactor.waker());
            let _ = ready.send(Ok((report, control)));
            tracing::debug!(worker = number, ?pinning, "worker runs");
            let hub = Hub::new(hub, application, seed);
            if number == 0 {
                let mut budget = hub.memory_budget();
                // Each socket has an entry, also before its upgrade.
                let entry_bytes = budget.entries_bytes / budget.connections.max(1) as usize;
                budget.entries_bytes = entry_bytes * sockets_max;
                budget.blocked_bytes += Transports::ENTRY_BYTES * sockets_max;
                budget.connections = sockets_max as u32;
                tracing::info!("each worker holds at most {sockets_max} sockets; its memory:\n{budget}");
            }
            Driver::new(reactor, hub, mailbox, shown).run()
        };
        let thread = worker::spawn(&format!("gateway-{number}"), number.into(), run)?;
        let (report, control) = opened.recv().context("a worker ended before it was ready")??;
        Ok((
            report,
            Self {
                thread,
                control,
                published,
            },
        ))
    }
}

/// Ends all workers, whatever became of some, and returns the first that had broken.
fn end<P: LinkPort + 'static>(workers: Vec<Worker<P>>, control: fn() -> Control<P>) -> Result<()> {
    for worker in &workers {
        worker.tell(control());
    }
    let mut ended = Ok(());
    for worker in workers {
        let result = match worker.thread.join() {
            Ok(result) => result.context("a gateway worker broke"),
            Err(_) => Err(anyhow::anyhow!("a gateway worker panicked")),
        };
        ended = ended.and(result);
    }
    ended
}

const CONTROLS_MAX: usize = 8;
/// How long a full mailbox is left alone.
const MAILBOX_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use gateway_core::{Echo, EchoConfig};
    use wire_link::pipe::pipe;

    use super::*;

    type Gateway = super::Gateway<Endpoint>;

    fn plan(engine: EngineChoice, listen: SocketAddr) -> Plan {
        Plan {
            listen,
            listen_setting: "gateway.listen",
            workers: 2,
            engine,
            hub: HubConfig::echo(),
            sockets_max: 100,
            coalesce: Duration::ZERO,
            seed: 1,
        }
    }

    fn echo(_: u16) -> Echo {
        Echo::new(EchoConfig {
            message_bytes_max: 1_024,
        })
    }

    #[test]
    fn a_gateway_that_was_stopped_leaves_its_port_free() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Gateway::start(&plan(EngineChoice::Poll, any), echo, Vec::new()).unwrap();
        let address = first.address();
        assert_eq!(first.broken_part(), None);
        assert!(Gateway::start(&plan(EngineChoice::Poll, address), echo, Vec::new()).is_err());
        first.stop().unwrap();
        Gateway::start(&plan(EngineChoice::Poll, address), echo, Vec::new())
            .unwrap()
            .drain()
            .unwrap();
    }
    #[test]
    fn a_worker_whose_link_ends_runs_and_says_so_until_it_has_another() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (links, mut routers): (Vec<_>, Vec<_>) = (0..2).map(|_| pipe(1 << 20)).unzip();
        let gateway = Gateway::start(&plan(EngineChoice::Poll, any), echo, links).unwrap();
        let wait_until = |has_lost| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while gateway.has_lost_link() != has_lost {
                assert!(Instant::now() < deadline, "nobody noticed");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        assert!(!gateway.has_lost_link());
        drop(routers.pop());
        wait_until(true);
        assert_eq!(gateway.broken_part(), None);
        let (link, _router) = pipe(1 << 20);
        gateway.set_link(1, RouterId(0), link);
        wait_until(false);
        gateway.stop().unwrap();
    }
}
