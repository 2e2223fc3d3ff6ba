//! Client role: what the server says, taken apart.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::object::{BadField, Field, JSON_INTEGER_MAX, fields, read_object};
use crate::{
    ConversationSummary, ConversationsPage, Event, Failure, HistoryPage, Rejected, Sent, ShownMessage,
    StatusUpdate, Welcome, WelcomeLimits,
};
use wire_base::body::{Body, Content};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, Position, Seq, UnixMs};
use wire_base::limits::{BATCH_MESSAGES_MAX, PAGE_LIMIT_MAX};
use wire_base::message::{Message, Target};
use wire_base::status::Status;

/// Takes one text frame apart and hands over every event of it, in order; a batch is flattened.
///
/// Shape: what has no escapes is borrowed from the frame; an event lives for the call it is handed over in.
/// Order: events before a fault are handed over, those after it are not. An event of a type this version does not know is
/// passed over: servers say more as they grow.
/// Errors: the server does not keep to the protocol.
pub fn parse_events(text: &str, each: &mut dyn FnMut(Event<'_>)) -> Result<(), BadEvent> {
    let mut fields = EventFields::default();
    read_object("frame", text, &mut fields)?;
    if !fields.event().is("batch") {
        return Ok(parse_event(&fields, each)?);
    }
    for item in fields
        .messages()
        .required(|messages| messages.array(BATCH_MESSAGES_MAX))?
    {
        parse_event(&read_item(item)?, each)?;
    }
    Ok(())
}

/// Something a server of this protocol does not say; names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadEvent {
    /// Names the field.
    pub reason: String,
}

impl From<BadField> for BadEvent {
    fn from(fault: BadField) -> Self {
        Self { reason: fault.reason }
    }
}

fields! {
    /// Every field of every event, and of the objects inside them.
    EventFields {
        "type" => event,
        "id" => id,
        "messages" => messages,
        "cursor" => cursor,
        "message_id" => message_id,
        "conversation_id" => conversation_id,
        "seq" => seq,
        "sender_id" => sender_id,
        "sender_device" => sender_device,
        "group_id" => group_id,
        "content" => content,
        "ciphertext" => ciphertext,
        "media_url" => media_url,
        "kind" => kind,
        "timestamp" => timestamp,
        "duplicate" => duplicate,
        "code" => code,
        "reason" => reason,
        "retry_after_ms" => retry_after_ms,
        "user_id" => user_id,
        "status" => status,
        "server_time_ms" => server_time_ms,
        "session_id" => session_id,
        "device_id" => device_id,
        "gateway" => gateway,
        "resumed" => resumed,
        "ping_interval_ms" => ping_interval_ms,
        "limits" => limits,
        "content_chars" => content_chars,
        "frame_bytes" => frame_bytes,
        "sends_per_s" => sends_per_s,
        "window" => window,
        "oldest_cursor" => oldest_cursor,
        "more" => more,
        "delivered_seq" => delivered_seq,
        "read_seq" => read_seq,
        "conversations" => conversations,
        "next" => next,
        "other_user_id" => other_user_id,
        "last_message" => last_message,
        "last_message_at" => last_message_at,
        "last_seq" => last_seq,
        "unread_count" => unread_count,
        "after_ms" => after_ms,
        "jitter_ms" => jitter_ms,
    }
}

