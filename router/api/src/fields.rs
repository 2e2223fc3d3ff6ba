//! Fields of requests: each is read to its type, and says what it must be where it is not.
//!
//! The functions are for `deserialize_with`: those of `json` for bodies, those of `text` for queries and paths, whose values
//! are all text. Which field is at fault, the extractors add.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;
use wire_base::ids::UserId;
use wire_base::limits::{PAGE_LIMIT_MAX, PAGE_TOKEN_BYTES_MAX};

use super::problem::{Kind, Problem};

/// Fields of a JSON body. `null` is an absent field.
pub(super) mod json {
    use serde::de::DeserializeOwned;
    use serde_json::value::RawValue;
    use wire_base::ids::MessageId;
    use wire_base::status::Status;

    use super::*;

    /// Reads a user id.
    pub(in super::super) fn user_id<'de, D: Deserializer<'de>>(input: D) -> Result<Option<UserId>, D::Error> {
        field(input, &must_be_user(), UserId::new)
    }

    /// Reads a string.
    pub(in super::super) fn string<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
        field(input, "must be a string", Some)
    }

    /// Reads a message id.
    pub(in super::super) fn message_id<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<MessageId>, D::Error> {
        field(input, MUST_BE_UUID, |text: String| {
            uuid(&text).and_then(MessageId::new)
        })
    }

    /// Reads what was done with a message.
    pub(in super::super) fn status<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Status>, D::Error> {
        field(input, r#"must be "delivered" or "read""#, |name: String| {
            Status::from_name(&name)
        })
    }

    /// The value is taken raw first, so that what is no value of its type (a lone surrogate too) is the field's fault and not
    /// the document's.
    fn field<'de, D: Deserializer<'de>, V: DeserializeOwned, T>(
        input: D,
        must: &str,
        check: impl FnOnce(V) -> Option<T>,
    ) -> Result<Option<T>, D::Error> {
        let Some(raw) = Option::<&RawValue>::deserialize(input)? else {
            return Ok(None);
        };
        let value = serde_json::from_str(raw.get()).ok().and_then(check);
        value.map(Some).ok_or_else(|| D::Error::custom(must))
    }
}

/// Fields of a query string, and names in a path.
pub(super) mod text {
    use wire_base::ids::{ConversationId, MessageId, Seq};

    use super::*;

    /// Reads a user id.
    pub(in super::super) fn user_id<'de, D: Deserializer<'de>>(input: D) -> Result<Option<UserId>, D::Error> {
        field(input, &must_be_user(), |text| UserId::new(text.parse().ok()?)).map(Some)
    }

    /// Reads how many entries a page may have.
    pub(in super::super) fn limit<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u32>, D::Error> {
        let must = format!("must be 1 to {PAGE_LIMIT_MAX}");
        field(input, &must, |text| {
            text.parse()
                .ok()
                .filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit))
        })
        .map(Some)
    }

    /// Reads where a page of conversations goes on. What it means, the router knows.
    pub(in super::super) fn page_token<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<String>, D::Error> {
        field(input, "must be the next of an earlier page", |text| {
            (text.len() <= PAGE_TOKEN_BYTES_MAX).then(|| text.to_owned())
        })
        .map(Some)
    }

    /// Reads a place in a conversation.
    pub(in super::super) fn seq<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Seq>, D::Error> {
        let must = format!("must be a whole number from 1 to {SEQ_MAX}");
        field(input, &must, |text| {
            text.parse()
                .ok()
                .filter(|seq| (1..=SEQ_MAX).contains(seq))
                .map(Seq)
        })
        .map(Some)
    }

    /// Reads a message id.
    pub(in super::super) fn message_id<'de, D: Deserializer<'de>>(input: D) -> Result<MessageId, D::Error> {
        field(input, MUST_BE_UUID, |text| uuid(text).and_then(MessageId::new))
    }

    /// Reads a conversation id.
    pub(in super::super) fn conversation_id<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<ConversationId, D::Error> {
        field(input, MUST_BE_UUID, |text| {
            uuid(text).and_then(ConversationId::new)
        })
    }

    fn field<'de, D: Deserializer<'de>, T>(
        input: D,
        must: &str,
        check: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(input)?;
        check(&text).ok_or_else(|| D::Error::custom(must))
    }

    /// The largest number that every JSON reader holds exactly, as on the WebSocket.
    const SEQ_MAX: u64 = (1 << 53) - 1;
}

