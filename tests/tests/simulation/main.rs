//! A simulation of router, log and store, each on a thread that the seed steps, in virtual time: a seed decides what people
//! do, what goes wrong and what a crash leaves on the disk; an auditor who sees nothing but the records on the links and
//! what clients are shown says what was broken.
//!
//! Reading order: [`plan`] (what a seed decides), [`world`] with [`workload`], [`trouble`] and [`clocks`] (what happens),
//! [`machine`] on [`stepped`] and [`watch`] (what is tested, and how it goes down), [`worker`] and [`client`] (the gateways that
//! ship, between it and people), [`api`], [`transcript`] and [`audit`] (what is seen, and what must hold), [`finish`] (how it
//! ends). Beside the dice, [`dense`] tries every place for a crash, and [`broken`] proves that all of this can fail.
//!
//! | variable | meaning |
//! |---|---|
//! | `SIMULATION_SEEDS` | how many seeds to run; 100 |
//! | `SIMULATION_FIRST` | the first of them; 1 |
//! | `SIMULATION_SEED` | run only this one: what a failure names |
//! | `SIMULATION_CRASH` | tell only this story of [`dense`]: what a failure names |
//! | `SIMULATION_CLUSTER_SEEDS` | how many seeds of [`cluster`] to run; 1,000 |
//! | `SIMULATION_CLUSTER_FIRST` | the first of them; 1 |
//! | `SIMULATION_CLUSTER_SEED` | run only this one: what a failure names |
//! | `SIMULATION_TRACE` | show every event of a failed run, in [`cluster`] also what the nodes intend |

mod api;
mod audit;
mod broken;
mod client;
mod clocks;
mod cluster;
mod coverage;
mod dense;
mod finish;
mod machine;
mod plan;
mod rng;
mod run;
mod stepped;
mod text;
mod transcript;
mod trouble;
mod watch;
mod worker;
mod workload;
mod world;

use dense::Crashes;
use run::{for_each, is_replay, replay_command, run, seeds};

#[test]
fn seeds_keep_every_promise() {
    let seeds = seeds();
    let coverage = for_each(&seeds, |seed| run(*seed, None), |seed| replay_command(*seed));
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
    let coverage = for_each(&crashes, Crashes::play, Crashes::replay_command);
    println!("{} crashes:\n{coverage}", crashes.len());
}

#[test]
fn a_crash_in_any_operation_of_a_start_after_a_crash_breaks_no_promise() {
    let crashes = dense::double_crashes();
    let coverage = for_each(&crashes, Crashes::play, Crashes::replay_command);
    println!("{} pairs of crashes:\n{coverage}", crashes.len());
}

/// Does nothing but for `SIMULATION_CRASH`.
#[test]
fn one_crash_of_the_two_above() {
    let Ok(text) = std::env::var("SIMULATION_CRASH") else {
        return;
    };
    let crashes = Crashes::from_text(&text).expect("SIMULATION_CRASH is what a failure names");
    for_each(&[crashes], Crashes::play, Crashes::replay_command);
}

/// What a hundred seeds meet at least so often: about a quarter of what they do.
const MUST_BE_MET: &[(&str, u64)] = &[
    // The machine.
    ("Power", 300),
    ("Kill", 200),
    ("start", 500),
    ("start after several crashes in a row", 8),
    ("start refused by the disk", 15),
    ("reads fail from a boot on", 15),
    ("trouble: LogReads", 15),
    ("trouble: StoreReads", 15),
    ("trouble for long", 15),
    ("crash in Write", 100),
    ("crash in Sync", 100),
    ("crash in SyncDirectory", 10),
    ("crash in Create", 10),
    ("crash in Remove", 3),
    ("crash in Apply", 25), // Rows are gathered: a batch is many records'.
    ("crash in Persist", 15),
    ("Log behind", 1_000),
    ("Log late", 20),
    ("Log had jobs when the machine went down", 20),
    ("Store behind", 3_000),
    ("Store late", 150),
    ("Store had jobs when the machine went down", 300),
    ("crash in Write of a start", 10),
    ("crash in Sync of a start", 20),
    ("crash in SyncDirectory of a start", 10),
    ("crash in Apply of a start", 8),
    ("crash in Persist of a start", 10),
    ("torn group cut", 40),
    ("headless segment dropped", 15),
    ("replayed record", 2_000),
    ("observed record", 10_000),
    ("Remove", 1_000),
    ("Truncate", 50),
    ("Preallocate", 1_000),
    ("router_sweep_steps_total", 500),
    // Disk and store that refuse.
    ("trouble was felt as LogFull", 10),
    ("trouble was felt as LogFailed", 10),
    ("trouble was felt as StoreFull", 10),
    ("trouble was felt as StoreFailed", 15),
    ("rejected: Unavailable", 1_000),
    ("session refused: Unavailable", 50),
    ("failed: Unavailable", 50),
    // Sends.
    ("sent", 20_000),
    ("send over HTTP", 5_000),
    ("late send", 3_000),
    ("message to oneself", 5_000),
    ("message without an id", 800),
    ("duplicate", 3_000),
    ("duplicate after a restart", 500),
    ("duplicate of something out of the window", 500),
    ("rejected: Conflict", 200),
    ("rejected: BadRequest", 800),
    ("time passed that empties the window", 60),
    ("wall clock set back", 30),
    ("clock wrong by days, ahead", 20),
    ("clock wrong by days, back", 20),
    ("clock in doubt", 30),
    ("month passed", 15),
    ("month passed that ends within retention", 3),
    // Sessions and links.
    ("resumed by cursor", 700),
    ("resync", 120),
    ("session announced again", 1_500),
    ("session replaced", 800),
    ("session refused: TooManyDevices", 80),
    ("ack withheld", 2_000),
    ("strange ack", 800),
    ("window that is full by its bytes", 5),
    ("router_backlog_pages_total", 20_000),
    ("router_link_refusals_total", 10_000),
    ("link broke", 100),
    ("link broke the format", 20),
    ("link stood still", 300),
    // The Hub, its sockets and its clients.
    ("gateway_batches_sent_total", 20_000),
    ("gateway_sends_returned_total", 15_000),
    ("gateway_pauses_total", 200),
    ("gateway_pings_sent_total", 20_000),
    ("gateway_pending_timeouts_total", 150),
    ("gateway_answers_late_total", 140),
    ("gateway_updates_conflated_total", 900),
    ("gateway_link_batches_refused_total", 700),
    ("gateway_closes_total client_closed client", 300),
    ("gateway_closes_total client_left client", 200),
    ("gateway_closes_total no_router router", 250),
    ("gateway_closes_total ping_timeout network", 15),
    ("gateway_closes_total replaced client", 700),
    ("gateway_closes_total session_lost router", 20),
    ("gateway_closes_total slow_outbox client", 2),
    ("gateway_closes_total slow_progress client", 50),
    ("gateway_closes_total storage_unavailable backend", 400),
    ("closed with 4409", 5),
    ("closed with 4503", 500),
    // Statuses and pages.
    ("status update", 5_000),
    ("status done", 1_000),
    ("failed: Forbidden", 500),
    ("failed: BadRequest", 50),
    ("page asked for right behind a send", 800),
    ("history page with more", 800),
    ("conversations page", 500),
];
