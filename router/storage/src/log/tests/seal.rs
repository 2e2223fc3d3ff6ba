//! Sealed segments: what a start reads of them, and what a crash or damage around a footer does.

use router_records::log::{AckInput, Input, LogRecord};
use wire_base::ids::{DeviceId, Position, SessionNumber, UnixMs, UserId};

use super::*;
use crate::check::check_log;

const GROUPS_PER_SEGMENT: u64 = 20;
const FRAME_BYTES: u64 = HEADER_BYTES as u64 + 4 + 10;
const SEGMENT_BYTES: u64 = HEADER_BYTES as u64 + GROUPS_PER_SEGMENT * FRAME_BYTES;

/// A log of groups of one record each: so many full segments, and half of one.
fn log_of(segments: u64) -> SimDisk {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, SEGMENT_BYTES, None);
    for number in 0..segments * GROUPS_PER_SEGMENT + GROUPS_PER_SEGMENT / 2 {
        append(&mut log, &[vec![number as u8; 10]]).unwrap();
    }
    assert_eq!(log.segments().count() as u64, segments + 1);
    disk
}

fn reads_of_a_start(disk: &SimDisk, flushed: Option<Offset>) -> u64 {
    let before = disk.reads();
    let log = reopen(disk, SEGMENT_BYTES, flushed);
    let reads = disk.reads() - before;
    let groups: u64 = log
        .segments()
        .map(|segment| segment.next.0 - segment.first.0)
        .sum();
    assert_eq!(groups, log.next().0 - log.first().0);
    reads
}

/// Places that the check finds damaged, whatever a start would do about them.
fn damages(disk: &SimDisk, flushed: Option<Offset>) -> usize {
    let check = check_log(disk, &config(SEGMENT_BYTES), flushed).unwrap();
    check.segments.iter().map(|segment| segment.damages.len()).sum()
}

#[test]
fn start_reads_header_and_footer_of_sealed_segments_that_the_store_holds_and_walks_the_rest() {
    let few = log_of(3);
    let many = log_of(30);
    let newest = |segments: u64| Some(Offset(segments * GROUPS_PER_SEGMENT + GROUPS_PER_SEGMENT / 2 - 1));
    let difference = reads_of_a_start(&many, newest(30)) - reads_of_a_start(&few, newest(3));
    assert_eq!(difference, 27 * 2);
    // Two segments lie above the store: all groups of them are read.
    let behind = Some(Offset(28 * GROUPS_PER_SEGMENT - 1));
    let more = reads_of_a_start(&many, behind) - reads_of_a_start(&many, newest(30));
    assert!(
        (2 * GROUPS_PER_SEGMENT..6 * GROUPS_PER_SEGMENT).contains(&more),
        "{more}"
    );
}

#[test]
fn recovery_tells_the_same_groups_whether_they_are_walked_or_not() {
    let disk = log_of(5);
    let end = 5 * GROUPS_PER_SEGMENT + GROUPS_PER_SEGMENT / 2;
    for flushed in (0..end).map(|offset| Some(Offset(offset))).chain([None]) {
        disk.restart();
        let (log, recovery) = SegmentedLog::open(disk.clone(), config(SEGMENT_BYTES), flushed).unwrap();
        assert_eq!((recovery.groups, recovery.next.0), (end, end), "{flushed:?}");
        assert_eq!(read_from(&log, 0).len() as u64, end);
    }
}

#[test]
fn power_failure_at_every_operation_of_sealing_loses_nothing_and_leaves_a_sealed_or_a_growing_segment() {
    let groups = || (0..GROUPS_PER_SEGMENT).map(|number| vec![vec![number as u8; 10]]);
    let mut seals = 0;
    for seed in 0..40 {
        // Footer, sync, the next segment with two syncs, its first group, sync.
        for operation in 0..8 {
            for is_killed in [false, true] {
                let disk = SimDisk::seeded(seed);
                let mut log = open(&disk, SEGMENT_BYTES, None);
                for group in groups() {
                    append(&mut log, &group).unwrap();
                }
                disk.crash_at(operation);
                let appended = append(&mut log, &[b"the next".to_vec()]);
                assert!(is_crash(&appended.unwrap_err()));
                drop(log);
                if is_killed {
                    disk.restart();
                } else {
                    disk.crash();
                }
                for flushed in [None, Some(Offset(5)), Some(Offset(GROUPS_PER_SEGMENT - 1))] {
                    disk.restart();
                    let (mut log, _) =
                        SegmentedLog::open(disk.clone(), config(SEGMENT_BYTES), flushed).unwrap();
                    let found = read_from(&log, 0);
                    let expected: Records = groups().flatten().collect();
                    assert_eq!(
                        found[..expected.len()],
                        expected,
                        "seed {seed}, operation {operation}"
                    );
                    assert!(
                        found[expected.len()..]
                            .iter()
                            .all(|record| record == b"the next" || record == b"more")
                    );
                    if flushed.is_some() {
                        append(&mut log, &[b"more".to_vec()]).unwrap();
                    }
                    seals += log.segments().count() - 1;
                    drop(log);
                    assert_eq!(damages(&disk, flushed), 0, "seed {seed}, operation {operation}");
                }
            }
        }
    }
    assert!(seals > 0);
}

