//! Cuts and flipped bits: what is the trace of a crash is cut, anything else is refused with its place.

use super::*;

/// Three groups, at offsets 0, 3 and 4, then the last one, of offsets 6 to 8.
fn script() -> [Records; 4] {
    [
        vec![b"one".to_vec(), b"two".to_vec(), vec![]],
        vec![b"three".to_vec()],
        vec![b"four".to_vec(), b"five".to_vec()],
        vec![b"six".to_vec(), vec![7; 40], b"eight".to_vec()],
    ]
}

const LAST_FIRST: u64 = 6;
const LAST_NEXT: u64 = 9;
const FILE: &str = "00000000000000000000.log";
const ONE_SEGMENT: u64 = 10_000;

/// The log of the script in one segment; returns where each group starts, and the end.
fn one_segment() -> (Vec<u8>, Vec<usize>) {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, ONE_SEGMENT, None);
    let mut starts = Vec::new();
    for group in script() {
        starts.push(disk.contents(FILE).len());
        append(&mut log, &group).unwrap();
    }
    let bytes = disk.contents(FILE);
    starts.push(bytes.len());
    (bytes, starts)
}

fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::seeded(1);
    disk.damage(FILE, bytes);
    disk
}

/// Every flushed offset that the store may have, below, at and above the last group.
fn flushed_offsets() -> impl Iterator<Item = Option<Offset>> {
    std::iter::once(None).chain((0..LAST_NEXT).map(|offset| Some(Offset(offset))))
}

fn is_below_last_group(flushed: Option<Offset>) -> bool {
    flushed < Some(Offset(LAST_FIRST))
}

