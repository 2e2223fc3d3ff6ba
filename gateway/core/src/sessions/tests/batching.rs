use super::*;
use crate::testing::Seen;

fn texts(world: &mut World<Sessions>, id: ConnectionHandle) -> Vec<String> {
    let text = |seen| {
        if let Seen::Text(text) = seen {
            Some(text)
        } else {
            None
        }
    };
    world.client(id).seen.drain(..).filter_map(text).collect()
}

#[test]
fn outputs_of_a_tick_share_frames_of_a_hundred_and_one_send() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let sends = world.hub.stats().sends;
    from_router(
        &mut world,
        &(1..=250).map(|n| deliver(&[(id, n)], n, "x")).collect::<Vec<_>>(),
    );
    assert_eq!(world.hub.stats().sends, sends + 1);
    assert_eq!(world.client(id).text_bytes.len(), 1 + 3); // Welcome and synced came before.
    let seqs: Vec<_> = world
        .client(id)
        .events()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=250).collect::<Vec<_>>());
    assert_eq!(world.hub.stats().batches_sent, 1 + 3);
}

#[test]
fn a_batch_is_split_by_bytes() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let long = "x".repeat(9_000);
    from_router(
        &mut world,
        &(1..=30)
            .map(|n| deliver(&[(id, n)], n, &long))
            .collect::<Vec<_>>(),
    );
    let sizes: Vec<_> = world.client(id).text_bytes.drain(..).skip(1).collect();
    assert_eq!(sizes.len(), 3);
    assert!(
        sizes.iter().all(|&bytes| bytes <= 131_072) && sizes[0] > 120_000,
        "{sizes:?}"
    );
    assert_eq!(world.client(id).events().len(), 30);
}

#[test]
fn a_lone_output_is_no_batch() {
    let mut world = dev();
    let id = live(&mut world, 1);
    from_router(&mut world, &[deliver(&[(id, 1)], 1, "x")]);
    assert!(texts(&mut world, id)[0].starts_with(r#"{"type":"message""#));
}

#[test]
fn with_linger_outputs_of_several_ticks_share_a_frame_until_the_first_has_waited_long_enough() {
    let mut world = dev_with(HubConfig {
        batch_linger_ms: 40,
        ..HubConfig::default()
    });
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","user_id":1}"#);
    world.pass_ms(100);
    from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    for n in 1..=4 {
        from_router(&mut world, &[deliver(&[(id, n)], n, "x")]);
        world.pass_ms(9);
    }
    world.pass_ms(3);
    assert!(texts(&mut world, id).is_empty());
    world.pass_ms(1);
    let batch = texts(&mut world, id);
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].matches(r#""type":"message""#).count(), 4);
    world.pass_ms(1_000);
    assert!(world.hub.is_idle(id));
}

#[test]
fn a_full_batch_and_a_pong_do_not_linger() {
    let mut world = dev_with(HubConfig {
        batch_linger_ms: 100,
        ..HubConfig::default()
    });
    let id = world.connect();
    world.send_text(id, r#"{"type":"hello","user_id":1}"#);
    from_router(&mut world, &[FromRouter::SessionOpened(opened(id))]);
    from_router(
        &mut world,
        &(1..=99).map(|n| deliver(&[(id, n)], n, "x")).collect::<Vec<_>>(),
    );
    assert_eq!(texts(&mut world, id).len(), 1, "a hundred, with the welcome");
    from_router(&mut world, &[deliver(&[(id, 200)], 200, "x")]);
    assert!(texts(&mut world, id).is_empty());
    world.send_bytes(id, &crate::testing::frame(wire_ws::Opcode::Ping, b""));
    let seen: Vec<_> = world.client(id).seen.drain(..).collect();
    assert!(matches!(&seen[..], [Seen::Text(_), Seen::Pong(_)]), "{seen:?}");
}

#[test]
fn a_drain_tells_sessions_to_reconnect_and_then_closes_them() {
    let mut world = dev_with(HubConfig {
        drain_ms: 0,
        ..HubConfig::default()
    });
    let (session, no_session) = (live(&mut world, 1), world.connect());
    world.hub.start_drain(world.now);
    world.tick();
    world.pass_ms(100);
    let expected = serde_json::json!({
        "type": "reconnect", "after_ms": 500, "jitter_ms": 5_000, "reason": "the server is draining",
    });
    assert_eq!(world.client(session).events(), [expected]);
    assert_eq!(world.client(session).close_code(), 4503);
    assert_eq!(
        (
            world.client(no_session).events().len(),
            world.client(no_session).close_code()
        ),
        (0, 4503)
    );
    assert_eq!(
        world.router.take_records(),
        [ToRouter::SessionClose(session_ref(session, 1))]
    );
}
