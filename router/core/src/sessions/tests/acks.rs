//! Acks on their way into the log.

use router_records::log::Delivered;
use wire_base::ids::Seq;

use super::inbox::{Inbox, LINK, link, session_ref};
use crate::sessions::*;
use crate::testing::{GENERATION, device, direct, other_message_id, position, user};

#[test]
fn own_sends_at_the_end_count_as_acked_when_the_session_ends() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    inbox.append(1, 1);
    inbox.sessions.close(LINK, &session_ref(1));
    let ack = inbox
        .sessions
        .poll_ack()
        .expect("the next session need not read them again");
    assert_eq!((ack.position, ack.delivered), (position(10, 1), vec![]));
}

#[test]
fn many_own_sends_count_as_acked_while_the_session_lasts() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    for _ in 1..256 {
        inbox.append(1, 1);
    }
    assert_eq!(inbox.sessions.poll_ack(), None);
    inbox.append(1, 1);
    let ack = inbox
        .sessions
        .poll_ack()
        .expect("a crash must not make it read them all again");
    assert_eq!(ack.position, position(2_560, 1));
    // Not beyond what waits for an ack of the client.
    inbox.append(2, 1);
    for _ in 0..300 {
        inbox.append(1, 1);
    }
    assert_eq!(inbox.sessions.poll_ack(), None);
}

#[test]
fn acks_beyond_what_was_sent_of_another_generation_or_link_are_ignored() {
    let mut inbox = Inbox::new();
    let session = inbox.opened(1);
    inbox.append(2, 1);
    assert_eq!(inbox.ack(session, position(11, 1)), AckVerdict::Ignored);
    assert_eq!(
        inbox.ack(
            session,
            Position {
                generation: GENERATION - 1,
                ..position(10, 1)
            }
        ),
        AckVerdict::Ignored
    );
    let record = AckRecord {
        user: user(1),
        device: device(1),
        session,
        position: position(10, 1),
    };
    assert_eq!(inbox.sessions.handle_ack(link(2), &record), AckVerdict::Ignored);
    assert_eq!(inbox.sessions.poll_ack(), None);
    assert_eq!(inbox.ack(session, position(10, 1)), AckVerdict::Taken);
    assert_eq!(inbox.ack(session, position(10, 1)), AckVerdict::Repeated);
}

#[test]
fn acks_of_a_device_become_one_record_with_the_highest_of_each_conversation() {
    let mut inbox = Inbox::new();
    let session = inbox.opened(1);
    for n in 1..=3 {
        inbox.append(2, 1);
        inbox.append(1, 2);
        inbox.ack(session, position(20 * n, 1));
    }
    let ack = inbox.sessions.poll_ack().unwrap();
    assert_eq!((ack.position, ack.session), (position(60, 1), session));
    let delivered: Vec<_> = ack
        .delivered
        .iter()
        .map(|delivered| (delivered.seq, delivered.message_id))
        .collect();
    assert_eq!(
        delivered,
        [(Seq(5), other_message_id(5))],
        "not the own echo, seq 6"
    );
    assert_eq!(inbox.sessions.poll_ack(), None);
}

#[test]
fn an_ack_that_was_not_appended_or_whose_session_ended_is_still_logged() {
    let mut inbox = Inbox::new();
    let session = inbox.opened(1);
    inbox.append(2, 1);
    inbox.ack(session, position(10, 1));
    let ack = inbox.sessions.poll_ack().unwrap();
    inbox.sessions.restore_ack(ack.clone());
    assert_eq!(inbox.sessions.poll_ack(), Some(ack.clone()));
    inbox.sessions.restore_ack(ack.clone());
    inbox.sessions.handle_link_down(LINK);
    assert_eq!(inbox.sessions.poll_ack(), Some(ack.clone()));
    inbox.sessions.restore_ack(ack.clone());
    assert_eq!(inbox.sessions.poll_ack(), Some(ack.clone()));
    // A session that comes before it is logged starts after it.
    inbox.sessions.restore_ack(ack);
    inbox.opened(2);
    assert!(inbox.pages().is_empty());
    assert_eq!(inbox.poll_acked(), Some(position(10, 1)));
}

