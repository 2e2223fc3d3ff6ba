//! Hello: which session of a device counts, where it begins, and what is left when it ends.

use router_records::row::DeviceRow;

use super::inbox::{Inbox, LINK, hello, link, session_ref};
use crate::sessions::*;
use crate::testing::{GENERATION, device, position, user};

#[test]
fn the_backlog_comes_in_windows_then_synced_then_live() {
    let mut inbox = Inbox::with_backlog(3);
    let session = inbox.opened(1);
    assert_eq!(inbox.pages(), [10, 20], "two in flight");
    assert_eq!(inbox.append(2, 1), [], "behind");
    assert_eq!(inbox.ack(session, position(10, 1)), AckVerdict::Taken);
    assert_eq!(
        inbox.pages(),
        [30, 0],
        "synced after the last that was there at hello"
    );
    inbox.ack(session, position(30, 1));
    assert_eq!(inbox.pages(), [40]);
    assert_eq!(inbox.append(2, 1).len(), 1, "live");
}

#[test]
fn an_empty_backlog_is_over_at_once() {
    let mut inbox = Inbox::new();
    let (answer, replaced, synced) = inbox.open(1, None);
    assert_eq!(
        (synced, answer.cursor),
        (Some(Position::start(GENERATION)), Position::start(GENERATION))
    );
    assert_eq!((answer.resumed, answer.resync, replaced), (false, None, None));
    assert_eq!(inbox.sessions.poll_page(), None);
}

#[test]
fn the_newest_session_of_a_device_wins_and_the_old_one_is_named() {
    let mut inbox = Inbox::new();
    let first = inbox.opened(1);
    let (answer, replaced, _) = inbox.open(2, None);
    let old = session_ref(1);
    assert_eq!(replaced, Some((LINK, old)));
    assert!(answer.session > first);
    // What comes late of the old one changes nothing.
    inbox.append(2, 1);
    assert_eq!(inbox.ack(first, position(10, 1)), AckVerdict::Ignored);
    assert!(!inbox.sessions.close(LINK, &old));
    assert_eq!(inbox.sessions.len(), 1);
}

#[test]
fn session_numbers_grow_also_when_the_clock_and_the_process_start_over() {
    let mut inbox = Inbox::new();
    assert_eq!(inbox.opened(1), SessionNumber(1_000 << 16));
    assert_eq!(inbox.opened(2), SessionNumber((1_000 << 16) + 1));
    let mut restarted = Inbox::new();
    restarted.stored = Some(DeviceRow {
        user: user(1),
        device: device(1),
        acked: Position::start(GENERATION),
        session: SessionNumber(u64::from(u32::MAX) << 16),
        last_seen: UnixMs(0),
    });
    assert_eq!(
        restarted.opened(1),
        SessionNumber((u64::from(u32::MAX) << 16) + 1)
    );
}

#[test]
fn a_session_announced_again_keeps_its_number_unless_a_newer_one_stands() {
    let mut inbox = Inbox::new();
    let number = inbox.opened(1);
    inbox.sessions.handle_link_down(LINK);
    assert!(inbox.sessions.is_empty());
    let (answer, ..) = inbox.try_open(1, Some(number.0), None).unwrap();
    assert_eq!(answer.session, number);
    assert_eq!(inbox.try_open(9, Some(number.0 - 1), None), None, "superseded");
    assert_eq!(inbox.sessions.len(), 1);
}

#[test]
fn a_cursor_whose_news_was_not_read_yet_is_not_taken_back_by_the_next_session() {
    let mut inbox = Inbox::with_backlog(3);
    inbox.open(1, Some(position(20, 1)));
    inbox.opened(2);
    assert_eq!(inbox.pages(), [30, 0]);
    assert_eq!(inbox.poll_acked(), Some(position(20, 1)));
}

#[test]
fn nothing_waits_for_a_session_that_ended() {
    let mut inbox = Inbox::new();
    let session = inbox.opened(1);
    inbox.append(2, 1);
    inbox.append(2, 1);
    inbox.ack(session, position(10, 1));
    inbox.sessions.handle_link_full(LINK);
    inbox.append(2, 1);
    assert_eq!((inbox.sessions.behind(), inbox.sessions.acks_waiting()), (1, 1));
    inbox.sessions.handle_link_down(LINK);
    assert_eq!(
        (inbox.sessions.behind(), inbox.sessions.acks_waiting()),
        (0, 1),
        "its ack does"
    );
    inbox.poll_acks();
    // The link comes again, empty.
    inbox.opened(1);
    assert_eq!(inbox.sessions.behind(), 1);
    assert_eq!(inbox.pages(), [10, 20]);
    // A session ends with an ack to log and a page to read, another one while its link is full.
    inbox.open(1, Some(position(30, 1)));
    assert_eq!((inbox.sessions.behind(), inbox.sessions.acks_waiting), (1, 0));
    assert!(inbox.sessions.close(LINK, &session_ref(1)));
    assert_eq!((inbox.sessions.behind(), inbox.sessions.acks_waiting), (0, 0));
    inbox.sessions.handle_link_full(LINK);
    inbox.opened(1);
    assert_eq!(inbox.sessions.behind(), 1);
    assert!(inbox.sessions.close(LINK, &session_ref(1)));
    assert_eq!(inbox.sessions.behind(), 0);
}

#[test]
fn status_updates_reach_all_devices_or_all_but_one() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    let facts = inbox.facts();
    inbox.sessions.open(link(2), &hello(2, 2), &facts, UnixMs(1_000));
    let slots = |except| {
        let mut slots: Vec<_> = inbox
            .sessions
            .connections(user(1), except)
            .map(|(_, handle)| handle.slot)
            .collect();
        slots.sort_unstable();
        slots
    };
    assert_eq!(slots(None), [1, 2]);
    assert_eq!(slots(Some(device(1))), [2]);
    assert_eq!(inbox.sessions.connections(user(2), None).count(), 0);
}
