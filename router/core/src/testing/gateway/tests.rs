//! A gateway takes what it may be told, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wire_base::ids::UnixMs;
use wire_base::message::Message;
use wire_link::{AckRecord, SessionRef, Synced};

use super::*;
use crate::testing::{connection, device, direct, other_message_id, position, session_open, text, user};

/// Returns a gateway to which device 1 of user 1 is connected by connection 7, with room for two, behind a head at 30.
fn gateway() -> Gateway {
    let mut gateway = Gateway::new(1_000);
    gateway.said(&ToRouter::SessionOpen(SessionOpen {
        window: 2,
        ..session_open(7, 1, 1)
    }));
    gateway.heard(&FromRouter::SessionOpened(SessionOpened {
        connection: connection(7),
        session: SessionNumber(1),
        cursor: position(30, 1),
        resumed: false,
        resync: None,
    }));
    gateway
}

/// A message from user 2 in that place of the inbox and of the conversation.
fn deliver(offset: u64, seq: u64) -> Deliver {
    Deliver {
        message: Message {
            conversation: direct(1, 2),
            seq: Seq(seq),
            message_id: other_message_id(seq),
            sender: user(2),
            sender_device: device(1),
            timestamp: UnixMs(1),
            body: text("x"),
        },
        to: [(connection(7), position(offset, 1))].into_iter().collect(),
    }
}

fn synced(offset: u64) -> FromRouter {
    FromRouter::Synced(Synced {
        connection: connection(7),
        cursor: position(offset, 1),
    })
}

fn hears(records: &[FromRouter]) -> bool {
    let mut gateway = gateway();
    let hear = || records.iter().for_each(|record| gateway.heard(record));
    catch_unwind(AssertUnwindSafe(hear)).is_ok()
}

#[test]
fn a_backlog_then_synced_then_live_is_right() {
    let records = [
        FromRouter::Deliver(deliver(10, 1)),
        synced(30),
        FromRouter::Deliver(deliver(40, 2)),
    ];
    assert!(hears(&records));
}

#[test]
fn whatever_a_router_may_not_say_is_noticed() {
    let deliver_as = |change: fn(&mut Deliver)| {
        let mut deliver = deliver(20, 2);
        change(&mut deliver);
        FromRouter::Deliver(deliver)
    };
    let first = || FromRouter::Deliver(deliver(10, 1));
    let cases = [
        ("twice", vec![first(), first()]),
        ("back", vec![FromRouter::Deliver(deliver(20, 2)), first()]),
        (
            "a seq again",
            vec![first(), deliver_as(|it| it.message.seq = Seq(1))],
        ),
        ("an echo", vec![deliver_as(|it| it.message.sender = user(1))]),
        ("to nobody", vec![deliver_as(|it| it.to[0].0 = connection(8))]),
        (
            "over the window",
            vec![first(), deliver_as(|_| {}), FromRouter::Deliver(deliver(30, 3))],
        ),
        (
            "over its bytes",
            vec![
                first(),
                deliver_as(|it| it.message.body = text(&"x".repeat(1_000))),
            ],
        ),
        ("live before synced", vec![FromRouter::Deliver(deliver(40, 1))]),
        ("synced too early", vec![synced(20)]),
        ("synced twice", vec![synced(30), synced(30)]),
        ("an answer to nothing", vec![FromRouter::Done(RequestId(1))]),
    ];
    for (name, records) in cases {
        assert!(!hears(&records), "{name}");
    }
}

#[test]
fn an_ack_makes_room_and_a_close_makes_deaf() {
    let mut gateway = gateway();
    for seq in 1..=3 {
        gateway.heard(&FromRouter::Deliver(deliver(seq * 10, seq)));
        let ack = AckRecord {
            user: user(1),
            device: device(1),
            session: SessionNumber(1),
            position: position(seq * 10, 1),
        };
        gateway.said(&ToRouter::Ack(ack));
    }
    assert_eq!(gateway.client(connection(7)).unwrap().acked, position(30, 1));
    gateway.said(&ToRouter::SessionClose(SessionRef {
        connection: connection(7),
        user: user(1),
        device: device(1),
    }));
    gateway.heard(&FromRouter::Deliver(deliver(10, 1)));
    assert!(gateway.client(connection(7)).is_none());
}
