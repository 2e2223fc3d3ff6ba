//! A worker with real sockets, whose link to the router breaks and is replaced.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gateway_core::{Auth, HubConfig, RouterId, Sessions, SessionsConfig};
use gateway_server::gateway::{Gateway, Plan};
use runtime::EngineChoice;
use wire_base::ids::{ConversationId, MessageId, Position, Seq, SessionNumber, UnixMs, UserId};
use wire_link::codec::{BatchWriter, decode_to_router};
use wire_link::pipe::pipe;
use wire_link::port::LinkPort;
use wire_link::testing::contract::Rig;
use wire_link::testing::{Side, faulty_pipe};
use wire_link::{FromRouter, SentRecord, SessionOpen, SessionOpened, Synced, ToRouter};
use wire_ws::{Opcode, encode_frame};

#[test]
fn a_worker_goes_on_over_a_pipe_that_takes_the_place_of_one_that_ended() {
    goes_on_over_a_new_link(|| {
        let (left, right) = pipe(1 << 20);
        Rig {
            left,
            right,
            settle: Box::new(|| {}),
        }
    });
}

#[test]
fn a_worker_goes_on_over_links_that_delay_refuse_and_wake_no_more_than_they_must() {
    goes_on_over_a_new_link(|| {
        let (left, right, faults) = faulty_pipe(64);
        faults.refuse(Side::Left, 3);
        Rig {
            left,
            right,
            settle: Box::new(move || faults.settle()),
        }
    });
}

