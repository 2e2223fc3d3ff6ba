//! The rules of the folds, one by one.

use router_records::log::{AckInput, Delivered, DeviceInput, Input, StatusInput};
use router_records::row::Row;
use wire_base::code::Code;
use wire_base::ids::{Offset, Position, Seq, SessionNumber, UnixMs};
use wire_base::message::Target;
use wire_base::status::Status;

use super::driver::Driver;
use crate::effects::{Effects, SendOutcome, StatusUpdate};
use crate::fold::{FoldsConfig, Loaded, Lookup};
use crate::testing::{GENERATION, device, direct, message_id_at, other_message_id, position, send, user};

#[test]
fn a_first_message_makes_the_conversation_for_both_and_one_entry_each() {
    let mut driver = Driver::new(FoldsConfig::default());
    let effects = driver.send((7, 5_000), (2, 1), message_id_at(5_000, 1), "hi");
    let conversation = direct(1, 2);
    let kinds: Vec<_> = effects.rows.iter().map(kind).collect();
    assert_eq!(
        kinds,
        [
            "user_conversation",
            "user_conversation",
            "message",
            "index",
            "conversation",
            "inbox",
            "inbox"
        ]
    );
    assert_eq!(
        effects.messages[0].entries,
        [(user(1), position(7, 1)), (user(2), position(7, 2))]
    );
    assert_eq!(driver.store.conversations[&conversation].last_offset, Offset(7));
    assert_eq!(
        effects.outcomes,
        [(
            Offset(7),
            SendOutcome::Sent {
                message_id: message_id_at(5_000, 1),
                conversation,
                seq: Seq(1),
                timestamp: UnixMs(5_000),
                duplicate: false
            }
        )]
    );
    let effects = driver.send((8, 5_001), (1, 2), message_id_at(5_001, 1), "ho");
    assert_eq!(effects.rows.len(), 5, "the second message makes no conversation");
}

#[test]
fn a_message_to_oneself_makes_one_entry() {
    let mut driver = Driver::new(FoldsConfig::default());
    let effects = driver.send((3, 5_000), (1, 1), message_id_at(5_000, 1), "note");
    assert_eq!(effects.messages[0].entries, [(user(1), position(3, 1))]);
    assert_eq!(driver.store.user_conversations.len(), 1);
}

#[test]
fn a_repeated_send_gets_the_first_seq_and_time_and_other_content_is_a_conflict() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.send((1, 5_000), (1, 2), id, "hi");
    driver.send((2, 6_000), (1, 2), message_id_at(6_000, 1), "between");
    let repeat = driver.send((3, 9_000), (1, 2), id, "hi");
    assert!(repeat.rows.is_empty() && repeat.messages.is_empty());
    assert!(matches!(
        repeat.outcomes[0].1,
        SendOutcome::Sent {
            seq: Seq(1),
            timestamp: UnixMs(5_000),
            duplicate: true,
            ..
        }
    ));
    let other = driver.send((4, 9_001), (1, 2), id, "ho");
    assert!(other.rows.is_empty());
    assert!(matches!(
        other.outcomes[0].1,
        SendOutcome::Rejected {
            code: Code::Conflict,
            ..
        }
    ));
    // The other user's id is its own.
    let theirs = driver.send((5, 9_002), (2, 1), id, "ho");
    assert!(matches!(
        theirs.outcomes[0].1,
        SendOutcome::Sent {
            seq: Seq(3),
            duplicate: false,
            ..
        }
    ));
}

#[test]
fn a_usual_send_is_folded_without_a_look_up_and_an_unprovable_one_asks_the_index() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.send((1, 5_000), (1, 2), message_id_at(5_000, 1), "a");
    driver.lookups.clear();
    driver.send((2, 70_000), (1, 2), message_id_at(70_000, 1), "b");
    assert_eq!(driver.lookups, []);
    driver.send((3, 70_000), (1, 2), other_message_id(1), "c");
    assert!(matches!(driver.lookups[..], [Lookup::Dedupe(_)]));
}

#[test]
fn a_retry_is_answered_from_memory() {
    let mut driver = Driver::new(FoldsConfig::default());
    let input = Input::Send(send(1, 2, message_id_at(70_000, 1), "a"));
    driver.one(1, 70_000, input.clone());
    driver.lookups.clear();
    let effects = driver.one(2, 70_100, input);
    assert!(matches!(
        effects.outcomes[0].1,
        SendOutcome::Sent { duplicate: true, .. }
    ));
    assert_eq!(driver.lookups, []);
}

#[test]
fn what_was_loaded_late_does_not_take_back_what_memory_has() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.send((1, 70_000), (1, 2), message_id_at(70_000, 1), "a");
    let conversation = direct(1, 2);
    driver
        .folds
        .handle_loaded(Loaded::Conversation(conversation, None));
    let effects = driver.send((2, 70_000), (1, 2), message_id_at(70_000, 2), "b");
    assert_eq!(effects.messages[0].message.seq, Seq(2));
}

