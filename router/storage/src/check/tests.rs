use router_records::log::{DeviceInput, Input, LogRecord};
use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, InboxRow, Members, MessageRow, Pair, ReceiptRow, Row, Table,
};
use wire_base::body::{Body, Content};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UserId};

use wire_base::message::Message;

use super::*;
use crate::disk::{Disk, DiskError, SimDisk};
use crate::log::{Group, HEADER_BYTES, Log, LogConfig, OpenError, SegmentedLog};
use crate::store::{Apply, Batch, Kv, KvStore, MemoryKv, Reads, Retention, list_key};

const FIRST_FILE: &str = "00000000000000000000.log";

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 300,
        preallocate_bytes: 0,
        generation: 5,
        ..LogConfig::default()
    }
}

/// Six groups of two records each, at one-second steps from the first of January 2025, in more than one segment.
fn log() -> SimDisk {
    log_with(config())
}

fn log_with(config: LogConfig) -> SimDisk {
    let disk = SimDisk::seeded(1).with_preallocation();
    let (mut log, _) = SegmentedLog::open(disk.clone(), config, None).unwrap();
    for number in 0..6 {
        let mut group = Group::new();
        for half in 0..2 {
            let input = Input::Device(DeviceInput {
                user: UserId::new(1).unwrap(),
                device: DeviceId::DEFAULT,
                session: SessionNumber(1),
            });
            let time = UnixMs(1_735_689_600_000 + number * 1_000 + half * 500);
            group.push(|out| LogRecord { time, input }.encode(out));
        }
        log.append(&mut group).unwrap();
    }
    disk
}

#[test]
fn sound_log_is_described_by_segment_with_its_times() {
    let disk = log();
    let check = check_log(&disk, &config(), Some(Offset(8))).unwrap();
    assert!(check.is_sound());
    let records: u64 = check.segments.iter().map(|segment| segment.records).sum();
    let groups: u64 = check.segments.iter().map(|segment| segment.groups).sum();
    assert_eq!((records, groups), (12, 6));
    let text = check.to_string();
    let first = text.lines().nth(1).unwrap();
    assert!(
        first.starts_with("  00000000000000000000.log: offsets 0 to "),
        "{first}"
    );
    assert!(
        first.contains("generation 5, fold version 1, 2025-01-01T00:00:00.000Z to 2025-01-01T00:00:0"),
        "{first}"
    );
    assert!(
        text.ends_with("start would fold 3 records, from offset 9 on\n"),
        "{text}"
    );
}

#[test]
fn torn_tail_is_named_with_its_place_and_would_be_cut() {
    let disk = log();
    let newest = disk.list().unwrap().pop().unwrap();
    let bytes = disk.contents(&newest);
    disk.damage(&newest, &bytes[..bytes.len() - 1]);
    let check = check_log(&disk, &config(), Some(Offset(8))).unwrap();
    assert!(check.is_sound(), "a crash may leave this");
    let damage = &check.segments.last().unwrap().damages[0];
    assert_eq!(
        (damage.offset, damage.reason, damage.resumes),
        (Offset(10), "its body is cut off", None)
    );
    let text = check.to_string();
    assert!(
        text.contains("DAMAGED at byte") && text.contains("start would cut"),
        "{text}"
    );
    assert_eq!(
        disk.contents(&newest).len(),
        bytes.len() - 1,
        "a check changes nothing"
    );
}

#[test]
fn damage_in_the_middle_is_named_with_where_the_log_goes_on() {
    let disk = log();
    let mut bytes = disk.contents(FIRST_FILE);
    bytes[HEADER_BYTES + HEADER_BYTES + 5] ^= 1;
    disk.damage(FIRST_FILE, &bytes);
    let check = check_log(&disk, &config(), None).unwrap();
    let segment = &check.segments[0];
    let damage = &segment.damages[0];
    assert_eq!((damage.position, damage.offset), (HEADER_BYTES as u64, Offset(0)));
    assert_eq!(damage.resumes.unwrap().1, Offset(2));
    assert_eq!(
        segment.records,
        segment.next.0 - 2,
        "everything after it is still read"
    );
    assert!(matches!(
        check.verdict,
        Verdict::Refuses(OpenError::Corrupt {
            offset: Offset(0),
            ..
        })
    ));
    // Start does not read the bodies that are in the store; the check does.
    let check = check_log(&disk, &config(), Some(Offset(11))).unwrap();
    assert!(matches!(check.verdict, Verdict::Starts { records: 0, .. }));
    assert!(!check.is_sound() && check.to_string().contains("its body has a wrong checksum"));
}

#[test]
fn segment_without_header_is_read_by_the_groups_in_it() {
    let disk = log();
    let mut bytes = disk.contents(FIRST_FILE);
    bytes[3] ^= 1;
    disk.damage(FIRST_FILE, &bytes);
    let check = check_log(&disk, &config(), None).unwrap();
    let segment = &check.segments[0];
    assert_eq!((segment.versions, segment.damages[0].position), (None, 0));
    assert_eq!(segment.records, segment.next.0, "no group is lost with it");
}

