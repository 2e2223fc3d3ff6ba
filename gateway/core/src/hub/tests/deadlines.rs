//! Each deadline just before and at its moment.

use super::*;

/// Lets `ms` pass but one, checks that the connection is open, then lets the last one pass.
fn assert_ends_after(world: &mut World<Echo>, id: wire_base::ids::ConnectionHandle, ms: u64, reason: Reason) {
    world.pass_ms(ms - 1);
    assert_eq!(world.hub.stats().closes_total(), 0, "{reason:?} too early");
    assert!(!world.client(id).is_closed);
    world.pass_ms(1);
    only_reason(world, reason);
}

#[test]
fn an_upgrade_has_five_seconds_however_it_drips() {
    let mut world = echo(HubConfig::default());
    let id = world.accept();
    world.pass_ms(4_000);
    world.send_bytes(id, b"GET /ws HTTP/1.1\r\n");
    assert_ends_after(&mut world, id, 1_000, Reason::UpgradeTimeout);
    assert!(world.client(id).is_closed);
    assert_all_ended(&world);
}

#[test]
fn a_message_has_thirty_seconds_from_its_first_byte() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    let message = text("a message that drips in");
    world.send_bytes(id, &message[..1]);
    for byte in &message[1..15] {
        world.pass_ms(2_000);
        world.send_bytes(id, &[*byte]);
    }
    assert_ends_after(&mut world, id, 2_000, Reason::MessageTimeout);
    assert_eq!(world.client(id).close_code(), 1008);
}

#[test]
fn the_next_message_has_thirty_seconds_of_its_own() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    let message = text("message");
    for _ in 0..5 {
        world.send_bytes(id, &message[..6]);
        world.pass_ms(20_000);
        world.send_bytes(id, &message[6..]);
    }
    // The end of one and the start of the next in one read.
    for _ in 0..5 {
        world.send_bytes(id, &message[..6]);
        world.pass_ms(20_000);
        world.send_bytes(id, &[&message[6..], &message[..6]].concat());
        world.pass_ms(20_000);
        world.send_bytes(id, &message[6..]);
    }
    assert_eq!(world.hub.stats().closes_total(), 0);
    // A ping within a message is no new message.
    world.send_bytes(id, &message[..6]);
    world.pass_ms(20_000);
    world.send_bytes(id, &message[6..8]);
    assert_ends_after(&mut world, id, 10_000, Reason::MessageTimeout);
}

#[test]
fn a_close_that_is_not_answered_has_five_seconds() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.send_bytes(id, &frame(Opcode::Close, b"\x03\xe8"));
    world.pass_ms(4_999);
    assert!(!world.client(id).is_closed);
    world.pass_ms(1);
    assert!(world.client(id).is_closed);
    only_reason(&world, Reason::ClientClosed);
    assert_all_ended(&world);
}

#[test]
fn a_silent_client_is_pinged_twice_and_then_given_up_within_75_s() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    let mut pinged_at = Vec::new();
    let start = world.now.mono_ms;
    while world.hub.stats().closes_total() == 0 {
        world.pass_ms(1);
        if seen(world.client(id)).contains(&Seen::Ping) {
            pinged_at.push(world.now.mono_ms - start);
        }
        assert!(world.now.mono_ms - start <= 75_000);
    }
    let end = world.now.mono_ms - start;
    assert!(
        matches!(pinged_at[..], [first, second] if (20_000..=25_000).contains(&first) && second == first + 25_000)
    );
    assert_eq!(end, pinged_at[1] + 25_000);
    only_reason(&world, Reason::PingTimeout);
    assert!(world.client(id).is_ended);
}

#[test]
fn a_client_that_is_heard_is_not_pinged() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    for _ in 0..20 {
        world.pass_ms(19_999);
        world.send_bytes(id, &text("here"));
    }
    assert_eq!(world.hub.stats().pings_sent, 0);
    world.pass_ms(30_000);
    world.send_bytes(id, &frame(Opcode::Pong, b""));
    world.pass_ms(74_000 - 5_000);
    assert_eq!(
        (world.hub.stats().pings_sent, world.hub.stats().closes_total()),
        (3, 0)
    );
}

#[test]
fn a_worker_that_stood_still_pings_and_waits_before_it_gives_anybody_up() {
    let mut world = echo(HubConfig::default());
    let (lively, dead) = (world.connect(), world.connect());
    for pings_sent in [2, 4] {
        // No tick for five minutes: the process was stopped.
        world.now.mono_ms += 300_000;
        world.tick();
        let stats = world.hub.stats();
        assert_eq!((stats.pings_sent, stats.closes_total()), (pings_sent, 0));
        world.pass_ms(24_999);
        assert_eq!(world.hub.stats().pings_sent, pings_sent, "each ping has its 25 s");
    }
    world.send_bytes(lively, &frame(Opcode::Pong, b""));
    world.pass_ms(1);
    only_reason(&world, Reason::PingTimeout);
    assert_eq!(world.client(dead).close_code(), 1008);
    assert_eq!(world.client(lively).close_code(), 0);
}

#[test]
fn a_client_that_takes_its_bytes_slowly_is_not_taken_for_dead() {
    let mut world = echo(HubConfig::default());
    let id = world.connect();
    world.client(id).room = 10;
    world.send_bytes(id, &text(&"x".repeat(1_000)));
    for _ in 0..10 {
        world.pass_ms(20_000);
        world.client(id).room = 10;
        world.tick();
    }
    world.pass_ms(20_000);
    world.client(id).room = usize::MAX;
    world.tick();
    // It says nothing, but it took something just now.
    world.pass_ms(19_999);
    let stats = world.hub.stats();
    assert_eq!((stats.pings_sent, stats.closes_total()), (0, 0));
    world.pass_ms(5_001);
    assert_eq!(seen(world.client(id)).last(), Some(&Seen::Ping));
    world.pass_ms(44_999);
    assert_eq!(world.hub.stats().closes_total(), 0);
}

#[test]
fn pings_of_many_connections_spread() {
    let mut world = echo(HubConfig::default());
    for _ in 0..200 {
        world.connect();
    }
    world.pass_ms(20_000);
    let mut pings_by_second = Vec::new();
    for _ in 0..5 {
        let before = world.hub.stats().pings_sent;
        world.pass_ms(1_000);
        pings_by_second.push(world.hub.stats().pings_sent - before);
    }
    assert_eq!(world.hub.stats().pings_sent, 200);
    assert!(
        pings_by_second.iter().all(|&pings| (15..=70).contains(&pings)),
        "{pings_by_second:?}"
    );
}

#[test]
fn a_hub_without_connections_sleeps_for_ever() {
    let mut world = echo(HubConfig::default());
    assert_eq!(world.hub.poll_timeout(), None);
    let id = world.connect();
    assert!(world.hub.poll_timeout().is_some());
    world.send_end(id);
    assert_eq!(world.hub.poll_timeout(), None);
}
