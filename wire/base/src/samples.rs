//! Arbitrary values for property tests, here and in the crates above (feature `samples`).

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::body::{Body, Content, EncodedBody};
use crate::code::Code;
use crate::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs,
    UserId,
};
use crate::message::{Draft, Message, Target};
use crate::status::Status;
use crate::status::{StatusCommand, StatusOf};

pub fn user() -> impl Strategy<Value = UserId> {
    prop_oneof![1..100u64, 1..=UserId::MAX].prop_map(|number| UserId::new(number).unwrap())
}

pub fn device() -> impl Strategy<Value = DeviceId> {
    (1..=i32::MAX as u32).prop_map(|number| DeviceId::new(number).unwrap())
}

pub fn stored_device() -> impl Strategy<Value = DeviceId> {
    (0..=i32::MAX as u32).prop_map(|number| DeviceId::from_stored(number).unwrap())
}

fn uuid() -> impl Strategy<Value = Uuid> {
    (1..=u128::MAX).prop_map(Uuid::from_u128)
}

pub fn conversation() -> impl Strategy<Value = ConversationId> {
    uuid().prop_map(|uuid| ConversationId::new(uuid).unwrap())
}

pub fn message_id() -> impl Strategy<Value = MessageId> {
    uuid().prop_map(|uuid| MessageId::new(uuid).unwrap())
}

pub fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        user().prop_map(Target::Direct),
        conversation().prop_map(Target::Group)
    ]
}

pub fn draft() -> impl Strategy<Value = Draft> {
    (user(), stored_device(), target(), body()).prop_map(|(sender, sender_device, target, body)| Draft {
        sender,
        sender_device,
        target,
        body,
    })
}

pub fn message() -> impl Strategy<Value = Message> {
    let ids = (conversation(), seq(), message_id());
    (ids, user(), stored_device(), time(), body()).prop_map(
        |((conversation, seq, message_id), sender, sender_device, timestamp, body)| Message {
            conversation,
            seq,
            message_id,
            sender,
            sender_device,
            timestamp,
            body,
        },
    )
}

pub fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![0..300u64, any::<u64>()].prop_map(Seq)
}

/// A seq as JSON may carry it: a message's.
pub fn json_seq() -> impl Strategy<Value = Seq> {
    (1..1u64 << 53).prop_map(Seq)
}

pub fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

pub fn position() -> impl Strategy<Value = Position> {
    (any::<u32>(), prop_oneof![0..300u64, any::<u64>()], any::<u16>()).prop_map(
        |(generation, offset, index)| Position {
            generation,
            offset: Offset(offset),
            index,
        },
    )
}

pub fn session() -> impl Strategy<Value = SessionNumber> {
    any::<u64>().prop_map(SessionNumber)
}

pub fn time() -> impl Strategy<Value = UnixMs> {
    any::<u64>().prop_map(UnixMs)
}

/// A time as JSON may carry it.
pub fn json_time() -> impl Strategy<Value = UnixMs> {
    (0..1u64 << 53).prop_map(UnixMs)
}

pub fn connection() -> impl Strategy<Value = ConnectionHandle> {
    any::<(u32, u32)>().prop_map(|(slot, generation)| ConnectionHandle { slot, generation })
}

pub fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Delivered), Just(Status::Read)]
}

pub fn code() -> impl Strategy<Value = Code> {
    proptest::sample::select(&Code::ALL[..])
}

pub fn status_command(seq: impl Strategy<Value = Seq>) -> impl Strategy<Value = StatusCommand> {
    let of = prop_oneof![
        message_id().prop_map(StatusOf::Message),
        (conversation(), seq).prop_map(|(conversation, seq)| StatusOf::Seq(conversation, seq)),
    ];
    (status(), of).prop_map(|(status, of)| StatusCommand { status, of })
}

/// Text with everything that a text format could trip over.
pub fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => proptest::char::range(' ', '~'),
        2 => any::<char>(),
        1 => proptest::sample::select(vec!['"', '\\', '/', '\0', '\n', '\u{1f}', '\u{7f}', '\u{2028}', '\u{2029}', '\u{feff}', '😀']),
    ];
    vec(character, 0..40).prop_map(String::from_iter)
}

/// The fields of a body, owned.
#[derive(Clone, Debug)]
pub struct OwnedBody {
    content: Result<String, Vec<u8>>,
    media_url: Option<String>,
    kind: Option<String>,
}

impl OwnedBody {
    pub fn view(&self) -> Body<'_> {
        let content = match &self.content {
            Ok(text) => Content::Text(text),
            Err(bytes) => Content::Ciphertext(bytes),
        };
        Body {
            content,
            media_url: self.media_url.as_deref(),
            kind: self.kind.as_deref(),
        }
    }
}

pub fn owned_body() -> impl Strategy<Value = OwnedBody> {
    let content = prop_oneof![
        3 => text().prop_map(|text| Ok(if text.is_empty() { "x".to_owned() } else { text })),
        1 => vec(any::<u8>(), 1..60).prop_map(Err),
    ];
    let kind = "[a-z\"\\\\]{0,20}";
    (content, option::of(text()), option::of(kind)).prop_map(|(content, media_url, kind)| OwnedBody {
        content,
        media_url,
        kind,
    })
}

pub fn body() -> impl Strategy<Value = EncodedBody> {
    owned_body().prop_map(|body| body.view().encode())
}
