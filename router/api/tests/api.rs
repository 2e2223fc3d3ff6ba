//! The HTTP API over real sockets, in front of a router on its thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use router_api::{self as api, ApiConfig, ApiServer, Auth};
use router_server::config::RouterConfig;
use router_server::embedded::{Router, RouterThread, clocks, spawn};
use router_storage::disk::SimDisk;
use router_storage::store::{KvStore, MemoryKv};
use serde_json::{Value, json};
use ureq::http::Response;
use wire_auth::{Claims, Verifier, issue_hs256};
use wire_base::ids::{UnixMs, UserId};
use wire_link::LinkPort;
use wire_link::pipe::pipe;
use wire_link::testing::{Side, faulty_pipe};

/// A router, its API, and a client of it.
struct Service {
    disk: SimDisk,
    api: Option<ApiServer>,
    router: Option<RouterThread>,
    address: SocketAddr,
    agent: ureq::Agent,
}

impl Service {
    fn start(auth: Auth) -> Self {
        Self::with(auth, |_| {})
    }

    fn with(auth: Auth, change: impl FnOnce(&mut RouterConfig)) -> Self {
        let mut config = RouterConfig {
            sends_per_s: Some(0),
            ..RouterConfig::default()
        };
        change(&mut config);
        let disk = SimDisk::seeded(1);
        let started = Instant::now();
        let store = KvStore::open(MemoryKv::seeded(1), 7).unwrap();
        let (mut router, _) = Router::open(disk.clone(), store, &config, 1, clocks(started)).unwrap();
        let (ours, theirs) = pipe(config.link_pipe_bytes);
        router.add_link(theirs);
        let router = spawn(router, started).unwrap();
        let mut service = Self::without_router(ours, ApiConfig::new(auth, "test".into(), 1));
        service.disk = disk;
        service.router = Some(router);
        service
    }

    /// Starts the API on a link whose other end is the test's.
    fn without_router(port: impl LinkPort + 'static, config: ApiConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = api::serve(listener, port, config).unwrap();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self {
            disk: SimDisk::seeded(2),
            address: api.address(),
            api: Some(api),
            router: None,
            agent,
        }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(None, path, body)
    }

    fn post_as(&self, token: Option<&str>, path: &str, body: &Value) -> Answer {
        let mut request = self.agent.post(self.url(path));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        Answer::of(request.send_json(body).unwrap())
    }

    fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        Answer::of(self.agent.post(self.url(path)).send(body).unwrap())
    }

    fn get(&self, path: &str) -> Answer {
        self.get_as(None, path)
    }

    fn get_as(&self, token: Option<&str>, path: &str) -> Answer {
        let mut request = self.agent.get(self.url(path));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        Answer::of(request.call().unwrap())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(api) = self.api.take() {
            api.stop();
        }
        if let Some(router) = self.router.take() {
            router.stop();
        }
    }
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Value,
}

impl Answer {
    fn of(mut response: Response<ureq::Body>) -> Self {
        let text = response.body_mut().read_to_string().unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text:?}")),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Checks that it is a whole problem document and returns the end of its type and its detail.
    fn problem(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string());
        let kind = self.body["type"]
            .as_str()
            .unwrap()
            .strip_prefix("urn:tidegate:problem:")
            .unwrap();
        (kind.to_owned(), self.body["detail"].as_str().unwrap().to_owned())
    }

    fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        &self.body
    }
}

const ID: &str = "6d1c6cb5-8d6a-4b0c-9d5f-1c0f2b8f3a11";

fn hello(sender: u64, receiver: u64) -> Value {
    json!({ "sender_id": sender, "receiver_id": receiver, "content": "hello" })
}

#[test]
fn a_message_is_sent_listed_and_read() {
    let service = Service::start(insecure_dev());
    let sent = service.post("/messages/send", &json!({
        "sender_id": 1, "receiver_id": 2, "content": "hello", "media_url": "https://m/1", "message_id": ID,
        "unknown": [1, 2],
    }));
    let sent = sent.ok();
    assert_eq!(
        (&sent["message_id"], &sent["seq"], &sent["status"]),
        (&json!(ID), &json!(1), &json!("sent"))
    );
    let conversation = sent["conversation_id"].as_str().unwrap();
    assert_eq!(conversation, "b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd");

    let inbox = service.get("/conversations?user_id=2");
    let summary = &inbox.ok()["conversations"][0];
    assert_eq!(summary["conversation_id"], conversation);
    assert_eq!(summary["other_user_id"], 1);
    assert_eq!(summary["last_message"], "hello");
    assert_eq!(summary["unread_count"], 1);
    assert_eq!(summary["last_seq"], 1);

    let history = service.get(&format!("/conversations/{conversation}/messages?user_id=1"));
    let history = history.ok();
    assert_eq!(history["more"], false);
    let message = &history["messages"][0];
    assert_eq!(
        (&message["content"], &message["sender_id"]),
        (&json!("hello"), &json!(1))
    );
    assert_eq!(
        (&message["sender_device"], &message["media_url"]),
        (&json!(0), &json!("https://m/1"))
    );
    assert!(message.get("cursor").is_none());

    let read = service.post(
        &format!("/messages/{ID}/status"),
        &json!({ "user_id": 2, "status": "read" }),
    );
    assert_eq!(read.ok(), &json!({ "status": "ok" }));
    let history = service.get(&format!("/conversations/{conversation}/messages?user_id=1"));
    assert_eq!(
        (&history.ok()["read_seq"], &history.ok()["delivered_seq"]),
        (&json!(1), &json!(1))
    );
    let inbox = service.get("/conversations?user_id=2");
    assert_eq!(inbox.ok()["conversations"][0]["unread_count"], 0);
}

