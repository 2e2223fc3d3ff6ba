//! History and conversations.

use std::cell::Cell;

use proptest::prelude::*;
use router_core::testing::{direct, history_of, page_texts, send_of, text_of, user};
use wire_base::body::{Body, Content};
use wire_base::code::Code;
use wire_base::ids::{DeviceId, Seq};
use wire_base::limits::FRAME_BYTES_MAX;
use wire_base::message::Target;
use wire_client::{Event, Format};
use wire_link::{FromRouter, HistoryPageRecord, LinkKind, PAGE_BODY_BYTES_MAX, ToRouter};

use crate::world::{World, unknown_conversation};

#[test]
fn history_has_what_the_same_connection_sent_just_before() {
    let mut world = World::seeded(1);
    let (gateway, a) = world.one();
    let request = world.request();
    let mut records: Vec<_> = ["x", "y"]
        .map(|text| ToRouter::Send(world.send_record(&a, user(2), None, text)))
        .into();
    records.push(ToRouter::History(history_of(request, 1, 2, 50)));
    world.say(gateway, &records);
    world.settle();
    let pages = world.hear(gateway, |record| match record {
        FromRouter::HistoryPage(page) => Some(page.clone()),
        _ => None,
    });
    assert_eq!(page_texts(&pages[0]), [(1, "x".into()), (2, "y".into())]);
}

/// A pipe that takes everything at once never calls the router back: it must see itself that there is more.
#[test]
fn questions_put_off_for_what_a_link_is_owed_are_served_without_a_wake_up() {
    let mut world = World::with(9, |config| {
        config.link_pipe_bytes = 64 << 20;
        config.link_backlog_bytes = 64 << 10;
    });
    let (gateway, a) = world.one();
    let long = "x".repeat(9_500);
    for _ in 0..12 {
        world.send(&a, user(2), &long).unwrap();
    }
    let questions: Vec<_> = (0..30)
        .map(|_| {
            let request = world.request();
            ToRouter::History(history_of(request, 1, 2, 100))
        })
        .collect();
    world.say(gateway, &questions);
    while world.tick().is_busy {}
    let pages = world.hear(gateway, |record| match record {
        FromRouter::HistoryPage(page) => Some(page.request),
        _ => None,
    });
    assert_eq!(pages.len(), 30);
}

