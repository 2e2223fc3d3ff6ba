//! `POST /messages/send` and `POST /messages/{id}/status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use wire_base::body::{Body, BodyError, Content, EncodedBody};
use wire_base::ids::DeviceId;
use wire_base::message::{Draft, Target};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_link::{FromRouter, SendRecord, StatusRecord, ToRouter};

use super::Api;
use super::fields::{bad, message_id, path_id, read_form, required, string, user_id};
use super::problem::{Kind, Problem};

/// Stores a message and answers with its place, once it is durable.
pub(super) async fn send(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let caller = api.caller(&request)?;
    let bytes = api.body(request).await?;
    let form: SendForm<'_> = read_form(&bytes)?;
    let sender = caller.acting_as(
        required("sender_id", user_id("sender_id", form.sender_id)?)?,
        "sender_id",
    )?;
    let receiver = required("receiver_id", user_id("receiver_id", form.receiver_id)?)?;
    let message_id = string("message_id", form.message_id)?
        .map(|text| message_id("message_id", &text))
        .transpose()?;
    let body = form.body()?.encode()?;
    drop(bytes); // Its room is for others while the router works.
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
        })
        .into_response()),
        other => Err(api.unexpected(&other)),
    }
}

/// Marks a message the user received as delivered or read.
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(&request)?;
    let bytes = api.body(request).await?;
    let form: StatusForm<'_> = read_form(&bytes)?;
    let user = caller.acting_as(required("user_id", user_id("user_id", form.user_id)?)?, "user_id")?;
    let status = Status::from_name(&required("status", string("status", form.status)?)?)
        .ok_or_else(|| bad("status: must be \"delivered\" or \"read\""))?;
    let of = StatusOf::Message(message_id("the message id in the path", &path_id(id)?)?);
    let command = StatusCommand { status, of };
    let answer = api.write(|request| {
        ToRouter::Status(StatusRecord {
            request,
            user,
            device: DeviceId::API,
            command,
        })
    });
    match answer.await {
        Ok(FromRouter::Done(_)) => Ok(Json(json!({ "status": "ok" })).into_response()),
        Ok(other) => Err(api.unexpected(&other)),
        // The path names the message, so one that this user never received is one that is not there.
        Err(problem) if problem.kind() == Kind::Forbidden => Err(Problem::new(
            Kind::NotFound,
            "user_id has received no message with this id",
        )),
        Err(problem) => Err(problem),
    }
}

#[derive(Deserialize)]
struct SendForm<'a> {
    #[serde(borrow, default)]
    sender_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    receiver_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ciphertext: Option<&'a RawValue>,
    #[serde(borrow, default)]
    media_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StatusForm<'a> {
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct SentAnswer {
    message_id: String,
    conversation_id: String,
    seq: u64,
    timestamp: u64,
    duplicate: bool,
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

impl SendForm<'_> {
    fn body(&self) -> Result<BodyForm, Problem> {
        let content = match (
            string("content", self.content)?,
            string("ciphertext", self.ciphertext)?,
        ) {
            (Some(text), None) => ContentForm::Text(text),
            (None, Some(text)) => ContentForm::Ciphertext(
                STANDARD
                    .decode(text)
                    .map_err(|_| bad("ciphertext: must be base64"))?,
            ),
            (None, None) => return Err(bad("content: missing")),
            (Some(_), Some(_)) => return Err(bad("content and ciphertext exclude each other")),
        };
        let media_url = string("media_url", self.media_url)?;
        let kind = string("kind", self.kind)?;
        Ok(BodyForm {
            content,
            media_url,
            kind,
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
    use super::*;

    fn body(json: &str) -> Result<EncodedBody, Problem> {
        let form: SendForm<'_> = read_form(json.as_bytes())?;
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
