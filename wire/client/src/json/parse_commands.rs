//! Server role: what a client says, taken apart.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::object::{BadField, Field, fields, read_object};
use wire_base::message::Target;

use crate::{Command, Conversations, Hello, History, Presence, Request, Send, SendBody, Typing};
use wire_base::body::{Body, BodyError, Content};
use wire_base::code::Code;
use wire_base::ids::MessageId;
use wire_base::limits::{
    BATCH_MESSAGES_MAX, CIPHERTEXT_BYTES_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PAGE_TOKEN_BYTES_MAX,
    PRESENCE_USERS_MAX, WINDOW_DEFAULT, WINDOW_MAX,
};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};

/// Takes one text frame apart and hands over every command of it, in order.
///
/// Shape: text without escapes stays borrowed from the frame; nothing is allocated for it.
/// Errors: each is the client's fault and is handed over in the place of its command. A frame that is not JSON, or a batch
/// of more than [`BATCH_MESSAGES_MAX`], is a single error.
pub fn parse_frame<'a>(text: &'a str, each: &mut dyn FnMut(Result<Request<'a>, BadCommand>)) -> FrameKind {
    let mut fields = CommandFields::default();
    if let Err(fault) = read_object("frame", text, &mut fields) {
        each(Err(BadCommand::new(&fields, fault)));
        return FrameKind::One;
    }
    if !fields.command().is("batch") {
        each(parse_command(&fields));
        return FrameKind::One;
    }
    match fields
        .messages()
        .required(|messages| messages.array(BATCH_MESSAGES_MAX))
    {
        Ok(items) => items.into_iter().for_each(|item| each(parse_item(item))),
        Err(fault) => each(Err(BadCommand::new(&fields, fault))),
    }
    FrameKind::Batch
}

/// Whether a frame held a command or a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// One command.
    One,
    /// A batch, be it empty or of one command.
    Batch,
}

/// A command that cannot be run: answer `rejected` to a send and `error` to anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCommand {
    /// The command's id, where it could be read.
    pub id: Option<u32>,
    /// The message id, where it could be read.
    pub message_id: Option<MessageId>,
    /// What it said that it was.
    pub kind: BadKind,
    /// `bad_request` or `too_long`.
    pub code: Code,
    /// Names the field; never repeats what the client wrote.
    pub reason: String,
}

/// What a command that cannot be run said that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKind {
    /// A hello, where one may stand.
    Hello,
    /// A send.
    Send,
    /// Another command, or whatever else stands in a batch.
    Other,
    /// It did not say, or nothing that is known.
    Unknown,
}

impl BadCommand {
    fn new(fields: &CommandFields<'_>, fault: BadField) -> Self {
        Self {
            id: fields.id().u32().unwrap_or_default(),
            message_id: fields.message_id().message_id().unwrap_or_default(),
            kind: kind_of(fields),
            code: fault.code,
            reason: fault.reason,
        }
    }
}

fn kind_of(fields: &CommandFields<'_>) -> BadKind {
    match fields.command().text() {
        Ok(Some(command)) => match &*command {
            "hello" => BadKind::Hello,
            "send" => BadKind::Send,
            "ack" | "status" | "typing" | "presence" | "history" | "conversations" | "refresh" | "ping"
            | "batch" => BadKind::Other,
            _ => BadKind::Unknown,
        },
        _ => BadKind::Unknown,
    }
}

fields! {
    /// Every field of every command.
    CommandFields {
        "type" => command,
        "id" => id,
        "messages" => messages,
        "user_id" => user_id,
        "token" => token,
        "device_id" => device_id,
        "cursor" => cursor,
        "window" => window,
        "message_id" => message_id,
        "receiver_id" => receiver_id,
        "group_id" => group_id,
        "content" => content,
        "ciphertext" => ciphertext,
        "media_url" => media_url,
        "kind" => kind,
        "status" => status,
        "conversation_id" => conversation_id,
        "seq" => seq,
        "state" => state,
        "user_ids" => user_ids,
        "watch" => watch,
        "before_seq" => before_seq,
        "limit" => limit,
        "before" => before,
    }
}