#[test]
fn a_cursor_ahead_of_the_stored_ack_still_tells_the_senders() {
    let mut inbox = Inbox::with_backlog(3);
    let (answer, _, synced) = inbox.open(1, Some(position(20, 1)));
    assert!(answer.resumed && synced.is_none());
    assert_eq!(inbox.pages(), [30, 0], "nothing before the cursor is sent");
    let ack = inbox.sessions.poll_ack().unwrap();
    assert_eq!((ack.position, ack.delivered[0].seq), (position(20, 1), Seq(2)));
}

/// An ack that covers one message in each of `count` conversations.
fn wide_ack(count: u64) -> AckInput {
    let delivered = (2..2 + count).map(|n| Delivered {
        conversation: direct(1, n),
        seq: Seq(1),
        message_id: other_message_id(n),
    });
    AckInput {
        user: user(1),
        device: device(1),
        session: SessionNumber(1),
        position: position(10, 1),
        delivered: delivered.collect(),
    }
}

#[test]
fn an_ack_waits_for_later_ones_and_a_session_that_ends_keeps_it() {
    let mut inbox = Inbox::new();
    let config = SessionsConfig {
        ack_linger_ms: 100,
        ..SessionsConfig::default()
    };
    inbox.sessions = Sessions::new(config, GENERATION);
    inbox.sessions.handle_now(1_000);
    let session = inbox.opened(1);
    inbox.append(2, 1);
    inbox.append(2, 1);
    inbox.ack(session, position(10, 1));
    assert_eq!(inbox.sessions.poll_ack(), None);
    let due_ms = inbox.sessions.acks_due_ms().unwrap();
    assert!((1_100..1_200).contains(&due_ms), "{due_ms}");
    inbox.sessions.handle_now(due_ms - 1);
    inbox.ack(session, position(20, 1));
    assert_eq!(inbox.sessions.poll_ack(), None);
    inbox.sessions.handle_now(due_ms);
    let acks = inbox.poll_acks();
    let positions: Vec<_> = acks.iter().map(|ack| ack.position).collect();
    assert_eq!(positions, [position(20, 1)], "one record for both");
    assert_eq!(inbox.sessions.acks_due_ms(), None);

    inbox.append(2, 1);
    inbox.ack(session, position(30, 1));
    assert!(inbox.sessions.close(LINK, &session_ref(1)));
    assert_eq!(inbox.sessions.poll_ack(), None);
    let due_ms = inbox.sessions.acks_due_ms().unwrap();
    inbox.sessions.handle_now(due_ms);
    assert_eq!(inbox.sessions.poll_ack().unwrap().position, position(30, 1));
    assert_eq!(
        (inbox.sessions.poll_ack(), inbox.sessions.acks_due_ms()),
        (None, None)
    );
}

#[test]
fn an_ack_of_very_many_conversations_takes_several_records_and_its_position_comes_last() {
    let start = Position::start(GENERATION);
    let expected = [(64, start), (64, start), (22, position(10, 1))];
    let shape = |acks: &[AckInput]| {
        acks.iter()
            .map(|ack| (ack.delivered.len(), ack.position))
            .collect::<Vec<_>>()
    };
    for is_open in [true, false] {
        let mut inbox = Inbox::new();
        if is_open {
            inbox.opened(1);
        }
        inbox.sessions.restore_ack(wide_ack(150));
        let acks = inbox.poll_acks();
        assert_eq!(shape(&acks), expected, "{is_open}");
        // None of them was appended.
        acks.into_iter().for_each(|ack| inbox.sessions.restore_ack(ack));
        assert_eq!(inbox.sessions.acks_waiting(), 1);
        assert_eq!(shape(&inbox.poll_acks()), expected, "{is_open}, again");
    }
}

#[test]
fn a_reader_stops_while_too_much_news_waits_for_the_log() {
    let mut inbox = Inbox::with_backlog(1);
    inbox.opened(1);
    inbox.sessions.restore_ack(wide_ack(reader::DELIVERED_MAX as u64));
    assert!(inbox.pages().is_empty());
    assert_eq!(inbox.poll_acks().len(), 4);
    assert_eq!(inbox.pages(), [10, 0]);
}