/// Finds the fields of an object inside an event.
fn read_item(item: Field<'_>) -> Result<EventFields<'_>, BadField> {
    let mut fields = EventFields::default();
    item.object(&mut fields)?;
    Ok(fields)
}

fn parse_event(fields: &EventFields<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), BadField> {
    let reason = || fields.reason().required(Field::text);
    match &*fields.event().required(Field::text)? {
        "message" => each(Event::Message(MessageParts::parse(fields)?.view())),
        "sent" => each(Event::Sent(parse_sent(fields)?)),
        "status_update" => each(Event::StatusUpdate(parse_status_update(fields)?)),
        "rejected" => each(Event::Rejected(Rejected {
            id: fields.id().u32()?,
            message_id: fields.message_id().message_id()?,
            code: parse_code(fields.code())?,
            reason: &reason()?,
            retry_after_ms: fields.retry_after_ms().u32()?,
        })),
        "error" => each(Event::Error(Failure {
            id: fields.id().u32()?,
            code: parse_code(fields.code())?,
            reason: &reason()?,
        })),
        "synced" => each(Event::Synced(fields.cursor().required(Field::cursor)?)),
        "resync" => each(Event::Resync {
            reason: &reason()?,
            oldest: fields.oldest_cursor().required(Field::cursor)?,
        }),
        "reconnect" => each(Event::Reconnect {
            after_ms: fields.after_ms().required(Field::u32)?,
            jitter_ms: fields.jitter_ms().required(Field::u32)?,
            reason: &reason()?,
        }),
        "pong" => each(Event::Pong {
            id: fields.id().u32()?,
            server_time: parse_time(fields.server_time_ms())?,
        }),
        "welcome" => parse_welcome(fields, each)?,
        "history" => parse_history(fields, each)?,
        "conversations" => parse_conversations(fields, each)?,
        _ => {}
    }
    Ok(())
}

fn parse_sent(fields: &EventFields<'_>) -> Result<Sent, BadField> {
    Ok(Sent {
        id: fields.id().u32()?,
        message_id: fields.message_id().required(Field::message_id)?,
        conversation: fields.conversation_id().required(Field::conversation_id)?,
        seq: fields.seq().required(Field::seq)?,
        timestamp: parse_time(fields.timestamp())?,
        duplicate: fields.duplicate().required(Field::boolean)?,
    })
}

fn parse_status_update(fields: &EventFields<'_>) -> Result<StatusUpdate, BadField> {
    let word = fields.status().required(Field::text)?;
    Ok(StatusUpdate {
        conversation: fields.conversation_id().required(Field::conversation_id)?,
        user: fields.user_id().required(Field::user_id)?,
        status: Status::from_name(&word).ok_or_else(|| fields.status().bad("not a status"))?,
        seq: fields.seq().required(Field::seq)?,
        message_id: fields.message_id().required(Field::message_id)?,
    })
}

fn parse_welcome(fields: &EventFields<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), BadField> {
    let limits = read_item(fields.limits())?;
    let window = limits
        .window()
        .required(|window| window.integer(0..=u64::from(u16::MAX)))?;
    each(Event::Welcome(Welcome {
        id: fields.id().u32()?,
        server_time: parse_time(fields.server_time_ms())?,
        session_id: &fields.session_id().required(Field::text)?,
        user: fields.user_id().required(Field::user_id)?,
        device: fields.device_id().required(Field::device_id)?,
        gateway: &fields.gateway().required(Field::text)?,
        cursor: fields.cursor().required(Field::cursor)?,
        resumed: fields.resumed().required(Field::boolean)?,
        ping_interval_ms: fields.ping_interval_ms().required(Field::u32)?,
        limits: WelcomeLimits {
            content_chars: limits.content_chars().required(Field::u32)?,
            frame_bytes: limits.frame_bytes().required(Field::u32)?,
            sends_per_s: limits.sends_per_s().required(Field::u32)?,
            window: window as u16,
        },
    }));
    Ok(())
}

fn parse_history(fields: &EventFields<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), BadField> {
    let mut messages = Vec::new();
    for item in fields
        .messages()
        .required(|messages| messages.array(PAGE_LIMIT_MAX as usize))?
    {
        let item = read_item(item)?;
        if item.event().is("message") {
            messages.push(MessageParts::parse(&item)?);
        }
    }
    each(Event::History(HistoryPage {
        id: fields.id().u32()?,
        conversation: fields.conversation_id().required(Field::conversation_id)?,
        messages: messages.iter().map(MessageParts::view).collect(),
        more: fields.more().required(Field::boolean)?,
        delivered: parse_watermark(fields.delivered_seq())?,
        read: parse_watermark(fields.read_seq())?,
    }));
    Ok(())
}

fn parse_conversations(fields: &EventFields<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), BadField> {
    let items = fields
        .conversations()
        .required(|items| items.array(PAGE_LIMIT_MAX as usize))?;
    let items = items.into_iter().map(read_item).collect::<Result<Vec<_>, _>>()?;
    let texts = items
        .iter()
        .map(|item| item.last_message().text())
        .collect::<Result<Vec<_>, _>>()?;
    let summaries = items
        .iter()
        .zip(&texts)
        .map(|(item, text)| parse_summary(item, text.as_deref()));
    each(Event::Conversations(ConversationsPage {
        id: fields.id().u32()?,
        conversations: summaries.collect::<Result<_, _>>()?,
        next: fields.next().text()?.as_deref(),
    }));
    Ok(())
}

fn parse_summary<'a>(
    item: &EventFields<'_>,
    last_message: Option<&'a str>,
) -> Result<ConversationSummary<'a>, BadField> {
    let with = match (item.other_user_id().user_id()?, item.group_id().group_id()?) {
        (Some(user), None) => Target::Direct(user),
        (None, Some(group)) => Target::Group(group),
        _ => return Err(item.other_user_id().bad("must be there, or group_id")),
    };
    Ok(ConversationSummary {
        conversation: item.conversation_id().required(Field::conversation_id)?,
        with,
        last_message,
        last_message_at: parse_time(item.last_message_at())?,
        last_seq: parse_watermark(item.last_seq())?,
        unread_count: item
            .unread_count()
            .required(|count| count.integer(0..=JSON_INTEGER_MAX))?,
        delivered: parse_watermark(item.delivered_seq())?,
        read: parse_watermark(item.read_seq())?,
    })
}

