//! What a handler is given of a request: each extractor refuses with a problem that names the field at fault.

use std::error::Error;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, MapDeserializer};
use serde_json::error::Category;

use super::Api;
use super::auth::Caller;
use super::fields::bad;
use super::problem::Problem;

/// Stands first among the arguments of a handler: the token is checked before anything else of a request is looked at.
impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        api.caller(&parts.headers)
    }
}

/// The names in a path.
pub(super) struct PathOf<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let names = RawPathParams::from_request_parts(parts, api)
            .await
            .map_err(|_| bad("the path: must be UTF-8"))?;
        let names = MapDeserializer::<_, ValueError>::new(names.iter());
        serde_path_to_error::deserialize(names)
            .map(Self)
            .map_err(|error| {
                let name = error.path().to_string().replace('_', " ");
                bad(format!("the {name} in the path: {}", error.inner()))
            })
    }
}

/// The fields of a query string.
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(bad(query_detail(&rejection))),
        }
    }
}

/// The fields of a body, which is one JSON object whatever its `content-type` says. The bytes are given up before the handler
/// runs: their room is for others while the router works.
pub(super) struct BodyOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for BodyOf<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let bytes = api.bodies.read(request).await?;
        read_form(&bytes).map(Self)
    }
}

/// Returns the fields of a JSON object.
pub(super) fn read_form<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // The library would also fill the fields, in their order, from an array.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad("the body: must be a JSON object"));
    }
    let mut input = serde_json::Deserializer::from_slice(body);
    let form = serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        bad(body_detail(&path, &error.into_inner()))
    })?;
    input.end().map_err(|error| bad(body_detail(".", &error)))?;
    Ok(form)
}

fn body_detail(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data || path == "." {
        return format!("the body: must be a JSON object: {text}");
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!("{path}: {}", text.strip_suffix(&place).unwrap_or(&text))
}

fn query_detail(rejection: &QueryRejection) -> String {
    // The rejection says only that it is the query; where and what is its source.
    rejection
        .source()
        .map_or_else(|| rejection.body_text(), ToString::to_string)
}
