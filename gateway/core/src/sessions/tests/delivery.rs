use super::*;
use wire_base::status::Status;
use wire_link::{AckRecord, StatusUpdateRecord};

#[test]
fn a_message_for_many_is_the_same_but_for_its_cursor() {
    let mut world = dev();
    let ids: Vec<_> = (1..=3).map(|n| live(&mut world, n)).collect();
    let text = r#"quotes " and "cursor":"0000000000000000000000000000" inside"#;
    from_router(
        &mut world,
        &[deliver(
            &[(ids[0], 7), (ids[1], 0xffff_ffff_ffff), (ids[2], 9)],
            4,
            text,
        )],
    );
    for (id, offset) in ids.into_iter().zip([7, 0xffff_ffff_ffff, 9]) {
        let expected = serde_json::json!({
            "type": "message", "cursor": at(offset).to_string(), "message_id": message_id(4).to_string(),
            "conversation_id": ConversationId::direct(user(1), user(2)).to_string(), "seq": 4, "sender_id": 2,
            "sender_device": 1, "content": text, "timestamp": START.0,
        });
        assert_eq!(world.client(id).events(), [expected]);
    }
    assert_eq!(world.hub.stats().messages_delivered, 3);
}

#[test]
fn a_delivery_to_a_connection_that_is_gone_or_not_live_is_dropped() {
    let mut world = dev();
    let (gone, there, new) = (live(&mut world, 1), live(&mut world, 2), world.connect());
    world.send_end(gone);
    from_router(&mut world, &[deliver(&[(gone, 1), (new, 2), (there, 3)], 1, "x")]);
    assert_eq!(
        (
            world.client(there).events().len(),
            world.client(new).events().len()
        ),
        (1, 0)
    );
}

#[test]
fn what_a_connection_had_is_not_repeated() {
    let mut world = dev();
    let id = live(&mut world, 1);
    let records = [5, 6, 5, 4, 6, 7].map(|offset| deliver(&[(id, offset)], offset, "x"));
    from_router(&mut world, &records);
    let cursors: Vec<_> = world
        .client(id)
        .events()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(cursors, [5, 6, 7]);
    assert_eq!(world.hub.stats().messages_repeated, 3);
}

#[test]
fn only_the_highest_ack_of_a_tick_goes_out() {
    let mut world = dev();
    let (one, two) = (live(&mut world, 1), live(&mut world, 2));
    from_router(
        &mut world,
        &[5, 6, 7].map(|offset| deliver(&[(one, offset), (two, offset)], offset, "x")),
    );
    let ack = |offset| format!(r#"{{"type":"ack","cursor":"{}"}}"#, at(offset));
    let batch = |offsets: &[u64]| {
        let acks: Vec<_> = offsets.iter().map(|&offset| ack(offset)).collect();
        format!(r#"{{"type":"batch","messages":[{}]}}"#, acks.join(","))
    };
    world.send_text(one, &batch(&[5, 7, 6]));
    let record = |id: ConnectionHandle, user_id, offset| {
        let session = SessionNumber(0xabc0 + u64::from(id.slot));
        ToRouter::Ack(AckRecord {
            user: user(user_id),
            device: DeviceId::DEFAULT,
            session,
            position: at(offset),
        })
    };
    assert_eq!(world.router.take_records(), [record(one, 1, 7)]);
    world.send_text(one, &ack(7));
    world.send_text(one, &ack(8));
    world.send_text(
        one,
        &format!(
            r#"{{"type":"ack","cursor":"{}"}}"#,
            Position {
                generation: 5,
                ..at(6)
            }
        ),
    );
    assert!(
        world.router.take_records().is_empty(),
        "known, not forwarded, of another generation"
    );
    world.send_text(two, &ack(5));
    assert_eq!(world.router.take_records(), [record(two, 2, 5)]);
    assert!(
        world.client(one).types().iter().all(|kind| kind == "message"),
        "an ack has no answer"
    );
}

#[test]
fn a_status_update_reaches_everybody_named() {
    let mut world = dev();
    let ids = [live(&mut world, 1), live(&mut world, 1)];
    let conversation = ConversationId::direct(user(1), user(2));
    let update = StatusUpdateRecord {
        conversation,
        user: user(2),
        status: Status::Read,
        seq: Seq(6),
        message_id: message_id(6),
        to: ids.to_vec(),
    };
    from_router(&mut world, &[FromRouter::StatusUpdate(update)]);
    let expected = serde_json::json!({
        "type": "status_update", "conversation_id": conversation.to_string(), "user_id": 2, "status": "read",
        "seq": 6, "message_id": message_id(6).to_string(),
    });
    for id in ids {
        assert_eq!(world.client(id).events(), std::slice::from_ref(&expected));
    }
}
