//! What a delivery costs a gateway worker: 64 B messages for thousands of sessions of one worker.
//!
//! `fanout bare|hub|uring|poll SESSIONS MESSAGES_A_WRITE DELIVERIES` prints the CPU of one delivery in ns. `bare` is the floor: a loop
//! that writes the same bytes, made before, to as many sockets, one system call each. `hub` is the Hub alone, with nobody to send
//! to: records in, frames out. `uring` and `poll` are a whole worker with as many clients on loopback sockets,
//! of which only the worker's thread counts; the kernel's part of receiving happens within its sends. The router is this
//! program: each batch has all messages of a write for as many sessions as fit.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::{Auth, Hub, HubConfig, Now, Output, RouterId, Sessions, SessionsConfig};
use gateway_server::gateway::{Gateway, Plan};
use runtime::{EngineChoice, Event, Reactor, ReactorConfig, SendBuf};
use wire_base::body::{Body, Content};
use wire_base::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UnixMs,
    UserId,
};
use wire_base::message::Message;
use wire_client::{Format, ShownMessage};
use wire_link::codec::{BatchWriter, decode_to_router};
use wire_link::pipe::{Endpoint, SendError, pipe};
use wire_link::{BATCH_BYTES_MAX, Deliver, FromRouter, LinkId, SessionOpened, Synced, ToRouter};
use wire_ws::{Opcode, encode_frame};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<usize>().ok());
    let (Some(arm), Some(sessions), Some(per_write), Some(deliveries)) =
        (args.first(), number(1), number(2), number(3))
    else {
        eprintln!("usage: fanout bare|hub|uring|poll SESSIONS MESSAGES_A_WRITE DELIVERIES");
        std::process::exit(2);
    };
    let rounds = deliveries.div_ceil(sessions * per_write).max(1);
    let spent_ns = match arm.as_str() {
        "uring" | "poll" => with_sockets(arm.parse().expect("an engine"), sessions, per_write, rounds),
        "bare" => bare(sessions, per_write, rounds),
        _ => hub_alone(sessions, per_write, rounds),
    };
    let deliveries = (sessions * per_write * rounds) as u64;
    println!("{:.1}", spent_ns as f64 / deliveries as f64);
}

/// Returns the CPU time of a Hub that delivers everything, in ns.
fn hub_alone(sessions: usize, per_write: usize, rounds: usize) -> u64 {
    let now = Now {
        mono_ms: 1_000,
        unix: UnixMs(1_767_225_600_000),
    };
    let mut hub = Hub::new(HubConfig::default(), application(), 1);
    hub.handle_link_up(LINK, RouterId(0), now);
    let mut ids = Vec::with_capacity(sessions);
    for slot in 0..sessions as u32 {
        let id = ConnectionHandle { slot, generation: 1 };
        hub.handle_accepted(id, now);
        hub.handle_received(id, &mut hello(slot), now);
        ids.push(id);
    }
    let mut in_flight = VecDeque::new();
    tick(&mut hub, &mut in_flight, now); // Now the router has been asked.
    for ids in ids.chunks(1_000) {
        hub.handle_link_batch(LINK, opened(ids), now);
    }
    tick(&mut hub, &mut in_flight, now);
    let batches: Vec<Vec<Bytes>> = (0..=rounds)
        .map(|round| batches(&ids, per_write, round))
        .collect();
    let mut begun = 0;
    for (round, batches) in batches.into_iter().enumerate() {
        if round == 1 {
            begun = thread_ns("self"); // The first one warms up.
        }
        for batch in batches {
            hub.handle_link_batch(LINK, batch, now);
        }
        tick(&mut hub, &mut in_flight, now);
    }
    let spent = thread_ns("self") - begun;
    assert_eq!(
        hub.stats().messages_delivered,
        (sessions * per_write * (rounds + 1)) as u64
    );
    spent
}

/// Ends a tick as a driver does: a buffer comes back once others have been sent.
fn tick(hub: &mut Hub<Sessions>, in_flight: &mut VecDeque<Vec<u8>>, now: Now) {
    hub.handle_tick_end(now);
    while let Some(output) = hub.poll_output() {
        if let Output::Send { frames, .. } = output {
            in_flight.push_back(frames.own);
            if in_flight.len() > SENDS_IN_FLIGHT {
                let mut sent = in_flight.pop_front().unwrap_or_default();
                sent.clear();
                hub.recycle(sent);
            }
        }
    }
}