#[test]
fn a_repeated_send_gets_the_first_answer_and_a_changed_one_a_conflict() {
    let service = Service::start(insecure_dev());
    let mut body = json!({ "sender_id": 1, "receiver_id": 2, "content": "a", "message_id": ID });
    let first = service.post("/messages/send", &body).ok().clone();
    let second = service.post("/messages/send", &body).ok().clone();
    assert_eq!(
        (&first["seq"], &first["timestamp"]),
        (&second["seq"], &second["timestamp"])
    );
    assert_eq!(
        (&first["duplicate"], &second["duplicate"]),
        (&json!(false), &json!(true))
    );
    body["content"] = json!("b");
    let (kind, detail) = service.post("/messages/send", &body).problem(409);
    assert_eq!(kind, "conflict");
    assert!(detail.contains("message_id"), "{detail}");
}

#[test]
fn a_bad_request_is_a_problem_that_names_the_field() {
    let service = Service::start(insecure_dev());
    let long = "x".repeat(10_001);
    for (body, field) in [
        (json!({}), "sender_id"),
        (
            json!({ "sender_id": 0, "receiver_id": 2, "content": "x" }),
            "sender_id",
        ),
        (
            json!({ "sender_id": "1", "receiver_id": 2, "content": "x" }),
            "sender_id",
        ),
        (json!({ "sender_id": 1, "content": "x" }), "receiver_id"),
        (
            json!({ "sender_id": 1, "receiver_id": -2, "content": "x" }),
            "receiver_id",
        ),
        (json!({ "sender_id": 1, "receiver_id": 2 }), "content"),
        (
            json!({ "sender_id": 1, "receiver_id": 2, "content": "" }),
            "content",
        ),
        (
            json!({ "sender_id": 1, "receiver_id": 2, "content": long }),
            "content",
        ),
        (
            json!({ "sender_id": 1, "receiver_id": 2, "content": "x", "message_id": "7" }),
            "message_id",
        ),
        (
            json!({ "sender_id": 1, "receiver_id": 2, "content": "x", "media_url": 7 }),
            "media_url",
        ),
        (json!([1]), "object"),
    ] {
        let (_, detail) = service.post("/messages/send", &body).problem(400);
        assert!(detail.contains(field), "{body}: {detail}");
    }
    for broken in [&b""[..], b"{", b"\xff", b"{\"sender_id\":1,}"] {
        let (kind, _) = service.post_bytes("/messages/send", broken).problem(400);
        assert_eq!(kind, "bad-request");
    }
    for (path, field) in [
        ("/conversations", "user_id"),
        ("/conversations?user_id=x", "user_id"),
        ("/conversations?user_id=1&limit=0", "limit"),
        ("/conversations?user_id=1&limit=101", "limit"),
        ("/conversations?user_id=1&before=nonsense", "before"),
        ("/conversations/7/messages?user_id=1", "conversation id"),
        (
            "/conversations/6d1c6cb5-8d6a-4b0c-9d5f-1c0f2b8f3a11/messages?user_id=1&before_seq=0",
            "before_seq",
        ),
    ] {
        let (_, detail) = service.get(path).problem(400);
        assert!(detail.contains(field), "{path}: {detail}");
    }
    for (body, field) in [
        (json!({ "user_id": 2 }), "status"),
        (json!({ "user_id": 2, "status": "seen" }), "status"),
        (json!({ "status": "read" }), "user_id"),
    ] {
        let (_, detail) = service
            .post(&format!("/messages/{ID}/status"), &body)
            .problem(400);
        assert!(detail.contains(field), "{body}: {detail}");
    }
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_allowed_405() {
    let service = Service::start(insecure_dev());
    service.post("/messages/send", &hello(1, 2)).ok();
    for path in ["/", "/nothing", "/messages", "/messages/send/now", "/metrics"] {
        let (kind, detail) = service.get(path).problem(404);
        assert!(kind == "not-found" && detail.contains(path), "{path}: {detail}");
    }
    let wrong = service.get("/messages/send");
    assert_eq!(wrong.problem(405).0, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));
    service.post("/conversations", &json!({})).problem(405);
    let unknown = service.post(
        &format!("/messages/{ID}/status"),
        &json!({ "user_id": 2, "status": "read" }),
    );
    assert_eq!(unknown.problem(404).0, "not-found");
    let stranger = service.get("/conversations/b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd/messages?user_id=3");
    assert_eq!(stranger.problem(403).0, "forbidden");
}

