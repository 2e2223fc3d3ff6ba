//! A simulation of router, log and store in virtual time: a seed decides what people do, what goes wrong and what a crash
//! leaves on the disk; an auditor who sees nothing but the records on the links says what was broken.
//!
//! Reading order: [`plan`] (what a seed decides), [`world`] with [`workload`] and [`trouble`] (what happens), [`machine`] on
//! [`watch`] (what is tested, and how it goes down), [`transcript`] and [`audit`] (what is seen, and what must hold),
//! [`finish`] (how it ends).
//!
//! | variable | meaning |
//! |---|---|
//! | `SIMULATION_SEEDS` | how many seeds to run; 100 |
//! | `SIMULATION_FIRST` | the first of them; 1 |
//! | `SIMULATION_SEED` | run only this one: what a failure names |
//! | `SIMULATION_TRACE` | show every event of a failed run |

mod audit;
mod broken;
mod coverage;
mod dense;
mod finish;
mod gateway;
mod machine;
mod plan;
mod rng;
mod run;
mod text;
mod transcript;
mod trouble;
mod watch;
mod workload;
mod world;

use run::{for_each, is_replay, replay_command, run, seeds};

#[test]
fn seeds_keep_every_promise() {
    let seeds = seeds();
    let coverage = for_each(&seeds, |seed| {
        let run = run(*seed, None);
        match run.failure(&replay_command(*seed)) {
            Some(failure) => Err(failure),
            None => Ok(run.coverage),
        }
    });
    println!("{} seeds:\n{coverage}", seeds.len());
    if !is_replay() && seeds.len() >= 100 {
        let missing = coverage.missing(MUST_BE_MET);
        assert!(
            missing.is_empty(),
            "the simulation no longer meets {missing:?}:\n{coverage}"
        );
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 4] {
        assert!(
            run(seed, None).transcript == run(seed, None).transcript,
            "seed {seed}"
        );
    }
}

#[test]
fn a_crash_in_any_operation_breaks_no_promise() {
    let crashes = dense::single_crashes();
    let coverage = for_each(&crashes, dense::Crashes::check);
    println!("{} crashes:\n{coverage}", crashes.len());
}

#[test]
fn a_crash_in_any_operation_of_a_start_after_a_crash_breaks_no_promise() {
    let crashes = dense::double_crashes();
    let coverage = for_each(&crashes, dense::Crashes::check);
    println!("{} pairs of crashes:\n{coverage}", crashes.len());
}

/// Does nothing but for `SIMULATION_CRASH`.
#[test]
fn one_crash_of_the_two_above() {
    let Ok(text) = std::env::var("SIMULATION_CRASH") else {
        return;
    };
    let crashes = dense::Crashes::from_text(&text).expect("SIMULATION_CRASH is what a failure names");
    if let Err(failure) = crashes.check() {
        panic!("{failure}");
    }
}

const MUST_BE_MET: &[(&str, u64)] = &[];
