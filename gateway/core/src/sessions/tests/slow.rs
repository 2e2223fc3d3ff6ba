use super::*;
use wire_base::status::Status;

use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_TICK_BYTES_MAX};

#[test]
fn a_slow_reader_is_closed_with_4408_when_its_outbox_is_full_and_others_are_undisturbed() {
    let mut world = dev();
    let (slow, good) = (live(&mut world, 1), live(&mut world, 2));
    world.client(slow).room = 1_000;
    let long = "x".repeat(9_000);
    let mut n = 0;
    while world.hub.stats().closes(Reason::SlowOutbox) == 0 {
        n += 1;
        from_router(&mut world, &[deliver(&[(slow, n), (good, n)], n, &long)]);
        assert!(world.hub.stats().outbox_bytes <= OUTBOX_BYTES_MAX as u64 + 10_000);
        assert!(n < 100);
    }
    assert!(n * 9_000 > OUTBOX_BYTES_MAX as u64 - 20_000);
    assert_eq!(world.client(good).events().len() as u64, n);
    assert_eq!(
        world.router.take_records(),
        [ToRouter::SessionClose(session_ref(slow, 1))]
    );
    // The message that was begun is completed, then the close frame; nothing between.
    world.client(slow).room = usize::MAX;
    world.tick();
    assert_eq!(
        (world.client(slow).events().len(), world.client(slow).close_code()),
        (1, 4408)
    );
    world.send_end(slow);
    assert_eq!((world.hub.stats().outbox_bytes, world.hub.connections()), (0, 1));
}

#[test]
fn one_tick_may_bring_more_than_the_outbox_holds_if_the_socket_takes_it() {
    let mut world = dev();
    let id = live(&mut world, 1);
    // A whole window, every byte of it escaped: the most that a router forwards at once.
    let text = "\u{1}".repeat(9_300);
    from_router(
        &mut world,
        &(1..=14)
            .map(|n| deliver(&[(id, n)], n, &text))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        (world.client(id).events().len(), world.client(id).close_code()),
        (14, 0)
    );
}

#[test]
fn a_tick_is_bounded_too() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let text = "\u{1}".repeat(9_300);
    let count = OUTBOX_TICK_BYTES_MAX as u64 / (9_300 * 6) + 1;
    from_router(
        &mut world,
        &(1..=count)
            .map(|n| deliver(&[(id, n)], n, &text))
            .collect::<Vec<_>>(),
    );
    assert_eq!(world.client(id).close_code(), 4408);
    assert_eq!(close_reasons(&world), [Reason::SlowOutbox]);
}

#[test]
fn a_reader_that_is_slow_but_steady_stays() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let text = "x".repeat(1_000);
    for n in 1..=200 {
        world.client(id).room = 1_250;
        from_router(&mut world, &[deliver(&[(id, n)], n, &text)]);
        world.pass_ms(100);
    }
    world.client(id).room = usize::MAX;
    world.tick();
    let seqs: Vec<_> = world
        .client(id)
        .events()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    assert_eq!(world.hub.stats().closes_total(), 0);
    world.pass_ms(1);
    assert!(world.hub.is_idle(id));
}

#[test]
fn updates_that_a_slow_reader_has_not_taken_give_way_to_newer_ones() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.client(id).room = 10;
    let update = |status, seq| {
        FromRouter::StatusUpdate(wire_link::StatusUpdateRecord {
            conversation: ConversationId::direct(user(1), user(2)),
            user: user(2),
            status,
            seq: Seq(seq),
            message_id: message_id(u128::from(seq)),
            to: vec![id],
        })
    };
    from_router(&mut world, &[update(Status::Delivered, 1)]);
    for seq in 2..=5_000 {
        let both = [update(Status::Delivered, seq), update(Status::Read, seq - 1)];
        from_router(&mut world, &both);
        assert!(world.hub.stats().outbox_bytes < 2_000);
    }
    world.client(id).room = usize::MAX;
    world.tick();
    let told: Vec<_> = world
        .client(id)
        .events()
        .iter()
        .map(|event| {
            (
                event["status"].as_str().unwrap().to_owned(),
                event["seq"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [("delivered", 1), ("delivered", 5_000), ("read", 4_999)];
    assert_eq!(told, expected.map(|(status, seq)| (status.to_owned(), seq)));
    assert_eq!(world.hub.stats().updates_conflated, 2 * 4_998);
}
