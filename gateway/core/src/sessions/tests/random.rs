//! Any facts in any order: the promises of the crate hold.

use proptest::prelude::*;
use wire_base::code::Code;
use wire_link::{RejectedRecord, SentRecord, SessionRefused};

use super::*;
use crate::routes::Routes;
use crate::testing::{OTHER, frame};
use wire_ws::Opcode;

#[derive(Clone, Debug)]
enum Fact {
    Accept,
    /// A client connects and says hello, and the router agrees.
    Login,
    /// A client does something that its protocol allows, or not.
    Say {
        client: prop::sample::Index,
        what: usize,
        cut: prop::sample::Index,
    },
    Bytes {
        client: prop::sample::Index,
        bytes: Vec<u8>,
    },
    End {
        client: prop::sample::Index,
    },
    Fail {
        client: prop::sample::Index,
    },
    Room {
        client: prop::sample::Index,
        bytes: usize,
    },
    Pass {
        ms: u64,
    },
    /// The router answers what it was asked, some of it badly.
    Answer {
        bad: bool,
    },
    Deliver {
        client: prop::sample::Index,
        offset: u64,
        chars: usize,
    },
    Replace {
        client: prop::sample::Index,
    },
    LinkFull {
        is_full: bool,
    },
    LinkDown,
    LinkUp,
    OtherDown,
    OtherUp,
    /// Who owns the two slots of users, and the two of conversations.
    View([u16; 4]),
    Drain,
}

