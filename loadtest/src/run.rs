//! The coordinator: starts the workers, leads them through the phases, gathers what they measure.
//!
//! It has no part in the load itself: it sleeps, and looks at the workers' boards a few times a second.

use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, SystemTime};

use runtime::{Engine, ReactorConfig};

use crate::clock::{Clock, Ns};
use crate::course::{Board, Counts, Course, Phase};
use crate::driver::{self, Assignment, Route};
use crate::error::RunError;
use crate::funnel::Funnel;
use crate::measure::{Recorder, Series};
use crate::output::IntervalLog;
use crate::plan::block;
use crate::population::Population;
use crate::settings::Settings;
use crate::snapshot::{Activity, Snapshot};
use crate::traffic::Traffic;

/// What a mode tells the coordinator about connecting.
pub(crate) struct Crew<'a> {
    pub(crate) settings: &'a Settings,
    /// Taken where the target names no path.
    pub(crate) path: &'static str,
    pub(crate) subprotocols: &'static [&'static str],
}

/// What came of a run, the modes' own part apart.
pub(crate) struct Summary {
    pub(crate) engine: Option<Engine>,
    pub(crate) started: SystemTime,
    pub(crate) funnel: Funnel,
    pub(crate) traffic: Traffic,
    pub(crate) latencies: Recorder,
    /// CPU cores that the workers used while the schedule ran.
    pub(crate) cpu_cores: f64,
    /// Length of the measured part.
    pub(crate) measured: Duration,
    /// No client got in, or none was left.
    pub(crate) is_down: bool,
    /// The run was asked to end before its time.
    pub(crate) is_interrupted: bool,
    /// The wait for what was in flight was shorter than the settings say: what did not arrive may still have been under way.
    pub(crate) is_cut_short: bool,
}

/// What came of a run.
pub(crate) struct Conducted<O> {
    outcomes: Vec<O>,
    summary: Summary,
}

impl<O> Conducted<O> {
    /// Returns the modes' outcomes, by worker, and the rest.
    pub(crate) fn split(self) -> (Vec<O>, Summary) {
        (self.outcomes, self.summary)
    }
}

type WorkerResult<P> = Result<(<P as Population>::Outcome, Funnel), RunError>;

/// Runs a crew from the first connect to the last close. `populate` makes the population of each worker.
pub(crate) fn conduct<P: Population + Send>(
    crew: &Crew<'_>,
    on_progress: &mut dyn FnMut(&Snapshot),
    populate: impl FnOnce(&Arc<Course>, &Clock) -> Vec<P>,
) -> Result<Conducted<P::Outcome>, RunError> {
    let settings = crew.settings;
    let clock = Clock::start();
    let course = Arc::new(Course::new());
    let boards: Vec<Arc<Board>> = (0..settings.workers).map(|_| Arc::new(Board::new())).collect();
    let populations = populate(&course, &clock);
    let log = settings
        .out
        .as_deref()
        .map(|out| IntervalLog::create(out, settings.replace_out, clock.start_time()))
        .transpose()?;
    std::thread::scope(|scope| {
        let mut coordinator = Coordinator {
            settings,
            clock,
            course: Arc::clone(&course),
            boards: &boards,
            workers: Vec::new(),
            on_progress,
            log,
            interval_start: Ns(0),
            last_traffic: Traffic::default(),
            latencies: Recorder::new(),
        };
        // Whatever goes wrong below, the workers must end, or the scope never would.
        let _finish = FinishOnDrop(&course);
        for (worker, population) in (0..).zip(populations) {
            coordinator.spawn(scope, crew, worker, population)?;
        }
        let lead = coordinator.lead();
        course.enter(Phase::Finish);
        coordinator.conclude(lead?)
    })
}

struct Coordinator<'scope, 'env, O> {
    settings: &'env Settings,
    clock: Clock,
    course: Arc<Course>,
    boards: &'env [Arc<Board>],
    workers: Vec<ScopedJoinHandle<'scope, Result<(O, Funnel), RunError>>>,
    on_progress: &'env mut dyn FnMut(&Snapshot),
    log: Option<IntervalLog>,
    interval_start: Ns,
    last_traffic: Traffic,
    latencies: Recorder,
}

/// How the phases went.
#[derive(Default)]
struct Led {
    cpu_cores: f64,
    measured: Duration,
    is_down: bool,
    is_interrupted: bool,
    is_cut_short: bool,
}

/// How connecting ended.
enum Ramped {
    In,
    NobodyIn,
    Interrupted,
}

struct FinishOnDrop<'a>(&'a Course);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Finish);
    }
}

