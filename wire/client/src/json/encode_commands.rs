//! Client role: what a client says, put together.

use super::write::Writer;
use crate::{Command, Conversations, Hello, History, Presence, Request, Send, Typing};
use wire_base::message::Target;
use wire_base::status::{StatusCommand, StatusOf};

/// Appends one command as a JSON object.
///
/// Shape: bounds are the server's to check, so that a test can pass them.
pub fn encode_request(request: &Request<'_>, out: &mut Vec<u8>) {
    let mut json = Writer::new(out);
    json.raw(r#"{"type":""#);
    json.raw(name(&request.command));
    json.raw("\"");
    if let Some(id) = request.id {
        json.number(r#","id":"#, id);
    }
    write_fields(&mut json, &request.command);
    json.raw("}");
}

fn name(command: &Command<'_>) -> &'static str {
    match command {
        Command::Hello(_) => "hello",
        Command::Send(_) => "send",
        Command::Ack(_) => "ack",
        Command::Status(_) => "status",
        Command::Typing(_) => "typing",
        Command::Presence(_) => "presence",
        Command::History(_) => "history",
        Command::Conversations(_) => "conversations",
        Command::Refresh(_) => "refresh",
        Command::Ping => "ping",
    }
}

fn write_fields(json: &mut Writer<'_>, command: &Command<'_>) {
    match command {
        Command::Send(send) => write_send(json, send),
        Command::Ack(cursor) => json.cursor(r#","cursor":"#, *cursor),
        Command::Hello(hello) => write_hello(json, hello),
        Command::Status(status) => write_status(json, *status),
        Command::Typing(typing) => write_typing(json, *typing),
        Command::Presence(presence) => write_presence(json, presence),
        Command::History(history) => write_history(json, *history),
        Command::Conversations(page) => write_conversations(json, *page),
        Command::Refresh(token) => json.string(r#","token":"#, token),
        Command::Ping => {}
    }
}

fn write_send(json: &mut Writer<'_>, send: &Send<'_>) {
    if let Some(message_id) = send.message_id {
        json.uuid(r#","message_id":"#, message_id.get());
    }
    write_target(json, send.to);
    json.body(&send.body.view());
}

fn write_target(json: &mut Writer<'_>, target: Target) {
    match target {
        Target::Direct(user) => json.number(r#","receiver_id":"#, user.get()),
        Target::Group(group) => json.uuid(r#","group_id":"#, group.get()),
    }
}

fn write_hello(json: &mut Writer<'_>, hello: &Hello<'_>) {
    if let Some(user) = hello.user {
        json.number(r#","user_id":"#, user.get());
    }
    if let Some(token) = hello.token {
        json.string(r#","token":"#, token);
    }
    if let Some(device) = hello.device {
        json.number(r#","device_id":"#, device.get());
    }
    if let Some(cursor) = hello.cursor {
        json.cursor(r#","cursor":"#, cursor);
    }
    json.number(r#","window":"#, hello.window);
}

fn write_status(json: &mut Writer<'_>, command: StatusCommand) {
    json.string(r#","status":"#, command.status.name());
    match command.of {
        StatusOf::Message(message_id) => json.uuid(r#","message_id":"#, message_id.get()),
        StatusOf::Seq(conversation, seq) => {
            json.uuid(r#","conversation_id":"#, conversation.get());
            json.number(r#","seq":"#, seq.0);
        }
    }
}

fn write_typing(json: &mut Writer<'_>, typing: Typing) {
    write_target(json, typing.to);
    json.string(r#","state":"#, if typing.active { "start" } else { "stop" });
}

fn write_presence(json: &mut Writer<'_>, presence: &Presence) {
    json.raw(r#","user_ids":["#);
    for (index, user) in presence.users.iter().enumerate() {
        json.number(if index == 0 { "" } else { "," }, user.get());
    }
    json.boolean(r#"],"watch":"#, presence.watch);
}

fn write_history(json: &mut Writer<'_>, history: History) {
    json.uuid(r#","conversation_id":"#, history.conversation.get());
    if let Some(before) = history.before {
        json.number(r#","before_seq":"#, before.0);
    }
    json.number(r#","limit":"#, history.limit);
}

fn write_conversations(json: &mut Writer<'_>, page: Conversations<'_>) {
    json.number(r#","limit":"#, page.limit);
    if let Some(before) = page.before {
        json.string(r#","before":"#, before);
    }
}
