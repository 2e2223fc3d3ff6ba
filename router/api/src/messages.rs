//! `POST /messages/send` and `POST /messages/{message_id}/status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire_base::body::{Body, BodyError, Content, EncodedBody};
use wire_base::ids::{DeviceId, MessageId, UserId};
use wire_base::message::{Draft, Target};
use wire_base::status::{Status, StatusCommand, StatusOf};
use wire_link::{FromRouter, SendRecord, StatusRecord, ToRouter};

use super::Api;
use super::auth::Caller;
use super::extract::{BodyOf, PathOf};
use super::fields::{bad, json, required, text};
use super::openapi::{SendProblems, StatusProblems};
use super::problem::{Kind, Problem};
use super::schema;

/// Stores a message and answers with its place, once it is durable.
#[utoipa::path(
    post,
    path = "/messages/send",
    operation_id = "send",
    request_body = SendForm,
    responses((status = 200, description = "The message is durable.", body = SentAnswer), SendProblems),
)]
pub(super) async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    BodyOf(form): BodyOf<SendForm>,
) -> Result<Json<SentAnswer>, Problem> {
    let sender = caller.acting_as(required("sender_id", form.sender_id)?, "sender_id")?;
    let receiver = required("receiver_id", form.receiver_id)?;
    let message_id = form.message_id;
    let body = form.body()?.encode()?;
    let answer = api.write(|request| {
        ToRouter::Send(SendRecord {
            request,
            message_id,
            draft: Draft {
                sender,
                sender_device: DeviceId::API,
                target: Target::Direct(receiver),
                body,
            },
        })
    });
    match answer.await? {
        FromRouter::Sent(sent) => Ok(Json(SentAnswer {
            message_id: sent.message_id.to_string(),
            conversation_id: sent.conversation.to_string(),
            seq: sent.seq.0,
            timestamp: sent.timestamp.0,
            duplicate: sent.duplicate,
            status: "sent",
        })),
        other => Err(api.unexpected(&other)),
    }
}

/// Marks a message that the user received, and all before it in its conversation, as delivered or read.
#[utoipa::path(
    post,
    path = "/messages/{message_id}/status",
    operation_id = "status",
    params(StatusPath),
    request_body = StatusForm,
    responses((status = 200, description = "The status is durable.", body = StatusAnswer), StatusProblems),
)]
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    caller: Caller,
    PathOf(path): PathOf<StatusPath>,
    BodyOf(form): BodyOf<StatusForm>,
) -> Result<Json<StatusAnswer>, Problem> {
    let user = caller.acting_as(required("user_id", form.user_id)?, "user_id")?;
    let command = StatusCommand {
        status: required("status", form.status)?,
        of: StatusOf::Message(path.message_id),
    };
    let answer = api.write(|request| {
        ToRouter::Status(StatusRecord {
            request,
            user,
            device: DeviceId::API,
            command,
        })
    });
    match answer.await {
        Ok(FromRouter::Done(_)) => Ok(Json(StatusAnswer { status: "ok" })),
        Ok(other) => Err(api.unexpected(&other)),
        // The path names the message, so one that this user never received is one that is not there.
        Err(problem) if problem.kind() == Kind::Forbidden => Err(Problem::new(
            Kind::NotFound,
            "user_id has received no message with this id",
        )),
        Err(problem) => Err(problem),
    }
}

/// A message to be sent: exactly one of `content` and `ciphertext`. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct SendForm {
    /// Must be the subject of the token, unless it is a service's.
    #[serde(default, deserialize_with = "json::user_id")]
    #[schema(value_type = schema::UserId)]
    sender_id: Option<UserId>,
    /// Any valid id may be written to.
    #[serde(default, deserialize_with = "json::user_id")]
    #[schema(value_type = schema::UserId)]
    receiver_id: Option<UserId>,
    #[serde(default, deserialize_with = "json::string")]
    #[schema(value_type = Option<schema::Content>)]
    content: Option<String>,
    #[serde(default, deserialize_with = "json::string")]
    #[schema(value_type = Option<schema::Ciphertext>)]
    ciphertext: Option<String>,
    #[serde(default, deserialize_with = "json::string")]
    #[schema(value_type = Option<schema::MediaUrl>)]
    media_url: Option<String>,
    #[serde(default, deserialize_with = "json::string")]
    #[schema(value_type = Option<schema::Kind>)]
    kind: Option<String>,
    /// The idempotency key; without one a repeated send is another message.
    #[serde(default, deserialize_with = "json::message_id")]
    #[schema(value_type = Option<schema::MessageId>)]
    message_id: Option<MessageId>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct StatusPath {
    /// The message.
    #[serde(deserialize_with = "text::message_id")]
    #[param(inline, value_type = schema::MessageId)]
    message_id: MessageId,
}