#[test]
fn last_group_cut_at_every_byte_is_cut_off_and_everything_before_is_intact() {
    let (bytes, starts) = one_segment();
    for length in starts[3]..bytes.len() {
        for flushed in flushed_offsets() {
            let disk = disk_with(&bytes[..length]);
            let opened = SegmentedLog::open(disk.clone(), config(ONE_SEGMENT), flushed);
            match opened {
                Ok((mut log, recovery)) => {
                    assert!(is_below_last_group(flushed));
                    let cut = recovery
                        .cut
                        .map(|cut| (cut.file, cut.position, cut.bytes, cut.first_offset));
                    let zeros = bytes[starts[3]..length].iter().rev();
                    let torn = (length - starts[3] - zeros.take_while(|byte| **byte == 0).count()) as u64;
                    let expected = (FILE.to_owned(), starts[3] as u64, torn, Offset(LAST_FIRST));
                    assert_eq!(cut, (torn > 0).then_some(expected));
                    assert_eq!(disk.contents(FILE), bytes[..starts[3]]);
                    assert_eq!(read_from(&log, 0), script()[..3].concat());
                    assert_eq!(append(&mut log, &script()[3]).unwrap(), Offset(LAST_FIRST));
                    assert_eq!(
                        disk.contents(FILE),
                        bytes,
                        "the log is as if nothing had happened"
                    );
                }
                Err(OpenError::Corrupt {
                    file,
                    position,
                    offset,
                    ..
                }) => {
                    assert!(!is_below_last_group(flushed) && length > starts[3]);
                    assert_eq!(
                        (&file[..], position, offset),
                        (FILE, starts[3] as u64, Offset(LAST_FIRST))
                    );
                }
                Err(OpenError::FlushedBeyondEnd { next, .. }) => {
                    assert!(!is_below_last_group(flushed) && length == starts[3]);
                    assert_eq!(next, Offset(LAST_FIRST));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn flipped_byte_in_the_last_group_is_cut_only_above_the_flushed_offset() {
    let (bytes, starts) = one_segment();
    for at in starts[3]..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            for flushed in flushed_offsets() {
                let disk = disk_with(&flipped(&bytes, at, flip));
                let opened = SegmentedLog::open(disk.clone(), config(ONE_SEGMENT), flushed);
                match opened {
                    Ok((log, recovery)) => {
                        assert!(is_below_last_group(flushed));
                        assert_eq!(recovery.cut.unwrap().position, starts[3] as u64);
                        assert_eq!(read_from(&log, 0), script()[..3].concat());
                    }
                    Err(OpenError::Corrupt { position, offset, .. }) => {
                        assert!(!is_below_last_group(flushed));
                        assert_eq!((position, offset), (starts[3] as u64, Offset(LAST_FIRST)));
                        assert_eq!(
                            disk.contents(FILE),
                            flipped(&bytes, at, flip),
                            "a refusal changes nothing"
                        );
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn flipped_byte_in_an_earlier_group_is_refused_with_its_offset() {
    let (bytes, starts) = one_segment();
    let firsts = [0, 3, 4];
    for at in starts[0]..starts[3] {
        let group = starts.iter().rposition(|start| *start <= at).unwrap();
        for flushed in flushed_offsets() {
            let disk = disk_with(&flipped(&bytes, at, 0x10));
            let opened = SegmentedLog::open(disk.clone(), config(ONE_SEGMENT), flushed);
            let next = if group == 2 { LAST_FIRST } else { firsts[group + 1] };
            let is_body = at >= starts[group] + HEADER_BYTES;
            let is_in_store = flushed >= Some(Offset(next - 1));
            match opened {
                Err(OpenError::Corrupt {
                    file,
                    position,
                    offset,
                    ..
                }) => {
                    assert_eq!(
                        (&file[..], position, offset.0),
                        (FILE, starts[group] as u64, firsts[group])
                    );
                }
                // Start does not read bodies that are in the store: nothing is folded from them. Reading tells.
                Ok((log, _)) => {
                    assert!(is_body && is_in_store, "byte {at}, flushed {flushed:?}");
                    let read = log.read_from(Offset(firsts[group])).err();
                    let Some(ReadError::Corrupt { place, offset, .. }) = read else {
                        panic!("{read:?}")
                    };
                    let expected = format!("byte {} of {FILE}", starts[group]);
                    assert_eq!((place, offset.0), (expected, firsts[group]));
                    assert_eq!(read_from(&log, LAST_FIRST as usize), script()[3]);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn damage_in_an_earlier_segment_is_refused_whatever_follows_it() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    for group in script() {
        append(&mut log, &group).unwrap();
    }
    let segments: Vec<_> = log.segments().collect();
    drop(log);
    for segment in &segments[..3] {
        let bytes = disk.contents(&segment.file);
        let end = bytes.len() - FOOTER_BYTES;
        for at in 0..end {
            disk.damage(&segment.file, &flipped(&bytes, at, 0x10));
            let error = SegmentedLog::open(disk.clone(), config(1), None).unwrap_err();
            let OpenError::Corrupt {
                file,
                position,
                offset,
                ..
            } = error
            else {
                panic!("{error}")
            };
            let expected = if at < HEADER_BYTES { 0 } else { HEADER_BYTES as u64 };
            assert_eq!(
                (file, position, offset),
                (segment.file.clone(), expected, segment.first),
                "byte {at}"
            );
        }
        for length in 0..end {
            disk.damage(&segment.file, &bytes[..length]);
            assert!(
                SegmentedLog::open(disk.clone(), config(1), None).is_err(),
                "{length} bytes of {}",
                segment.file
            );
        }
        disk.damage(&segment.file, &bytes);
    }
    assert_eq!(read_from(&open(&disk, 1, None), 0), script().concat());
}

#[test]
fn tail_of_a_segment_that_another_one_follows_is_never_cut() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    append(&mut log, &script()[0]).unwrap();
    append(&mut log, &script()[1]).unwrap();
    let segments: Vec<_> = log.segments().collect();
    drop(log);
    // The later segment holds only its header, yet that it exists proves the sync of the earlier one.
    let header = disk.contents(&segments[1].file)[..HEADER_BYTES].to_vec();
    disk.damage(&segments[1].file, &header);
    let bytes = disk.contents(&segments[0].file);
    disk.damage(&segments[0].file, &bytes[..bytes.len() - FOOTER_BYTES - 1]);
    assert!(refusal(&disk, 1, None).contains("a later segment exists"));
}

#[test]
fn header_of_the_newest_segment_may_be_missing_only_while_nothing_follows_it() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    append(&mut log, &script()[0]).unwrap();
    append(&mut log, &script()[1]).unwrap();
    let newest = log.segments().last().unwrap().file;
    drop(log);
    let bytes = disk.contents(&newest);
    for at in 0..HEADER_BYTES {
        disk.damage(&newest, &flipped(&bytes, at, 0x10));
        assert!(
            refusal(&disk, 1, None).contains("something follows its header"),
            "byte {at}"
        );
    }
    let short = (0..HEADER_BYTES).map(|length| bytes[..length].to_vec());
    let lengthened = [vec![0; HEADER_BYTES], flipped(&bytes[..HEADER_BYTES], 9, 0x10)];
    let lengthened = lengthened.map(|header| [header, vec![0; 4096]].concat());
    for headless in short.chain(lengthened) {
        disk.damage(&newest, &headless);
        assert!(matches!(
            SegmentedLog::open(disk.clone(), config(1), Some(Offset(3))),
            Err(OpenError::FlushedBeyondEnd {
                flushed: Offset(3),
                next: Offset(3)
            })
        ));
        let (log, recovery) = SegmentedLog::open(disk.clone(), config(1), Some(Offset(2))).unwrap();
        assert_eq!(recovery.dropped, Some(newest.clone()));
        assert_eq!(read_from(&log, 0), script()[0]);
    }
}

#[test]
fn missing_segment_is_refused() {
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, 1, None);
    for group in script() {
        append(&mut log, &group).unwrap();
    }
    let segments: Vec<_> = log.segments().collect();
    drop(log);
    disk.remove(&segments[1].file).unwrap();
    let error = refusal(&disk, 1, Some(Offset(8)));
    assert!(
        error.contains("records are missing") && error.contains("offset 3"),
        "{error}"
    );
}

#[test]
fn zeros_after_the_last_group_are_its_clean_end_and_anything_after_them_is_not() {
    let (bytes, _) = one_segment();
    for zeros in [1, 35, 36, 37, 4096] {
        let disk = disk_with(&[bytes.clone(), vec![0; zeros]].concat());
        let (log, recovery) = SegmentedLog::open(disk, config(ONE_SEGMENT), Some(Offset(8))).unwrap();
        assert_eq!(recovery.cut, None);
        assert_eq!(log.next(), Offset(LAST_NEXT));
        for at in [0, zeros / 2, zeros - 1] {
            let mut damaged = [bytes.clone(), vec![0; zeros]].concat();
            damaged[bytes.len() + at] = 1;
            damaged.extend([0; 50]);
            let disk = disk_with(&damaged);
            let (log, recovery) = SegmentedLog::open(disk, config(ONE_SEGMENT), Some(Offset(8))).unwrap();
            assert_eq!(recovery.cut.unwrap().bytes, at as u64 + 1);
            assert_eq!(log.next(), Offset(LAST_NEXT));
        }
    }
}

#[test]
fn message_that_looks_like_a_later_group_does_not_keep_a_torn_one_from_being_cut() {
    // A whole log of another salt, as a client that once saw one might send it.
    let other = SimDisk::seeded(2);
    let other_config = LogConfig {
        salt_seed: 12345,
        ..config(ONE_SEGMENT)
    };
    let (mut log, _) = SegmentedLog::open(other.clone(), other_config, None).unwrap();
    for group in script() {
        append(&mut log, &group).unwrap();
    }
    let disk = SimDisk::seeded(1);
    let mut log = open(&disk, ONE_SEGMENT, None);
    append(&mut log, &script()[1]).unwrap();
    append(&mut log, &[other.contents(FILE)]).unwrap();
    drop(log);
    let bytes = disk.contents(FILE);
    disk.damage(FILE, &bytes[..bytes.len() - 1]);
    let (log, recovery) = SegmentedLog::open(disk, config(ONE_SEGMENT), None).unwrap();
    assert_eq!(recovery.cut.unwrap().first_offset, Offset(1));
    assert_eq!(read_from(&log, 0), script()[1]);
}

#[test]
fn later_group_is_found_wherever_it_lies() {
    // Around the places where the search for a later group goes from one chunk to the next.
    for body in (256 * 1024 - 150..256 * 1024 + 50).step_by(7) {
        let disk = SimDisk::seeded(1);
        let mut log = open(&disk, 10_000_000, None);
        append(&mut log, &[vec![1; body]]).unwrap();
        append(&mut log, &[b"later".to_vec()]).unwrap();
        drop(log);
        disk.damage(FILE, &flipped(&disk.contents(FILE), HEADER_BYTES + 4, 0x10));
        let error = refusal(&disk, 10_000_000, None);
        assert!(error.contains("a later group follows"), "{body}: {error}");
    }
}

#[test]
fn group_size_beyond_the_bound_is_damage_and_not_an_allocation() {
    use crate::log::format::GroupHeader;
    let (bytes, starts) = one_segment();
    let mut header = GroupHeader::decode(bytes[starts[3]..].first_chunk().unwrap()).unwrap();
    header.body_bytes = u32::MAX;
    let damaged = [
        &bytes[..starts[3]],
        &header.encode(),
        &bytes[starts[3] + HEADER_BYTES..],
    ]
    .concat();
    let (_, recovery) = SegmentedLog::open(disk_with(&damaged), config(ONE_SEGMENT), None).unwrap();
    assert_eq!(recovery.cut.unwrap().reason, "its header holds impossible sizes");
}

fn flipped(bytes: &[u8], at: usize, flip: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= flip;
    bytes
}
