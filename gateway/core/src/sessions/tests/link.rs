use super::*;

#[test]
fn after_a_broken_link_sessions_are_announced_with_number_acked_and_forwarded() {
    let mut world = dev();
    let (one, two, three) = (live(&mut world, 1), live(&mut world, 2), live(&mut world, 3));
    from_router(
        &mut world,
        &[5, 6].map(|offset| deliver(&[(one, offset), (two, offset)], offset, "x")),
    );
    world.send_text(one, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(5)));
    world.hub.handle_link_down(LINK, world.now);
    world.tick();
    // Said while there is no link: remembered.
    world.send_text(two, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(6)));
    let gone = three;
    world.send_end(gone);
    world.router.take_records();
    link_up(&mut world);
    let announced = opens(&mut world);
    let facts: Vec<_> = announced
        .iter()
        .map(|open| {
            (
                open.connection,
                open.session.unwrap().0,
                open.cursor,
                open.forwarded,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            (one, 0xabc0, Some(at(5)), Some(at(6))),
            (two, 0xabc1, Some(at(6)), Some(at(6)))
        ]
    );
    assert_eq!(world.hub.stats().sessions_announced, 2);
    // The client sees nothing of it; an ack carries the number that the router gives now.
    world.client(one).events();
    let again = SessionOpened {
        session: SessionNumber(77),
        ..opened(one)
    };
    from_router(
        &mut world,
        &[
            FromRouter::SessionOpened(again),
            deliver(&[(one, 6)], 6, "x"),
            deliver(&[(one, 7)], 7, "x"),
        ],
    );
    assert_eq!(
        world
            .client(one)
            .events()
            .iter()
            .map(|event| event["seq"].as_u64())
            .collect::<Vec<_>>(),
        [Some(7)]
    );
    world.send_text(one, &format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(7)));
    let records = world.router.take_records();
    assert!(
        matches!(records[..], [ToRouter::Ack(ack)] if ack.session == SessionNumber(77) && ack.position == at(7))
    );
}

#[test]
fn a_broken_link_answers_what_was_in_flight_and_what_is_asked_meanwhile() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_text(id, &send_command(1, 2, "x"));
    world.send_text(id, r#"{"type":"conversations","id":2}"#);
    world.hub.handle_link_down(LINK, world.now);
    world.tick();
    world.send_text(id, &send_command(3, 2, "y"));
    world.send_text(id, r#"{"type":"ping","id":4}"#);
    let events = world.client(id).events();
    assert_refused(&events[0], "rejected", Some(1), "unavailable");
    assert_refused(&events[1], "error", Some(2), "unavailable");
    assert_refused(&events[2], "rejected", Some(3), "unavailable");
    assert_eq!(events[3]["type"], "pong");
    assert_eq!(
        (
            world.hub.stats().pending,
            world.hub.stats().links_up,
            world.hub.stats().link_breaks
        ),
        (0, 0, 1)
    );
    assert_eq!(world.client(id).close_code(), 0);
}

#[test]
fn a_session_that_the_router_does_not_take_back_is_closed_with_4503() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.hub.handle_link_down(LINK, world.now);
    link_up(&mut world);
    let refused = wire_link::SessionRefused {
        connection: id,
        code: wire_base::code::Code::Unavailable,
        reason: "no".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    assert_eq!(world.client(id).close_code(), 4503);
    assert_eq!(close_reasons(&world), [Reason::SessionLost]);
}

#[test]
fn a_session_that_the_router_ends_is_closed_with_4503_and_may_come_back() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let refused = wire_link::SessionRefused {
        connection: id,
        code: wire_base::code::Code::Unavailable,
        reason: "what it had not read is no longer kept".to_owned(),
    };
    from_router(&mut world, &[FromRouter::SessionRefused(refused)]);
    assert_eq!(world.client(id).close_code(), 4503);
    assert_eq!(close_reasons(&world), [Reason::SessionLost]);
}

