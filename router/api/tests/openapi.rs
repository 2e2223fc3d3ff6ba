//! `GET /openapi.json`: it is OpenAPI, names every call, and fits what docs/protocol.md shows and what is answered.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use router_api::{ApiConfig, ApiServer, Auth, serve};
use serde_json::{Value, json};
use wire_auth::Verifier;
use wire_link::pipe::{Endpoint, pipe};

/// An API that asks for tokens, in front of nobody.
struct Service {
    api: ApiServer,
    _router: Endpoint,
}

impl Service {
    fn start() -> Self {
        let (ours, theirs) = pipe(1 << 20);
        let auth = Auth::Tokens(Verifier::hs256(b"a secret that is long enough for HS256").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            api: serve(listener, ours, ApiConfig::new(auth, "test".into(), 1)).unwrap(),
            _router: theirs,
        }
    }

    /// Returns status and body.
    fn call(&self, method: &str, path: &str) -> (u16, Value) {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.api.address()))
            .body(())
            .unwrap();
        let mut response = agent.run(request).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (
            response.status().as_u16(),
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text:?}")),
        )
    }

    /// Returns the document, which needs no token.
    fn document(&self) -> Value {
        let (status, document) = self.call("GET", "/openapi.json");
        assert_eq!(status, 200);
        document
    }
}

/// Returns method and path of every call.
fn calls(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn the_document_is_openapi_and_all_its_references_resolve() {
    let document = Service::start().document();
    assert_eq!(document["openapi"], "3.1.0");
    let spec = oas3::from_json(document.to_string()).unwrap();
    assert_eq!(spec.validate_version().unwrap().major, 3);
    let mut ids = BTreeSet::new();
    for (path, method, operation) in spec.operations() {
        assert!(
            ids.insert(operation.operation_id.clone().unwrap()),
            "{path} {method}"
        );
        for (status, response) in operation.responses(&spec) {
            assert!(
                response.description.is_some_and(|text| !text.is_empty()),
                "{path} {status}"
            );
            for (kind, media) in &response.content {
                media
                    .schema(&spec)
                    .unwrap_or_else(|error| panic!("{path} {status} {kind}: {error}"));
            }
        }
        for parameter in operation.parameters(&spec).unwrap() {
            let name = format!("{{{}}}", parameter.name);
            assert_eq!(
                parameter.location == oas3::spec::ParameterIn::Path,
                path.contains(&name),
                "{path}: {name}"
            );
        }
    }
    let mut references = BTreeSet::new();
    gather_references(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn gather_references(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields
                .values()
                .for_each(|value| gather_references(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| gather_references(item, references)),
        _ => {}
    }
}

#[test]
fn every_call_of_the_protocol_is_in_it_and_served() {
    let service = Service::start();
    let described = calls(&service.document());
    let documented: BTreeSet<_> = section()
        .lines()
        .filter_map(|line| {
            let (method, path) = line.strip_prefix("| `")?.split_once('`')?.0.split_once(' ')?;
            Some((method.to_owned(), path.to_owned()))
        })
        .collect();
    assert_eq!(described, documented);
    let id = "6d1c6cb5-8d6a-4b0c-9d5f-1c0f2b8f3a11";
    for (method, path) in &described {
        let path = path.replace("{message_id}", id).replace("{conversation_id}", id);
        let (status, problem) = service.call(method, &path);
        let is_open = path == "/openapi.json";
        assert_eq!(
            status,
            if is_open { 200 } else { 401 },
            "{method} {path}: {problem}"
        );
        let (status, _) = service.call("PUT", &path);
        assert_eq!(status, 405, "{path}");
    }
}

#[test]
fn what_the_protocol_shows_is_what_the_schemas_say() {
    let document = Service::start().document();
    let section = section();
    let examples: Vec<_> = section.split("$ curl -s ").skip(1).map(Example::of).collect();
    assert_eq!(examples.len(), 4);
    for example in &examples {
        let operation = example.operation(&document);
        if let Some(body) = &example.body {
            check(
                &document,
                &operation["requestBody"]["content"]["application/json"]["schema"],
                body,
            );
        }
        let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        check(&document, answer, &example.answer);
        let problem = &operation["responses"]["400"]["content"]["application/problem+json"]["schema"];
        check(&document, problem, &problem_example(&section));
        for (status, response) in operation["responses"].as_object().unwrap() {
            for kind in response["description"].as_str().unwrap().split(", ") {
                let row = format!("| `{kind}` | {status} |");
                assert!(status == "200" || section.contains(&row), "{row}");
            }
        }
    }
}

#[test]
fn the_schemas_refuse_what_the_api_refuses() {
    let document = Service::start().document();
    let send =
        &document["paths"]["/messages/send"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let good = json!({ "sender_id": 1, "receiver_id": 2, "content": "x", "kind": null, "more": [] });
    check(&document, send, &good);
    for (field, bad) in [
        ("sender_id", json!(0)),
        ("sender_id", json!("1")),
        ("receiver_id", json!(1u64 << 53)),
        ("receiver_id", json!(null)),
        ("content", json!("")),
        ("content", json!("x".repeat(10_001))),
        ("message_id", json!(7)),
    ] {
        let mut body = good.clone();
        body[field] = bad;
        assert!(!fits(&document, send, &body), "{body}");
    }
}

/// A call as docs/protocol.md shows it.
struct Example {
    method: &'static str,
    path: String,
    body: Option<Value>,
    answer: Value,
}

impl Example {
    fn of(text: &str) -> Self {
        let text = text.split("```").next().unwrap();
        let (command, answer) = text.split_once('\n').unwrap();
        let url = command
            .trim_start_matches('\'')
            .split(['\'', ' '])
            .next()
            .unwrap();
        let path = &url[url.find('/').unwrap()..];
        let body = command
            .split_once("-d '")
            .map(|(_, body)| serde_json::from_str(body.trim_end_matches('\'')).unwrap());
        let lines: String = answer.lines().map(str::trim_start).collect();
        Self {
            method: if body.is_some() { "post" } else { "get" },
            path: path.split('?').next().unwrap().to_owned(),
            body,
            answer: serde_json::from_str(&lines).unwrap_or_else(|error| panic!("{error}: {lines}")),
        }
    }

    fn operation<'a>(&self, document: &'a Value) -> &'a Value {
        let matches = |template: &str| {
            let (ours, theirs) = (self.path.split('/'), template.split('/'));
            ours.clone().count() == theirs.clone().count()
                && ours
                    .zip(theirs)
                    .all(|(our, their)| our == their || their.starts_with('{'))
        };
        let paths = document["paths"].as_object().unwrap();
        let (_, item) = paths.iter().find(|(template, _)| matches(template)).unwrap();
        &item[self.method]
    }
}

fn problem_example(section: &str) -> Value {
    let (_, text) = section.split_once("For example `").unwrap();
    serde_json::from_str(text.split('`').next().unwrap()).unwrap()
}

/// Returns section 10 of docs/protocol.md.
fn section() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, text) = text.split_once("\n## 10 ").unwrap();
    text.split("\n## ").next().unwrap().to_owned()
}

fn check(document: &Value, schema: &Value, value: &Value) {
    assert!(fits(document, schema, value), "{value} is not {schema}");
}

/// Returns whether a value is what a schema of the document says.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    assert!(schema.is_object());
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::validator_for(&whole).unwrap().is_valid(value)
}