#[test]
fn history_goes_back_page_by_page() {
    let mut world = World::seeded(2);
    let (gateway, a) = world.one();
    world.say_sends(&a, user(2), 1..=25);
    world.settle();
    let conversation = direct(1, 2);
    let mut before = None;
    let mut seqs = Vec::new();
    loop {
        let page = world.history(gateway, user(2), conversation, before, 10).unwrap();
        assert!(page.messages.len() <= 10);
        seqs.extend(page.messages.iter().map(|message| message.seq.0));
        before = seqs.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(seqs, (1..=25).rev().collect::<Vec<_>>());
    let none = world
        .history(gateway, user(2), conversation, Some(1), 10)
        .unwrap();
    assert!(none.messages.is_empty() && !none.more);
}

#[test]
fn history_is_for_members_and_tells_others_nothing() {
    let mut world = World::seeded(3);
    let (gateway, a) = world.one();
    world.send(&a, user(2), "x").unwrap();
    let known = world.history(gateway, user(3), direct(1, 2), None, 10);
    let unknown = world.history(gateway, user(3), unknown_conversation(), None, 10);
    assert_eq!((known, unknown), (Err(Code::Forbidden), Err(Code::Forbidden)));
}

#[test]
fn conversations_come_newest_activity_first_page_by_page() {
    let mut world = World::seeded(4);
    let (gateway, a) = world.one();
    for peer in 2..=600 {
        world.say_send(&a, user(peer), &format!("to {peer}"));
        world.advance(u64::from(peer % 8 == 0)); // Several within one millisecond.
        world.tick();
    }
    world.settle();
    world.send(&a, user(7), "again").unwrap();
    let mut before = None;
    let mut peers = Vec::new();
    loop {
        let page = world.conversations(gateway, user(1), 100, before).unwrap();
        assert!(page.conversations.len() <= 100);
        peers.extend(page.conversations.iter().map(|summary| match summary.with {
            Target::Direct(peer) => peer.get(),
            Target::Group(group) => panic!("a group: {group}"),
        }));
        before = page.next_behind(usize::MAX).map(str::to_owned);
        if before.is_none() {
            break;
        }
    }
    let mut expected: Vec<u64> = (2..=600).rev().filter(|peer| *peer != 7).collect();
    expected.insert(0, 7);
    assert_eq!(peers, expected);
    let bad = world.conversations(gateway, user(1), 10, Some("nonsense".into()));
    assert_eq!(bad, Err(Code::BadRequest));
    let nobody = world.conversations(gateway, user(999), 10, None).unwrap();
    assert!(nobody.conversations.is_empty() && !nobody.more);
}

#[test]
fn a_summary_shows_the_last_text_and_the_peers_watermarks() {
    let mut world = World::seeded(5);
    let (_, a, b) = world.two();
    let api = world.link_of(LinkKind::Api);
    let sent = world.send(&a, user(2), "hello").unwrap();
    let position = world.got(&b)[0].position;
    world.ack(&b, position);
    let page = world.conversations(api, user(1), 10, None).unwrap();
    let summary = &page.conversations[0];
    assert_eq!(
        (summary.conversation, summary.with),
        (sent.conversation, Target::Direct(user(2)))
    );
    assert_eq!(summary.last_body.as_ref().map(text_of), Some("hello".into()));
    assert_eq!((summary.last_time, summary.last_seq), (sent.timestamp, Seq(1)));
    assert_eq!(
        (summary.unread, summary.delivered, summary.read),
        (0, Seq(1), Seq(0))
    );

    let sealed = Body {
        content: Content::Ciphertext(b"secret"),
        media_url: None,
        kind: None,
    };
    let mut send = send_of(world.request(), (1, DeviceId::API), 2, None, "x");
    send.draft.body = sealed.encode();
    world.say(api, &[ToRouter::Send(send)]);
    world.settle();
    let page = world.conversations(api, user(1), 10, None).unwrap();
    assert_eq!(page.conversations[0].last_body, None);
}

/// Returns how many messages of a page its connection would get in one frame, and whether it would be told of more.
fn shown(page: &HistoryPageRecord) -> (usize, bool) {
    let last = Cell::new((0, false));
    let event = |count| {
        let event = page.shown(Some(u32::MAX), count);
        last.set((event.messages.len(), event.more));
        Event::History(event)
    };
    let mut out = Vec::new();
    Format::Json.encode_page(page.messages.len(), event, &mut out);
    assert!(out.len() <= FRAME_BYTES_MAX);
    last.get()
}

fn any_content() -> impl Strategy<Value = (String, bool)> {
    let text = prop_oneof![Just("a"), Just("\u{1}"), Just("\""), Just("é"), Just("😀")];
    (
        text,
        1..10_000usize,
        any::<bool>(),
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(unit, count, is_long, is_sealed)| {
            (
                unit.repeat(if is_long { count } else { count % 50 + 1 }),
                is_sealed,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_page_fits_a_frame_and_none_is_missing(contents in prop::collection::vec(any_content(), 1..40)) {
        let mut world = World::seeded(6);
        let (gateway, a) = world.one();
        let url = "\"".repeat(2_048);
        for (text, is_sealed) in &contents {
            let content = if *is_sealed { Content::Ciphertext(text.as_bytes()) } else { Content::Text(text) };
            let body = Body { content, media_url: is_sealed.then_some(url.as_str()), kind: None }.encode();
            let mut send = world.send_record(&a, user(2), None, "x");
            send.draft.body = body;
            world.say(gateway, &[ToRouter::Send(send)]);
            world.tick();
        }
        world.settle();
        let mut before = None;
        let mut seqs = Vec::new();
        loop {
            let page = world.history(gateway, user(1), direct(1, 2), before, 100).unwrap();
            let bodies: usize = page.messages.iter().map(|message| message.body.len()).sum();
            prop_assert!(bodies <= PAGE_BODY_BYTES_MAX || page.messages.len() == 1);
            let (shown, more) = shown(&page);
            prop_assert!(shown > 0);
            seqs.extend(page.messages[..shown].iter().map(|message| message.seq.0));
            before = seqs.last().copied();
            if !more {
                break;
            }
        }
        prop_assert_eq!(seqs, (1..=contents.len() as u64).rev().collect::<Vec<_>>());
    }
}