/// What a user did with a message.
#[derive(Deserialize, ToSchema)]
pub(super) struct StatusForm {
    /// Who received it; must be the subject of the token, unless it is a service's.
    #[serde(default, deserialize_with = "json::user_id")]
    #[schema(value_type = schema::UserId)]
    user_id: Option<UserId>,
    #[serde(default, deserialize_with = "json::status")]
    #[schema(value_type = schema::Status)]
    status: Option<Status>,
}

/// The place of a message.
#[derive(Serialize, ToSchema)]
pub(super) struct SentAnswer {
    #[schema(value_type = schema::MessageId)]
    message_id: String,
    #[schema(value_type = schema::ConversationId)]
    conversation_id: String,
    #[schema(value_type = schema::Seq)]
    seq: u64,
    #[schema(value_type = schema::UnixMs)]
    timestamp: u64,
    /// The message was sent before, with this outcome.
    duplicate: bool,
    #[schema(pattern = "^sent$")]
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StatusAnswer {
    #[schema(pattern = "^ok$")]
    status: &'static str,
}

/// The checked parts of a body, owned.
struct BodyForm {
    content: ContentForm,
    media_url: Option<String>,
    kind: Option<String>,
}

enum ContentForm {
    Text(String),
    Ciphertext(Vec<u8>),
}

impl SendForm {
    fn body(self) -> Result<BodyForm, Problem> {
        let content = match (self.content, self.ciphertext) {
            (Some(text), None) => ContentForm::Text(text),
            (None, Some(text)) => ContentForm::Ciphertext(
                STANDARD
                    .decode(text)
                    .map_err(|_| bad("ciphertext: must be base64"))?,
            ),
            (None, None) => return Err(bad("content: missing")),
            (Some(_), Some(_)) => return Err(bad("content and ciphertext exclude each other")),
        };
        Ok(BodyForm {
            content,
            media_url: self.media_url,
            kind: self.kind,
        })
    }
}

impl BodyForm {
    fn encode(&self) -> Result<EncodedBody, Problem> {
        let content = match &self.content {
            ContentForm::Text(text) => Content::Text(text),
            ContentForm::Ciphertext(bytes) => Content::Ciphertext(bytes),
        };
        let body = Body {
            content,
            media_url: self.media_url.as_deref(),
            kind: self.kind.as_deref(),
        };
        match body.check() {
            Ok(()) => Ok(body.encode()),
            Err(error @ BodyError::Empty(_)) => Err(bad(error.to_string())),
            Err(error @ BodyError::TooLong { .. }) => Err(Problem::new(Kind::TooLong, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::extract::read_form;
    use super::*;

    fn body(json: &str) -> Result<EncodedBody, Problem> {
        let form: SendForm = read_form(json.as_bytes())?;
        form.body()?.encode()
    }

    #[test]
    fn content_is_counted_in_characters() {
        let text = "é".repeat(10_000);
        let whole = body(&format!(r#"{{"content":"{text}"}}"#)).unwrap();
        assert_eq!(whole.decode().content, Content::Text(&text));
        let long = body(&format!(r#"{{"content":"{text}é"}}"#));
        assert_eq!(
            long,
            Err(Problem::new(Kind::TooLong, "content: at most 10000 characters"))
        );
    }

    #[test]
    fn exactly_one_of_content_and_ciphertext_is_asked_for() {
        let sealed = body(r#"{"ciphertext":"AAEC"}"#).unwrap();
        assert_eq!(sealed.decode().content, Content::Ciphertext(&[0, 1, 2]));
        for (json, detail) in [
            (r#"{}"#, "content: missing"),
            (r#"{"content":null}"#, "content: missing"),
            (r#"{"content":""}"#, "content: must not be empty"),
            (r#"{"content":7}"#, "content: must be a string"),
            (r#"{"content":"\ud800"}"#, "content: must be a string"),
            (
                r#"{"content":"a","ciphertext":"AAEC"}"#,
                "content and ciphertext exclude each other",
            ),
            (r#"{"ciphertext":"%"}"#, "ciphertext: must be base64"),
            (r#"{"ciphertext":""}"#, "ciphertext: must not be empty"),
            (r#"{"content":"a","kind":7}"#, "kind: must be a string"),
        ] {
            assert_eq!(body(json), Err(bad(detail)), "{json}");
        }
    }

    #[test]
    fn what_is_no_object_or_names_a_field_twice_is_refused() {
        for json in [
            "",
            "[]",
            "{",
            "\"x\"",
            r#"{"content":"a","content":"b"}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(body(json).unwrap_err().kind(), Kind::BadRequest, "{json}");
        }
    }
}