#[test]
fn zeros_of_a_segment_lengthened_in_advance_are_neither_counted_nor_damage() {
    let preallocates = LogConfig {
        segment_bytes: 100_000,
        preallocate_bytes: 10_000,
        ..config()
    };
    let disk = log_with(preallocates.clone());
    let length = disk.contents(FIRST_FILE).len();
    let check = check_log(&disk, &preallocates, Some(Offset(8))).unwrap();
    assert!(check.is_sound(), "{check}");
    let segment = &check.segments[0];
    assert_eq!((length, segment.groups, segment.damages.len()), (10_000, 6, 0));
    assert!(!check.to_string().contains("would cut"), "{check}");
    disk.restart();
    let (log, _) = SegmentedLog::open(disk.clone(), preallocates, Some(Offset(8))).unwrap();
    assert_eq!(segment.bytes, log.segments().next().unwrap().bytes);
    drop(log);
    // The same in an older segment was durable once.
    let mut bytes = disk.contents(FIRST_FILE);
    bytes.resize(length, 0);
    disk.damage(FIRST_FILE, &bytes);
    disk.damage("00000000000000000012.log", b"");
    let check = check_log(&disk, &config(), Some(Offset(8))).unwrap();
    assert_eq!(check.segments[0].damages.len(), 1, "{check}");
}

#[test]
fn store_that_does_not_belong_is_told() {
    let disk = log();
    let verdict = |config, flushed| check_log(&disk, &config, flushed).unwrap().verdict.to_string();
    let other = LogConfig {
        generation: 6,
        ..config()
    };
    assert!(verdict(other, None).contains("has generation 5, the store has 6"));
    assert!(
        verdict(config(), Some(Offset(12)))
            .contains("start would REFUSE: the store is complete up to offset 12")
    );
}

#[test]
fn unknown_records_are_counted_with_the_first_of_them() {
    let disk = SimDisk::seeded(1);
    let (mut log, _) = SegmentedLog::open(disk.clone(), config(), None).unwrap();
    let mut group = Group::new();
    group.push_bytes(b"of another version");
    group.push_bytes(b"and another");
    log.append(&mut group).unwrap();
    drop(log);
    let check = check_log(&disk, &config(), None).unwrap();
    let (count, first, _) = check.segments[0].unknown.clone().unwrap();
    assert_eq!((count, first, check.is_sound()), (2, Offset(0), false));
}

#[test]
fn running_server_is_not_checked() {
    let disk = SimDisk::seeded(1);
    let _log = SegmentedLog::open(disk.clone(), config(), None).unwrap();
    assert!(matches!(
        check_log(&disk, &config(), None),
        Err(DiskError::Locked { .. })
    ));
}

#[test]
fn sound_store_is_counted_by_table() {
    let (kv, _) = store();
    let check = check_store(&kv).unwrap();
    assert!(check.is_sound(), "{check}");
    assert_eq!((check.generation, check.flushed), (Some(5), Some(Offset(9))));
    assert_eq!(check.tables["messages"].rows, 3);
    assert!(
        check
            .to_string()
            .contains("store: generation 5, complete up to offset 9\n")
    );
}

#[test]
fn each_disagreement_of_rows_is_found() {
    let receipt = ReceiptRow {
        conversation: id(),
        user: user(1),
        delivered: Seq(1),
        read: Seq(2),
    };
    let cases = [
        ("a message is of offset 10, beyond", Row::Message(message(4, 10))),
        ("message 5 follows 3", Row::Message(message(5, 9))),
        ("inbox entry: message 9 of", Row::Inbox(inbox(9, 9))),
        ("is of offset 2, not 3", Row::Inbox(inbox(2, 3))),
        (
            "conversation: message 7 of",
            Row::Conversation(ConversationRow {
                last_seq: Seq(7),
                ..conversation()
            }),
        ),
        ("read beyond delivered", Row::Receipt(receipt)),
        (
            "a checkpoint is of offset 99",
            Row::Checkpoint(CheckpointRow {
                time: UnixMs(1),
                offset: Offset(100),
            }),
        ),
    ];
    for (finding, row) in cases {
        let (kv, mut store) = store();
        store.apply(&[row], Offset(9)).unwrap();
        let check = check_store(&kv).unwrap();
        let is_found = check.findings.iter().any(|found| found.contains(finding));
        assert!(is_found, "{finding}: {check}");
    }
}

#[test]
fn row_that_cannot_be_read_is_found() {
    let (mut kv, _) = store();
    let mut batch = Batch::default();
    batch.put(MessageRow::encode_key(id(), Seq(2)), [200]);
    kv.apply(&batch).unwrap();
    let check = check_store(&kv).unwrap();
    assert_eq!(check.tables["unreadable"].rows, 1);
    assert!(
        check.findings[0].starts_with("a row of table 1 cannot be read: row version"),
        "{check}"
    );
}

