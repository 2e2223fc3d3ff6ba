use super::*;
use crate::limits::{CONNECTION_PENDING_LOW, CONNECTION_PENDING_MAX, LINK_BYTES_MAX};
use wire_link::SentRecord;

fn sent(send: &SendRecord) -> FromRouter {
    FromRouter::Sent(SentRecord {
        request: send.request,
        message_id: message_id(1),
        conversation: ConversationId::direct(user(1), user(2)),
        seq: Seq(1),
        timestamp: START,
        duplicate: false,
    })
}

fn batch_of(ids: std::ops::Range<u32>, content: &str) -> String {
    let sends: Vec<_> = ids.map(|id| send_command(id, 2, content)).collect();
    format!(r#"{{"type":"batch","messages":[{}]}}"#, sends.join(","))
}

#[test]
fn a_full_link_stops_the_reading_of_those_who_ask_and_loses_nothing() {
    let mut world = dev();
    let (busy, quiet) = (live(&mut world, 1), live(&mut world, 3));
    world.router.is_full = true;
    world.send_text(busy, &send_command(1, 2, "first"));
    assert!(!world.client(busy).is_paused, "that it is full shows only now");
    world.send_text(busy, &send_command(2, 2, "second"));
    world.send_text(busy, &send_command(3, 2, "third"));
    world.send_text(quiet, r#"{"type":"ping"}"#);
    assert!(world.client(busy).is_paused && !world.client(quiet).is_paused);
    assert_eq!(
        (world.client(quiet).types(), world.client(busy).types()),
        (vec!["pong".to_owned()], vec![])
    );
    world.router.is_full = false;
    world.pass_ms(10_000);
    assert!(
        world.router.take_records().is_empty(),
        "nothing is tried before there is room"
    );
    world.hub.handle_link_room(LINK, world.now);
    world.tick();
    let sends = sends(&mut world);
    assert_eq!(
        sends
            .iter()
            .map(|send| send.draft.body.clone())
            .collect::<Vec<_>>(),
        [body("first"), body("second"), body("third")]
    );
    assert!(!world.client(busy).is_paused);
    assert_eq!(world.hub.stats().link_bytes, 0);
}

#[test]
fn liveness_is_not_judged_while_a_connection_is_not_read() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.router.is_full = true;
    world.send_text(id, &send_command(1, 2, "x"));
    world.send_text(id, &send_command(2, 2, "y"));
    assert!(world.client(id).is_paused);
    world.pass_ms(300_000);
    assert_eq!(
        (world.client(id).close_code(), world.hub.stats().pings_sent),
        (0, 0)
    );
    world.router.is_full = false;
    world.hub.handle_link_room(LINK, world.now);
    world.tick();
    world.pass_ms(74_000 - 5_000);
    assert_eq!(world.client(id).close_code(), 0);
    world.pass_ms(6_000);
    assert_eq!(world.client(id).close_code(), 1008);
}

#[test]
fn when_the_room_is_used_up_too_sends_are_rejected_busy() {
    let mut world = dev();
    world.router.is_full = true;
    let text = "x".repeat(9_000);
    let mut rejected = 0;
    let per_frame = 13;
    let clients = LINK_BYTES_MAX / (per_frame as usize * 9_000) + 3;
    let ids: Vec<_> = {
        world.router.is_full = false;
        (1..=clients as u64).map(|n| live(&mut world, n + 10)).collect()
    };
    world.router.is_full = true;
    for &id in &ids {
        world.send_text(id, &batch_of(0..per_frame, &text));
        for event in world.client(id).events() {
            assert_refused(
                &event,
                "rejected",
                event["id"].as_u64().map(|id| id as u32),
                "busy",
            );
            assert_eq!(event["retry_after_ms"], 1_000);
            rejected += 1;
        }
    }
    assert!(rejected > 0);
    assert_eq!(world.hub.stats().busy, rejected);
    let waiting = world.hub.stats().link_bytes as usize;
    assert!(
        (LINK_BYTES_MAX..LINK_BYTES_MAX + 10_000).contains(&waiting),
        "{waiting}"
    );
    world.router.is_full = false;
    world.hub.handle_link_room(LINK, world.now);
    world.tick();
    assert_eq!(
        sends(&mut world).len() as u64 + rejected,
        clients as u64 * u64::from(per_frame)
    );
}

#[test]
fn acks_and_ends_wait_as_state_while_the_link_is_full() {
    let mut world = dev();
    let (one, two) = (live(&mut world, 1), live(&mut world, 2));
    from_router(
        &mut world,
        &(1..=50)
            .map(|n| deliver(&[(one, n), (two, n)], n, "x"))
            .collect::<Vec<_>>(),
    );
    world.router.is_full = true;
    world.send_text(one, &send_command(1, 2, "x"));
    for n in 1..=50 {
        world.send_text(two, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(n)));
    }
    world.send_end(one);
    assert!(!world.client(two).is_paused, "an ack needs no room");
    world.router.is_full = false;
    world.hub.handle_link_room(LINK, world.now);
    world.tick();
    let records = world.router.take_records();
    let acks: Vec<_> = records
        .iter()
        .filter_map(|record| {
            if let ToRouter::Ack(ack) = record {
                Some(ack.position)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(acks, [at(50)]);
    assert!(records.contains(&ToRouter::SessionClose(session_ref(one, 1))));
}

#[test]
fn a_connection_with_many_requests_without_answer_is_not_read_until_half_are_answered() {
    let mut world = dev();
    let id = live(&mut world, 1);
    for n in 0..200 {
        world.send_text(id, &send_command(n, 2, "x"));
    }
    let first = sends(&mut world);
    assert_eq!(first.len(), usize::from(CONNECTION_PENDING_MAX));
    assert!(world.client(id).is_paused);
    let needed = usize::from(CONNECTION_PENDING_MAX - CONNECTION_PENDING_LOW);
    let answers: Vec<_> = first.iter().map(sent).collect();
    from_router(&mut world, &answers[..needed - 1]);
    assert!(sends(&mut world).is_empty());
    from_router(&mut world, &answers[needed - 1..needed]);
    assert_eq!(sends(&mut world).len(), needed);
    assert!(world.client(id).is_paused);
}

#[test]
fn a_broken_link_lifts_the_pause() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.router.is_full = true;
    for n in 0..3 {
        world.send_text(id, &send_command(n, 2, "x"));
    }
    world.hub.handle_link_down(LINK, world.now);
    world.tick();
    let events = world.client(id).events();
    assert_eq!(events.len(), 3);
    for (n, event) in events.iter().enumerate() {
        assert_refused(event, "rejected", Some(n as u32), "unavailable");
    }
    assert!(!world.client(id).is_paused);
}