#[test]
fn damage_to_a_footer_alone_costs_a_walk_and_is_told_by_the_check() {
    let disk = log_of(2);
    let flushed = Some(Offset(2 * GROUPS_PER_SEGMENT));
    let file = "00000000000000000000.log";
    let bytes = disk.contents(file);
    let end = bytes.len() - FOOTER_BYTES;
    for at in end..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        for damaged in [&damaged[..], &bytes[..at]] {
            disk.damage(file, damaged);
            let log = reopen(&disk, SEGMENT_BYTES, flushed);
            assert_eq!(read_from(&log, 0).len() as u64, log.next().0);
            drop(log);
            // A segment that ends with its last group is one of the version without footers.
            let expected = usize::from(damaged.len() != end);
            assert_eq!(damages(&disk, flushed), expected, "byte {at}");
        }
    }
}

#[test]
fn damaged_group_under_a_footer_is_refused_where_it_is_read() {
    let disk = log_of(2);
    let file = "00000000000000000000.log";
    let bytes = disk.contents(file);
    for at in HEADER_BYTES..bytes.len() - FOOTER_BYTES {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        disk.damage(file, &damaged);
        let group = (at - HEADER_BYTES) as u64 / FRAME_BYTES;
        // Not in the store: the start reads it. In the store: whoever reads it finds it, and the check does.
        disk.restart();
        assert!(refusal(&disk, SEGMENT_BYTES, None).contains(&format!("the group at offset {group}")));
        let flushed = Some(Offset(2 * GROUPS_PER_SEGMENT));
        let log = reopen(&disk, SEGMENT_BYTES, flushed);
        let read = log
            .read_from(Offset(0))
            .and_then(|records| records.collect::<Result<Vec<_>, _>>());
        assert!(
            matches!(read, Err(ReadError::Corrupt { offset, .. }) if offset.0 == group),
            "byte {at}"
        );
        drop(log);
        assert_eq!(damages(&disk, flushed), 1, "byte {at}");
    }
}

#[test]
fn damaged_group_before_the_footer_of_the_newest_segment_is_refused() {
    let disk = log_of(1);
    let newest = "00000000000000000020.log";
    disk.remove(newest).unwrap();
    let file = "00000000000000000000.log";
    let mut bytes = disk.contents(file);
    let end = bytes.len() - FOOTER_BYTES;
    assert_eq!(
        reopen(&disk, SEGMENT_BYTES, None).next(),
        Offset(GROUPS_PER_SEGMENT)
    );
    assert_eq!(
        disk.contents(file),
        bytes[..end],
        "the next group takes the place of the footer"
    );
    bytes[end - 1] ^= 0x10;
    disk.damage(file, &bytes);
    disk.restart();
    assert!(refusal(&disk, SEGMENT_BYTES, None).contains("a footer follows"));
}

#[test]
fn times_of_a_segment_are_those_of_its_records_before_and_after_reopening() {
    let record = |time: u64| {
        let input = Input::Ack(AckInput {
            user: UserId::new(1).unwrap(),
            device: DeviceId::new(1).unwrap(),
            session: SessionNumber(1),
            position: Position::default(),
            delivered: Vec::new(),
        });
        let mut bytes = Vec::new();
        LogRecord {
            time: UnixMs(time),
            input,
        }
        .encode(&mut bytes);
        bytes
    };
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 400, None);
    let expected = |log: &SimLog| -> Vec<_> {
        let times = |segment: SegmentInfo| (segment.first.0 * 10, segment.next.0 * 10 - 10);
        log.segments()
            .map(times)
            .map(|(a, b)| Some((UnixMs(a), UnixMs(b))))
            .collect()
    };
    let found = |log: &SimLog| log.segments().map(|segment| segment.times).collect::<Vec<_>>();
    for number in 0..20 {
        append(&mut log, &[record(number * 20), record(number * 20 + 10)]).unwrap();
        assert_eq!(found(&log), expected(&log));
        for flushed in [None, Some(Offset(number * 2))] {
            log = reopen(&disk, 400, flushed);
            assert_eq!(found(&log), expected(&log));
        }
    }
    assert!(log.segments().count() > 3);
}