/// Returns a field that must be there.
pub(super) fn required<T>(name: &str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| bad(format!("{name}: missing")))
}

/// Returns a problem of the request's own making.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// One form, as on the WebSocket: the library alone would also take three others.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == HYPHENATED_BYTES)
}

fn must_be_user() -> String {
    format!("must be a whole number from 1 to {}", UserId::MAX)
}

const MUST_BE_UUID: &str = "must be a hyphenated UUID other than nil";
/// Length of a UUID with its hyphens.
const HYPHENATED_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use wire_base::ids::{MessageId, Seq};

    use super::super::extract::read_form;
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "json::user_id")]
        sender_id: Option<UserId>,
    }

    #[derive(Debug, Deserialize)]
    struct Query {
        #[serde(default, deserialize_with = "text::limit")]
        limit: Option<u32>,
        #[serde(default, deserialize_with = "text::seq")]
        before_seq: Option<Seq>,
    }

    #[derive(Debug, Deserialize)]
    struct Name {
        #[serde(deserialize_with = "text::message_id")]
        id: MessageId,
    }

    fn query<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let uri = format!("/?{text}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri)
            .map(|query| query.0)
            .map_err(|error| std::error::Error::source(&error).unwrap().to_string())
    }

    #[test]
    fn a_user_id_is_a_number_that_json_readers_hold_exactly() {
        let read = |text: &str| {
            read_form(format!(r#"{{"sender_id":{text}}}"#).as_bytes()).map(|body: Body| body.sender_id)
        };
        assert_eq!(read("7"), Ok(UserId::new(7)));
        assert_eq!(read("null"), Ok(None));
        for bad_text in [
            "0",
            "-1",
            "1.0",
            "\"7\"",
            "9007199254740992",
            "18446744073709551616",
            "[7]",
        ] {
            assert_eq!(
                read(bad_text).unwrap_err(),
                bad("sender_id: must be a whole number from 1 to 9007199254740991"),
                "{bad_text}"
            );
        }
        assert_eq!(read_form(b"{}").map(|body: Body| body.sender_id), Ok(None));
    }

    #[test]
    fn a_uuid_has_one_form() {
        let read = |text: &str| query(&format!("id={text}")).map(|name: Name| name.id);
        assert!(read("0190163d-8694-739b-aea5-966c26f8ad91").is_ok());
        for bad_text in [
            "",
            "7",
            "0190163d8694739baea5966c26f8ad91",
            "%7B0190163d-8694-739b-aea5-966c26f8ad91%7D",
            "00000000-0000-0000-0000-000000000000",
            "0190163d-8694-739b-aea5-966c26f8ad9g",
        ] {
            assert_eq!(read(bad_text), Err(format!("id: {MUST_BE_UUID}")), "{bad_text}");
        }
    }

    #[test]
    fn limit_is_one_to_a_hundred_and_a_place_a_seq() {
        let limit = |text: &str| query(text).map(|query: Query| query.limit);
        assert_eq!(limit(""), Ok(None));
        assert_eq!(limit("limit=1&other=x"), Ok(Some(1)));
        assert_eq!(limit("limit=100"), Ok(Some(100)));
        for bad_text in ["0", "101", "-1", "", "ten"] {
            let error = limit(&format!("limit={bad_text}")).unwrap_err();
            assert_eq!(error, "limit: must be 1 to 100", "{bad_text}");
        }
        let seq = |text: &str| query(&format!("before_seq={text}")).map(|query: Query| query.before_seq);
        assert_eq!(seq("9007199254740991"), Ok(Some(Seq((1 << 53) - 1))));
        for bad_text in ["0", "9007199254740992", "x"] {
            assert!(
                seq(bad_text).unwrap_err().starts_with("before_seq: must be"),
                "{bad_text}"
            );
        }
        assert!(limit("limit=1&limit=2").unwrap_err().contains("limit"));
    }
}