/// A link is lost with a command in flight: clients stay, commands are answered, a hello waits. The next link is told of
/// everybody and goes on.
fn goes_on_over_a_new_link<P: LinkPort + 'static>(open: impl Fn() -> Rig<P>) {
    let (link, mut router) = Router::new(open());
    let gateway = Gateway::start(&plan(), sessions, vec![link]).unwrap();
    let mut client = Client::connect(gateway.address());
    client.say(r#"{"type":"hello","user_id":1}"#);
    router.hear(|record| matches!(record, ToRouter::Hello(_)).then_some(()));
    let first = router.hear(open_of(1));
    assert_eq!(first.session, None);
    router.open(&first);
    client.hear(&mut router, r#""type":"synced""#);

    client.say(r#"{"type":"send","id":1,"receiver_id":2,"content":"in flight"}"#);
    router.hear(|record| matches!(record, ToRouter::Send(_)).then_some(()));
    router.port.close();
    client.hear(&mut router, r#""type":"rejected","id":1,"#);
    assert!(gateway.has_lost_link());
    assert_eq!(gateway.broken_part(), None);
    client.say(r#"{"type":"send","id":2,"receiver_id":2,"content":"without a link"}"#);
    let rejected = client.hear(&mut router, r#""type":"rejected","id":2,"#);
    assert!(rejected.contains(r#""code":"unavailable""#), "{rejected}");
    let mut newcomer = Client::connect(gateway.address());
    newcomer.say(r#"{"type":"hello","user_id":9}"#);
    client.say(r#"{"type":"ping","id":3}"#);
    client.hear(&mut router, r#""type":"pong","id":3"#);

    let (link, mut router) = Router::new(open());
    gateway.set_link(0, RouterId(0), link);
    router.hear(|record| matches!(record, ToRouter::Hello(_)).then_some(()));
    let again = router.hear(open_of(1));
    assert_eq!(
        (again.connection, again.session),
        (first.connection, Some(NUMBER))
    );
    let new = router.hear(open_of(9));
    assert_eq!(new.session, None);
    assert!(!gateway.has_lost_link());
    router.open(&again);
    router.open(&new);
    newcomer.hear(&mut router, r#""type":"welcome""#);
    client.say(r#"{"type":"send","id":4,"receiver_id":2,"content":"again"}"#);
    let request = router.hear(|record| match record {
        ToRouter::Send(send) => Some(send.request),
        _ => None,
    });
    router.say(&[FromRouter::Sent(SentRecord {
        request,
        message_id: MessageId::new(uuid::Uuid::from_u128(7)).unwrap(),
        conversation: ConversationId::direct(user(1), user(2)),
        seq: Seq(1),
        timestamp: UnixMs(1),
        duplicate: false,
    })]);
    client.hear(&mut router, r#""type":"sent","id":4,"#);
    gateway.stop().unwrap();
}

const NUMBER: SessionNumber = SessionNumber(77);

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

/// Picks the announcement of a user's session.
fn open_of(id: u64) -> impl Fn(&ToRouter) -> Option<SessionOpen> {
    move |record| match record {
        ToRouter::SessionOpen(open) if open.user == user(id) => Some(*open),
        _ => None,
    }
}

fn plan() -> Plan {
    Plan {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        listen_setting: "gateway.listen",
        workers: 1,
        engine: EngineChoice::Poll,
        hub: HubConfig::default(),
        sockets_max: 100,
        coalesce: Duration::ZERO,
        seed: 1,
    }
}

fn sessions(worker: u16) -> Sessions {
    Sessions::new(SessionsConfig {
        gateway: "gw".to_owned(),
        epoch: 1,
        worker,
        auth: Auth::InsecureDev,
        origins: Vec::new(),
        sends_per_s: 0,
    })
}

/// Panics unless something becomes true in time.
fn wait(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The far end of a link, as a test plays it.
struct Router<P> {
    port: P,
    settle: Box<dyn FnMut()>,
    heard: Vec<ToRouter>,
}

impl<P: LinkPort> Router<P> {
    /// Returns the gateway's end of a link, and the far one.
    fn new(rig: Rig<P>) -> (P, Self) {
        let router = Self {
            port: rig.right,
            settle: rig.settle,
            heard: Vec::new(),
        };
        (rig.left, router)
    }

    /// Moves the link, and takes what came.
    fn turn(&mut self) {
        (self.settle)();
        while let Ok(Some(batch)) = self.port.try_recv() {
            self.heard.extend(
                decode_to_router(batch).map(|record| record.expect("the gateway keeps to the layout")),
            );
        }
    }

    /// Waits for a record, and takes it out.
    fn hear<T>(&mut self, pick: impl Fn(&ToRouter) -> Option<T>) -> T {
        let mut found = None;
        wait(|| {
            self.turn();
            let at = self.heard.iter().position(|record| pick(record).is_some());
            found = at.and_then(|at| pick(&self.heard.remove(at)));
            found.is_some()
        });
        found.expect("it was waited for")
    }

    fn say(&mut self, records: &[FromRouter]) {
        let mut writer = BatchWriter::new();
        for record in records {
            writer.push_from_router(record);
        }
        let batch = writer.take();
        wait(|| {
            self.turn();
            self.port.try_send(batch.clone()).is_ok()
        });
        self.turn();
    }

    /// Agrees to a session, which has no backlog.
    fn open(&mut self, open: &SessionOpen) {
        let (connection, cursor) = (open.connection, Position::start(1));
        let opened = FromRouter::SessionOpened(SessionOpened {
            connection,
            session: NUMBER,
            cursor,
            resumed: false,
            resync: None,
        });
        self.say(&[opened, FromRouter::Synced(Synced { connection, cursor })]);
    }
}

/// A client that sends frames and looks for text in what comes.
struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            received: Vec::new(),
        }
    }

    fn say(&mut self, text: &str) {
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        self.socket.write_all(&frame).unwrap();
    }

    /// Waits until a text has come, while the link moves; returns what came up to then, and forgets it.
    fn hear<P: LinkPort>(&mut self, router: &mut Router<P>, text: &str) -> String {
        let mut seen = String::new();
        wait(|| {
            router.turn();
            let mut buffer = [0; 4_096];
            if let Ok(count) = self.socket.read(&mut buffer) {
                assert!(count > 0, "closed before {text}: {seen}");
                self.received.extend_from_slice(&buffer[..count]);
            }
            seen = String::from_utf8_lossy(&self.received).into_owned();
            seen.contains(text)
        });
        self.received.clear();
        seen
    }
}