/// A message whose texts may have had escapes and whose ciphertext was base64: what [`ShownMessage`] borrows from.
struct MessageParts<'a> {
    cursor: Option<Position>,
    group: Option<ConversationId>,
    message: Message<BodyParts<'a>>,
}

struct BodyParts<'a> {
    content: ContentParts<'a>,
    media_url: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
}

enum ContentParts<'a> {
    Text(Cow<'a, str>),
    Ciphertext(Vec<u8>),
}

impl<'a> MessageParts<'a> {
    fn parse(fields: &EventFields<'a>) -> Result<Self, BadField> {
        let device = fields
            .sender_device()
            .required(|device| device.integer(0..=i32::MAX as u64))?;
        let sender_device =
            DeviceId::from_stored(device as u32).ok_or_else(|| fields.sender_device().bad("no device"))?;
        Ok(Self {
            cursor: fields.cursor().cursor()?,
            group: fields.group_id().group_id()?,
            message: Message {
                conversation: fields.conversation_id().required(Field::conversation_id)?,
                seq: fields.seq().required(Field::seq)?,
                message_id: fields.message_id().required(Field::message_id)?,
                sender: fields.sender_id().required(Field::user_id)?,
                sender_device,
                timestamp: parse_time(fields.timestamp())?,
                body: BodyParts {
                    content: parse_content(fields)?,
                    media_url: fields.media_url().text()?,
                    kind: fields.kind().text()?,
                },
            },
        })
    }

    fn view(&self) -> ShownMessage<'_> {
        let body = &self.message.body;
        let content = match &body.content {
            ContentParts::Text(text) => Content::Text(text),
            ContentParts::Ciphertext(bytes) => Content::Ciphertext(bytes),
        };
        ShownMessage {
            cursor: self.cursor,
            group: self.group,
            message: self.message.with_body(Body {
                content,
                media_url: body.media_url.as_deref(),
                kind: body.kind.as_deref(),
            }),
        }
    }
}

fn parse_content<'a>(fields: &EventFields<'a>) -> Result<ContentParts<'a>, BadField> {
    match (fields.content().text()?, fields.ciphertext().text()?) {
        (Some(text), None) => Ok(ContentParts::Text(text)),
        (None, Some(base64)) => {
            let bytes = STANDARD
                .decode(&*base64)
                .map_err(|_| fields.ciphertext().bad("must be base64"))?;
            Ok(ContentParts::Ciphertext(bytes))
        }
        _ => Err(fields.content().bad("must be there, or ciphertext")),
    }
}

fn parse_code(code: Field<'_>) -> Result<Code, BadField> {
    let word = code.required(Field::text)?;
    Code::from_name(&word).ok_or_else(|| code.bad("not a code of the protocol"))
}

fn parse_time(time: Field<'_>) -> Result<UnixMs, BadField> {
    time.required(|time| time.integer(0..=JSON_INTEGER_MAX))
        .map(UnixMs)
}

/// Parses a seq that may be 0: before the first.
fn parse_watermark(seq: Field<'_>) -> Result<Seq, BadField> {
    seq.required(|seq| seq.integer(0..=JSON_INTEGER_MAX)).map(Seq)
}
