//! A reactor with a listener, and plain blocking sockets as its peers.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use runtime::{
    AnyReactor, ConnectionHandle, EngineChoice, Event, ListenerBuilder, Reactor, ReactorConfig, SendBuf, open,
};

/// Makes a test of each named function for each engine.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod uring { $(
            #[test]
            fn $name() {
                if $crate::harness::uring_is_allowed() {
                    super::$name(runtime::EngineChoice::Uring);
                }
            }
        )* }
        mod poll { $(
            #[test]
            fn $name() {
                super::$name(runtime::EngineChoice::Poll);
            }
        )* }
    };
}
pub(crate) use on_both_engines;

/// Returns whether this host lets anybody use io_uring; says so loudly where it does not.
pub(crate) fn uring_is_allowed() -> bool {
    use runtime::probe::UringRefusal;
    match runtime::probe::open_uring(&ReactorConfig::default()) {
        Err(
            refusal @ (UringRefusal::Disabled { .. }
            | UringRefusal::Forbidden
            | UringRefusal::Absent
            | UringRefusal::Lacks(_)),
        ) => {
            eprintln!("SKIPPED: the uring engine: {refusal}");
            false
        }
        Ok(_) | Err(_) => true,
    }
}

pub(crate) struct Server {
    pub(crate) reactor: AnyReactor,
    pub(crate) address: SocketAddr,
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    pub(crate) fn open(engine: EngineChoice) -> Self {
        Self::open_with(engine, ReactorConfig::default())
    }

    pub(crate) fn open_with(engine: EngineChoice, config: ReactorConfig) -> Self {
        Self::open_on(engine, config, listener())
    }

    pub(crate) fn open_on(engine: EngineChoice, config: ReactorConfig, listener: TcpListener) -> Self {
        let (mut reactor, report) = open(engine, config).unwrap();
        assert_eq!(EngineChoice::from(report.engine), engine, "{report}");
        let address = listener.local_addr().unwrap();
        reactor.add_listener(listener).unwrap();
        Self { reactor, address }
    }

    /// Connects a peer and returns both ends.
    pub(crate) fn pair(&mut self) -> (ConnectionHandle, TcpStream) {
        let peer = self.dial();
        (self.accepted(), peer)
    }

    /// Asserts that these are the two ends of one connection.
    pub(crate) fn expect_peer(&mut self, id: ConnectionHandle, mut peer: &TcpStream) {
        self.reactor.send(id, SendBuf::Owned(b"you".to_vec()));
        self.reactor.wait(Some(Duration::ZERO)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 3];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"you");
    }

    /// Connects a peer that is not accepted yet.
    pub(crate) fn dial(&self) -> TcpStream {
        let peer = TcpStream::connect(self.address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    pub(crate) fn accepted(&mut self) -> ConnectionHandle {
        match self.next_event() {
            Event::Accepted(id) => id,
            other => panic!("expected Accepted, got {other:?}"),
        }
    }

    /// Waits for the next event.
    pub(crate) fn next_event(&mut self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.reactor.poll_event() {
                return event;
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .expect("no event came");
            self.reactor.wait(Some(left)).unwrap();
        }
    }

    /// Asserts that nothing happens for a while.
    pub(crate) fn expect_quiet(&mut self) {
        let deadline = Instant::now() + Duration::from_millis(60);
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.reactor.wait(Some(left)).unwrap();
            if let Some(event) = self.reactor.poll_event() {
                panic!("unexpected {event:?}");
            }
        }
    }

    /// Submits what is queued, so that a peer can see it. Panics on an event.
    pub(crate) fn flush(&mut self) {
        for _ in 0..3 {
            self.reactor.wait(Some(Duration::ZERO)).unwrap();
            if let Some(event) = self.reactor.poll_event() {
                panic!("unexpected {event:?}");
            }
        }
    }

    /// Reads until the socket has no more; `Ok(true)` at the end of the stream.
    pub(crate) fn drain(&mut self, id: ConnectionHandle, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buf = [0; 4096];
        loop {
            match self.reactor.recv(id, &mut buf) {
                Ok(0) => return Ok(true),
                Ok(n) => into.extend_from_slice(&buf[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

pub(crate) fn listener() -> TcpListener {
    ListenerBuilder::new("127.0.0.1:0".parse().unwrap())
        .bind_group(1)
        .unwrap()
        .remove(0)
}

/// Reads exactly `n` bytes.
pub(crate) fn read_n(peer: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

/// Makes the close of `peer` a reset.
pub(crate) fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
}

/// Bytes whose order shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Returns whether this process is the child that [`in_child`] started.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the named test of this binary in a process of its own, where [`is_child`] holds, for tests that change limits
/// of the process.
pub(crate) fn in_child(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const CHILD: &str = "RUNTIME_TEST_CHILD";
