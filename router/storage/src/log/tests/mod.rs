//! Tests of the log as a whole, on a simulated disk (and once on a real one).

mod ahead;
mod contract;
mod crash;
mod damage;
mod seal;
mod space;

use proptest::prelude::*;
use wire_base::ids::Offset;

use super::*;
use crate::disk::{Disk, DiskError, RealDisk, SimDisk};
use crate::sim::is_crash;

type SimLog = SegmentedLog<SimDisk>;
type Records = Vec<Vec<u8>>;

const GENERATION: u32 = 7;

proptest! {
    #[test]
    fn records_come_back_from_every_offset_before_and_after_reopening(
        groups in groups(12, 80), segment_bytes in 1u64..1_000,
    ) {
        let disk = SimDisk::seeded(1);
        let mut log = open(&disk, segment_bytes, None);
        for group in &groups {
            append(&mut log, group).unwrap();
        }
        let all = groups.concat();
        for log in [log, reopen(&disk, segment_bytes, None)] {
            prop_assert_eq!(log.next(), Offset(all.len() as u64));
            for from in 0..=all.len() {
                prop_assert_eq!(&read_from(&log, from)[..], &all[from..]);
            }
        }
    }

    #[test]
    fn segments_are_contiguous_and_only_a_single_group_may_pass_their_size(
        groups in groups(12, 80), segment_bytes in 1u64..1_000,
    ) {
        let disk = SimDisk::seeded(1);
        let mut log = open(&disk, segment_bytes, None);
        let mut next = Offset(0);
        for group in &groups {
            prop_assert_eq!(append(&mut log, group).unwrap(), next);
            next.0 += group.len() as u64;
        }
        let segments: Vec<_> = log.segments().collect();
        for pair in segments.windows(2) {
            prop_assert_eq!(pair[0].next, pair[1].first);
        }
        for segment in &segments {
            let first = segment.first.0 as usize;
            let is_single = groups.iter().scan(0, |at, group| {
                let start = *at;
                *at += group.len();
                Some((start, *at))
            }).any(|range| range == (first, segment.next.0 as usize));
            prop_assert!(segment.bytes <= segment_bytes || is_single, "{:?}", segment);
            let is_newest = segment.next == next;
            let footer = if is_newest { 0 } else { FOOTER_BYTES };
            prop_assert_eq!(segment.bytes as usize + footer, disk.contents(&segment.file).len());
        }
    }
}

#[test]
fn new_segment_starts_at_every_boundary() {
    let group = vec![b"0123456789".to_vec(), b"abc".to_vec()];
    let frame = HEADER_BYTES + 4 + 10 + 4 + 3;
    for fit in 1..5 {
        for spare in 0..frame {
            let disk = SimDisk::seeded(1);
            let segment_bytes = (HEADER_BYTES + fit * frame + spare) as u64;
            let mut log = open(&disk, segment_bytes, None);
            for _ in 0..9 {
                append(&mut log, &group).unwrap();
            }
            drop(log);
            let log = reopen(&disk, segment_bytes, Some(Offset(17)));
            let groups: Vec<_> = log
                .segments()
                .map(|segment| (segment.next.0 - segment.first.0) as usize / 2)
                .collect();
            let full = vec![fit; 9 / fit];
            let rest = if 9 % fit == 0 { vec![] } else { vec![9 % fit] };
            assert_eq!(
                groups,
                [full, rest].concat(),
                "{fit} groups fit, {spare} spare bytes"
            );
            assert_eq!(read_from(&log, 0), vec![group.clone(); 9].concat());
        }
    }
}

#[test]
fn group_costs_one_write_and_one_sync_and_a_segment_six_calls_more() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 100, None);
    let before = disk.operations();
    append(&mut log, &[vec![1; 20]]).unwrap();
    assert_eq!(disk.operations() - before, 2);
    append(&mut log, &[vec![1; 20], vec![2; 20]]).unwrap();
    assert_eq!(disk.operations() - before, 2 + 6 + 2);
    let bytes = 2 * HEADER_BYTES as u64 + 3 * 24;
    assert_eq!(
        log.stats(),
        LogStats {
            groups: 2,
            records: 3,
            bytes,
            syncs: 5
        }
    );
}

#[test]
fn empty_records_and_large_groups_come_back() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1_000, None);
    let group = vec![vec![], vec![5; 70_000], vec![]];
    append(&mut log, &group).unwrap();
    append(&mut log, &[vec![]]).unwrap();
    assert_eq!(read_from(&log, 0), [group, vec![vec![]]].concat());
}