#[test]
fn time_stamps_never_go_back_when_the_clock_does() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.send((1, 9_000), (1, 2), message_id_at(9_000, 1), "a");
    let effects = driver.send((2, 4_000), (1, 2), message_id_at(4_000, 1), "b");
    assert_eq!(effects.messages[0].message.timestamp, UnixMs(9_000));
    assert_eq!(driver.folds.stamp(UnixMs(1)), UnixMs(9_000));
}

#[test]
fn an_ack_moves_the_device_and_tells_each_sender_once() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.send((1, 5_000), (1, 2), id, "hi");
    let conversation = direct(1, 2);
    let ack = Input::Ack(AckInput {
        user: user(2),
        device: device(4),
        session: SessionNumber(9),
        position: position(99, 1),
        delivered: vec![Delivered {
            conversation,
            seq: Seq(1),
            message_id: id,
        }],
    });
    let effects = driver.one(2, 6_000, ack.clone());
    let Row::Device(row) = effects.rows[0] else {
        panic!("the device comes first")
    };
    assert_eq!(
        (row.acked, row.session),
        (position(1, 1), SessionNumber(9)),
        "at most the head"
    );
    assert_eq!(
        effects.updates,
        [StatusUpdate {
            conversation,
            user: user(2),
            status: Status::Delivered,
            seq: Seq(1),
            message_id: id,
            told: vec![user(1)],
            except: None
        }]
    );
    assert_eq!(driver.one(3, 6_001, ack).updates, []);
}

#[test]
fn a_read_is_one_update_and_goes_to_the_readers_other_devices_too() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.send((1, 5_000), (1, 2), id, "hi");
    let status = |status| {
        Input::Status(StatusInput {
            user: user(2),
            device: device(4),
            conversation: direct(1, 2),
            status,
            seq: Seq(1),
            message_id: id,
        })
    };
    let updates = driver.one(2, 6_000, status(Status::Read)).updates;
    assert_eq!(updates.len(), 1);
    assert_eq!(
        (updates[0].told.as_slice(), updates[0].except),
        (&[user(1)][..], Some(device(4)))
    );
    // Read implied it.
    assert_eq!(
        driver.one(3, 6_001, status(Status::Delivered)),
        Effects::default()
    );
}

#[test]
fn marks_of_strangers_and_of_unknown_conversations_move_nothing() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.send((1, 5_000), (1, 2), id, "hi");
    for (who, others) in [(3, 2), (1, 3)] {
        let status = StatusInput {
            user: user(who),
            device: device(1),
            conversation: direct(1, others),
            status: Status::Read,
            seq: Seq(1),
            message_id: id,
        };
        assert_eq!(driver.one(2, 6_000, Input::Status(status)), Effects::default());
    }
}

#[test]
fn a_device_is_registered_before_every_entry() {
    let mut driver = Driver::new(FoldsConfig::default());
    driver.send((1, 5_000), (1, 2), message_id_at(5_000, 1), "hi");
    let hello = DeviceInput {
        user: user(2),
        device: device(4),
        session: SessionNumber(7),
    };
    driver.one(2, 6_000, Input::Device(hello));
    let row = driver.store.devices[&(user(2), device(4))];
    assert_eq!(
        (row.acked, row.session, row.last_seen),
        (Position::start(GENERATION), SessionNumber(7), UnixMs(6_000))
    );
}

#[test]
fn a_send_to_a_group_is_refused_and_changes_nothing_not_even_under_the_id_of_a_direct_conversation() {
    let mut driver = Driver::new(FoldsConfig::default());
    let id = message_id_at(5_000, 1);
    driver.send((1, 5_000), (1, 2), id, "hi");
    let conversation = direct(1, 2);
    for (offset, group, content) in [
        (2, direct(8, 9), "to a group"),
        (3, conversation, "to a group"),
        (4, conversation, "hi"),
    ] {
        let mut send = send(1, 2, id, content);
        send.draft.target = Target::Group(group);
        let effects = driver.one(offset, 6_000, Input::Send(send));
        assert!(
            matches!(
                effects.outcomes[..],
                [(
                    Offset(at),
                    SendOutcome::Rejected {
                        code: Code::Forbidden,
                        ..
                    }
                )] if at == offset
            ),
            "{effects:?}"
        );
        assert_eq!((effects.rows.len(), effects.messages.len()), (0, 0));
    }
}

fn kind(row: &Row) -> &'static str {
    match row {
        Row::Message(_) => "message",
        Row::Dedupe(_) => "index",
        Row::Conversation(_) => "conversation",
        Row::Receipt(_) => "receipt",
        Row::UserConversation(_) => "user_conversation",
        Row::Inbox(_) => "inbox",
        Row::Device(_) => "device",
        Row::Checkpoint(_) => "checkpoint",
        Row::LastSent(_) => "last_sent",
    }
}