/// Parses a command of a batch.
fn parse_item(item: Field<'_>) -> Result<Request<'_>, BadCommand> {
    let mut fields = CommandFields::default();
    let parsed = match item.object(&mut fields) {
        Err(fault) => Err(BadCommand::new(&fields, fault)),
        Ok(()) => match parse_command(&fields) {
            Ok(Request {
                command: Command::Hello(_),
                ..
            }) => Err(BadCommand::new(
                &fields,
                fields.command().bad("hello cannot stand in a batch"),
            )),
            parsed => parsed,
        },
    };
    parsed.map_err(|bad| match bad.kind {
        BadKind::Send | BadKind::Other => bad,
        BadKind::Hello | BadKind::Unknown => BadCommand {
            kind: BadKind::Other,
            ..bad
        },
    })
}

fn parse_command<'a>(fields: &CommandFields<'a>) -> Result<Request<'a>, BadCommand> {
    let parse = || {
        let id = fields.id().u32()?;
        let command = match &*fields.command().required(Field::text)? {
            "send" => Command::Send(parse_send(fields)?),
            "ack" => Command::Ack(fields.cursor().required(Field::cursor)?),
            "status" => Command::Status(parse_status(fields)?),
            "hello" => Command::Hello(parse_hello(fields)?),
            "typing" => Command::Typing(parse_typing(fields)?),
            "presence" => Command::Presence(parse_presence(fields)?),
            "history" => Command::History(parse_history(fields)?),
            "conversations" => Command::Conversations(parse_conversations(fields)?),
            "refresh" => Command::Refresh(fields.token().required(Field::plain_text)?),
            "ping" => Command::Ping,
            "batch" => return Err(fields.command().bad("a batch cannot stand in a batch")),
            _ => return Err(fields.command().bad("not a command")),
        };
        Ok(Request { id, command })
    };
    parse().map_err(|fault| BadCommand::new(fields, fault))
}

fn parse_hello<'a>(fields: &CommandFields<'a>) -> Result<Hello<'a>, BadField> {
    let window = fields.window().integer(1..=u64::from(WINDOW_MAX))?;
    Ok(Hello {
        user: fields.user_id().user_id()?,
        token: fields.token().plain_text()?,
        device: fields.device_id().device_id()?,
        cursor: fields.cursor().cursor()?,
        window: window.map_or(WINDOW_DEFAULT, |window| window as u16),
    })
}

fn parse_send<'a>(fields: &CommandFields<'a>) -> Result<Send<'a>, BadField> {
    Ok(Send {
        message_id: fields.message_id().message_id()?,
        to: parse_target(fields)?,
        body: parse_body(fields)?,
    })
}

fn parse_target(fields: &CommandFields<'_>) -> Result<Target, BadField> {
    match (fields.receiver_id().user_id()?, fields.group_id().group_id()?) {
        (Some(user), None) => Ok(Target::Direct(user)),
        (None, Some(group)) => Ok(Target::Group(group)),
        (None, None) => Err(fields.receiver_id().bad("missing, and so is group_id")),
        (Some(_), Some(_)) => Err(fields.receiver_id().bad("give either receiver_id or group_id")),
    }
}

fn parse_body<'a>(fields: &CommandFields<'a>) -> Result<SendBody<'a>, BadField> {
    let media_url = fields.media_url().text()?;
    let kind = fields.kind().text()?;
    match (fields.content().text()?, fields.ciphertext().text()?) {
        (Some(text), None) => text_body(text, media_url, kind),
        (None, Some(base64)) => {
            let bytes = decode_ciphertext(fields.ciphertext(), &base64)?;
            encoded_body(Content::Ciphertext(&bytes), &media_url, &kind)
        }
        (None, None) => Err(fields.content().bad("missing, and so is ciphertext")),
        (Some(_), Some(_)) => Err(fields.content().bad("give either content or ciphertext")),
    }
}

/// Keeps the body borrowed where no field of it has escapes.
fn text_body<'a>(
    text: Cow<'a, str>,
    media_url: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
) -> Result<SendBody<'a>, BadField> {
    match (text, borrowed(&media_url), borrowed(&kind)) {
        (Cow::Borrowed(text), Some(media_url), Some(kind)) => {
            let body = Body {
                content: Content::Text(text),
                media_url,
                kind,
            };
            body.check()?;
            Ok(SendBody::Borrowed(body))
        }
        (text, _, _) => encoded_body(Content::Text(&text), &media_url, &kind),
    }
}

