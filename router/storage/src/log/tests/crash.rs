//! Power failures and kills at every operation, of logs that lengthen their segments in advance by nothing, a little or more
//! than a segment.

use super::*;

const SEGMENT_BYTES: u64 = 1_500;
const SEEDS: u64 = 12;

fn config(seed: u64) -> LogConfig {
    LogConfig {
        preallocate_bytes: [0, 700, 1 << 20][(seed % 3) as usize],
        ..super::config(SEGMENT_BYTES)
    }
}

fn open(disk: &SimDisk, seed: u64, flushed: Option<Offset>) -> SimLog {
    SegmentedLog::open(disk.clone(), config(seed), flushed).unwrap().0
}

/// What a run was told, whatever happened to the machine under it.
#[derive(Default)]
struct Told {
    /// Records whose append returned `Ok`.
    acknowledged: Records,
    /// The group of the append that did not return.
    unanswered: Records,
    /// Everything below may have been deleted.
    deleted_before: u64,
}

#[test]
fn power_failure_at_every_operation_loses_nothing_acknowledged() {
    for seed in 0..SEEDS {
        for operation in 0..run_operations() {
            let disk = SimDisk::seeded(seed * 1_000 + operation).with_preallocation();
            let told = run_until_crash(&disk, seed, operation);
            disk.crash();
            let log = open(&disk, seed, flushed(&told, seed));
            check(&log, &told, seed, operation);
        }
    }
}