impl<'scope, O: Send + 'scope> Coordinator<'scope, '_, O> {
    fn spawn<P: Population<Outcome = O> + Send + 'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        crew: &Crew<'_>,
        worker: u32,
        population: P,
    ) -> Result<(), RunError> {
        let settings = self.settings;
        let clients = block(settings.conns, settings.workers, worker);
        let target = &settings.target;
        let assignment = Assignment {
            route: Route {
                address: target.address,
                host: target.host.clone(),
                path: target.path.clone().unwrap_or_else(|| crew.path.to_owned()),
                subprotocols: crew.subprotocols,
                source_ips: settings.source_ips.clone(),
                conn_rate: settings.conn_rate.shared_by(settings.workers),
                connect_timeout: settings.connect_timeout,
            },
            course: Arc::clone(&self.course),
            board: Arc::clone(&self.boards[worker as usize]),
            clock: self.clock,
            first: clients.start,
            count: clients.len() as u32,
            seed: settings.seed,
        };
        let engine = settings.engine;
        let handle = std::thread::Builder::new()
            .name(format!("loadtest-{worker}"))
            .spawn_scoped(scope, move || -> WorkerResult<P> {
                let (reactor, _) = runtime::open(engine, ReactorConfig::default())?;
                driver::run(reactor, population, assignment)
                    .map_err(|source| RunError::Worker { worker, source })
            })
            .map_err(|source| RunError::Worker { worker, source })?;
        self.workers.push(handle);
        Ok(())
    }

    /// Leads the workers through the phases until the run is over.
    fn lead(&mut self) -> Result<Led, RunError> {
        match self.ramp()? {
            Ramped::In => {}
            Ramped::NobodyIn => {
                return Ok(Led {
                    is_down: true,
                    ..Led::default()
                });
            }
            Ramped::Interrupted => {
                return Ok(Led {
                    is_interrupted: true,
                    ..Led::default()
                });
            }
        }
        let start = self.clock.now() + START_AFTER;
        let cpu_before = self.counts().cpu_ns;
        self.course.run_from(start);
        let end = self.run_schedule(start)?;
        let cpu_ns = self.counts().cpu_ns.saturating_sub(cpu_before);
        self.course.enter(Phase::Grace);
        let is_cut_short = self.await_stragglers(start)?;
        Ok(Led {
            cpu_cores: match end.since(start) {
                0 => 0.0,
                ran_ns => cpu_ns as f64 / ran_ns as f64,
            },
            measured: (end - (start + self.settings.warmup)).min(self.settings.duration),
            is_down: self.counts().live == 0,
            is_interrupted: self.settings.interrupt.is_asked(),
            is_cut_short,
        })
    }

    /// Waits until every client has got in or failed.
    fn ramp(&mut self) -> Result<Ramped, RunError> {
        loop {
            self.step(Activity::Connecting, None)?;
            let counts = self.counts();
            if counts.live == 0 && counts.failed >= DOWN_AFTER_FAILURES {
                return Ok(Ramped::NobodyIn);
            }
            if self.settings.interrupt.is_asked() {
                return Ok(Ramped::Interrupted);
            }
            if counts.settled >= self.settings.conns {
                return Ok(if counts.live > 0 {
                    Ramped::In
                } else {
                    Ramped::NobodyIn
                });
            }
        }
    }

    /// Waits for the end of the schedule, or for an interrupt; returns when that was.
    fn run_schedule(&mut self, start: Ns) -> Result<Ns, RunError> {
        let warm = start + self.settings.warmup;
        let end = start + self.settings.length();
        loop {
            let activity = if self.clock.now() < warm {
                Activity::WarmingUp
            } else {
                Activity::Measuring
            };
            self.step(activity, Some(start))?;
            let now = self.clock.now();
            // What is left of the schedule at its end is a little late, not missed, unless the tool cannot keep up.
            let is_over = now >= end && (self.counts().exhausted || now >= end + LATE_MAX);
            if is_over || self.settings.interrupt.is_asked() {
                return Ok(now);
            }
        }
    }

    /// Waits until everything is answered and delivered, or the grace is over; an interrupt leaves a short one. Returns
    /// whether something was still under way when that was over.
    fn await_stragglers(&mut self, start: Ns) -> Result<bool, RunError> {
        let end = self.clock.now() + self.settings.grace;
        let mut end_of_interrupted = Ns::NEVER;
        loop {
            self.step(Activity::Draining, Some(start))?;
            let now = self.clock.now();
            if self.settings.interrupt.is_asked() {
                end_of_interrupted = end_of_interrupted.min(now + INTERRUPTED_GRACE_MAX);
            }
            let traffic = self.traffic();
            let is_done = traffic.in_flight == 0 && traffic.delivered >= traffic.accepted;
            if is_done || now >= end || self.counts().live == 0 {
                return Ok(false);
            }
            if now >= end_of_interrupted {
                return Ok(true);
            }
        }
    }

    /// Sleeps a little, reports progress when it is time.
    fn step(&mut self, activity: Activity, start: Option<Ns>) -> Result<(), RunError> {
        std::thread::sleep(STEP);
        if let Some(worker) = self.workers.iter().position(ScopedJoinHandle::is_finished) {
            // No worker ends by itself before the run does.
            return Err(self.failure_of(worker));
        }
        let now = self.clock.now();
        if now - self.interval_start >= self.settings.progress_every {
            let snapshot = self.take_interval(activity, start, now)?;
            (self.on_progress)(&snapshot);
        }
        Ok(())
    }

    fn failure_of(&mut self, worker: usize) -> RunError {
        let panicked = RunError::Panicked {
            worker: worker as u32,
        };
        match self.workers.remove(worker).join() {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => panicked,
        }
    }

    /// Takes the latencies since the last time out of the boards.
    fn take_interval(
        &mut self,
        activity: Activity,
        start: Option<Ns>,
        now: Ns,
    ) -> Result<Snapshot, RunError> {
        let mut interval = Recorder::new();
        for board in self.boards {
            board.with(|board| interval.absorb(&mut board.interval));
        }
        let span = now - self.interval_start;
        if let Some(log) = &mut self.log {
            log.write(&interval, self.interval_start, span)?;
        }
        let (traffic, counts) = (self.traffic(), self.counts());
        let per_s = |count: fn(&Traffic) -> u64| {
            count(&traffic).saturating_sub(count(&self.last_traffic)) as f64 / span.as_secs_f64().max(1e-9)
        };
        let quantile =
            |series: Series, q: f64| Duration::from_nanos(interval.series(series).value_at_quantile(q));
        let snapshot = Snapshot {
            activity,
            elapsed: start.map_or(Duration::ZERO, |start| (now - start).min(self.settings.length())),
            length: self.settings.length(),
            conns: self.settings.conns,
            connected: counts.live,
            failed: counts.failed,
            sent_per_s: per_s(|traffic| traffic.sent),
            accepted_per_s: per_s(|traffic| traffic.accepted),
            delivered_per_s: per_s(|traffic| traffic.delivered),
            ack_p50: quantile(Series::Ack, 0.5),
            ack_p99: quantile(Series::Ack, 0.99),
            delivery_p50: quantile(Series::Delivery, 0.5),
            delivery_p99: quantile(Series::Delivery, 0.99),
            traffic,
        };
        self.interval_start = now;
        self.last_traffic = traffic;
        self.latencies.absorb(&mut interval);
        Ok(snapshot)
    }

    /// Joins the workers and takes what they have published last.
    fn conclude(mut self, led: Led) -> Result<Conducted<O>, RunError> {
        let mut funnel = Funnel::new();
        let mut outcomes = Vec::new();
        for (worker, handle) in (0..).zip(std::mem::take(&mut self.workers)) {
            let (outcome, connections) = handle.join().map_err(|_| RunError::Panicked { worker })??;
            funnel.absorb(&connections);
            outcomes.push(outcome);
        }
        let now = self.clock.now();
        self.take_interval(Activity::Draining, None, now)?;
        if let Some(log) = self.log.take() {
            log.finish()?;
        }
        let summary = Summary {
            engine: self
                .boards
                .iter()
                .find_map(|board| board.with(|board| board.engine)),
            started: self.clock.start_time(),
            funnel,
            traffic: self.traffic(),
            latencies: self.latencies,
            cpu_cores: led.cpu_cores,
            measured: led.measured,
            is_down: led.is_down,
            is_interrupted: led.is_interrupted,
            is_cut_short: led.is_cut_short,
        };
        Ok(Conducted { outcomes, summary })
    }

    fn traffic(&self) -> Traffic {
        self.boards.iter().fold(Traffic::default(), |mut sum, board| {
            sum += board.with(|board| board.traffic);
            sum
        })
    }

    fn counts(&self) -> Counts {
        let start = Counts {
            exhausted: true,
            ..Counts::default()
        };
        self.boards
            .iter()
            .map(|board| board.with(|board| board.counts))
            .fold(start, |sum, counts| Counts {
                settled: sum.settled + counts.settled,
                live: sum.live + counts.live,
                failed: sum.failed + counts.failed,
                exhausted: sum.exhausted && counts.exhausted,
                cpu_ns: sum.cpu_ns + counts.cpu_ns,
            })
    }
}

const STEP: Duration = Duration::from_millis(10);
/// Time for every worker to see the start before the first send is due.
const START_AFTER: Duration = Duration::from_millis(100);
/// How long sends due before the end may still leave after it.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How long an interrupted run waits for what is in flight; somebody sits before it.
const INTERRUPTED_GRACE_MAX: Duration = Duration::from_secs(2);
/// So many failures without a single success: the target is down.
const DOWN_AFTER_FAILURES: u64 = 20;