fn fact() -> impl Strategy<Value = Fact> {
    let client = any::<prop::sample::Index>;
    prop_oneof![
        3 => Just(Fact::Accept),
        5 => Just(Fact::Login),
        24 => (client(), 0..COMMANDS.len() + 2, client()).prop_map(|(client, what, cut)| Fact::Say { client, what, cut }),
        2 => (client(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(client, bytes)| Fact::Bytes { client, bytes }),
        2 => client().prop_map(|client| Fact::End { client }),
        1 => client().prop_map(|client| Fact::Fail { client }),
        3 => (client(), prop_oneof![Just(usize::MAX), 0usize..2_000]).prop_map(|(client, bytes)| Fact::Room { client, bytes }),
        4 => prop_oneof![0u64..50, 0u64..40_000].prop_map(|ms| Fact::Pass { ms }),
        8 => prop::bool::weighted(0.1).prop_map(|bad| Fact::Answer { bad }),
        6 => (client(), 1u64..50, 1usize..9_000).prop_map(|(client, offset, chars)| Fact::Deliver { client, offset, chars }),
        1 => client().prop_map(|client| Fact::Replace { client }),
        2 => any::<bool>().prop_map(|is_full| Fact::LinkFull { is_full }),
        1 => Just(Fact::LinkDown),
        2 => Just(Fact::LinkUp),
        1 => Just(Fact::OtherDown),
        2 => Just(Fact::OtherUp),
        3 => prop::array::uniform4(0u16..2).prop_map(Fact::View),
        1 => prop::bool::weighted(0.05).prop_map(|drain| if drain { Fact::Drain } else { Fact::LinkUp }),
    ]
}

const COMMANDS: &[&str] = &[
    r#"{"type":"hello","user_id":1}"#,
    r#"{"type":"hello","user_id":2,"device_id":2,"cursor":"0000000600000000000000030001"}"#,
    r#"{"type":"hello"}"#,
    r#"{"type":"send","id":1,"receiver_id":2,"content":"hello"}"#,
    r#"{"type":"ack","cursor":"0000000600000000000000030001"}"#,
    r#"{"type":"history","id":2,"conversation_id":"b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd"}"#,
    r#"{"type":"batch","messages":[{"type":"ping"},{"type":"conversations"},{"type":"typing"}]}"#,
    "not json",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The harness itself checks every output: no send while one is unfinished, nothing behind a close frame.
    #[test]
    fn every_connection_ends_with_one_reason_and_nothing_is_left(facts in prop::collection::vec(fact(), 1..150),
                                                                 linger in prop_oneof![Just(0u32), Just(20)]) {
        let mut world = dev_with(HubConfig {
            batch_linger_ms: linger,
            outbox_total_bytes_max: 300 * 1024,
            connections_max: 6,
            drain_ms: 1_000,
            ..HubConfig::default()
        });
        for fact in facts {
            play(&mut world, fact);
            let stats = world.hub.stats();
            prop_assert_eq!(stats.connections, stats.connections_accepted - stats.connections_closed);
            prop_assert!(stats.closes_total() <= stats.connections_accepted);
        }
        for id in open_clients(&world) {
            world.hub.handle_end_of_stream(id, world.now);
        }
        world.tick();
        world.hub.handle_link_down(LINK, world.now);
        world.hub.handle_link_down(OTHER, world.now);
        world.tick();
        let stats = world.hub.stats();
        prop_assert_eq!(stats.closes_total(), stats.connections_accepted);
        prop_assert_eq!(stats.connections_closed, stats.connections_accepted);
        let gauges = [stats.connections, stats.sessions, stats.outbox_bytes, stats.input_bytes, stats.pending, stats.link_bytes];
        prop_assert_eq!(gauges, [0; 6]);
        prop_assert_eq!(world.hub.connections(), 0);
        prop_assert!(world.hub.application().is_idle());
    }
}

fn from_other(world: &mut World<Sessions>, records: &[FromRouter]) {
    world.hub.handle_link_batch(OTHER, batch(records), world.now);
    world.tick();
}

fn open_clients(world: &World<Sessions>) -> Vec<ConnectionHandle> {
    world
        .clients
        .iter()
        .filter(|(_, client)| !client.is_closed)
        .map(|(&id, _)| id)
        .collect()
}

fn play(world: &mut World<Sessions>, fact: Fact) {
    let clients = open_clients(world);
    let pick =
        |index: prop::sample::Index| (!clients.is_empty()).then(|| clients[index.index(clients.len())]);
    match fact {
        Fact::Accept => {
            world.accept();
            world.tick();
        }
        Fact::Login => {
            let id = world.accept();
            let hello = frame(Opcode::Text, COMMANDS[0].as_bytes());
            world.send_bytes(
                id,
                &[crate::testing::request("/ws", "").as_bytes(), &hello].concat(),
            );
            from_router(world, &[FromRouter::SessionOpened(opened(id))]);
        }
        Fact::Say { client, what, cut } => {
            let Some(id) = pick(client) else { return };
            let bytes = match COMMANDS.get(what) {
                Some(command) => frame(Opcode::Text, command.as_bytes()),
                None if what == COMMANDS.len() => frame(Opcode::Close, b"\x03\xe8"),
                None => frame(Opcode::Ping, b"p"),
            };
            let upgrade = crate::testing::request("/ws", "");
            let bytes = if world.client(id).response.is_empty() {
                [upgrade.as_bytes(), &bytes].concat()
            } else {
                bytes
            };
            let cut = cut.index(bytes.len());
            world.client(id).unread.extend_from_slice(&bytes[..cut]);
            world.step();
            world.send_bytes(id, &bytes[cut..]);
        }
        Fact::Bytes { client, bytes } => {
            if let Some(id) = pick(client) {
                world.send_bytes(id, &bytes);
            }
        }
        Fact::End { client } => {
            if let Some(id) = pick(client) {
                world.send_end(id);
            }
        }
        Fact::Fail { client } => {
            if let Some(id) = pick(client) {
                world.hub.handle_failed(id, world.now);
                world.tick();
            }
        }
        Fact::Room { client, bytes } => {
            if let Some(id) = pick(client) {
                world.client(id).room = bytes;
                world.tick();
            }
        }
        Fact::Pass { ms } => world.pass_ms(ms),
        Fact::Answer { bad } => {
            let answers: Vec<_> = world
                .router
                .take_records()
                .iter()
                .filter_map(|record| answer(record, bad))
                .collect();
            from_router(world, &answers);
            let answers: Vec<_> = world
                .other
                .take_records()
                .iter()
                .filter_map(|record| answer(record, bad))
                .collect();
            from_other(world, &answers);
        }
        Fact::Deliver {
            client,
            offset,
            chars,
        } => {
            if let Some(id) = pick(client) {
                let record = deliver(&[(id, offset)], offset, &"x".repeat(chars));
                from_router(world, std::slice::from_ref(&record));
                from_other(world, &[record]);
            }
        }
        Fact::Replace { client } => {
            if let Some(id) = pick(client) {
                from_router(world, &[FromRouter::SessionReplaced(session_ref(id, 1))]);
            }
        }
        Fact::LinkFull { is_full } => {
            let had_room = !std::mem::replace(&mut world.router.is_full, is_full);
            if !is_full && !had_room {
                world.hub.handle_link_room(LINK, world.now);
            }
            world.tick();
        }
        Fact::LinkDown => {
            world.hub.handle_link_down(LINK, world.now);
            world.tick();
        }
        Fact::LinkUp => {
            world.hub.handle_link_down(LINK, world.now);
            world.router.is_full = false;
            world.hub.handle_link_up(LINK, RouterId(0), world.now);
            world.tick();
        }
        Fact::OtherDown => {
            world.hub.handle_link_down(OTHER, world.now);
            world.tick();
        }
        Fact::OtherUp => {
            world.hub.handle_link_up(OTHER, RouterId(1), world.now);
            world.tick();
        }
        Fact::View([a, b, c, d]) => {
            let routes = Routes::new(&[a, b].map(RouterId), &[c, d].map(RouterId)).unwrap();
            world.hub.handle_view(routes, world.now);
            world.tick();
        }
        Fact::Drain => {
            world.hub.start_drain(world.now);
            world.tick();
        }
    }
}

fn answer(record: &ToRouter, bad: bool) -> Option<FromRouter> {
    let reason = String::from("no");
    Some(match record {
        ToRouter::SessionOpen(open) if bad => {
            let (connection, code) = (open.connection, Code::TooManyDevices);
            FromRouter::SessionRefused(SessionRefused {
                connection,
                code,
                reason,
            })
        }
        ToRouter::SessionOpen(open) => FromRouter::SessionOpened(opened(open.connection)),
        ToRouter::Send(send) if bad => FromRouter::Rejected(RejectedRecord {
            request: send.request,
            code: Code::Conflict,
            reason,
            retry_after_ms: None,
        }),
        ToRouter::Send(send) => FromRouter::Sent(SentRecord {
            request: send.request,
            message_id: message_id(3),
            conversation: ConversationId::direct(user(1), user(2)),
            seq: Seq(1),
            timestamp: START,
            duplicate: false,
        }),
        ToRouter::History(history) => FromRouter::Done(history.request),
        _ => return None,
    })
}
