use router_records::row::DeviceRow;
use wire_base::ids::{ConnectionHandle, Position, SessionNumber, UnixMs};

use super::*;
use crate::testing::{GENERATION, device, position, user};

const HEAD: u64 = 90;

fn facts(acked: Option<u64>, oldest: u64) -> ReaderFacts {
    ReaderFacts {
        device: acked.map(|offset| DeviceRow {
            user: user(1),
            device: device(1),
            acked: at(offset),
            session: SessionNumber(1),
            last_seen: UnixMs(0),
        }),
        head: at(HEAD),
        oldest: at(oldest),
    }
}

/// Offset 0 is the start of the inbox.
fn at(offset: u64) -> Position {
    position(offset, 0)
}

fn hello(cursor: Option<Position>, forwarded: Option<u64>) -> SessionOpen {
    SessionOpen {
        connection: ConnectionHandle {
            slot: 1,
            generation: 1,
        },
        user: user(1),
        device: device(1),
        session: forwarded.map(|_| SessionNumber(1)),
        cursor,
        forwarded: forwarded.map(at),
        window: 64,
    }
}

/// (acked, scanned, forwarded, counted) as offsets, `resumed`, and whether there is a resync.
type Begins = ((u64, u64, u64, u64), bool, bool);

/// Name, stored ack, cursor, oldest kept, and what comes of it.
type Case = (&'static str, Option<u64>, Option<u64>, u64, Begins);

fn begins(request: &SessionOpen, facts: &ReaderFacts, known: Known) -> Begins {
    let start = start(request, facts, known, GENERATION);
    let offset = |position: Position| position.offset.0;
    let positions = (
        offset(start.acked),
        offset(start.scanned),
        offset(start.forwarded),
        offset(start.counted),
    );
    (positions, start.is_resumed, start.resync.is_some())
}

#[test]
fn the_cursor_rules_of_hello() {
    let none = Known::default();
    let cases: [Case; 11] = [
        (
            "no cursor: at the device's ack",
            Some(40),
            None,
            0,
            ((40, 40, 40, 40), false, false),
        ),
        (
            "never seen: at the oldest",
            None,
            None,
            0,
            ((0, 0, 0, 0), false, false),
        ),
        (
            "never seen, some dropped: told so",
            None,
            None,
            30,
            ((30, 30, 30, 30), false, true),
        ),
        (
            "no cursor, ack older than what is kept",
            Some(20),
            None,
            30,
            ((30, 30, 30, 20), false, true),
        ),
        (
            "a cursor is an ack; what it covers is read for its receipts",
            Some(40),
            Some(60),
            0,
            ((60, 40, 60, 40), true, false),
        ),
        (
            "the head is a cursor",
            Some(40),
            Some(HEAD),
            0,
            ((HEAD, 40, HEAD, 40), true, false),
        ),
        (
            "an older cursor re-delivers",
            Some(40),
            Some(10),
            0,
            ((10, 10, 10, 40), true, false),
        ),
        (
            "the oldest is a cursor",
            Some(40),
            Some(30),
            30,
            ((30, 30, 30, 40), true, false),
        ),
        (
            "older than what is kept",
            Some(40),
            Some(29),
            30,
            ((30, 30, 30, 40), false, true),
        ),
        (
            "beyond the head",
            Some(40),
            Some(HEAD + 1),
            0,
            ((0, 0, 0, 40), false, true),
        ),
        (
            "never seen, with a cursor",
            None,
            Some(50),
            30,
            ((50, 30, 50, 30), true, false),
        ),
    ];
    for (name, acked, cursor, oldest, expected) in cases {
        assert_eq!(
            begins(&hello(cursor.map(at), None), &facts(acked, oldest), none),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_cursor_of_another_store_starts_at_the_oldest() {
    for generation in [GENERATION - 1, GENERATION + 1] {
        let cursor = Position { generation, ..at(50) };
        let start = start(
            &hello(Some(cursor), None),
            &facts(Some(40), 30),
            Known::default(),
            GENERATION,
        );
        assert_eq!((start.acked, start.is_resumed), (at(30), false));
        assert_eq!(start.resync, Some(("the cursor is of another store", at(30))));
    }
}

#[test]
fn an_inbox_that_got_nothing_for_so_long_that_all_is_dropped_is_no_reason_for_a_resync() {
    let begins = |head, acked, cursor: Option<u64>| {
        let facts = ReaderFacts {
            head: at(head),
            ..facts(acked, HEAD + 5)
        };
        begins(&hello(cursor.map(at), None), &facts, Known::default())
    };
    assert_eq!(
        begins(HEAD, Some(HEAD), None),
        ((HEAD, HEAD, HEAD, HEAD), false, false)
    );
    assert_eq!(
        begins(HEAD, Some(HEAD), Some(HEAD)),
        ((HEAD, HEAD, HEAD, HEAD), true, false)
    );
    assert_eq!(
        begins(HEAD, Some(HEAD - 1), None),
        ((HEAD, HEAD, HEAD, HEAD - 1), false, true),
        "that one was dropped"
    );
    assert_eq!(
        begins(0, None, None),
        ((0, 0, 0, 0), false, false),
        "never had a message"
    );
    assert_eq!(begins(0, None, Some(0)), ((0, 0, 0, 0), true, false));
}

#[test]
fn what_memory_knows_of_the_device_counts_like_the_store() {
    let known = |counted, acked| Known {
        counted: Some(at(counted)),
        acked: Some(at(acked)),
    };
    // The last session acked 60, and 50 of it waits for the log.
    assert_eq!(
        begins(&hello(None, None), &facts(Some(40), 0), known(50, 60)).0,
        (60, 50, 60, 50)
    );
    // The last session was re-reading from 10; the device has 50 all the same.
    assert_eq!(
        begins(&hello(None, None), &facts(Some(40), 0), known(50, 10)).0,
        (50, 50, 50, 50)
    );
    // First session, not folded yet.
    assert_eq!(
        begins(&hello(None, None), &facts(None, 0), known(20, 20)).0,
        (20, 20, 20, 20)
    );
}

#[test]
fn a_session_announced_again_goes_on_after_what_its_connection_was_sent() {
    let none = Known::default();
    assert_eq!(
        begins(&hello(Some(at(40)), Some(70)), &facts(Some(40), 0), none),
        ((40, 40, 70, 40), true, false)
    );
    let is_resync = begins(&hello(Some(at(40)), Some(HEAD + 1)), &facts(Some(40), 0), none).2;
    assert!(is_resync, "not this inbox");
    assert_eq!(
        begins(&hello(Some(at(40)), Some(40)), &facts(Some(20), 0), none).0,
        (40, 20, 40, 20)
    );
}
