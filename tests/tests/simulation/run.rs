//! One run from its seed to its verdict, and many of them.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire_base::limits::WINDOW_BYTES_MAX;

use crate::audit::{Auditor, Bounds, Violation};
use crate::coverage::Coverage;
use crate::finish::finish;
use crate::transcript::Event;
use crate::watch::Defect;
use crate::workload::act;
use crate::world::World;

/// What became of a run.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) bounds: Bounds,
    pub(crate) transcript: Vec<Event>,
    pub(crate) coverage: Coverage,
}

/// Runs a seed to its end, or to the first violation.
pub(crate) fn run(seed: u64, defect: Option<Defect>) -> Run {
    play(seed, World::new(seed, defect))
}

/// Runs a seed for so many rounds only.
pub(crate) fn run_shortly(seed: u64, rounds: usize) -> Run {
    let mut world = World::new(seed, None);
    world.plan.rounds = rounds;
    play(seed, world)
}

fn play(seed: u64, mut world: World) -> Run {
    world.start_crashes_percent = if world.plan.rates.crash > 0 { 30 } else { 0 };
    for _ in 0..world.plan.rounds {
        act(&mut world);
        world.round();
        if !world.auditor.violations().is_empty() {
            return Run::of(seed, world);
        }
    }
    finish(&mut world);
    Run::of(seed, world)
}

impl Run {
    pub(crate) fn of(seed: u64, mut world: World) -> Self {
        for (operation, calls) in world.machine.calls() {
            world.coverage.add(format!("{operation:?}"), calls);
        }
        for worker in &world.workers {
            worker.add_counters(&mut world.coverage);
        }
        let is_full = world.auditor.most_bytes_in_flight() > WINDOW_BYTES_MAX / 4 * 3;
        world
            .coverage
            .add("window that is full by its bytes", u64::from(is_full));
        Self {
            seed,
            violations: world.auditor.violations().to_vec(),
            bounds: world.plan.bounds(),
            transcript: world.transcript,
            coverage: world.coverage,
        }
    }

    /// Returns what a person needs to see of a run that failed; `None` for a good one.
    pub(crate) fn failure(&self, replay: &str) -> Option<String> {
        let first = self.violations.first()?;
        let shown = if is_traced() { usize::MAX } else { EVENTS_SHOWN };
        let skipped = self.transcript.len().saturating_sub(shown);
        let events: Vec<String> = self
            .transcript
            .iter()
            .skip(skipped)
            .map(Event::to_string)
            .collect();
        let others: Vec<String> = self
            .violations
            .iter()
            .skip(1)
            .take(5)
            .map(|it| format!("  also: {it}\n"))
            .collect();
        Some(format!(
            "seed {}: {first}\n{}the last of {} events (all with SIMULATION_TRACE=1):\n{}\nreplay with\n  {replay}\n",
            self.seed,
            others.concat(),
            self.transcript.len(),
            events.join("\n"),
        ))
    }
}

/// Audits a transcript on its own.
pub(crate) fn audit(bounds: Bounds, transcript: &[Event]) -> Vec<Violation> {
    let mut auditor = Auditor::new(bounds);
    for event in transcript {
        auditor.observe(event);
    }
    auditor.conclude();
    auditor.violations().to_vec()
}

/// Plays every case on all processors, and returns the sum of what they met.
///
/// Panics: with the first failure, and the command of `replay` that repeats it.
pub(crate) fn for_each<T: Debug + Sync>(
    cases: &[T],
    play: impl Fn(&T) -> Run + Sync,
    replay: impl Fn(&T) -> String + Sync,
) -> Coverage {
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new((Coverage::default(), None::<(usize, String)>));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return };
            let result = catch_unwind(AssertUnwindSafe(|| play(case)));
            let failure = match &result {
                Ok(run) => run.failure(&replay(case)),
                Err(_) => Some(format!("panicked, see above; replay with\n  {}", replay(case))),
            };
            let mut outcome = outcome.lock().expect("nothing panics while it holds this");
            let Some(failure) = failure.map(|failure| format!("{case:?}: {failure}")) else {
                outcome
                    .0
                    .merge(&result.expect("a run that panicked has failed").coverage);
                continue;
            };
            next.store(cases.len(), Ordering::Relaxed);
            if outcome.1.as_ref().is_none_or(|(first, _)| index < *first) {
                outcome.1 = Some((index, failure));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(work);
        }
    });
    let (coverage, failure) = outcome.into_inner().expect("nothing panics while it holds this");
    if let Some((_, failure)) = failure {
        panic!("{failure}");
    }
    coverage
}

/// The command that runs one seed again.
pub(crate) fn replay_command(seed: u64) -> String {
    format!("SIMULATION_SEED={seed} cargo test -p tidegate-tests --test simulation seeds -- --nocapture")
}

/// The seeds to run: `SIMULATION_SEED` alone, else so many as `SIMULATION_SEEDS` says, from `SIMULATION_FIRST` on.
pub(crate) fn seeds() -> Vec<u64> {
    if let Some(seed) = number("SIMULATION_SEED") {
        return vec![seed];
    }
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    (first..)
        .take(number("SIMULATION_SEEDS").unwrap_or(100) as usize)
        .collect()
}

/// Returns whether a single run is asked for.
pub(crate) fn is_replay() -> bool {
    is_set("SIMULATION_SEED")
}

/// The seeds of the cluster, in the same way.
pub(crate) fn cluster_seeds() -> Vec<u64> {
    if let Some(seed) = number("SIMULATION_CLUSTER_SEED") {
        return vec![seed];
    }
    let first = number("SIMULATION_CLUSTER_FIRST").unwrap_or(1);
    (first..)
        .take(number("SIMULATION_CLUSTER_SEEDS").unwrap_or(1_000) as usize)
        .collect()
}

/// Returns whether a single run of the cluster is asked for.
pub(crate) fn is_cluster_replay() -> bool {
    is_set("SIMULATION_CLUSTER_SEED")
}

/// Returns whether everything is to be shown.
pub(crate) fn is_traced() -> bool {
    is_set("SIMULATION_TRACE")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
    )
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

const EVENTS_SHOWN: usize = 40;