/// Returns the CPU time of writing as many bytes to as many sockets, and nothing else, in ns.
fn bare(sessions: usize, per_write: usize, rounds: usize) -> u64 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let received = Arc::new(AtomicU64::new(0));
    let clients = Clients {
        address: listener.local_addr().expect("it is bound"),
        sessions,
        received: Arc::clone(&received),
        connected: Arc::default(),
    };
    thread::spawn(move || clients.run());
    let accept = |_| {
        let (socket, _) = listener.accept().expect("descriptors are left");
        socket.set_nodelay(true).expect("it is TCP");
        socket
    };
    let mut sockets: Vec<TcpStream> = (0..sessions).map(accept).collect();
    let bytes = vec![b'x'; write_bytes(per_write) as usize];
    let mut begun = 0;
    for round in 0..=rounds {
        if round == 1 {
            begun = thread_ns("self");
        }
        let due = received.load(Ordering::Relaxed) + (sessions * bytes.len()) as u64;
        for socket in &mut sockets {
            socket.write_all(&bytes).expect("the client reads");
        }
        while received.load(Ordering::Relaxed) < due {
            thread::sleep(Duration::from_micros(200));
        }
    }
    thread_ns("self") - begun
}

/// Returns the CPU time of a worker that delivers everything through sockets, in ns.
fn with_sockets(engine: EngineChoice, sessions: usize, per_write: usize, rounds: usize) -> u64 {
    let (worker_end, router_end) = pipe(64 << 20);
    let plan = Plan {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        workers: 1,
        listen_setting: "listen",
        engine,
        hub: HubConfig::default(),
        sockets_max: sessions + 1,
        coalesce: Duration::ZERO,
        seed: 1,
    };
    let gateway = Gateway::start(&plan, |_| application(), vec![worker_end]).expect("a gateway starts");
    let received = Arc::new(AtomicU64::new(0));
    let connected = Arc::new(AtomicUsize::new(0));
    let clients = Clients {
        address: gateway.address(),
        sessions,
        received: Arc::clone(&received),
        connected,
    };
    thread::spawn(move || clients.run());
    let ids = open_sessions(&router_end, sessions);
    let quiet = |least: u64| {
        while received.load(Ordering::Relaxed) < least {
            thread::sleep(Duration::from_micros(200));
        }
    };
    thread::sleep(Duration::from_secs(1)); // What the opening of sessions sent has arrived.
    let worker = worker_thread();
    let round_bytes = sessions as u64 * write_bytes(per_write);
    let mut begun = 0;
    for round in 0..=rounds {
        if round == 1 {
            begun = thread_ns(&worker);
        }
        let before = received.load(Ordering::Relaxed);
        for batch in batches(&ids, per_write, round) {
            send(&router_end, batch);
        }
        quiet(before + round_bytes);
    }
    thread_ns(&worker) - begun
}

/// Answers every session that is announced, until so many are open; returns their connections.
fn open_sessions(router: &Endpoint, sessions: usize) -> Vec<ConnectionHandle> {
    let mut ids = Vec::with_capacity(sessions);
    while ids.len() < sessions {
        let Some(batch) = router.try_recv().expect("the worker runs") else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let open = |record| match record {
            Ok(ToRouter::SessionOpen(open)) => Some(open.connection),
            Ok(_) => None,
            Err(error) => panic!("{error}"),
        };
        let new: Vec<_> = decode_to_router(batch).filter_map(open).collect();
        for new in new.chunks(1_000) {
            send(router, opened(new));
        }
        ids.extend(new);
    }
    ids
}

fn send(router: &Endpoint, mut batch: Bytes) {
    while let Err(error) = router.try_send(batch) {
        let SendError::Full(refused) = error else {
            panic!("the worker ended")
        };
        batch = refused;
        thread::sleep(Duration::from_micros(100));
    }
}

/// The far ends of all sockets, on a thread of their own: they read and count.
struct Clients {
    address: SocketAddr,
    sessions: usize,
    received: Arc<AtomicU64>,
    connected: Arc<AtomicUsize>,
}