#[test]
fn a_body_over_the_bound_is_413() {
    let service = Service::start(insecure_dev());
    let body = vec![b' '; 128 * 1024 + 1];
    assert_eq!(
        service.post_bytes("/messages/send", &body).problem(413).0,
        "body-too-large"
    );
    // Without a declared length too, and the client gets to read so once it has written everything.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream
        .write_all(b"POST /messages/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..3 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[test]
fn a_body_far_over_the_bound_is_413_before_it_is_read() {
    let service = Service::start(insecure_dev());
    for head in [
        "Content-Length: 1000000000\r\n",
        "Content-Length: 200000\r\nExpect: 100-continue\r\n",
    ] {
        let mut stream = TcpStream::connect(service.address).unwrap();
        write!(
            stream,
            "POST /messages/send HTTP/1.1\r\nHost: localhost\r\n{head}\r\n"
        )
        .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{head}");
    }
}

fn insecure_dev() -> Auth {
    Auth::InsecureDev { origins: Vec::new() }
}

const SECRET: &[u8] = b"a secret that is long enough for HS256";

fn token(user: u64, service: bool, expires_in_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let expires = UnixMs(now.wrapping_add_signed(expires_in_ms));
    let claims = Claims {
        user: UserId::new(user).unwrap(),
        device: None,
        expires,
        service,
    };
    issue_hs256(SECRET, &claims, None, None, UnixMs(now))
}

#[test]
fn a_token_is_asked_for_and_speaks_for_its_subject_only() {
    let service = Service::start(Auth::Tokens(Verifier::hs256(SECRET).unwrap()));
    let missing = service.post("/messages/send", &hello(1, 2));
    assert_eq!(missing.problem(401).0, "unauthorized");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    for bad in ["x", "a.b.c", &token(1, false, -60_000)] {
        service
            .post_as(Some(bad), "/messages/send", &hello(1, 2))
            .problem(401);
        service.get_as(Some(bad), "/conversations").problem(401);
    }

    let (one, three, any) = (
        token(1, false, 60_000),
        token(3, false, 60_000),
        token(9, true, 60_000),
    );
    let sent = service
        .post_as(Some(&one), "/messages/send", &hello(1, 2))
        .ok()
        .clone();
    let (kind, detail) = service
        .post_as(Some(&three), "/messages/send", &hello(1, 2))
        .problem(403);
    assert!(kind == "forbidden" && detail.contains("sender_id"), "{detail}");
    service.post_as(Some(&any), "/messages/send", &hello(1, 2)).ok();

    let inbox = service.get_as(Some(&one), "/conversations");
    assert_eq!(
        inbox.ok()["conversations"].as_array().unwrap().len(),
        1,
        "user_id is the subject by default"
    );
    service
        .get_as(Some(&one), "/conversations?user_id=2")
        .problem(403);
    service.get_as(Some(&any), "/conversations?user_id=2").ok();
    let status = format!("/messages/{}/status", sent["message_id"].as_str().unwrap());
    let read = json!({ "user_id": 2, "status": "read" });
    service.post_as(Some(&one), &status, &read).problem(403);
    service.post_as(Some(&any), &status, &read).ok();
}

#[test]
fn the_send_rate_is_429_with_a_time_to_wait() {
    let service = Service::with(insecure_dev(), |config| {
        config.sends_per_s = Some(1);
        config.sends_burst = 2;
    });
    for _ in 0..2 {
        service.post("/messages/send", &hello(1, 2)).ok();
    }
    let limited = service.post("/messages/send", &hello(1, 2));
    assert_eq!(limited.problem(429).0, "rate-limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    service.post("/messages/send", &hello(3, 2)).ok();
}

#[test]
fn bodies_that_do_not_end_take_a_bounded_share_of_the_room_and_not_for_long() {
    let service = Service::start(insecure_dev());
    let head = "POST /messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 131072\r\n\r\n";
    let part = vec![b' '; 120 * 1024];
    let held: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&part).unwrap();
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    let busy = loop {
        let answer = service.post("/messages/send", &hello(1, 2));
        if answer.status != 200 || Instant::now() > deadline {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(busy.problem(503).0, "busy");
    assert_eq!(busy.header("retry-after"), Some("1"));
    // What needs no body is not in the way of it.
    service.get("/conversations?user_id=1").ok();
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    service.post("/messages/send", &hello(1, 2)).ok();
}

#[test]
fn a_full_disk_is_503_and_says_that_the_outcome_is_unknown() {
    let service = Service::start(insecure_dev());
    service.post("/messages/send", &hello(1, 2)).ok();
    service.disk.set_space_left(Some(1));
    let refused = service.post("/messages/send", &hello(1, 2));
    assert_eq!(refused.problem(503).0, "outcome-unknown");
    assert_eq!(refused.header("retry-after"), Some("1"));
    service.get("/conversations?user_id=1").ok();
    service.disk.set_space_left(None);
    std::thread::sleep(Duration::from_millis(1_500));
    service.post("/messages/send", &hello(1, 2)).ok();
}

#[test]
fn answers_come_over_a_link_that_delays_and_refuses_and_none_after_it_broke() {
    let (ours, mut theirs, faults) = faulty_pipe(64);
    faults.refuse(Side::Left, 2);
    let config = ApiConfig::new(insecure_dev(), "test".into(), 1);
    let service = Service::without_router(ours, config);
    let mut ask = |breaks: bool| {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| service.get("/conversations?user_id=1"));
            while !asking.is_finished() {
                faults.settle();
                let batch = theirs.try_recv().ok().flatten();
                for record in batch.into_iter().flat_map(wire_link::codec::decode_to_router) {
                    let Ok(wire_link::ToRouter::Conversations(asked)) = record else {
                        continue;
                    };
                    let page = wire_link::ConversationsPageRecord {
                        request: asked.request,
                        conversations: Vec::new(),
                        more: false,
                    };
                    let mut batch = wire_link::codec::BatchWriter::new();
                    batch.push_from_router(&wire_link::FromRouter::ConversationsPage(page));
                    if breaks {
                        faults.break_after(Side::Right, 1);
                    }
                    theirs.try_send(batch.take()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            asking.join().unwrap()
        })
    };
    ask(false).ok();
    assert_eq!(ask(true).problem(503).0, "unavailable", "the answer was lost");
    assert_eq!(ask(false).problem(503).0, "unavailable");
}

#[test]
fn too_many_requests_at_once_are_busy_and_a_dead_router_is_unavailable() {
    let (ours, theirs) = pipe(1 << 20);
    let config = ApiConfig {
        in_flight_max: 1,
        ..ApiConfig::new(insecure_dev(), "test".into(), 1)
    };
    let service = Service::without_router(ours, config);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| service.post("/messages/send", &hello(1, 2)));
        // The first one is in flight once the router's end of the link has it.
        let is_sent = || {
            let batch = theirs.try_recv().unwrap()?;
            wire_link::codec::decode_to_router(batch)
                .last()?
                .ok()
                .filter(|record| matches!(record, wire_link::ToRouter::Send(_)))
        };
        while is_sent().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let busy = service.post("/messages/send", &hello(1, 2));
        assert_eq!(busy.problem(503).0, "busy");
        assert_eq!(busy.header("retry-after"), Some("1"));
        theirs.close();
        assert_eq!(waiting.join().unwrap().problem(503).0, "outcome-unknown");
    });
    assert_eq!(
        service.post("/messages/send", &hello(1, 2)).problem(503).0,
        "unavailable"
    );
    assert_eq!(
        service.get("/conversations?user_id=1").problem(503).0,
        "unavailable"
    );
}

#[test]
fn a_router_that_does_not_answer_in_time_leaves_the_outcome_of_a_write_open() {
    let (ours, theirs) = pipe(1 << 20);
    let answer_timeout = Duration::from_millis(50);
    let config = ApiConfig {
        answer_timeout,
        ..ApiConfig::new(insecure_dev(), "test".into(), 1)
    };
    let service = Service::without_router(ours, config);
    let (kind, detail) = service.post("/messages/send", &hello(1, 2)).problem(503);
    assert!(
        kind == "outcome-unknown" && detail.contains("message_id"),
        "{detail}"
    );
    assert_eq!(
        service.get("/conversations?user_id=1").problem(503).0,
        "unavailable"
    );
    // An answer that comes later finds nobody, and does not end the link.
    let mut batch = wire_link::codec::BatchWriter::new();
    batch.push_from_router(&wire_link::FromRouter::Done(wire_link::RequestId(1)));
    theirs.try_send(batch.take()).unwrap();
    assert_eq!(
        service.get("/conversations?user_id=1").problem(503).0,
        "unavailable"
    );
    assert!(theirs.try_recv().is_ok());
}

#[test]
fn stopping_lets_requests_in_flight_finish() {
    let mut service = Service::start(insecure_dev());
    service.post("/messages/send", &hello(1, 2)).ok();
    let address = service.address;
    service.api.take().unwrap().stop();
    assert!(TcpStream::connect(address).is_err());
}
