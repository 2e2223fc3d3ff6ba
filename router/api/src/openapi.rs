//! `GET /openapi.json`: what the API takes and gives, derived from its handlers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, Content, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Document, Kind};
use super::{Api, conversations, messages};

/// Returns every call of the API with its description.
pub(super) fn calls() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(messages::send))
        .routes(routes!(messages::status))
        .routes(routes!(conversations::conversations))
        .routes(routes!(conversations::history))
        .routes(routes!(description))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate HTTP API",
        description = "Messages and conversations over HTTP. docs/protocol.md is the contract; this is its section 10 for machines.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Document)),
    modifiers(&Bearer),
)]
struct Head;

/// Every call takes a bearer token, but those that say otherwise.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("Not looked at by a server that runs with --insecure-dev."))
            .build();
        api.components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
        api.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    }
}

/// Answers with this description; needs no token.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    security(()),
    responses((status = 200, description = "An OpenAPI document.", body = Object)),
)]
async fn description() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION.clone()).into_response()
}

static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| {
    let document = calls().into_openapi().to_json();
    document
        .expect("a document of strings and numbers always serializes")
        .into()
});

/// Problems of a call that reads.
pub(super) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        use Kind::{BadRequest, Busy, Forbidden, Unauthorized, Unavailable};
        problems(&[BadRequest, Unauthorized, Forbidden, Busy, Unavailable])
    }
}

/// Problems of a send.
pub(super) struct SendProblems;

impl IntoResponses for SendProblems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&WRITE_KINDS)
    }
}

/// Problems of a status.
pub(super) struct StatusProblems;

impl IntoResponses for StatusProblems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[&WRITE_KINDS[..], &[Kind::NotFound]].concat())
    }
}

const WRITE_KINDS: [Kind; 11] = [
    Kind::BadRequest,
    Kind::TooLong,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::RequestTimeout,
    Kind::Conflict,
    Kind::BodyTooLarge,
    Kind::RateLimited,
    Kind::Busy,
    Kind::Unavailable,
    Kind::OutcomeUnknown,
];

/// Returns a response for each status of these kinds, which names those that have it.
fn problems(kinds: &[Kind]) -> BTreeMap<String, RefOr<openapi::Response>> {
    let mut names: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for kind in kinds {
        names.entry(kind.status().as_u16()).or_default().push(kind.name());
    }
    let response = |names: &[&str]| {
        ResponseBuilder::new()
            .description(names.join(", "))
            .content(
                "application/problem+json",
                Content::new(Some(schema_of::<Document>())),
            )
            .build()
    };
    names
        .iter()
        .map(|(status, names)| (status.to_string(), response(names).into()))
        .collect()
}

fn schema_of<T: ToSchema + PartialSchema>() -> openapi::Ref {
    openapi::Ref::from_schema_name(T::name())
}
