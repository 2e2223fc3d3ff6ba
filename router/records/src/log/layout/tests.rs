use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use wire_base::ids::{DeviceId, SessionNumber, UnixMs, UserId};
use wire_base::samples::*;

fn record() -> impl Strategy<Value = LogRecord> {
    let send = (message_id(), draft()).prop_map(|(message_id, draft)| SendInput { message_id, draft });
    let delivered =
        (conversation(), seq(), message_id()).prop_map(|(conversation, seq, message_id)| Delivered {
            conversation,
            seq,
            message_id,
        });
    let ack = (
        user(),
        stored_device(),
        session(),
        position(),
        vec(delivered, 0..4),
    )
        .prop_map(|(user, device, session, position, delivered)| AckInput {
            user,
            device,
            session,
            position,
            delivered,
        });
    let status = (
        user(),
        stored_device(),
        conversation(),
        status(),
        seq(),
        message_id(),
    )
        .prop_map(
            |(user, device, conversation, status, seq, message_id)| StatusInput {
                user,
                device,
                conversation,
                status,
                seq,
                message_id,
            },
        );
    let device = (user(), stored_device(), session()).prop_map(|(user, device, session)| DeviceInput {
        user,
        device,
        session,
    });
    let recipient = (user(), seq()).prop_map(|(user, prev_seq)| Recipient { user, prev_seq });
    let fanout =
        (message(), offset(), vec(recipient, 0..4)).prop_map(|(message, origin, recipients)| FanoutInput {
            message,
            origin,
            recipients,
        });
    let input = prop_oneof![
        send.prop_map(Input::Send),
        ack.prop_map(Input::Ack),
        status.prop_map(Input::Status),
        device.prop_map(Input::Device),
        fanout.prop_map(Input::Fanout),
    ];
    (time(), input).prop_map(|(time, input)| LogRecord { time, input })
}

fn encoded(record: &LogRecord) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}

fn first_device() -> Vec<u8> {
    let user = UserId::new(0x0102).unwrap();
    let input = Input::Device(DeviceInput {
        user,
        device: DeviceId::DEFAULT,
        session: SessionNumber(9),
    });
    encoded(&LogRecord {
        time: UnixMs(3),
        input,
    })
}

#[test]
fn the_layout_is_kind_version_time_and_fields() {
    let expected = [
        4, 2, 3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(first_device(), expected);
}

#[test]
fn a_record_of_another_version_or_kind_is_refused_not_skipped() {
    let refused = |change: fn(&mut Vec<u8>)| {
        let mut bytes = first_device();
        change(&mut bytes);
        LogRecord::decode(bytes.into()).unwrap_err().to_string()
    };
    assert_eq!(refused(|bytes| bytes[0] = 0), "record kind: unknown kind 0");
    assert_eq!(refused(|bytes| bytes[0] = 6), "record kind: unknown kind 6");
    assert_eq!(
        refused(|bytes| bytes[1] = 1),
        "record version: unknown layout version 1"
    );
    assert_eq!(refused(|bytes| bytes.push(0)), "record: bytes left over");
    assert_eq!(refused(Vec::clear), "record kind: cut short");
    assert_eq!(refused(|bytes| bytes.truncate(12)), "user: cut short");
}

proptest! {
    #[test]
    fn records_round_trip(record in record()) {
        prop_assert_eq!(LogRecord::decode(encoded(&record).into()), Ok(record));
    }

    #[test]
    fn every_truncation_is_refused(record in record()) {
        let bytes = Bytes::from(encoded(&record));
        for length in 0..bytes.len() {
            prop_assert!(LogRecord::decode(bytes.slice(..length)).is_err());
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(
        record in record(),
        place in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut bytes = encoded(&record);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(read) = LogRecord::decode(bytes.clone().into()) {
            prop_assert_eq!(encoded(&read), bytes);
        }
    }
}
