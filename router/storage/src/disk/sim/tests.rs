use std::collections::BTreeSet;

use super::*;
use crate::sim::is_crash;

const SEEDS: u64 = 200;

#[test]
fn synced_bytes_survive_every_crash() {
    for seed in 0..SEEDS {
        let disk = SimDisk::seeded(seed);
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 2000]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(2000, &[2; 2000]).unwrap();
        disk.crash();
        assert_eq!(disk.contents("a")[..2000], [1; 2000], "seed {seed}");
    }
}

#[test]
fn every_subset_of_unsynced_sectors_is_seen() {
    let outcomes = outcomes(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 3 * SECTOR_BYTES]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(0, &[2; 3 * SECTOR_BYTES]).unwrap();
        disk.crash();
        [0, 1, 2]
            .map(|sector| disk.contents("a")[sector * SECTOR_BYTES])
            .to_vec()
    });
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}

#[test]
fn unsynced_length_and_truncation_survive_or_not() {
    let lengths = outcomes(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 600]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.truncate(100).unwrap();
        disk.crash();
        vec![disk.contents("a").len()]
    });
    assert_eq!(lengths, BTreeSet::from([vec![100], vec![600]]));
}

#[test]
fn file_lengthened_in_advance_has_zeros_and_any_length_until_it_is_synced() {
    let lengths = outcomes(|disk| {
        let disk = disk.with_preallocation();
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 600]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.preallocate(2_000).unwrap();
        disk.crash();
        let bytes = disk.contents("a");
        assert!(bytes[600..].iter().all(|byte| *byte == 0));
        vec![bytes.len()]
    });
    assert_eq!(lengths, BTreeSet::from([vec![600], vec![1_300], vec![2_000]]));
    let disk = SimDisk::seeded(1);
    let file = disk.create("a").unwrap();
    assert!(file.preallocate(2_000).is_err());
    disk.set_space_left(Some(100));
    let file = disk.with_preallocation().open("a").unwrap();
    assert!(matches!(file.preallocate(2_000), Err(DiskError::NoSpace { .. })));
    assert_eq!(file.len().unwrap(), 100);
}

#[test]
fn names_are_durable_only_after_the_directory_is_synced() {
    let names = outcomes(|disk| {
        disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        disk.create("b").unwrap();
        disk.remove("a").unwrap();
        disk.crash();
        disk.list().unwrap()
    });
    assert_eq!(names.len(), 4, "{names:?}");
    let renamed = outcomes(|disk| {
        disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        disk.rename("a", "b").unwrap();
        disk.crash();
        disk.list().unwrap()
    });
    assert_eq!(
        renamed,
        BTreeSet::from([vec!["a".to_owned()], vec!["b".to_owned()]])
    );
}

#[test]
fn failed_sync_is_not_made_good_by_the_next_one() {
    let kept = outcomes(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 10]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(0, &[2; 10]).unwrap();
        disk.fail_sync(0);
        assert!(matches!(file.sync_data(), Err(DiskError::Io { .. })));
        assert_eq!(disk.contents("a"), [2; 10]);
        file.sync_data().unwrap();
        disk.crash();
        disk.contents("a")
    });
    assert_eq!(kept, BTreeSet::from([vec![1; 10], vec![2; 10]]));
}

#[test]
fn full_disk_takes_what_fits_and_removing_gives_room() {
    let disk = SimDisk::seeded(1);
    disk.set_space_left(Some(100));
    let file = disk.create("a").unwrap();
    file.write_at(0, &[1; 60]).unwrap();
    assert!(matches!(file.write_at(60, &[2; 60]), Err(DiskError::NoSpace { file }) if file == "a"));
    assert_eq!(file.len().unwrap(), 100);
    file.write_at(0, &[3; 100]).unwrap();
    file.truncate(60).unwrap();
    file.write_at(60, &[2; 40]).unwrap();
    disk.remove("a").unwrap();
    disk.create("b").unwrap().write_at(0, &[1; 100]).unwrap();
}

#[test]
fn crash_at_an_operation_stops_everything_until_power_returns() {
    let disk = SimDisk::seeded(1);
    let file = disk.create("a").unwrap();
    disk.sync_dir().unwrap();
    let lock = disk.lock().unwrap();
    disk.crash_at(1);
    file.write_at(0, b"x").unwrap();
    assert!(is_crash(&file.sync_data().unwrap_err()));
    assert!(is_crash(&file.len().unwrap_err()));
    assert!(is_crash(&disk.list().unwrap_err()));
    disk.crash();
    assert!(
        is_crash(&file.len().unwrap_err()),
        "a handle of an earlier boot is dead"
    );
    let _again = disk.lock().unwrap();
    drop(lock);
    assert!(
        matches!(disk.lock(), Err(DiskError::Locked { .. })),
        "a stale lock frees nothing"
    );
    assert_eq!(disk.list().unwrap(), ["a"]);
}

#[test]
fn restart_keeps_the_page_cache() {
    let disk = SimDisk::seeded(1);
    disk.create("a").unwrap().write_at(0, b"x").unwrap();
    disk.restart();
    assert_eq!(disk.contents("a"), b"x");
}

fn outcomes<T: Ord>(run: impl Fn(SimDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| run(SimDisk::seeded(seed))).collect()
}