#[test]
fn real_disk_keeps_the_log_over_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let (mut log, recovery) = SegmentedLog::open(disk.clone(), config(200), None).unwrap();
    assert_eq!(
        (recovery.first, recovery.next, recovery.segments),
        (Offset(0), Offset(0), 1)
    );
    let mut group = Group::new();
    for number in 0..50_u8 {
        group.clear();
        group.push_bytes(&[number; 30]);
        assert_eq!(log.append(&mut group).unwrap(), Offset(u64::from(number)));
    }
    assert!(matches!(
        SegmentedLog::open(disk.clone(), config(200), None),
        Err(OpenError::Disk(DiskError::Locked { .. }))
    ));
    log.truncate_below(Offset(20)).unwrap();
    drop(log);
    let (log, recovery) = SegmentedLog::open(disk, config(200), Some(Offset(30))).unwrap();
    assert_eq!(
        recovery.to_string(),
        "log holds offsets 20 to 50 in 30 groups, 15 segments"
    );
    let records: Result<Vec<_>, _> = log.read_from(Offset(20)).unwrap().collect();
    let expected: Vec<_> = (20..50_u8)
        .map(|number| (Offset(u64::from(number)), vec![number; 30].into()))
        .collect();
    assert_eq!(records.unwrap(), expected);
}

#[test]
fn store_ahead_of_the_log_is_refused_with_both_offsets() {
    let disk = SimDisk::seeded(1);
    drop(open(&disk, 1_000, None));
    assert_eq!(
        refusal(&disk, 1_000, Some(Offset(0))),
        "the store is complete up to offset 0 but the log ends before 0: records are missing"
    );
    append(&mut open(&disk, 1_000, None), &[b"a".to_vec(), b"b".to_vec()]).unwrap();
    drop(open(&disk, 1_000, Some(Offset(1))));
    assert_eq!(
        refusal(&disk, 1_000, Some(Offset(2))),
        "the store is complete up to offset 2 but the log ends before 2: records are missing"
    );
    assert_eq!(
        refusal(&SimDisk::seeded(1), 1_000, Some(Offset(2))),
        "the store is complete up to offset 2 but the log ends before 0: records are missing"
    );
}

#[test]
fn store_behind_the_log_is_refused_with_both_offsets() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    for _ in 0..5 {
        append(&mut log, &[b"a".to_vec()]).unwrap();
    }
    log.truncate_below(Offset(3)).unwrap();
    assert_eq!(log.first(), Offset(3));
    drop(log);
    assert_eq!(
        refusal(&disk, 1, Some(Offset(1))),
        "the store is complete up to offset 1 but the log starts at offset 3: records are missing"
    );
    assert_eq!(
        refusal(&disk, 1, None),
        "the store is complete up to no offset but the log starts at offset 3: records are missing"
    );
    drop(open(&disk, 1, Some(Offset(2))));
}