#[test]
fn a_session_announced_again_may_be_told_to_resync() {
    let mut world = dev();
    let id = live(&mut world, 1);
    from_router(&mut world, &[deliver(&[(id, 50)], 50, "x")]);
    world.client(id).events();
    world.hub.handle_link_down(LINK, world.now);
    link_up(&mut world);
    let head = Position {
        generation: 7,
        ..at(0)
    };
    let resync = Some(("the store was replaced".to_owned(), head));
    from_router(
        &mut world,
        &[FromRouter::SessionOpened(SessionOpened {
            cursor: head,
            resync,
            ..opened(id)
        })],
    );
    let events = world.client(id).events();
    assert_eq!((events.len(), &events[0]["type"]), (1, &"resync".into()));
}

#[test]
fn hello_is_the_first_record_of_every_link_and_many_sessions_follow_in_batches() {
    let mut world = dev();
    let count = 400;
    for n in 1..=count {
        live(&mut world, n);
    }
    world.hub.handle_link_down(LINK, world.now);
    link_up(&mut world);
    let announced = opens(&mut world);
    assert_eq!(announced.len() as u64, count);
    assert!(announced.is_sorted_by_key(|open| open.connection.slot));
}

#[test]
fn events_of_a_link_that_is_not_the_one_are_without_effect() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let other = LinkId {
        slot: 3,
        generation: 0,
    };
    world
        .hub
        .handle_link_batch(other, batch(&[deliver(&[(id, 1)], 1, "x")]), world.now);
    world.hub.handle_link_down(other, world.now);
    world.hub.handle_link_room(other, world.now);
    world.tick();
    assert!(world.client(id).events().is_empty());
    assert_eq!(world.hub.stats().links_up, 1);
}

#[test]
fn a_batch_that_breaks_the_format_breaks_the_link() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let mut bytes = batch(&[deliver(&[(id, 1)], 1, "before")]).to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 0, 255]);
    world.hub.handle_link_batch(LINK, bytes.into(), world.now);
    world.tick();
    assert_eq!(world.client(id).events().len(), 1);
    assert_eq!(
        (world.hub.stats().link_batches_bad, world.hub.stats().links_up),
        (1, 0)
    );
    link_up(&mut world);
    assert_eq!(opens(&mut world).len(), 1);
}

#[test]
fn a_new_link_in_place_of_an_old_one_is_the_end_of_the_old_one() {
    let mut world = dev();
    let id = live(&mut world, 1);
    world.send_text(id, &send_command(1, 2, "x"));
    world.router.take_records();
    link_up(&mut world);
    assert_eq!(opens(&mut world).len(), 1);
    assert_refused(
        &world.client(id).event().unwrap(),
        "rejected",
        Some(1),
        "unavailable",
    );
}

#[test]
fn after_a_resync_an_announcement_goes_on_from_where_the_backlog_began() {
    let mut world = dev();
    let id = world.connect();
    world.send_text(
        id,
        r#"{"type":"hello","user_id":1,"cursor":"0000000100000000000000090001"}"#,
    );
    let resync = Some(("another store".to_owned(), at(3)));
    from_router(
        &mut world,
        &[FromRouter::SessionOpened(SessionOpened {
            resync: resync.clone(),
            ..opened(id)
        })],
    );
    from_router(&mut world, &[deliver(&[(id, 4)], 4, "x")]);
    for expected in [at(4), at(5)] {
        world.router.take_records();
        link_up(&mut world);
        let announced = opens(&mut world);
        assert_eq!(
            (announced[0].cursor, announced[0].forwarded),
            (Some(at(3)), Some(expected))
        );
        let again = SessionOpened {
            resync: resync.clone(),
            ..opened(id)
        };
        from_router(
            &mut world,
            &[FromRouter::SessionOpened(again), deliver(&[(id, 5)], 5, "x")],
        );
    }
}