/// Returns the field as borrowed from the frame; `None` where it has escapes.
fn borrowed<'a>(field: &Option<Cow<'a, str>>) -> Option<Option<&'a str>> {
    match field {
        None => Some(None),
        Some(Cow::Borrowed(text)) => Some(Some(text)),
        Some(Cow::Owned(_)) => None,
    }
}

fn encoded_body(
    content: Content<'_>,
    media_url: &Option<Cow<'_, str>>,
    kind: &Option<Cow<'_, str>>,
) -> Result<SendBody<'static>, BadField> {
    let body = Body {
        content,
        media_url: media_url.as_deref(),
        kind: kind.as_deref(),
    };
    body.check()?;
    Ok(SendBody::Encoded(body.encode()))
}

/// Decodes base64 whose length says beforehand that it is within bounds.
fn decode_ciphertext(field: Field<'_>, base64: &str) -> Result<Vec<u8>, BadField> {
    if base64.len() > CIPHERTEXT_BYTES_MAX.div_ceil(3) * 4 {
        return Err(BodyError::TooLong {
            field: field.name,
            max: CIPHERTEXT_BYTES_MAX,
            unit: "bytes",
        }
        .into());
    }
    STANDARD
        .decode(base64)
        .map_err(|_| field.bad("must be base64 of the standard alphabet, with padding"))
}

fn parse_status(fields: &CommandFields<'_>) -> Result<StatusCommand, BadField> {
    let word = fields.status().required(Field::text)?;
    let status = Status::from_name(&word).ok_or_else(|| fields.status().bad("must be delivered or read"))?;
    let message_id = fields.message_id().message_id()?;
    let conversation = fields.conversation_id().conversation_id()?;
    let seq = fields.seq().seq()?;
    let of = match (message_id, conversation, seq) {
        (Some(message_id), None, None) => StatusOf::Message(message_id),
        (None, Some(conversation), Some(seq)) => StatusOf::Seq(conversation, seq),
        _ => {
            return Err(fields
                .message_id()
                .bad("give either message_id, or conversation_id and seq"));
        }
    };
    Ok(StatusCommand { status, of })
}

fn parse_typing(fields: &CommandFields<'_>) -> Result<Typing, BadField> {
    let active = match &*fields.state().required(Field::text)? {
        "start" => true,
        "stop" => false,
        _ => return Err(fields.state().bad("must be start or stop")),
    };
    Ok(Typing {
        to: parse_target(fields)?,
        active,
    })
}

fn parse_presence(fields: &CommandFields<'_>) -> Result<Presence, BadField> {
    let users = fields
        .user_ids()
        .required(|users| users.array(PRESENCE_USERS_MAX))?;
    let users = users
        .into_iter()
        .map(|user| user.required(Field::user_id))
        .collect::<Result<_, _>>()?;
    Ok(Presence {
        users,
        watch: fields.watch().boolean()?.unwrap_or(false),
    })
}

fn parse_history(fields: &CommandFields<'_>) -> Result<History, BadField> {
    Ok(History {
        conversation: fields.conversation_id().required(Field::conversation_id)?,
        before: fields.before_seq().seq()?,
        limit: parse_limit(fields)?,
    })
}

fn parse_conversations<'a>(fields: &CommandFields<'a>) -> Result<Conversations<'a>, BadField> {
    let before = fields.before().plain_text()?;
    if before.is_some_and(|token| token.len() > PAGE_TOKEN_BYTES_MAX) {
        return Err(fields.before().bad("not the next of a page"));
    }
    Ok(Conversations {
        limit: parse_limit(fields)?,
        before,
    })
}

fn parse_limit(fields: &CommandFields<'_>) -> Result<u32, BadField> {
    let limit = fields.limit().integer(1..=u64::from(PAGE_LIMIT_MAX))?;
    Ok(limit.map_or(PAGE_LIMIT_DEFAULT, |limit| limit as u32))
}
