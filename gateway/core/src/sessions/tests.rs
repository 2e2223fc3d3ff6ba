//! The product: clients that speak JSON on one side, a router that speaks records on the other.

mod back_pressure;
mod batching;
mod commands;
mod delivery;
mod ending;
mod link;
mod login;
mod random;
mod slow;
mod tokens;
mod two_routers;

use serde_json::Value;
use uuid::Uuid;
use wire_auth::{Claims, Verifier, issue_hs256};
use wire_base::body::{Body, Content, EncodedBody};
use wire_base::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UserId,
};
use wire_base::message::{Draft, Message, Target};
use wire_link::{
    AckRecord, Deliver, FromRouter, SendRecord, SessionOpen, SessionOpened, SessionRef, Synced, ToRouter,
};

use super::*;
use crate::config::HubConfig;
use crate::routes::RouterId;
use crate::testing::{LINK, START, World, batch};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn config(auth: Auth) -> SessionsConfig {
    SessionsConfig {
        gateway: "gw-1".to_owned(),
        epoch: 5,
        worker: 2,
        auth,
        origins: Vec::new(),
        sends_per_s: 20,
    }
}

/// A worker with a link, where users are known by their word.
fn dev_with(hub: HubConfig) -> World<Sessions> {
    let mut world = World::new(hub, Sessions::new(config(Auth::InsecureDev)));
    link_up(&mut world);
    world
}

fn dev() -> World<Sessions> {
    dev_with(HubConfig::default())
}

/// A worker with a link, where users are known by tokens.
fn tokens() -> World<Sessions> {
    let verifier = Verifier::hs256(SECRET).unwrap();
    let mut world = World::new(
        HubConfig::default(),
        Sessions::new(config(Auth::Tokens(verifier))),
    );
    link_up(&mut world);
    world
}

/// Brings the link up, and takes the hello.
fn link_up(world: &mut World<Sessions>) {
    world.hub.handle_link_up(LINK, RouterId(0), world.now);
    world.tick();
    let records = world.router.take_records();
    assert!(
        matches!(&records[0], ToRouter::Hello(hello) if hello.node == "gw-1" && hello.epoch == 5 && hello.worker == 2)
    );
    world.router.records = records[1..].to_vec();
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn device(id: u32) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn at(offset: u64) -> Position {
    Position {
        generation: 6,
        offset: Offset(offset),
        index: 1,
    }
}

/// Where every session begins to be live.
const HEAD: Position = Position {
    generation: 6,
    offset: Offset(0),
    index: 1,
};

fn token_for(user_id: u64, device: Option<u32>, lives_s: u64) -> String {
    token_signed(SECRET, user_id, device, lives_s)
}

fn token_signed(secret: &[u8], user_id: u64, device: Option<u32>, lives_s: u64) -> String {
    let claims = Claims {
        user: user(user_id),
        device: device.map(|id| DeviceId::new(id).unwrap()),
        expires: wire_base::ids::UnixMs(START.0 + lives_s * 1_000),
        service: false,
    };
    issue_hs256(secret, &claims, None, None, START)
}

fn from_router(world: &mut World<Sessions>, records: &[FromRouter]) {
    world.hub.handle_link_batch(LINK, batch(records), world.now);
    world.tick();
}

/// Returns the sessions that the router is asked for, and forgets everything else.
fn opens(world: &mut World<Sessions>) -> Vec<SessionOpen> {
    let open = |record| {
        if let ToRouter::SessionOpen(open) = record {
            Some(open)
        } else {
            None
        }
    };
    world.router.take_records().into_iter().filter_map(open).collect()
}

fn opened(connection: ConnectionHandle) -> SessionOpened {
    SessionOpened {
        connection,
        session: SessionNumber(0xabc0 + u64::from(connection.slot)),
        cursor: HEAD,
        resumed: false,
        resync: None,
    }
}

/// Says hello, and has the router agree; returns the welcome.
fn login(world: &mut World<Sessions>, id: ConnectionHandle, hello: &str) -> Value {
    world.send_text(id, hello);
    assert_eq!(opens(world).len(), 1, "{hello}");
    let synced = FromRouter::Synced(Synced {
        connection: id,
        cursor: HEAD,
    });
    from_router(world, &[FromRouter::SessionOpened(opened(id)), synced]);
    let welcome = world.client(id).event().unwrap();
    assert_eq!(
        (&welcome["type"], &world.client(id).event().unwrap()["type"]),
        (&"welcome".into(), &"synced".into())
    );
    welcome
}

/// Connects a user in dev mode, up to live.
fn live(world: &mut World<Sessions>, user_id: u64) -> ConnectionHandle {
    let id = world.connect();
    login(world, id, &format!(r#"{{"type":"hello","user_id":{user_id}}}"#));
    id
}

fn body(text: &str) -> EncodedBody {
    Body {
        content: Content::Text(text),
        media_url: None,
        kind: None,
    }
    .encode()
}

fn message_id(n: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(n)).unwrap()
}

fn message(seq: u64, text: &str) -> Message {
    Message {
        conversation: ConversationId::direct(user(1), user(2)),
        seq: Seq(seq),
        message_id: message_id(u128::from(seq)),
        sender: user(2),
        sender_device: device(1),
        timestamp: START,
        body: body(text),
    }
}

fn deliver(to: &[(ConnectionHandle, u64)], seq: u64, text: &str) -> FromRouter {
    let to = to.iter().map(|&(id, offset)| (id, at(offset))).collect();
    FromRouter::Deliver(Deliver {
        message: message(seq, text),
        to,
    })
}

/// Returns the sends that reached the router, and forgets everything else.
fn sends(world: &mut World<Sessions>) -> Vec<SendRecord> {
    let send = |record| {
        if let ToRouter::Send(send) = record {
            Some(send)
        } else {
            None
        }
    };
    world.router.take_records().into_iter().filter_map(send).collect()
}

fn send_command(id: u32, to: u64, content: &str) -> String {
    format!(r#"{{"type":"send","id":{id},"receiver_id":{to},"content":"{content}"}}"#)
}

fn session_ref(connection: ConnectionHandle, user_id: u64) -> SessionRef {
    SessionRef {
        connection,
        user: user(user_id),
        device: DeviceId::DEFAULT,
    }
}

fn assert_refused(event: &Value, kind: &str, id: Option<u32>, code: &str) {
    assert_eq!(event["type"], kind, "{event}");
    assert_eq!(event["id"].as_u64(), id.map(u64::from), "{event}");
    assert_eq!(event["code"], code, "{event}");
    assert!(!event["reason"].as_str().unwrap().is_empty());
}

fn close_reasons(world: &World<Sessions>) -> Vec<Reason> {
    Reason::ALL
        .iter()
        .copied()
        .filter(|&reason| world.hub.stats().closes(reason) > 0)
        .collect()
}
