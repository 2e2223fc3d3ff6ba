//! A disk that fills up, and syncs that fail.

use super::*;

/// Groups of different sizes, so that after a refusal a smaller one may still fit.
fn script() -> Vec<Records> {
    (0..10_u8)
        .map(|number| vec![vec![number; (number as usize * 37) % 61], vec![number; 9]])
        .collect()
}

const SEGMENT_BYTES: u64 = 260;

#[test]
fn full_disk_loses_nothing_at_any_byte_and_appends_go_on_when_space_returns() {
    let total = total_bytes();
    for budget in 0..=total {
        let disk = SimDisk::seeded(budget);
        let mut log = open(&disk, SEGMENT_BYTES, None);
        disk.set_space_left(Some(budget));
        let mut expected = Records::new();
        let mut refused = 0;
        for group in script() {
            match append(&mut log, &group) {
                Ok(first) => {
                    assert_eq!(first.0 as usize, expected.len());
                    expected.extend(group);
                }
                Err(AppendError::NoSpace) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert_eq!(read_from(&log, 0), expected);
        }
        assert_eq!(refused == 0, budget >= total, "{budget} of {total} bytes");
        // What was refused is not in the log, not even after a power failure.
        if budget % 2 == 0 {
            drop(log);
            disk.crash();
            log = open(&disk, SEGMENT_BYTES, None);
            assert_eq!(read_from(&log, 0), expected);
        }
        disk.set_space_left(None);
        for group in script() {
            append(&mut log, &group).unwrap();
            expected.extend(group);
        }
        assert_eq!(read_from(&reopen(&disk, SEGMENT_BYTES, None), 0), expected);
    }
}

#[test]
fn segment_that_found_no_space_does_not_come_back_after_a_smaller_group_took_its_place() {
    for seed in 0..100 {
        let disk = SimDisk::seeded(seed);
        let mut log = open(&disk, 200, None);
        append(&mut log, &[vec![1; 60]]).unwrap();
        disk.set_space_left(Some(seed % HEADER_BYTES as u64));
        assert!(matches!(
            append(&mut log, &[vec![2; 100]]),
            Err(AppendError::NoSpace)
        ));
        disk.set_space_left(None);
        append(&mut log, &[vec![3; 10]]).unwrap();
        assert_eq!(log.segments().count(), 1);
        drop(log);
        disk.crash();
        assert_eq!(
            read_from(&open(&disk, 200, Some(Offset(1))), 0),
            [vec![1; 60], vec![3; 10]]
        );
    }
}

#[test]
fn probe_tells_when_space_is_back_and_leaves_no_trace() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1_000_000, None);
    append(&mut log, &[b"a".to_vec()]).unwrap();
    let before = disk.contents("00000000000000000000.log");
    disk.set_space_left(Some(60_000));
    assert!(matches!(log.probe(), Err(AppendError::NoSpace)));
    disk.set_space_left(Some(70_000));
    log.probe().unwrap();
    assert_eq!(disk.contents("00000000000000000000.log"), before);
    disk.crash();
    assert_eq!(disk.contents("00000000000000000000.log"), before);
}

#[test]
fn crash_in_a_probe_leaves_a_tail_that_start_cuts() {
    for seed in 0..200 {
        let disk = SimDisk::seeded(seed);
        let mut log = open(&disk, 1_000_000, None);
        append(&mut log, &[b"a".to_vec()]).unwrap();
        disk.crash_at(seed % 4);
        assert!(is_crash(&log.probe().unwrap_err()));
        disk.crash();
        assert_eq!(read_from(&open(&disk, 1_000_000, Some(Offset(0))), 0), [b"a"]);
    }
}

#[test]
fn failed_sync_stops_the_log_until_it_is_opened_again() {
    // Groups of some sectors each, so that what a failed sync leaves behind is not written again by accident.
    let group = |number: usize| vec![vec![number as u8; 600 + number * 97 % 900], vec![number as u8; 9]];
    for seed in 0..600 {
        let disk = SimDisk::seeded(seed);
        let mut log = open(&disk, 4_000, None);
        disk.fail_sync(seed % 30);
        let mut acknowledged = Records::new();
        let unknown = loop {
            let group = group(acknowledged.len());
            match append(&mut log, &group) {
                Ok(_) => acknowledged.extend(group),
                Err(AppendError::Failed(_)) => break group,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(matches!(append(&mut log, &unknown), Err(AppendError::Stopped)));
        assert!(matches!(log.probe(), Err(AppendError::Stopped)));
        // The process starts again. What it now finds (in the page cache perhaps, and nowhere else) it hands out, so that
        // a power failure must not take it any more.
        // Its first start may meet a failing sync as well.
        disk.restart();
        disk.fail_sync(seed % 4);
        match SegmentedLog::open(disk.clone(), config(4_000), last_of(&acknowledged)) {
            Ok(_) => assert!(
                seed % 4 >= 2,
                "a start syncs twice, and three times to write a group again"
            ),
            Err(error) => assert!(matches!(error, OpenError::Disk(DiskError::Io { .. })), "{error}"),
        }
        let mut log = reopen(&disk, 4_000, last_of(&acknowledged));
        let mut handed_out = read_from(&log, 0);
        let with_unknown = [acknowledged.clone(), unknown].concat();
        assert!(
            handed_out == acknowledged || handed_out == with_unknown,
            "seed {seed}"
        );
        if seed % 2 == 0 {
            append(&mut log, &group(1)).unwrap();
            handed_out.extend(group(1));
        }
        drop(log);
        disk.crash();
        assert_eq!(
            read_from(&open(&disk, 4_000, last_of(&handed_out)), 0),
            handed_out,
            "seed {seed}"
        );
    }
}

fn last_of(records: &Records) -> Option<Offset> {
    records.len().checked_sub(1).map(|last| Offset(last as u64))
}

/// What the script takes on disk, footers included, beyond the header that opening wrote.
fn total_bytes() -> u64 {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, SEGMENT_BYTES, None);
    for group in script() {
        append(&mut log, &group).unwrap();
    }
    let sealed = log.segments().count() - 1;
    let groups: u64 = log.segments().map(|segment| segment.bytes).sum();
    groups + (sealed * FOOTER_BYTES) as u64 - HEADER_BYTES as u64
}