#[test]
fn power_failures_in_a_row_during_recovery_lose_nothing_either() {
    for seed in 0..SEEDS {
        for operation in 0..run_operations() {
            for recovery_operation in 0..8 {
                let disk = SimDisk::seeded(seed * 1_000 + operation).with_preallocation();
                let told = run_until_crash(&disk, seed, operation);
                disk.crash();
                disk.crash_at(recovery_operation);
                let first = SegmentedLog::open(disk.clone(), config(seed), flushed(&told, seed));
                assert!(
                    first.as_ref().err().is_none_or(|error| is_crash(error)),
                    "{first:?}"
                );
                let handed_out = first.ok().map(|(log, _)| log.next());
                disk.crash();
                let log = open(&disk, seed, flushed(&told, seed));
                check(&log, &told, seed, operation);
                if let Some(next) = handed_out {
                    assert_eq!(
                        log.next(),
                        next,
                        "what an opened log held is durable; seed {seed}, operation {operation}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_in_the_page_cache_is_durable_once_handed_out() {
    for seed in 0..SEEDS {
        for operation in 0..run_operations() {
            for appends_first in [false, true] {
                let disk = SimDisk::seeded(seed * 1_000 + operation).with_preallocation();
                let mut told = run_until_crash(&disk, seed, operation);
                let mut log = {
                    disk.restart();
                    open(&disk, seed, flushed(&told, seed))
                };
                check(&log, &told, seed, operation);
                if appends_first {
                    told.acknowledged = [
                        &told.acknowledged[..log.first().0 as usize],
                        &read_from(&log, log.first().0 as usize),
                    ]
                    .concat();
                    told.unanswered.clear();
                    append(&mut log, &[b"more".to_vec()]).unwrap();
                    told.acknowledged.push(b"more".to_vec());
                }
                let next = log.next();
                drop(log);
                disk.crash();
                let log = open(&disk, seed, next.0.checked_sub(1).map(Offset));
                check(&log, &told, seed, operation);
                assert_eq!(log.next(), next, "seed {seed}, operation {operation}");
            }
        }
    }
}

#[test]
fn header_whose_sync_failed_outlives_the_first_group_after_it() {
    for seed in 0..20 {
        let disk = SimDisk::seeded(seed);
        let mut log = super::open(&disk, 1, None);
        append(&mut log, &[b"one".to_vec()]).unwrap();
        // The footer is synced before the header of the next segment.
        disk.fail_sync(1);
        append(&mut log, &[b"two".to_vec()]).unwrap_err();
        drop(log);
        let mut log = reopen(&disk, 1, None);
        disk.crash_at(1);
        append(&mut log, &[vec![7; 4_000]]).unwrap_err();
        drop(log);
        disk.crash();
        let log = super::open(&disk, 1, None);
        assert_eq!(read_from(&log, 0)[0], b"one", "seed {seed}");
    }
}

#[test]
fn log_goes_on_after_each_of_many_power_failures() {
    for seed in 0..200 {
        let disk = SimDisk::seeded(seed).with_preallocation();
        let mut kept = Records::new();
        for round in 0..10 {
            let (mut log, _) = SegmentedLog::open(disk.clone(), config(seed), None).unwrap();
            let found = read_from(&log, 0);
            assert_eq!(found[..kept.len()], kept[..], "seed {seed}, round {round}");
            kept = found;
            disk.crash_at((seed + round * 7) % 9);
            for number in 0.. {
                let group = vec![vec![round as u8; (seed as usize * 131 + number * 57) % 700]];
                match append(&mut log, &group) {
                    Ok(_) => kept.extend(group),
                    Err(error) => {
                        assert!(is_crash(&error));
                        break;
                    }
                }
            }
            drop(log);
            disk.crash();
        }
    }
}

/// Opens a log, appends groups of some sectors each, deletes twice; stops where the machine does.
fn run_until_crash(disk: &SimDisk, seed: u64, operation: u64) -> Told {
    let mut told = Told::default();
    disk.crash_at(operation);
    let outcome = run(disk, seed, &mut told);
    assert!(
        outcome.is_err() && disk.is_down(),
        "the run is longer than {operation} operations"
    );
    told
}

/// Returns `Err` when the machine went down.
fn run(disk: &SimDisk, seed: u64, told: &mut Told) -> Result<(), ()> {
    let opened = SegmentedLog::open(disk.clone(), config(seed), None);
    let (mut log, _) = opened.map_err(|error| assert!(is_crash(&error), "{error}"))?;
    for number in 0..GROUPS {
        told.unanswered = group(seed, number);
        append(&mut log, &told.unanswered).map_err(|error| assert!(is_crash(&error), "{error}"))?;
        told.acknowledged.append(&mut told.unanswered);
        if number == GROUPS / 2 || number == GROUPS - 2 {
            told.deleted_before = told.acknowledged.len() as u64 * 2 / 3;
            let deleted = log.truncate_below(Offset(told.deleted_before));
            deleted.map_err(|error| assert!(is_crash(&error), "{error}"))?;
        }
    }
    Ok(())
}

const GROUPS: usize = 10;

/// Operations of the shortest run of all seeds.
fn run_operations() -> u64 {
    let operations = (0..SEEDS).map(|seed| {
        let disk = SimDisk::seeded(0).with_preallocation();
        run(&disk, seed, &mut Told::default()).expect("no crash was asked for");
        disk.operations()
    });
    operations.min().expect("there are seeds")
}

fn group(seed: u64, number: usize) -> Records {
    (0..1 + (seed as usize + number) % 3)
        .map(|index| vec![number as u8 + 1; (seed as usize * 97 + number * 211 + index * 400) % 1_100])
        .collect()
}

/// An offset up to which a store may be complete: nothing unacknowledged, and everything that may be deleted.
fn flushed(told: &Told, seed: u64) -> Option<Offset> {
    let most = told.acknowledged.len() as u64;
    let least = told.deleted_before;
    let count = least + (most - least) * (seed % 3) / 2;
    count.checked_sub(1).map(Offset)
}

/// Everything acknowledged is there byte for byte, and at most the unanswered group more.
fn check(log: &SimLog, told: &Told, seed: u64, operation: u64) {
    let first = log.first().0 as usize;
    assert!(
        first as u64 <= told.deleted_before,
        "seed {seed}, operation {operation}"
    );
    let found = read_from(log, first);
    let acknowledged = &told.acknowledged[first..];
    let with_unanswered = [acknowledged, &told.unanswered[..]].concat();
    assert!(
        found == acknowledged || found == with_unanswered,
        "seed {seed}, operation {operation}"
    );
}
