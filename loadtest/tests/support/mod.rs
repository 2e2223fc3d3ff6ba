//! A small server of the client protocol, made of other parts than the tool (tokio-tungstenite, serde_json), that keeps its
//! promises or, when told so, breaks one of them.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use runtime::{EngineChoice, ReactorConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use uuid::Uuid;

/// The promise that a stub breaks, once, at its 40th send (or 10th echo), unless the variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    Honest,
    /// A message with `sent` is not delivered.
    Lose,
    /// Nothing is delivered from then on.
    Withhold,
    /// A message is delivered twice as it is.
    Repeat,
    /// A message is delivered again under a new seq.
    Duplicate,
    /// A message is delivered behind the next one to the same user.
    Reorder,
    /// `sent` tells another seq than the delivery.
    WrongSeq,
    /// The content changes.
    Damage,
    /// A message goes to somebody else too.
    Misdeliver,
    /// A seq is left out.
    Gap,
    /// Every 10th send is refused.
    Refuse,
    /// Every 10th send is answered `unavailable` the first time, and kept all the same.
    Unavailable,
    /// A send is never answered, though delivered.
    Silent,
    /// Every connection is closed with 4503 after its 10th send, once, without an answer to it.
    CutOff,
    /// The second client's connection is closed with 4409 after its 10th send.
    Replaced,
    /// The hello is answered by an error.
    NoEntry,
    /// 101 never comes: HTTP 404.
    NotFound,
    /// After welcome, something that is not of the protocol.
    Babble,
    /// Nothing at all is answered.
    Mute,
    /// The hello is answered by a close with 1013.
    CloseEarly,
    /// Every connection is closed with 1011 at its first send, for good.
    CloseLive,
}

/// A stub server on a port of its own; ends with the value.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    pub(crate) world: Arc<Mutex<World>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What a stub keeps, and what tests look at afterwards.
#[derive(Default)]
pub(crate) struct World {
    sends: u64,
    deliveries: u64,
    seqs: BTreeMap<Uuid, u64>,
    /// Message id -> seq.
    known: BTreeMap<String, u64>,
    /// User -> entries, oldest first: (cursor, event).
    inboxes: BTreeMap<u64, Vec<(String, Value)>>,
    online: BTreeMap<u64, UnboundedSender<Message>>,
    held: Option<(u64, (String, Value))>,
    cut: BTreeSet<u64>,
    pub(crate) hellos: Vec<Value>,
    pub(crate) acks: u64,
    pub(crate) pongs: u64,
}

impl Stub {
    /// Starts a chat server.
    pub(crate) fn chat(fault: Fault) -> Self {
        Self::start(move |stream, world| serve_chat(stream, world, fault))
    }