#[test]
fn log_of_another_store_is_refused() {
    let disk = SimDisk::seeded(1);
    drop(open(&disk, 1_000, None));
    let other = LogConfig {
        generation: 8,
        ..config(1_000)
    };
    let error = SegmentedLog::open(disk, other, None).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Generation {
                found: 7,
                expected: 8,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn other_fold_version_starts_only_from_a_complete_checkpoint() {
    let disk = SimDisk::seeded(1);
    append(&mut open(&disk, 1_000, None), &[b"a".to_vec(), b"b".to_vec()]).unwrap();
    let newer = |checkpoint_complete, flushed| {
        let config = LogConfig {
            fold_version: 2,
            checkpoint_complete,
            ..config(1_000)
        };
        SegmentedLog::open(disk.clone(), config, flushed)
    };
    let refused = |outcome: Result<(SimLog, Recovery), _>| {
        assert!(
            matches!(
                outcome,
                Err(OpenError::FoldVersion {
                    found: 1,
                    expected: 2,
                    ..
                })
            ),
            "{outcome:?}"
        );
    };
    refused(newer(true, Some(Offset(0))));
    refused(newer(false, Some(Offset(1))));
    let (mut log, _) = newer(true, Some(Offset(1))).unwrap();
    append(&mut log, &[b"c".to_vec()]).unwrap();
    assert_eq!(log.segments().count(), 2);
    drop(log);
    // From now on the new version needs no permission, and the old one is refused.
    let (log, _) = newer(false, Some(Offset(1))).unwrap();
    assert_eq!(read_from(&log, 0), [b"a", b"b", b"c"]);
    drop(log);
    assert!(refusal(&disk, 1_000, Some(Offset(1))).contains("it holds records that are not in the store"));
}

#[test]
fn other_fold_version_takes_over_an_empty_log_in_place() {
    let disk = SimDisk::seeded(1);
    drop(open(&disk, 1_000, None));
    let config = LogConfig {
        fold_version: 2,
        checkpoint_complete: true,
        ..config(1_000)
    };
    let (log, recovery) = SegmentedLog::open(disk.clone(), config.clone(), None).unwrap();
    assert_eq!(recovery.segments, 1);
    drop(log);
    disk.crash();
    let config = LogConfig {
        checkpoint_complete: false,
        ..config
    };
    SegmentedLog::open(disk, config, None).unwrap();
}

#[test]
fn whole_segments_below_an_offset_are_deleted_and_never_the_newest() {
    let disk = SimDisk::seeded(1);
    let group = vec![b"a".to_vec(), b"b".to_vec()];
    let mut log = open(&disk, 1, None);
    for _ in 0..4 {
        append(&mut log, &group).unwrap();
    }
    log.truncate_below(Offset(1)).unwrap();
    log.truncate_below(Offset(5)).unwrap();
    assert_eq!((log.first(), log.next()), (Offset(4), Offset(8)));
    log.truncate_below(Offset(100)).unwrap();
    assert_eq!((log.first(), log.next()), (Offset(6), Offset(8)));
    append(&mut log, &group).unwrap();
    assert_eq!(read_from(&log, 6), [group.clone(), group].concat());
}

#[test]
fn offsets_outside_the_log_are_not_read() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    append(&mut log, &[b"a".to_vec()]).unwrap();
    append(&mut log, &[b"b".to_vec()]).unwrap();
    log.truncate_below(Offset(1)).unwrap();
    for offset in [0, 3] {
        assert!(matches!(
            log.read_from(Offset(offset)),
            Err(ReadError::OutOfRange { first: Offset(1), .. })
        ));
    }
    assert_eq!(read_from(&log, 2), Records::new());
}

#[test]
fn files_that_are_no_segments_are_left_alone() {
    let disk = SimDisk::seeded(1);
    disk.damage("notes.txt", b"mine");
    append(&mut open(&disk, 1_000, None), &[b"a".to_vec()]).unwrap();
    drop(reopen(&disk, 1_000, None));
    assert_eq!(disk.contents("notes.txt"), b"mine");
}

#[test]
#[should_panic(expected = "at least one record")]
fn empty_group_is_a_mistake_of_the_caller() {
    let _ = open(&SimDisk::seeded(1), 1_000, None).append(&mut Group::new());
}

/// Groups of one to four records, each shorter than `bytes`.
fn groups(count: usize, bytes: usize) -> impl Strategy<Value = Vec<Records>> {
    let record = prop::collection::vec(any::<u8>(), 0..bytes);
    prop::collection::vec(prop::collection::vec(record, 1..5), 1..count)
}

fn config(segment_bytes: u64) -> LogConfig {
    LogConfig {
        segment_bytes,
        preallocate_bytes: 0,
        generation: GENERATION,
        salt_seed: 99,
        ..LogConfig::default()
    }
}

fn open(disk: &SimDisk, segment_bytes: u64, flushed: Option<Offset>) -> SimLog {
    SegmentedLog::open(disk.clone(), config(segment_bytes), flushed)
        .unwrap()
        .0
}

/// Opens after the process that had it is gone.
fn reopen(disk: &SimDisk, segment_bytes: u64, flushed: Option<Offset>) -> SimLog {
    disk.restart();
    open(disk, segment_bytes, flushed)
}

fn refusal(disk: &SimDisk, segment_bytes: u64, flushed: Option<Offset>) -> String {
    SegmentedLog::open(disk.clone(), config(segment_bytes), flushed)
        .unwrap_err()
        .to_string()
}

fn append(log: &mut impl Log, records: &[Vec<u8>]) -> Result<Offset, AppendError> {
    let mut group = Group::new();
    for record in records {
        group.push_bytes(record);
    }
    log.append(&mut group)
}

fn read_from<D: Disk>(log: &SegmentedLog<D>, from: usize) -> Records {
    let from = Offset(from as u64);
    let records: Result<Vec<_>, _> = log.read_from(from).unwrap().collect();
    let records = records.unwrap();
    for (index, (offset, _)) in records.iter().enumerate() {
        assert_eq!(offset.0, from.0 + index as u64);
    }
    records.into_iter().map(|(_, record)| record.to_vec()).collect()
}