impl Clients {
    fn run(self) {
        let (mut reactor, _) = runtime::open(EngineChoice::Poll, ReactorConfig::default()).expect("epoll");
        let mut buffer = vec![0; 64 * 1024];
        let mut asked = 0;
        loop {
            while asked < self.sessions && asked < self.connected.load(Ordering::Relaxed) + CONNECTING_MAX {
                reactor.connect(None, self.address).expect("descriptors are left");
                asked += 1;
            }
            reactor.wait(None).expect("epoll works");
            while let Some(event) = reactor.poll_event() {
                match event {
                    Event::Connected(id) => {
                        self.connected.fetch_add(1, Ordering::Relaxed);
                        reactor.send(id, SendBuf::Owned(hello(id.slot)));
                    }
                    Event::Readable(id) => {
                        while let Ok(count @ 1..) = reactor.recv(id, &mut buffer) {
                            self.received.fetch_add(count as u64, Ordering::Relaxed);
                            if count < buffer.len() {
                                break;
                            }
                        }
                    }
                    Event::HangUp(_) => return,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn application() -> Sessions {
    Sessions::new(SessionsConfig {
        gateway: "bench".to_owned(),
        epoch: 1,
        worker: 0,
        auth: Auth::InsecureDev,
        origins: Vec::new(),
        sends_per_s: 0,
    })
}

/// The request for an upgrade, and a hello.
fn hello(slot: u32) -> Vec<u8> {
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let hello = format!(r#"{{"type":"hello","user_id":{}}}"#, slot + 1);
    encode_frame(&mut bytes, Opcode::Text, hello.as_bytes(), Some([1, 2, 3, 4]));
    bytes
}

/// The router's consent to sessions.
fn opened(ids: &[ConnectionHandle]) -> Bytes {
    let mut batch = BatchWriter::new();
    for &connection in ids {
        let cursor = Position::start(1);
        batch.push_from_router(&FromRouter::SessionOpened(SessionOpened {
            connection,
            session: SessionNumber(1),
            cursor,
            resumed: false,
            resync: None,
        }));
        batch.push_from_router(&FromRouter::Synced(Synced { connection, cursor }));
    }
    batch.take()
}

/// The messages of one write for every session: in each batch, all of them for as many sessions as fit.
fn batches(ids: &[ConnectionHandle], per_write: usize, round: usize) -> Vec<Bytes> {
    let sessions = (BATCH_BYTES_MAX / 2 / (per_write * DELIVERY_BYTES)).clamp(1, DELIVERIES_MAX);
    let batch = |ids: &[ConnectionHandle]| {
        let mut batch = BatchWriter::new();
        for n in 0..per_write {
            let offset = Offset((round * per_write + n) as u64 + 1);
            let position = Position {
                generation: 1,
                offset,
                index: 0,
            };
            batch.push_from_router(&FromRouter::Deliver(Deliver {
                message: message(),
                to: ids.iter().map(|&id| (id, position)).collect(),
            }));
        }
        batch.take()
    };
    ids.chunks(sessions).map(batch).collect()
}

fn message() -> Message {
    let user = |id| UserId::new(id).expect("an id");
    let text = "x".repeat(64);
    let body = Body {
        content: Content::Text(&text),
        media_url: None,
        kind: None,
    };
    Message {
        conversation: ConversationId::direct(user(1_000_001), user(1_000_002)),
        seq: Seq(1_000_000),
        message_id: MessageId::new(uuid::Uuid::from_u128(1 << 100)).expect("not nil"),
        sender: user(1_000_001),
        sender_device: DeviceId::DEFAULT,
        timestamp: UnixMs(1_767_225_600_000),
        body: body.encode(),
    }
}

/// What a connection receives of one write.
fn write_bytes(per_write: usize) -> u64 {
    let mut event = Vec::new();
    Format::Json.encode_for_many(&ShownMessage::new(&message(), None), &mut event);
    let mut frame = Vec::new();
    let batch = Format::Json.batch_bytes(per_write * Format::Json.bytes_in_batch(event.len()));
    let payload = if per_write == 1 { event.len() } else { batch };
    encode_frame(&mut frame, Opcode::Text, &vec![0; payload], None);
    frame.len() as u64
}

/// Returns the CPU time of a thread of this process, in ns.
fn thread_ns(thread: &str) -> u64 {
    let path = match thread {
        "self" => "/proc/thread-self/schedstat".to_owned(),
        id => format!("/proc/self/task/{id}/schedstat"),
    };
    let text = fs::read_to_string(path).expect("the kernel counts");
    let spent = text.split(' ').next().and_then(|field| field.parse().ok());
    spent.expect("a number")
}

/// Returns the id of the gateway's worker thread.
fn worker_thread() -> String {
    let tasks = fs::read_dir("/proc/self/task").expect("the kernel lists threads");
    let name = |id: &str| fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    tasks
        .filter_map(|task| task.ok()?.file_name().into_string().ok())
        .find(|id| name(id).starts_with("gateway-0"))
        .expect("a worker")
}

const LINK: LinkId = LinkId {
    slot: 0,
    generation: 1,
};
/// Sends whose buffers the kernel has not given back: half of a submission queue.
const SENDS_IN_FLIGHT: usize = 2_048;
/// Bytes of one connection in a delivery record.
const DELIVERY_BYTES: usize = 22;
/// Connections of one delivery record: what fits its bound.
const DELIVERIES_MAX: usize = 8_000;
/// Connects under way at once.
const CONNECTING_MAX: usize = 200;