    /// Starts an echo server.
    pub(crate) fn echo(fault: Fault) -> Self {
        Self::start(move |stream, _| serve_echo(stream, fault))
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    fn start<F: Future<Output = ()> + Send>(
        serve: impl Fn(TcpStream, Arc<Mutex<World>>) -> F + Send + Sync + Copy + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let shared = Arc::clone(&world);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = Arc::clone(&shared);
                tokio::spawn(async move { serve(stream, world).await });
            }
        });
        Self {
            address,
            world,
            runtime: Some(runtime),
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
async fn serve_chat(stream: TcpStream, world: Arc<Mutex<World>>, fault: Fault) {
    let upgrade = |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/ws");
        assert_eq!(request.headers()["sec-websocket-protocol"], "tidegate.json.v1");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", "tidegate.json.v1".parse().unwrap());
        if fault == Fault::NotFound {
            return Err(Response::builder().status(404).body(None).expect("a response"));
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, upgrade).await else {
        return;
    };
    let (queue, mut queued) = unbounded_channel();
    let _ = socket.send(Message::Ping(Bytes::from_static(b"there?"))).await;
    let mut user = 0;
    let mut closing = false;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let command: Value = serde_json::from_str(&text).expect("the tool sends JSON");
                    handle(&mut world.lock().unwrap(), &mut user, &command, fault, &queue);
                }
                Some(Ok(Message::Pong(payload))) => {
                    assert_eq!(payload.as_ref(), b"there?");
                    world.lock().unwrap().pongs += 1;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            // Once a close frame is out, the stub only reads: ending the stream with bytes unread would reset it.
            message = queued.recv(), if !closing => {
                let Some(message) = message else { return };
                closing = message.is_close();
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn handle(
    world: &mut World,
    user: &mut u64,
    command: &Value,
    fault: Fault,
    queue: &UnboundedSender<Message>,
) {
    match command["type"].as_str() {
        _ if fault == Fault::Mute => {}
        Some("hello") => world.hello(user, command, fault, queue),
        Some("send") => world.send(*user, command, fault, queue),
        Some("ack") => {
            assert!(command["cursor"].is_string());
            world.acks += 1;
        }
        other => panic!("the tool sent {other:?}"),
    }
}

impl World {
    fn hello(&mut self, user: &mut u64, command: &Value, fault: Fault, queue: &UnboundedSender<Message>) {
        self.hellos.push(command.clone());
        let send = |event: Value| drop(queue.send(text(&event)));
        if fault == Fault::NoEntry {
            return send(json!({"type": "error", "code": "too_many_devices", "reason": "no"}));
        }
        if fault == Fault::CloseEarly {
            return drop(queue.send(close(1013, "come back later")));
        }
        if fault == Fault::CloseLive && !self.cut.insert(command["user_id"].as_u64().unwrap()) {
            return drop(queue.send(close(1011, "still out of memory")));
        }
        *user = command["user_id"]
            .as_u64()
            .or_else(|| subject(command))
            .expect("a user, by id or by token");
        let start = command["cursor"].as_str().unwrap_or("").to_owned();
        let live = cursor(self.deliveries);
        send(json!({
            "type": "welcome", "server_time_ms": 1, "session_id": "1", "user_id": *user, "device_id": 1,
            "gateway": "stub", "cursor": live, "resumed": !start.is_empty(), "ping_interval_ms": 25000,
            "limits": {"content_chars": 10000, "frame_bytes": 131072, "sends_per_s": 0, "window": command["window"]},
        }));
        if fault == Fault::Babble {
            return send(json!({"type": "message", "seq": "what?"}));
        }
        let backlog: Vec<&Value> = self.inboxes.get(user).map_or_else(Vec::new, |inbox| {
            inbox
                .iter()
                .filter(|(cursor, _)| *cursor > start)
                .map(|(_, event)| event)
                .collect()
        });
        if !backlog.is_empty() {
            send(json!({"type": "batch", "messages": backlog}));
        }
        send(json!({"type": "synced", "cursor": live}));
        self.online.insert(*user, queue.clone());
    }

    fn send(&mut self, user: u64, command: &Value, fault: Fault, queue: &UnboundedSender<Message>) {
        self.sends += 1;
        let strikes = self.sends == 40;
        if fault == Fault::CloseLive {
            return drop(queue.send(close(1011, "out of memory")));
        }
        let (id, message_id) = (&command["id"], command["message_id"].as_str().unwrap().to_owned());
        let receiver = command["receiver_id"].as_u64().unwrap();
        let conversation = direct(user, receiver);
        let seq_of_repeat = self.known.get(&message_id).copied();
        if fault == Fault::Refuse && self.sends.is_multiple_of(10) {
            let code = "rate_limited";
            let refusal =
                json!({"type": "rejected", "id": id, "message_id": message_id, "code": code, "reason": "no"});
            return drop(queue.send(text(&refusal)));
        }
        let seq = seq_of_repeat.unwrap_or_else(|| {
            let seq = self.seqs.entry(conversation).or_default();
            *seq += if fault == Fault::Gap && strikes { 2 } else { 1 };
            *seq
        });
        self.known.insert(message_id.clone(), seq);
        if seq_of_repeat.is_none() {
            let event = json!({
                "type": "message", "message_id": message_id, "conversation_id": conversation.to_string(), "seq": seq,
                "sender_id": user, "sender_device": 1, "content": command["content"], "timestamp": 1,
            });
            self.deliver(receiver, event, fault, strikes);
        }
        if fault == Fault::CutOff && seq >= 10 && self.cut.insert(user) {
            return drop(queue.send(close(4503, "")));
        }
        if fault == Fault::Replaced && user == 2 && seq >= 10 {
            return drop(queue.send(close(4409, "")));
        }
        if fault == Fault::Unavailable && seq_of_repeat.is_none() && self.sends.is_multiple_of(10) {
            let code = "unavailable";
            let refusal = json!({"type": "rejected", "id": id, "message_id": message_id, "code": code, "reason": "wait"});
            return drop(queue.send(text(&refusal)));
        }
        if fault == Fault::Silent && strikes {
            return;
        }
        let told = if fault == Fault::WrongSeq && strikes {
            seq + 1
        } else {
            seq
        };
        let sent = json!({
            "type": "sent", "id": id, "message_id": message_id, "conversation_id": conversation.to_string(), "seq": told,
            "timestamp": 1, "duplicate": seq_of_repeat.is_some(),
        });
        drop(queue.send(text(&sent)));
    }

    fn deliver(&mut self, receiver: u64, mut event: Value, fault: Fault, strikes: bool) {
        let is_kept_back = fault == Fault::Withhold && self.sends >= 40;
        if is_kept_back || (fault == Fault::Lose && strikes) {
            return;
        }
        if fault == Fault::Damage && strikes {
            event["content"] = event["content"]
                .as_str()
                .unwrap()
                .replacen("tg1", "tg1f", 1)
                .into();
        }
        let entry = self.entry(event.clone());
        if fault == Fault::Reorder {
            let next_to_same = self
                .held
                .as_ref()
                .is_some_and(|(held_for, _)| *held_for == receiver);
            if strikes {
                self.held = Some((receiver, entry));
                return;
            } else if next_to_same {
                let (_, held) = self.held.take().unwrap();
                self.push(receiver, entry);
                return self.push(receiver, held);
            }
        }
        self.push(receiver, entry.clone());
        match fault {
            Fault::Repeat if strikes => self.push(receiver, entry),
            Fault::Duplicate if strikes => {
                let conversation: Uuid = event["conversation_id"].as_str().unwrap().parse().unwrap();
                let seq = self.seqs.entry(conversation).or_default();
                *seq += 1;
                event["seq"] = (*seq).into();
                let again = self.entry(event);
                self.push(receiver, again);
            }
            Fault::Misdeliver if strikes => {
                let other = *self.online.keys().find(|user| **user != receiver).unwrap();
                let again = self.entry(event);
                self.push(other, again);
            }
            _ => {}
        }
    }

    fn entry(&mut self, mut event: Value) -> (String, Value) {
        self.deliveries += 1;
        let cursor = cursor(self.deliveries);
        event["cursor"] = cursor.clone().into();
        (cursor, event)
    }

    fn push(&mut self, receiver: u64, entry: (String, Value)) {
        if let Some(queue) = self.online.get(&receiver) {
            let _ = queue.send(text(&entry.1));
        }
        self.inboxes.entry(receiver).or_default().push(entry);
    }
}

async fn serve_echo(stream: TcpStream, fault: Fault) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    let mut count = 0;
    let mut held: Option<Message> = None;
    while let Some(Ok(message)) = socket.next().await {
        if !(message.is_text() || message.is_binary()) {
            continue;
        }
        count += 1;
        let mut answers = vec![message];
        match fault {
            Fault::Mute => answers.clear(),
            Fault::Lose if count == 10 => answers.clear(),
            Fault::Repeat if count == 10 => answers.push(answers[0].clone()),
            Fault::Damage if count == 10 => answers = vec![Message::binary(vec![b'x'; 64])],
            Fault::Reorder if count == 10 => held = answers.pop(),
            Fault::Reorder if count == 11 => answers.extend(held.take()),
            _ => {}
        }
        for answer in answers {
            if socket.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Secret that the stub expects tokens to be signed with.
pub(crate) const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";

fn subject(hello: &Value) -> Option<u64> {
    let verifier = wire_auth::Verifier::hs256(SECRET)
        .unwrap()
        .issuer("tests".to_owned());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = wire_base::ids::UnixMs(now.as_millis() as u64);
    verifier
        .verify(hello["token"].as_str()?, now)
        .ok()
        .map(|claims| claims.user.get())
}

fn direct(a: u64, b: u64) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_DNS,
        format!("{}:{}", a.min(b), a.max(b)).as_bytes(),
    )
}

fn cursor(position: u64) -> String {
    format!("00000001{position:016x}0001")
}

fn text(event: &Value) -> Message {
    Message::text(event.to_string())
}

fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: reason.into(),
    }))
}

/// Returns the engines that work here; says so loudly when one is left out.
pub(crate) fn engines() -> Vec<EngineChoice> {
    let all = [EngineChoice::Poll, EngineChoice::Uring];
    all.into_iter()
        .filter(|engine| match runtime::open(*engine, ReactorConfig::default()) {
            Ok(_) => true,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                false
            }
        })
        .collect()
}

/// Returns an address of this machine where nothing listens.
pub(crate) fn closed_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
