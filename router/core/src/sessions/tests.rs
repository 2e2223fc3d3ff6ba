//! Sessions against clients that check every delivery, and the rules one by one.

mod world;

use proptest::prelude::*;
use wire_base::ids::{MessageId, Seq};

use self::world::World;
use super::*;
use crate::testing::{GENERATION, device, other_message_id, position, user};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_device_sees_what_follows_its_cursor_in_order_and_never_more_than_its_window(
        steps in prop::collection::vec(world::steps(), 1..150),
        (page_entries_max, window_bytes_max) in (1usize..8, 1usize..120),
    ) {
        let config = SessionsConfig { window_bytes_max, page_entries_max, ..SessionsConfig::default() };
        let mut world = World::new(config);
        for step in steps {
            world.take(step);
        }
        world.settle();
    }
}

const LINK: LinkId = link(1);

/// Returns a link by its number.
const fn link(slot: u16) -> LinkId {
    LinkId { slot, generation: 1 }
}

fn handle(slot: u32) -> ConnectionHandle {
    ConnectionHandle { slot, generation: 0 }
}

/// The session of device 1 on a connection.
fn session_ref(connection: u32) -> SessionRef {
    SessionRef {
        connection: handle(connection),
        user: user(1),
        device: device(1),
    }
}

/// A receiver, user 1, with a window of 2 and entries from user 2.
struct Inbox {
    sessions: Sessions,
    entries: Vec<Entry>,
    stored: Option<router_records::row::DeviceRow>,
}

impl Inbox {
    fn new() -> Self {
        Self {
            sessions: Sessions::new(SessionsConfig::default(), GENERATION),
            entries: Vec::new(),
            stored: None,
        }
    }

    fn append(&mut self, sender: u64, sender_device: u32) -> Vec<Delivery> {
        let seq = self.entries.len() as u64 + 1;
        let entry = Entry {
            position: position(seq * 10, 1),
            conversation: wire_base::ids::ConversationId::direct(user(1), user(2)),
            seq: Seq(seq),
            message_id: id(seq),
            sender: user(sender),
            sender_device: device(sender_device),
            bytes: 100,
        };
        self.entries.push(entry);
        let mut out = Vec::new();
        self.sessions.handle_entry(user(1), &entry, &mut out);
        out
    }

    fn facts(&self) -> ReaderFacts {
        let oldest = Position::start(GENERATION);
        let head = self.entries.last().map_or(oldest, |entry| entry.position);
        ReaderFacts {
            device: self.stored,
            head,
            oldest,
        }
    }

    fn open(&mut self, connection: u32, session: Option<u64>, cursor: Option<Position>) -> Opened {
        let request = SessionOpen {
            connection: handle(connection),
            user: user(1),
            device: device(1),
            session: session.map(SessionNumber),
            cursor,
            forwarded: None,
            window: 2,
        };
        self.sessions.open(LINK, &request, &self.facts(), UnixMs(1_000))
    }

    /// Opens and returns the session number.
    fn opened(&mut self, connection: u32) -> SessionNumber {
        match self.open(connection, None, None) {
            Opened::Opened { answer, .. } => answer.session,
            Opened::Superseded => panic!("a new session is the newest"),
        }
    }

    /// Answers every page that is wanted; returns offsets of what was delivered, and `synced` as 0.
    fn pages(&mut self) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(request) = self.sessions.poll_page() {
            let page: Vec<_> = self
                .entries
                .iter()
                .filter(|entry| entry.position > request.after)
                .take(request.limit)
                .copied()
                .collect();
            let through = page.last().map_or(self.facts().head, |entry| entry.position);
            let paged = self
                .sessions
                .handle_page(&request, &page, through)
                .expect("nothing happened meanwhile");
            seen.extend(paged.steps.iter().map(|step| match step {
                Step::Deliver { entry } => page[*entry].position.offset.0,
                Step::Synced { .. } => 0,
            }));
        }
        seen
    }

    fn ack(&mut self, session: SessionNumber, position: Position) -> AckVerdict {
        self.sessions.handle_ack(
            LINK,
            &AckRecord {
                user: user(1),
                device: device(1),
                session,
                position,
            },
        )
    }
}

fn id(n: u64) -> MessageId {
    other_message_id(n)
}

