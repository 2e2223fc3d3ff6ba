//! Server role: what the server says, put together.

use wire_base::message::Target;

use super::write::Writer;
use crate::{
    ConversationSummary, ConversationsPage, Event, Failure, HistoryPage, Rejected, Sent, ShownMessage,
    StatusUpdate, Welcome,
};

/// Appends one event as a JSON object.
///
/// Shape: less than a frame, when its lists are: a message is at most 103,000 bytes (ciphertext, and escapes throughout).
pub fn encode_event(event: &Event<'_>, out: &mut Vec<u8>) {
    let mut json = Writer::new(out);
    match event {
        Event::Message(message) => write_message(&mut json, message),
        Event::Sent(sent) => write_sent(&mut json, sent),
        Event::StatusUpdate(update) => write_status_update(&mut json, update),
        Event::Rejected(rejected) => write_rejected(&mut json, rejected),
        Event::Welcome(welcome) => write_welcome(&mut json, welcome),
        Event::Synced(cursor) => {
            json.cursor(r#"{"type":"synced","cursor":"#, *cursor);
            json.raw("}");
        }
        Event::Resync { reason, oldest } => {
            json.string(r#"{"type":"resync","reason":"#, reason);
            json.cursor(r#","oldest_cursor":"#, *oldest);
            json.raw("}");
        }
        Event::History(page) => write_history(&mut json, page),
        Event::Conversations(page) => write_conversations(&mut json, page),
        Event::Reconnect {
            after_ms,
            jitter_ms,
            reason,
        } => {
            json.number(r#"{"type":"reconnect","after_ms":"#, *after_ms);
            json.number(r#","jitter_ms":"#, *jitter_ms);
            json.string(r#","reason":"#, reason);
            json.raw("}");
        }
        Event::Pong { id, server_time } => {
            json.raw(r#"{"type":"pong""#);
            write_id(&mut json, *id);
            json.number(r#","server_time_ms":"#, server_time.0);
            json.raw("}");
        }
        Event::Error(failure) => write_error(&mut json, failure),
    }
}

fn write_id(json: &mut Writer<'_>, id: Option<u32>) {
    if let Some(id) = id {
        json.number(r#","id":"#, id);
    }
}

/// Where the text of the cursor begins in a message that has one: behind the names, which are always the same, and its quote.
pub(crate) const MESSAGE_CURSOR_AT: usize = MESSAGE_OPEN.len() + CURSOR_FIELD.len() + 1;
const MESSAGE_OPEN: &str = r#"{"type":"message""#;
const CURSOR_FIELD: &str = r#","cursor":"#;

fn write_message(json: &mut Writer<'_>, shown: &ShownMessage<'_>) {
    let ShownMessage {
        cursor,
        group,
        message,
    } = shown;
    json.raw(MESSAGE_OPEN);
    if let Some(cursor) = *cursor {
        json.cursor(CURSOR_FIELD, cursor);
    }
    json.uuid(r#","message_id":"#, message.message_id.get());
    json.uuid(r#","conversation_id":"#, message.conversation.get());
    json.number(r#","seq":"#, message.seq.0);
    json.number(r#","sender_id":"#, message.sender.get());
    json.number(r#","sender_device":"#, message.sender_device.get());
    if let Some(group) = group {
        json.uuid(r#","group_id":"#, group.get());
    }
    json.body(&message.body);
    json.number(r#","timestamp":"#, message.timestamp.0);
    json.raw("}");
}

fn write_sent(json: &mut Writer<'_>, sent: &Sent) {
    json.raw(r#"{"type":"sent""#);
    write_id(json, sent.id);
    json.uuid(r#","message_id":"#, sent.message_id.get());
    json.uuid(r#","conversation_id":"#, sent.conversation.get());
    json.number(r#","seq":"#, sent.seq.0);
    json.number(r#","timestamp":"#, sent.timestamp.0);
    json.boolean(r#","duplicate":"#, sent.duplicate);
    json.raw("}");
}

fn write_status_update(json: &mut Writer<'_>, update: &StatusUpdate) {
    json.uuid(
        r#"{"type":"status_update","conversation_id":"#,
        update.conversation.get(),
    );
    json.number(r#","user_id":"#, update.user.get());
    json.string(r#","status":"#, update.status.name());
    json.number(r#","seq":"#, update.seq.0);
    json.uuid(r#","message_id":"#, update.message_id.get());
    json.raw("}");
}

fn write_rejected(json: &mut Writer<'_>, rejected: &Rejected<'_>) {
    json.raw(r#"{"type":"rejected""#);
    write_id(json, rejected.id);
    if let Some(message_id) = rejected.message_id {
        json.uuid(r#","message_id":"#, message_id.get());
    }
    json.string(r#","code":"#, rejected.code.name());
    json.string(r#","reason":"#, rejected.reason);
    if let Some(retry_after_ms) = rejected.retry_after_ms {
        json.number(r#","retry_after_ms":"#, retry_after_ms);
    }
    json.raw("}");
}

fn write_error(json: &mut Writer<'_>, failure: &Failure<'_>) {
    json.raw(r#"{"type":"error""#);
    write_id(json, failure.id);
    json.string(r#","code":"#, failure.code.name());
    json.string(r#","reason":"#, failure.reason);
    json.raw("}");
}

fn write_welcome(json: &mut Writer<'_>, welcome: &Welcome<'_>) {
    json.raw(r#"{"type":"welcome""#);
    write_id(json, welcome.id);
    json.number(r#","server_time_ms":"#, welcome.server_time.0);
    json.string(r#","session_id":"#, welcome.session_id);
    json.number(r#","user_id":"#, welcome.user.get());
    json.number(r#","device_id":"#, welcome.device.get());
    json.string(r#","gateway":"#, welcome.gateway);
    json.cursor(r#","cursor":"#, welcome.cursor);
    json.boolean(r#","resumed":"#, welcome.resumed);
    json.number(r#","ping_interval_ms":"#, welcome.ping_interval_ms);
    json.number(r#","limits":{"content_chars":"#, welcome.limits.content_chars);
    json.number(r#","frame_bytes":"#, welcome.limits.frame_bytes);
    json.number(r#","sends_per_s":"#, welcome.limits.sends_per_s);
    json.number(r#","window":"#, welcome.limits.window);
    json.raw("}}");
}

fn write_history(json: &mut Writer<'_>, page: &HistoryPage<'_>) {
    json.raw(r#"{"type":"history""#);
    write_id(json, page.id);
    json.uuid(r#","conversation_id":"#, page.conversation.get());
    json.raw(r#","messages":["#);
    for (index, message) in page.messages.iter().enumerate() {
        json.raw(if index == 0 { "" } else { "," });
        write_message(json, message);
    }
    json.boolean(r#"],"more":"#, page.more);
    json.number(r#","delivered_seq":"#, page.delivered.0);
    json.number(r#","read_seq":"#, page.read.0);
    json.raw("}");
}

fn write_conversations(json: &mut Writer<'_>, page: &ConversationsPage<'_>) {
    json.raw(r#"{"type":"conversations""#);
    write_id(json, page.id);
    json.raw(r#","conversations":["#);
    for (index, summary) in page.conversations.iter().enumerate() {
        json.raw(if index == 0 { "" } else { "," });
        write_summary(json, summary);
    }
    json.raw("]");
    if let Some(next) = page.next {
        json.string(r#","next":"#, next);
    }
    json.raw("}");
}

fn write_summary(json: &mut Writer<'_>, summary: &ConversationSummary<'_>) {
    json.uuid(r#"{"conversation_id":"#, summary.conversation.get());
    match summary.with {
        Target::Direct(user) => json.number(r#","other_user_id":"#, user.get()),
        Target::Group(group) => json.uuid(r#","group_id":"#, group.get()),
    }
    match summary.last_message {
        Some(text) => json.string(r#","last_message":"#, text),
        None => json.raw(r#","last_message":null"#),
    }
    json.number(r#","last_message_at":"#, summary.last_message_at.0);
    json.number(r#","last_seq":"#, summary.last_seq.0);
    json.number(r#","unread_count":"#, summary.unread_count);
    json.number(r#","delivered_seq":"#, summary.delivered.0);
    json.number(r#","read_seq":"#, summary.read.0);
    json.raw("}");
}
