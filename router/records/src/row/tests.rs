use proptest::prelude::*;

use super::*;
use wire_base::ids::UnixMs;
use wire_base::samples::{
    conversation as conversations, message, message_id, offset, position, seq, session, stored_device, time,
    user,
};

fn row() -> impl Strategy<Value = Row> {
    let message = (offset(), offset(), message()).prop_map(|(offset, prev_offset, message)| MessageRow {
        offset,
        prev_offset,
        message,
    });
    let dedupe = (
        message_id(),
        user(),
        conversations(),
        seq(),
        any::<u128>(),
        time(),
        offset(),
    )
        .prop_map(
            |(message_id, sender, conversation, seq, hash, timestamp, offset)| DedupeRow {
                message_id,
                sender,
                conversation,
                seq,
                hash: BodyHash(hash),
                timestamp,
                offset,
            },
        );
    let members = (user(), user(), seq(), seq()).prop_map(|(one, other, low_sent, high_sent)| {
        Members::Direct(Pair {
            low: one.min(other),
            high: one.max(other),
            low_sent,
            high_sent,
        })
    });
    let conversation = (conversations(), members, seq(), offset(), time()).prop_map(
        |(conversation, members, last_seq, last_offset, last_time)| ConversationRow {
            conversation,
            members,
            last_seq,
            last_offset,
            last_time,
        },
    );
    let receipt =
        (conversations(), user(), seq(), seq()).prop_map(|(conversation, user, delivered, read)| {
            ReceiptRow {
                conversation,
                user,
                delivered,
                read,
            }
        });
    let user_conversation =
        (user(), conversations()).prop_map(|(user, conversation)| UserConversationRow { user, conversation });
    let inbox = (user(), position(), conversations(), seq(), seq()).prop_map(
        |(user, position, conversation, seq, prev_seq)| InboxRow {
            user,
            position,
            conversation,
            seq,
            prev_seq,
        },
    );
    let device = (user(), stored_device(), position(), session(), time()).prop_map(
        |(user, device, acked, session, last_seen)| DeviceRow {
            user,
            device,
            acked,
            session,
            last_seen,
        },
    );
    let checkpoint = (time(), offset()).prop_map(|(time, offset)| CheckpointRow { time, offset });
    let last_sent =
        (user(), conversations(), seq(), offset()).prop_map(|(user, conversation, seq, offset)| {
            LastSentRow {
                user,
                conversation,
                seq,
                offset,
            }
        });
    prop_oneof![
        last_sent.prop_map(Row::LastSent),
        message.prop_map(Row::Message),
        dedupe.prop_map(Row::Dedupe),
        conversation.prop_map(Row::Conversation),
        receipt.prop_map(Row::Receipt),
        user_conversation.prop_map(Row::UserConversation),
        inbox.prop_map(Row::Inbox),
        device.prop_map(Row::Device),
        checkpoint.prop_map(Row::Checkpoint),
    ]
}

#[test]
fn the_layout_is_a_sorting_key_and_a_versioned_value() {
    let row = Row::Checkpoint(CheckpointRow {
        time: UnixMs(0x0102),
        offset: Offset(0x0304),
    });
    assert_eq!(
        row.encode(),
        (vec![8, 0, 0, 0, 0, 0, 0, 1, 2], vec![2, 4, 3, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn what_no_row_holds_is_refused_by_field() {
    let (key, value) = Row::Checkpoint(CheckpointRow {
        time: UnixMs(1),
        offset: Offset(2),
    })
    .encode();
    let refused = |key: &[u8], value: &[u8]| Row::decode(key, value).unwrap_err().to_string();
    assert_eq!(refused(&[], &value), "table: cut short");
    assert_eq!(refused(&key, &[]), "row version: cut short");
    assert_eq!(refused(&key, &[1]), "row version: unknown layout version 1");
    assert_eq!(refused(&[0; 9], &value), "table: unknown kind 0");
    assert_eq!(refused(&[10; 9], &value), "table: unknown kind 10");
    assert_eq!(refused(&key[..8], &value), "time: cut short");
    assert_eq!(refused(&key, &value[..8]), "offset: cut short");
    assert_eq!(
        refused(&[&key[..], &[0]].concat(), &value),
        "row key: bytes left over"
    );
    assert_eq!(
        refused(&key, &[&value[..], &[0]].concat()),
        "row value: bytes left over"
    );
}

#[test]
fn members_are_stored_in_order_only() {
    let user = |number| UserId::new(number).unwrap();
    let row = |low, high| {
        Row::Conversation(ConversationRow {
            conversation: ConversationId::direct(low, high),
            members: Members::Direct(Pair {
                low,
                high,
                low_sent: Seq(0),
                high_sent: Seq(0),
            }),
            last_seq: Seq(1),
            last_offset: Offset(1),
            last_time: UnixMs(1),
        })
    };
    let (key, value) = row(user(1), user(2)).encode();
    assert!(Row::decode(&key, &value).is_ok());
    let (key, value) = row(user(2), user(1)).encode();
    assert_eq!(
        Row::decode(&key, &value).unwrap_err().to_string(),
        "members: out of bounds"
    );
}

proptest! {
    #[test]
    fn rows_round_trip(row in row()) {
        let (key, value) = row.encode();
        prop_assert_eq!(Row::decode(&key, &value), Ok(row));
    }

    #[test]
    fn every_truncation_is_refused(row in row()) {
        let (key, value) = row.encode();
        for length in 0..key.len() {
            prop_assert!(Row::decode(&key[..length], &value).is_err());
        }
        for length in 0..value.len() {
            prop_assert!(Row::decode(&key, &value[..length]).is_err());
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(
        row in row(),
        in_key in any::<bool>(),
        place in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let (mut key, mut value) = row.encode();
        let bytes = if in_key { &mut key } else { &mut value };
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(read) = Row::decode(&key, &value) {
            prop_assert_eq!(read.encode(), (key, value));
        }
    }
}
