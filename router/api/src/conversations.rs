//! `GET /conversations` and `GET /conversations/{id}/messages`: the objects are the WebSocket's own.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use wire_base::ids::{Seq, UserId};
use wire_base::limits::PAGE_TOKEN_BYTES_MAX;
use wire_client::{Event, Format};
use wire_link::{ConversationsRecord, FromRouter, HistoryRecord, ToRouter};

use super::Api;
use super::auth::Caller;
use super::fields::{bad, conversation_id, limit, path_id, read_query, required, user_id_text};
use super::problem::Problem;

/// Answers with a page of a user's conversations, newest activity first.
pub(super) async fn conversations(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(&request)?;
    let query: ConversationsQuery = read_query(&request)?;
    let user = reader(caller, query.user_id.as_deref())?;
    let limit = limit(query.limit.as_deref())?;
    let before = query.before;
    if before
        .as_ref()
        .is_some_and(|before| before.len() > PAGE_TOKEN_BYTES_MAX)
    {
        return Err(bad("before: must be the next of an earlier page"));
    }
    let answer = api
        .read(|request| {
            ToRouter::Conversations(ConversationsRecord {
                request,
                user,
                limit,
                before,
            })
        })
        .await?;
    match answer {
        FromRouter::ConversationsPage(page) => Ok(shown_as(page.conversations.len(), |count| {
            Event::Conversations(page.shown(None, count))
        })),
        other => Err(api.unexpected(&other)),
    }
}

/// Answers with a page of a conversation, newest first.
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(&request)?;
    let query: HistoryQuery = read_query(&request)?;
    let user = reader(caller, query.user_id.as_deref())?;
    let conversation = conversation_id("the conversation id in the path", &path_id(id)?)?;
    let limit = limit(query.limit.as_deref())?;
    let before = query
        .before_seq
        .map(|text| seq("before_seq", &text))
        .transpose()?;
    let answer = api
        .read(|request| {
            ToRouter::History(HistoryRecord {
                request,
                user,
                conversation,
                before,
                limit,
            })
        })
        .await?;
    match answer {
        FromRouter::HistoryPage(page) => Ok(shown_as(page.messages.len(), |count| {
            Event::History(page.shown(None, count))
        })),
        other => Err(api.unexpected(&other)),
    }
}

#[derive(Deserialize)]
struct ConversationsQuery {
    user_id: Option<String>,
    limit: Option<String>,
    before: Option<String>,
}

#[derive(Deserialize)]
struct HistoryQuery {
    user_id: Option<String>,
    limit: Option<String>,
    before_seq: Option<String>,
}

fn reader(caller: Caller, user_id: Option<&str>) -> Result<UserId, Problem> {
    match user_id_text("user_id", user_id)? {
        Some(user) => caller.acting_as(user, "user_id"),
        None => required("user_id", caller.own()),
    }
}

fn seq(name: &str, text: &str) -> Result<Seq, Problem> {
    match text.parse() {
        Ok(seq @ 1..=SEQ_MAX) => Ok(Seq(seq)),
        _ => Err(bad(format!("{name}: must be a whole number from 1 to {SEQ_MAX}"))),
    }
}

/// Answers with as many entries of a page as the WebSocket would show.
fn shown_as<'a>(entries: usize, page: impl Fn(usize) -> Event<'a>) -> Response {
    let mut body = Vec::new();
    Format::Json.encode_page(entries, page, &mut body);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The largest number that every JSON reader holds exactly, as on the WebSocket.
const SEQ_MAX: u64 = (1 << 53) - 1;
