//! A simulation of three nodes of a cluster: logs that several append to, a store that all write to, slots that move, and
//! gateways that know late who owns what. The same auditor as of one router says what was broken, from the records on the links;
//! at the end the store is held against the logs.
//!
//! Reading order: [`plan`] (what a seed decides), [`world`] (a round), [`process`] with [`log`], [`store`] and
//! [`views`] (nodes and what they share), [`links`], [`gateway`] and [`clients`] (who talks to them), [`trouble`] (what goes
//! wrong), [`finish`] (how it ends).

mod clients;
mod finish;
mod gateway;
mod links;
mod log;
mod plan;
mod process;
mod store;
mod trouble;
mod views;
mod world;

use self::finish::finish;
use self::world::World;
use crate::run::{Run, cluster_seeds, for_each, is_cluster_replay, is_traced};

#[test]
fn a_cluster_keeps_every_promise() {
    let seeds = cluster_seeds();
    let coverage = for_each(&seeds, |seed| run(*seed), |seed| replay_command(*seed));
    println!("{} seeds of a cluster:\n{coverage}", seeds.len());
    if !is_cluster_replay() && seeds.len() >= 100 {
        let missing = coverage.missing(MUST_BE_MET);
        assert!(
            missing.is_empty(),
            "the simulation no longer meets {missing:?}:\n{coverage}"
        );
    }
}

#[test]
fn a_seed_of_a_cluster_gives_the_same_run_again() {
    assert!(run(3).transcript == run(3).transcript);
}

/// Runs a seed to its end, or to the first violation.
fn run(seed: u64) -> Run {
    let mut world = World::new(seed, is_traced());
    for _ in 0..world.plan.rounds {
        world.pass_time();
        world.trouble();
        world.act();
        world.round();
        if world.is_violated() {
            break;
        }
    }
    if !world.is_violated() {
        finish(&mut world);
    }
    Run {
        seed,
        violations: world.auditor.violations().to_vec(),
        bounds: world.plan.bounds(),
        transcript: world.transcript,
        coverage: world.coverage,
    }
}

fn replay_command(seed: u64) -> String {
    format!(
        "SIMULATION_CLUSTER_SEED={seed} cargo test -p tidegate-tests --test simulation a_cluster_keeps -- --nocapture"
    )
}

/// What a hundred seeds meet at least so often: about a quarter of what they do.
const MUST_BE_MET: &[(&str, u64)] = &[
    // Logs and store.
    ("append failed", 200),
    ("append failed and is in the log", 80),
    ("group that others come between", 1_000),
    ("group with gaps", 250),
    ("consumer went astray", 1_500),
    ("row of a late writer", 200),
    ("rows could not be written", 15),
    ("read failed", 100),
    // Nodes and slots.
    ("node killed", 35),
    ("node paused", 40),
    ("node evicted", 40),
    ("slot taken", 1_000),
    ("slot taken from the middle", 120),
    ("slot with two owners", 250),
    ("slot without an owner", 50),
    ("slot released and taken again at once", 150),
    ("slots moved in bulk", 50),
    ("end asked for again", 50),
    ("news of a watermark for another node", 2_000),
    ("news of a watermark lost", 20),
    ("minutes passed", 50),
    // Gateways and clients.
    ("asked of who does not own it", 1_000),
    ("answer of an earlier announcement", 500),
    ("session announced again", 300),
    ("session replaced", 500),
    ("session refused: Unavailable", 800),
    ("resumed by cursor", 300),
    ("resync", 10),
    ("link broke", 70),
    ("link stood still", 100),
    ("link full", 1_000),
    ("sent", 8_000),
    ("duplicate", 500),
    ("rejected: Busy", 1_000),
    ("rejected: Conflict", 100),
    ("rejected: Unavailable", 1_000),
    ("delivered", 25_000),
    ("status update", 5_000),
    ("status done", 200),
    ("failed: Forbidden", 500),
    ("failed: Unavailable", 500),
    ("history page", 700),
    ("conversations page", 300),
];