#[test]
fn the_backlog_comes_in_windows_then_synced_then_live() {
    let mut inbox = Inbox::new();
    for _ in 0..3 {
        inbox.append(2, 1);
    }
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
    let Opened::Opened {
        answer,
        replaced,
        synced,
    } = inbox.open(1, None, None)
    else {
        panic!()
    };
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
    let Opened::Opened { answer, replaced, .. } = inbox.open(2, None, None) else {
        panic!()
    };
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
    restarted.stored = Some(router_records::row::DeviceRow {
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
    let Opened::Opened { answer, .. } = inbox.open(1, Some(number.0), None) else {
        panic!()
    };
    assert_eq!(answer.session, number);
    assert_eq!(inbox.open(9, Some(number.0 - 1), None), Opened::Superseded);
    assert_eq!(inbox.sessions.len(), 1);
}

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
            .map(|found| found.1.scanned),
        Some(position(40, 1))
    );
}

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
    assert_eq!(delivered, [(Seq(5), id(5))], "not the own echo, seq 6");
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
    assert_eq!(
        inbox.sessions.poll_ack().map(|ack| ack.position),
        Some(position(10, 1))
    );
}

#[test]
fn a_cursor_ahead_of_the_stored_ack_still_tells_the_senders() {
    let mut inbox = Inbox::new();
    for _ in 0..3 {
        inbox.append(2, 1);
    }
    let Opened::Opened { answer, synced, .. } = inbox.open(1, None, Some(position(20, 1))) else {
        panic!()
    };
    assert!(answer.resumed && synced.is_none());
    assert_eq!(inbox.pages(), [30, 0], "nothing before the cursor is sent");
    let ack = inbox.sessions.poll_ack().unwrap();
    assert_eq!((ack.position, ack.delivered[0].seq), (position(20, 1), Seq(2)));
}

#[test]
fn a_cursor_whose_news_was_not_read_yet_is_not_taken_back_by_the_next_session() {
    let mut inbox = Inbox::new();
    for _ in 0..3 {
        inbox.append(2, 1);
    }
    inbox.open(1, None, Some(position(20, 1)));
    inbox.opened(2);
    assert_eq!(inbox.pages(), [30, 0]);
    assert_eq!(
        inbox.sessions.poll_ack().map(|ack| ack.position),
        Some(position(20, 1))
    );
}

/// An ack that covers one message in each of `count` conversations.
fn wide_ack(count: u64) -> AckInput {
    let delivered = (2..2 + count).map(|n| router_records::log::Delivered {
        conversation: wire_base::ids::ConversationId::direct(user(1), user(n)),
        seq: Seq(1),
        message_id: id(n),
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
    let acks = poll_acks(&mut inbox.sessions);
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

fn poll_acks(sessions: &mut Sessions) -> Vec<AckInput> {
    std::iter::from_fn(|| sessions.poll_ack()).collect()
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
        let acks = poll_acks(&mut inbox.sessions);
        assert_eq!(shape(&acks), expected, "{is_open}");
        // None of them was appended.
        acks.into_iter().for_each(|ack| inbox.sessions.restore_ack(ack));
        assert_eq!(inbox.sessions.acks_waiting(), 1);
        assert_eq!(
            shape(&poll_acks(&mut inbox.sessions)),
            expected,
            "{is_open}, again"
        );
    }
}

#[test]
fn a_reader_stops_while_too_much_news_waits_for_the_log() {
    let mut inbox = Inbox::new();
    inbox.append(2, 1);
    inbox.opened(1);
    inbox.sessions.restore_ack(wide_ack(reader::DELIVERED_MAX as u64));
    assert!(inbox.pages().is_empty());
    assert_eq!(poll_acks(&mut inbox.sessions).len(), 4);
    assert_eq!(inbox.pages(), [10, 0]);
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
    poll_acks(&mut inbox.sessions);
    // The link comes again, empty.
    inbox.opened(1);
    assert_eq!(inbox.sessions.behind(), 1);
    assert_eq!(inbox.pages(), [10, 20]);
    // A session ends with an ack to log and a page to read, another one while its link is full.
    inbox.open(1, None, Some(position(30, 1)));
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
    let mut inbox = Inbox::new();
    inbox.append(2, 1);
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
    let mut inbox = Inbox::new();
    inbox.append(2, 1);
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
    let paged = inbox
        .sessions
        .handle_page(&request, &[first, second], second.position)
        .unwrap();
    let cursor = first.position;
    assert_eq!(
        paged.steps,
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
    let mut inbox = Inbox::new();
    inbox.append(2, 1);
    inbox.opened(1);
    let request = inbox.sessions.poll_page().unwrap();
    inbox.append(2, 1);
    let page = [inbox.entries[1]];
    let paged = inbox
        .sessions
        .handle_page(&request, &page, page[0].position)
        .unwrap();
    assert_eq!(
        paged.steps,
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

#[test]
fn status_updates_reach_all_devices_or_all_but_one() {
    let mut inbox = Inbox::new();
    inbox.opened(1);
    let request = SessionOpen {
        connection: handle(2),
        user: user(1),
        device: device(2),
        session: None,
        cursor: None,
        forwarded: None,
        window: 2,
    };
    inbox
        .sessions
        .open(link(2), &request, &inbox.facts(), UnixMs(1_000));
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
