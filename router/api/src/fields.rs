//! Reads the fields of a request one by one, so that a bad one is named.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;
use wire_base::ids::{ConversationId, MessageId, UserId};
use wire_base::limits::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};

use super::problem::{Kind, Problem};

/// Returns a path's id as text.
pub(super) fn path_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    id.map(|Path(id)| id)
        .map_err(|_| bad("the id in the path: must be UTF-8"))
}

/// Returns the fields of a JSON object.
pub(super) fn read_form<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    // The library would also fill the fields, in their order, from an array.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad("the body: must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| bad(format!("the body: must be a JSON object: {error}")))
}

/// Returns the fields of the query string.
pub(super) fn read_query<T: DeserializeOwned>(request: &Request) -> Result<T, Problem> {
    match Query::try_from_uri(request.uri()) {
        Ok(Query(fields)) => Ok(fields),
        Err(error) => Err(bad(format!(
            "the query string is not one of this path: {}",
            error.body_text()
        ))),
    }
}

/// Returns a field that must be there.
pub(super) fn required<T>(name: &str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| bad(format!("{name}: missing")))
}

/// Returns a user id of a JSON body.
pub(super) fn user_id(name: &str, raw: Option<&RawValue>) -> Result<Option<UserId>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    let value = serde_json::from_str::<u64>(raw.get()).ok().and_then(UserId::new);
    value.map(Some).ok_or_else(|| bad_user(name))
}

/// Returns a user id of a query string.
pub(super) fn user_id_text(name: &str, text: Option<&str>) -> Result<Option<UserId>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let value = text.parse::<u64>().ok().and_then(UserId::new);
    value.map(Some).ok_or_else(|| bad_user(name))
}

/// Returns a string of a JSON body.
pub(super) fn string(name: &str, raw: Option<&RawValue>) -> Result<Option<String>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map(Some)
        .map_err(|_| bad(format!("{name}: must be a string")))
}

/// Returns a message id.
pub(super) fn message_id(name: &str, text: &str) -> Result<MessageId, Problem> {
    uuid(name, text).and_then(|uuid| MessageId::new(uuid).ok_or_else(|| bad_uuid(name)))
}

/// Returns a conversation id.
pub(super) fn conversation_id(name: &str, text: &str) -> Result<ConversationId, Problem> {
    uuid(name, text).and_then(|uuid| ConversationId::new(uuid).ok_or_else(|| bad_uuid(name)))
}

/// Returns the `limit` of a page.
pub(super) fn limit(text: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = text else {
        return Ok(PAGE_LIMIT_DEFAULT);
    };
    match text.parse() {
        Ok(limit @ 1..=PAGE_LIMIT_MAX) => Ok(limit),
        _ => Err(bad(format!("limit: must be 1 to {PAGE_LIMIT_MAX}"))),
    }
}

/// Returns a problem of the request's own making.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

fn uuid(name: &str, text: &str) -> Result<Uuid, Problem> {
    // One form, as on the WebSocket: the library alone would also take three others.
    if text.len() != HYPHENATED_BYTES {
        return Err(bad_uuid(name));
    }
    Uuid::try_parse(text).map_err(|_| bad_uuid(name))
}

fn bad_uuid(name: &str) -> Problem {
    bad(format!("{name}: must be a hyphenated UUID other than nil"))
}

fn bad_user(name: &str) -> Problem {
    bad(format!(
        "{name}: must be a whole number from 1 to {}",
        UserId::MAX
    ))
}

/// Length of a UUID with its hyphens.
const HYPHENATED_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_a_number_that_json_readers_hold_exactly() {
        let read = |text: &str| user_id("sender_id", Some(&RawValue::from_string(text.into()).unwrap()));
        assert_eq!(read("7"), Ok(UserId::new(7)));
        for bad_text in [
            "0",
            "-1",
            "1.0",
            "\"7\"",
            "9007199254740992",
            "18446744073709551616",
            "[7]",
        ] {
            assert_eq!(read(bad_text).unwrap_err(), bad_user("sender_id"), "{bad_text}");
        }
        assert_eq!(user_id("sender_id", None), Ok(None));
    }

    #[test]
    fn a_uuid_has_one_form() {
        assert!(message_id("id", "0190163d-8694-739b-aea5-966c26f8ad91").is_ok());
        for bad_text in [
            "",
            "7",
            "0190163d8694739baea5966c26f8ad91",
            "{0190163d-8694-739b-aea5-966c26f8ad91}",
            "00000000-0000-0000-0000-000000000000",
            "0190163d-8694-739b-aea5-966c26f8ad9g",
        ] {
            assert_eq!(message_id("id", bad_text), Err(bad_uuid("id")), "{bad_text}");
        }
    }

    #[test]
    fn limit_is_one_to_a_hundred_and_fifty_where_not_said() {
        assert_eq!(limit(None), Ok(50));
        assert_eq!(limit(Some("1")), Ok(1));
        assert_eq!(limit(Some("100")), Ok(100));
        for bad_text in ["0", "101", "-1", "", "ten"] {
            assert_eq!(
                limit(Some(bad_text)).unwrap_err(),
                bad("limit: must be 1 to 100"),
                "{bad_text}"
            );
        }
    }
}
