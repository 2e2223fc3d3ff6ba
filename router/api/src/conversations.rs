//! `GET /conversations` and `GET /conversations/{conversation_id}/messages`: the objects are the WebSocket's own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use wire_base::ids::{ConversationId, Seq, UserId};
use wire_base::limits::PAGE_LIMIT_DEFAULT;
use wire_client::{Event, Format};
use wire_link::{ConversationsRecord, FromRouter, HistoryRecord, ToRouter};

use super::Api;
use super::auth::Caller;
use super::extract::{PathOf, QueryOf};
use super::fields::{required, text};
use super::openapi::ReadProblems;
use super::problem::Problem;
use super::schema;

/// Answers with a page of a user's conversations, newest activity first.
#[utoipa::path(
    get,
    path = "/conversations",
    operation_id = "conversations",
    params(ConversationsQuery),
    responses((status = 200, description = "A page.", body = schema::ConversationsPage), ReadProblems),
)]
pub(super) async fn conversations(
    State(api): State<Arc<Api>>,
    caller: Caller,
    QueryOf(query): QueryOf<ConversationsQuery>,
) -> Result<Response, Problem> {
    let user = reader(caller, query.user_id)?;
    let answer = api
        .read(|request| {
            ToRouter::Conversations(ConversationsRecord {
                request,
                user,
                limit: query.limit.unwrap_or(PAGE_LIMIT_DEFAULT),
                before: query.before,
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
#[utoipa::path(
    get,
    path = "/conversations/{conversation_id}/messages",
    operation_id = "history",
    params(HistoryPath, HistoryQuery),
    responses((status = 200, description = "A page.", body = schema::HistoryPage), ReadProblems),
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    PathOf(path): PathOf<HistoryPath>,
    QueryOf(query): QueryOf<HistoryQuery>,
) -> Result<Response, Problem> {
    let user = reader(caller, query.user_id)?;
    let answer = api
        .read(|request| {
            ToRouter::History(HistoryRecord {
                request,
                user,
                conversation: path.conversation_id,
                before: query.before_seq,
                limit: query.limit.unwrap_or(PAGE_LIMIT_DEFAULT),
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

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConversationsQuery {
    /// Whose conversations; by default the subject of the token.
    #[serde(default, deserialize_with = "text::user_id")]
    #[param(inline, required = false, value_type = schema::UserId)]
    user_id: Option<UserId>,
    #[serde(default, deserialize_with = "text::limit")]
    #[param(inline, required = false, value_type = schema::Limit)]
    limit: Option<u32>,
    /// The `next` of an earlier page.
    #[serde(default, deserialize_with = "text::page_token")]
    #[param(inline, required = false, value_type = schema::PageToken)]
    before: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct HistoryPath {
    /// The conversation.
    #[serde(deserialize_with = "text::conversation_id")]
    #[param(inline, value_type = schema::ConversationId)]
    conversation_id: ConversationId,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Who reads, a member of the conversation; by default the subject of the token.
    #[serde(default, deserialize_with = "text::user_id")]
    #[param(inline, required = false, value_type = schema::UserId)]
    user_id: Option<UserId>,
    #[serde(default, deserialize_with = "text::limit")]
    #[param(inline, required = false, value_type = schema::Limit)]
    limit: Option<u32>,
    /// The lowest `seq` of the page before; by default the page begins with the newest message.
    #[serde(default, deserialize_with = "text::seq")]
    #[param(inline, required = false, value_type = schema::Seq)]
    before_seq: Option<Seq>,
}

fn reader(caller: Caller, user_id: Option<UserId>) -> Result<UserId, Problem> {
    match user_id {
        Some(user) => caller.acting_as(user, "user_id"),
        None => required("user_id", caller.own()),
    }
}

/// Answers with as many entries of a page as the WebSocket would show.
fn shown_as<'a>(entries: usize, page: impl Fn(usize) -> Event<'a>) -> Response {
    let mut body = Vec::new();
    Format::Json.encode_page(entries, page, &mut body);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
