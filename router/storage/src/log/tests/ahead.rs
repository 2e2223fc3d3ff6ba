//! Segments that are lengthened in advance: the zeros after the last group, and what a crash makes of them.

use super::*;
use crate::disk::DiskFile;

const FILE: &str = "00000000000000000000.log";
const STEP: u64 = 5_000;

fn ahead(segment_bytes: u64) -> LogConfig {
    LogConfig {
        preallocate_bytes: STEP,
        ..config(segment_bytes)
    }
}

fn start(disk: &SimDisk, segment_bytes: u64, flushed: Option<Offset>) -> (SimLog, Recovery) {
    disk.restart();
    SegmentedLog::open(disk.clone(), ahead(segment_bytes), flushed).unwrap()
}

fn length(disk: &SimDisk, name: &str) -> u64 {
    disk.contents(name).len() as u64
}

#[test]
fn segment_grows_by_steps_within_its_size_and_is_cut_to_its_length_by_seal_and_start() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 12_000, None);
    for number in 0.. {
        append(&mut log, &[vec![number; 400]]).unwrap();
        if log.segments().count() > 1 {
            break;
        }
        let used = log.segments().next().unwrap().bytes;
        assert_eq!(length(&disk, FILE), used.next_multiple_of(STEP).min(12_000));
    }
    let segments: Vec<_> = log.segments().collect();
    assert_eq!(length(&disk, FILE), segments[0].bytes + FOOTER_BYTES as u64);
    assert_eq!(length(&disk, &segments[1].file), STEP);
    let (again, recovery) = start(&disk, 12_000, None);
    assert_eq!(recovery.cut, None);
    assert_eq!(length(&disk, &segments[1].file), segments[1].bytes);
    assert_eq!(read_from(&again, 0), read_from(&log, 0));
    assert!(again.segments().eq(segments));
}

#[test]
fn appends_within_a_step_are_one_write_and_one_sync() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 1_000_000, None);
    append(&mut log, &[vec![1; 20]]).unwrap();
    let before = disk.operations();
    for _ in 0..10 {
        append(&mut log, &[vec![1; 20]]).unwrap();
    }
    assert_eq!(disk.operations() - before, 20);
    assert_eq!(length(&disk, FILE), STEP);
}

#[test]
fn group_larger_than_a_segment_has_its_own_length() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 1_000, None);
    append(&mut log, &[vec![1; 9_000]]).unwrap();
    assert_eq!(length(&disk, FILE), log.segments().next().unwrap().bytes);
    append(&mut log, &[vec![2; 10]]).unwrap();
    assert_eq!(read_from(&log, 0), [vec![1; 9_000], vec![2; 10]]);
}

/// Every file that a crash may leave of a group written over zeros: any of its sectors, and any length from its start on.
#[test]
fn group_torn_over_zeros_is_cut_and_one_that_left_only_zeros_is_no_cut() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 100_000, None);
    append(&mut log, &[vec![1; 700]]).unwrap();
    let before = disk.contents(FILE);
    let used = log.segments().next().unwrap().bytes as usize;
    append(&mut log, &[vec![2; 1_400]]).unwrap();
    let after = disk.contents(FILE);
    let end = log.segments().next().unwrap().bytes as usize;
    let sectors: Vec<_> = (used / 512..end.div_ceil(512)).collect();
    for survivors in 0..1_u32 << sectors.len() {
        let mut bytes = before.clone();
        for (index, sector) in sectors.iter().enumerate() {
            let range = sector * 512..sector * 512 + 512;
            if survivors & 1 << index != 0 {
                bytes[range.clone()].copy_from_slice(&after[range]);
            }
        }
        for length in [used, used + 20, used + 600, end - 1, end, end + 1, STEP as usize] {
            let disk = SimDisk::seeded(1).with_preallocation();
            disk.damage(FILE, &bytes[..length]);
            let whole = bytes[..length.min(end)] == after[..end];
            let is_zero = bytes[used..length].iter().all(|byte| *byte == 0);
            let (log, recovery) = start(&disk, 100_000, None);
            assert_eq!(log.next(), Offset(if whole { 2 } else { 1 }));
            assert_eq!(
                recovery.cut.is_some(),
                !whole && !is_zero,
                "{survivors:b} {length}"
            );
            if whole {
                continue;
            }
            assert_eq!(disk.contents(FILE), before[..used]);
            // What a store holds is not lost in zeros.
            disk.damage(FILE, &bytes[..length]);
            disk.restart();
            refusal(&disk, 100_000, Some(Offset(1)));
        }
    }
}

#[test]
fn crash_between_a_footer_and_the_cut_after_it_is_a_clean_end() {
    for is_torn in [false, true] {
        let disk = SimDisk::seeded(1).with_preallocation();
        let (mut log, _) = start(&disk, 5_100, None);
        while log.segments().count() == 1 {
            append(&mut log, &[vec![3; 300]]).unwrap();
        }
        let newest = log.segments().nth(1).unwrap().file;
        let sealed = log.segments().next().unwrap();
        drop(log);
        disk.remove(&newest).unwrap();
        let mut bytes = disk.contents(FILE);
        if is_torn {
            let at = bytes.len() - 30;
            bytes[at..].fill(0);
        }
        bytes.resize(6_000, 0);
        disk.damage(FILE, &bytes);
        let (log, recovery) = start(&disk, 5_100, None);
        assert_eq!(log.next(), sealed.next);
        assert_eq!(recovery.cut.is_some(), is_torn);
        assert_eq!(length(&disk, FILE), sealed.bytes);
    }
}

#[test]
fn zeros_in_place_of_the_footer_of_an_older_segment_are_damage() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 1_000, None);
    while log.segments().count() < 3 {
        append(&mut log, &[vec![3; 300]]).unwrap();
    }
    let sealed = log.segments().next().unwrap();
    drop(log);
    let mut bytes = disk.contents(FILE);
    bytes.truncate(sealed.bytes as usize - 200);
    bytes.resize(sealed.bytes as usize + 500, 0);
    disk.damage(FILE, &bytes);
    disk.restart();
    assert!(refusal(&disk, 1_000, None).contains("a later segment exists"));
}

#[test]
fn disk_that_cannot_lengthen_a_file_takes_what_fits() {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = start(&disk, 100_000, None);
    disk.set_space_left(Some(STEP - 100));
    let mut appended = 0;
    while append(&mut log, &[vec![1; 60]]).is_ok() {
        appended += 1;
    }
    assert_eq!(appended, (STEP - 100) / 100);
    assert!(matches!(log.probe(), Err(AppendError::NoSpace)));
    disk.set_space_left(None);
    log.probe().unwrap();
    append(&mut log, &[vec![1; 60]]).unwrap();
    assert_eq!(length(&disk, FILE), 2 * STEP, "it is lengthened in advance again");
}

#[test]
fn real_disk_lengthens_a_file_with_zeros_and_keeps_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let file = disk.create("a").unwrap();
    file.write_at(0, b"hello").unwrap();
    file.preallocate(8_192).unwrap();
    file.preallocate(4_096).unwrap();
    file.write_at(5, b"!").unwrap();
    file.sync_data().unwrap();
    let mut bytes = vec![9; 9_000];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 8_192);
    assert_eq!(&bytes[..6], b"hello!");
    assert!(bytes[6..8_192].iter().all(|byte| *byte == 0));
    let more_than_there_is = file.preallocate(1 << 60);
    assert!(matches!(more_than_there_is, Err(DiskError::NoSpace { .. })));
    assert_eq!(file.len().unwrap(), 8_192);
}
