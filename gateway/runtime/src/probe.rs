//! Whether io_uring works here: by using it, since versions and configuration files tell only half.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::reactor::{ConnectionHandle, Event, Reactor, ReactorConfig, SendBuf};
use crate::uring::UringReactor;

/// Opens the io_uring engine for the calling thread, once a small one has proved itself on the loopback interface.
///
/// Errors: why it cannot be used here, with what to change. Known within a second.
pub fn open_uring(config: &ReactorConfig) -> Result<UringReactor, UringRefusal> {
    if !PROVEN.load(Ordering::Relaxed) {
        let small = ReactorConfig {
            sq_entries: 8,
            cq_entries: 16,
            spare_bytes_max: 0,
            ..config.clone()
        };
        self_test(&mut UringReactor::open(&small)?)?;
        PROVEN.store(true, Ordering::Relaxed);
    }
    UringReactor::open(config)
}

/// One proof holds for all workers of a process: what is tested is the kernel. Each still has to be allowed its ring.
static PROVEN: AtomicBool = AtomicBool::new(false);

/// Why io_uring cannot be used here.
#[derive(Debug, thiserror::Error)]
pub enum UringRefusal {
    /// The administrator has switched it off.
    #[error(
        "kernel.io_uring_disabled is {level}: set it to 0 (`sysctl -w kernel.io_uring_disabled=0`) or choose --engine poll"
    )]
    Disabled {
        /// The value of the setting: 1 (only for a privileged group) or 2 (for all).
        level: u8,
    },
    /// `io_uring_setup` gave `EPERM` although the setting allows it.
    #[error(
        "io_uring_setup was refused (EPERM), as a seccomp filter does (Docker's and containerd's default profile among \
         them): allow io_uring_setup, io_uring_enter and io_uring_register in the profile, or choose --engine poll"
    )]
    Forbidden,
    /// The kernel has no io_uring.
    #[error("this kernel has no io_uring (ENOSYS): use Linux 6.1 or newer, or choose --engine poll")]
    Absent,
    /// The kernel is too old for the way it is used here.
    #[error("this kernel's io_uring lacks {0}: use Linux 6.1 or newer, or choose --engine poll")]
    Lacks(&'static str),
    /// Something is used up.
    #[error("io_uring cannot be set up: {0} (see `ulimit -n` and `ulimit -l`)")]
    Resources(#[source] io::Error),
    /// It can be set up but does not do what it should.
    #[error("io_uring was set up, but {0}: choose --engine poll")]
    Misbehaves(&'static str),
}

impl UringRefusal {
    /// Explains an error of `io_uring_setup` or of a registration.
    pub(crate) fn from_setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match disabled_level() {
                0 => Self::Forbidden,
                level => Self::Disabled { level },
            },
            Some(libc::ENOSYS) => Self::Absent,
            Some(libc::EINVAL) => Self::Lacks("single issuer and deferred task work"),
            _ => Self::Resources(error),
        }
    }
}

/// Returns `kernel.io_uring_disabled`; kernels before 6.6 do not have it and count as 0.
fn disabled_level() -> u8 {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Accepts, receives, overfills and closes one loopback connection through the engine itself: a sandbox may allow the
/// set-up but not the rest.
fn self_test(reactor: &mut UringReactor) -> Result<(), UringRefusal> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(UringRefusal::Resources)?;
    let address = listener.local_addr().map_err(UringRefusal::Resources)?;
    // Small buffers on both sides (accepted sockets inherit theirs), so that little suffices to overfill them.
    SockRef::from(&listener)
        .set_send_buffer_size(SOCKET_BYTES)
        .map_err(UringRefusal::Resources)?;
    reactor.add_listener(listener).map_err(UringRefusal::Resources)?;
    let mut client = connect_small(address).map_err(UringRefusal::Resources)?;

    let deadline = Instant::now() + TEST_TIME_MAX;
    let id = await_event(reactor, deadline, |event| match event {
        Event::Accepted(id) => Some(*id),
        _ => None,
    })
    .ok_or(UringRefusal::Misbehaves("a connection was not accepted"))?;

    io::Write::write_all(&mut client, b"?").map_err(UringRefusal::Resources)?;
    await_event(reactor, deadline, |event| {
        matches!(event, Event::Readable(ready) if *ready == id).then_some(())
    })
    .ok_or(UringRefusal::Misbehaves("arriving bytes were not reported"))?;
    if reactor.recv(id, &mut [0; 8]).ok() != Some(1) {
        return Err(UringRefusal::Misbehaves("arriving bytes could not be read"));
    }

    reactor.send(id, SendBuf::Owned(vec![b'!'; OVERFILL_BYTES]));
    let left = await_event(reactor, deadline, |event| match event {
        Event::SendShort { rest, .. } => Some(rest.len()),
        _ => None,
    })
    .ok_or(UringRefusal::Misbehaves(
        "a send that was cut short counted as whole",
    ))?;

    close_and_drain(reactor, id, &mut client, deadline)
        .filter(|received| *received == OVERFILL_BYTES - left)
        .ok_or(UringRefusal::Misbehaves(
            "a closed connection did not end after its last byte",
        ))?;
    Ok(())
}

fn connect_small(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.connect_timeout(&address.into(), TEST_TIME_MAX)?;
    Ok(socket.into())
}

/// Closes `id` and returns how many bytes the client reads to the end of its stream.
fn close_and_drain(
    reactor: &mut UringReactor,
    id: ConnectionHandle,
    client: &mut TcpStream,
    deadline: Instant,
) -> Option<usize> {
    reactor.close(id);
    client.set_nonblocking(true).ok()?;
    let mut received = 0;
    let mut buf = vec![0; 64 * 1024];
    while Instant::now() < deadline {
        match client.read(&mut buf) {
            Ok(0) => return Some(received),
            Ok(n) => received += n,
            // The end of the stream leaves once the kernel has let go of the cancelled poll.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                reactor.wait(Some(Duration::from_millis(1))).ok()?;
            }
            Err(_) => return None,
        }
    }
    None
}

/// Waits for an event that `pick` takes.
fn await_event<T>(
    reactor: &mut UringReactor,
    deadline: Instant,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> Option<T> {
    loop {
        while let Some(event) = reactor.poll_event() {
            if let Some(found) = pick(&event) {
                return Some(found);
            }
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        reactor.wait(Some(left)).ok()?;
    }
}

/// Generous, since a machine that is busy at the start should not lose its engine for it.
const TEST_TIME_MAX: Duration = Duration::from_millis(800);
const SOCKET_BYTES: usize = 16 * 1024;
/// More than both ends of a connection hold with such buffers.
const OVERFILL_BYTES: usize = 1024 * 1024;
