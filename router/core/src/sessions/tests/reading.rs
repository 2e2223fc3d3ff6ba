//! What a reader is sent: nothing of its own, nothing twice, no more than there is room for.

use wire_base::ids::Seq;

use super::inbox::{Inbox, LINK};
use crate::sessions::*;
use crate::testing::{device, position, user};

#[test]
fn a_device_never_gets_its_own_sends_and_other_devices_do() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    assert_eq!(inbox.append(1, 1), []);
    assert_eq!(inbox.append(1, 2).len(), 1, "of the user's other device");
    assert_eq!(inbox.append(2, 1).len(), 1);
    assert_eq!(inbox.append(1, 1), [], "with the window full");
    assert_eq!(
        inbox
            .sessions
            .find(user(1), device(1))
            .map(|found| found.1.scanned()),
        Some(position(40, 1))
    );
}

#[test]
fn a_full_link_takes_nothing_and_its_readers_go_on_from_pages() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    inbox.sessions.handle_link_full(LINK);
    assert_eq!(inbox.append(2, 1), []);
    assert_eq!(inbox.append(1, 1), [], "an own send waits behind it");
    assert_eq!(inbox.sessions.poll_page(), None);
    inbox.sessions.handle_link_room(LINK);
    assert_eq!(inbox.pages(), [10]);
}

#[test]
fn a_page_for_a_session_that_was_replaced_is_dropped() {
    let mut inbox = Inbox::with_backlog(1);
    inbox.opened(1);
    let request = inbox.sessions.poll_page().unwrap();
    inbox.opened(2);
    assert_eq!(
        inbox
            .sessions
            .handle_page(&request, &inbox.entries.clone(), position(10, 1)),
        None
    );
    assert_eq!(inbox.pages(), [10, 0]);
}

#[test]
fn an_entry_that_a_page_brought_before_it_is_announced_is_read_once() {
    let mut inbox = Inbox::with_backlog(1);
    let session = inbox.opened(1);
    // The page is read when the second entry is stored, and not announced yet.
    let (first, second) = (
        inbox.entries[0],
        Entry {
            position: position(20, 1),
            seq: Seq(2),
            ..inbox.entries[0]
        },
    );
    let request = inbox.sessions.poll_page().unwrap();
    let steps = inbox.page(&request, &[first, second], second.position);
    let cursor = first.position;
    assert_eq!(
        steps,
        [
            Step::Deliver { entry: 0 },
            Step::Synced { cursor },
            Step::Deliver { entry: 1 }
        ]
    );
    inbox.ack(session, first.position);
    let mut out = Vec::new();
    inbox.sessions.handle_entry(user(1), &second, &mut out);
    assert_eq!(out, []);
    let in_flight = inbox
        .sessions
        .find(user(1), device(1))
        .map(|found| found.1.in_flight());
    assert_eq!(in_flight, Some(1));
}

#[test]
fn synced_comes_before_live_also_when_the_last_entry_of_the_backlog_was_dropped_meanwhile() {
    let mut inbox = Inbox::with_backlog(1);
    inbox.opened(1);
    let request = inbox.sessions.poll_page().unwrap();
    inbox.append(2, 1);
    let page = [inbox.entries[1]];
    let steps = inbox.page(&request, &page, page[0].position);
    assert_eq!(
        steps,
        [
            Step::Synced {
                cursor: position(10, 1)
            },
            Step::Deliver { entry: 0 }
        ]
    );
}

#[test]
fn one_message_larger_than_the_window_passes_alone() {
    let mut inbox = Inbox::new();
    inbox.sessions.config.window_bytes_max = 50;
    let session = inbox.opened(1);
    assert_eq!(inbox.append(2, 1).len(), 1);
    assert_eq!(inbox.append(2, 1).len(), 0);
    inbox.ack(session, position(10, 1));
    assert_eq!(inbox.pages(), [20]);
}
