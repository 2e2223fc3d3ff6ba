//! The JSON schemas of what the API takes and gives, with the bounds of `wire_base` (docs/protocol.md section 1).

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};
use wire_base::limits::{
    CIPHERTEXT_BYTES_MAX, CONTENT_CHARS_MAX, KIND_BYTES_MAX, MEDIA_URL_BYTES_MAX, PAGE_LIMIT_DEFAULT,
    PAGE_LIMIT_MAX, PAGE_TOKEN_BYTES_MAX,
};
use wire_base::status::Status::{Delivered, Read};

/// Defines named schemas of single values.
macro_rules! values {
    ($($(#[doc = $help:literal])* $name:ident: $shape:expr;)*) => {$(
        $(#[doc = $help])*
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let help = concat!($($help),*).trim_start();
                $shape.description(Some(help)).build().into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

values! {
    /// A user's account at the host system.
    UserId: integer(1, wire_base::ids::UserId::MAX);
    /// The device of a sender; 0 is the HTTP API.
    SenderDevice: integer(0, DEVICE_MAX);
    /// UUIDv5 of the two user ids.
    ConversationId: uuid();
    /// Made by the sender, best as UUIDv7; not nil.
    MessageId: uuid();
    /// The place of a message in its conversation, dense from 1.
    Seq: integer(1, INTEGER_MAX);
    /// Everything up to this seq; 0 before the first.
    Watermark: integer(0, INTEGER_MAX);
    /// Milliseconds since 1970, by the server's clock.
    UnixMs: integer(0, INTEGER_MAX);
    /// Text, counted in Unicode scalar values.
    Content: string(1, CONTENT_CHARS_MAX);
    /// Base64 (standard alphabet, with padding) of up to 65,536 bytes, opaque to the server.
    Ciphertext: string(1, CIPHERTEXT_BYTES_MAX.div_ceil(3) * 4).content_encoding("base64");
    /// Bounded in bytes of UTF-8; not looked at.
    MediaUrl: string(0, MEDIA_URL_BYTES_MAX);
    /// A label, bounded in bytes of UTF-8; repeated to the receiver.
    Kind: string(0, KIND_BYTES_MAX);
    /// The most entries of a page.
    Limit: integer(1, u64::from(PAGE_LIMIT_MAX)).default(Some(PAGE_LIMIT_DEFAULT.into()));
    /// Opaque.
    PageToken: string(1, PAGE_TOKEN_BYTES_MAX);
    /// Read implies delivered.
    Status: ObjectBuilder::new().schema_type(Type::String).enum_values(Some([Delivered.name(), Read.name()]));
}

/// A page of a user's conversations, newest activity first: the `conversations` event of the WebSocket.
#[derive(ToSchema)]
#[expect(dead_code, reason = "wire_client writes it; this says what")]
pub(super) struct ConversationsPage {
    #[schema(pattern = "^conversations$")]
    r#type: String,
    conversations: Vec<Conversation>,
    /// Pass it as `before` for the next page; absent on the last.
    #[schema(required = false, value_type = PageToken)]
    next: (),
}

/// A conversation as one of its members sees it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "wire_client writes it; this says what")]
struct Conversation {
    conversation_id: ConversationId,
    other_user_id: UserId,
    /// The text; null for ciphertext.
    last_message: Option<Content>,
    last_message_at: UnixMs,
    last_seq: Seq,
    /// Messages of the other user behind the later of the own read watermark and the own last send.
    #[schema(minimum = 0)]
    unread_count: u64,
    /// What the other user has received.
    delivered_seq: Watermark,
    /// What the other user has read.
    read_seq: Watermark,
}

/// A page of a conversation, newest first: the `history` event of the WebSocket.
#[derive(ToSchema)]
#[expect(dead_code, reason = "wire_client writes it; this says what")]
pub(super) struct HistoryPage {
    #[schema(pattern = "^history$")]
    r#type: String,
    conversation_id: ConversationId,
    messages: Vec<Message>,
    /// Older ones exist.
    more: bool,
    /// What the other user has received.
    delivered_seq: Watermark,
    /// What the other user has read.
    read_seq: Watermark,
}

/// A message, with exactly one of `content` and `ciphertext`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "wire_client writes it; this says what")]
struct Message {
    #[schema(pattern = "^message$")]
    r#type: String,
    message_id: MessageId,
    conversation_id: ConversationId,
    seq: Seq,
    sender_id: UserId,
    sender_device: SenderDevice,
    #[schema(required = false)]
    content: Content,
    #[schema(required = false)]
    ciphertext: Ciphertext,
    #[schema(required = false)]
    media_url: MediaUrl,
    #[schema(required = false)]
    kind: Kind,
    timestamp: UnixMs,
}

fn integer(min: u64, max: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(min))
        .maximum(Some(max))
}

fn string(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(min))
        .max_length(Some(max))
}

fn uuid() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
}

/// The largest number that every JSON reader holds exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;
const DEVICE_MAX: u64 = (1 << 31) - 1;