#[test]
fn lists_are_held_against_the_rows() {
    let message = |seq| MessageRow::encode_key(id(), Seq(seq));
    let index = |seq| Row::from(index(seq, seq)).encode_key();
    let inbox = |seq| Row::from(inbox(seq, seq)).encode_key();
    let list = list_key(Offset(1));
    let cases = [
        ("the message of offset 2 is missing", message(2)),
        ("the outcome of offset 2 is missing", index(2)),
        ("the inbox entry of offset 3 is missing", inbox(3)),
        (
            "a outcome of a send is of offset 1, past what was deleted",
            list.clone(),
        ),
        ("a message is of offset 2, past what was deleted", list.clone()),
        ("a inbox entry is of offset 2, past what was deleted", list),
    ];
    for (finding, key) in cases {
        let (mut kv, _) = store();
        let mut batch = Batch::default();
        batch.delete(key);
        kv.apply(&batch).unwrap();
        let check = check_store(&kv).unwrap();
        let is_found = check.findings.iter().any(|found| found.contains(finding));
        assert!(is_found, "{finding}: {check}");
    }
    let (mut kv, _) = store();
    let mut batch = Batch::default();
    let mut unlisted = self::message(4, 4);
    unlisted.offset = Offset(5);
    let (key, value) = Row::from(unlisted).encode();
    batch.put(key, value);
    kv.apply(&batch).unwrap();
    let check = check_store(&kv).unwrap();
    assert!(
        check.to_string().contains("name 3 messages, and there are 4"),
        "{check}"
    );
}

#[test]
fn what_retention_deleted_is_not_missed() {
    let (kv, mut store) = store();
    store.prune(Offset(3), 100).unwrap();
    assert_eq!(store.get::<MessageRow>(id(), Seq(1)).unwrap(), None);
    let check = check_store(&kv).unwrap();
    assert!(check.is_sound(), "{check}");
}

#[test]
fn large_store_is_read_in_parts() {
    let (kv, mut store) = store();
    let rows: Vec<Row> = (4..=25_003)
        .flat_map(|seq| [message(seq, seq).into(), index(seq, seq).into()])
        .collect();
    store.apply(&rows, Offset(25_003)).unwrap();
    let check = check_store(&kv).unwrap();
    assert!(check.is_sound(), "{check}");
    assert_eq!(check.tables["messages"].rows, 25_003);
}

#[test]
fn times_are_printed_as_dates() {
    let printed = |ms| Utc(UnixMs(ms)).to_string();
    assert_eq!(printed(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(printed(951_827_696_789), "2000-02-29T12:34:56.789Z");
    assert_eq!(printed(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    assert_eq!(printed(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
}

/// A store of one conversation with three messages, of offsets 1 to 3, complete up to offset 9.
fn store() -> (MemoryKv, KvStore<MemoryKv>) {
    let kv = MemoryKv::seeded(1);
    let mut store = KvStore::open(kv.clone(), 5).unwrap();
    let rows: Vec<_> = (1..=3)
        .flat_map(|seq| {
            [
                message(seq, seq).into(),
                index(seq, seq).into(),
                inbox(seq, seq).into(),
            ]
        })
        .chain([Row::Conversation(conversation())])
        .collect();
    store.apply(&rows, Offset(9)).unwrap();
    (kv, store)
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn id() -> ConversationId {
    ConversationId::direct(user(1), user(2))
}

fn message(seq: u64, offset: u64) -> MessageRow {
    MessageRow {
        offset: Offset(offset),
        prev_offset: Offset(offset - u64::from(seq > 1)),
        message: Message {
            conversation: id(),
            seq: Seq(seq),
            message_id: MessageId::new(uuid::Uuid::from_u128(u128::from(seq))).unwrap(),
            sender: user(1),
            sender_device: DeviceId::DEFAULT,
            timestamp: UnixMs(1),
            body: Body {
                content: Content::Text("hello"),
                media_url: None,
                kind: None,
            }
            .encode(),
        },
    }
}

fn index(seq: u64, offset: u64) -> DedupeRow {
    let Message {
        message_id,
        sender,
        conversation,
        seq,
        timestamp,
        body,
        ..
    } = message(seq, offset).message;
    DedupeRow {
        message_id,
        sender,
        conversation,
        seq,
        hash: body.hash(),
        timestamp,
        offset: Offset(offset),
    }
}

fn inbox(seq: u64, offset: u64) -> InboxRow {
    let position = Position {
        generation: 5,
        offset: Offset(offset),
        index: 1,
    };
    InboxRow {
        user: user(2),
        position,
        conversation: id(),
        seq: Seq(seq),
        prev_seq: Seq(seq - 1),
    }
}

fn conversation() -> ConversationRow {
    ConversationRow {
        conversation: id(),
        members: Members::Direct(Pair {
            low: user(1),
            high: user(2),
            low_sent: Seq(3),
            high_sent: Seq(0),
        }),
        last_seq: Seq(3),
        last_offset: Offset(3),
        last_time: UnixMs(1),
    }
}
