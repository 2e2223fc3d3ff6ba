//! What both engines keep and do alike: the sockets, the queue of events, the rules that keep events apart.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket as NewSocket, Type};

use crate::buffers::SpareBuffers;
use crate::reactor::{
    ConnectionHandle, Event, ReactorConfig, ReactorStats, SEND_BYTES_MAX, SEND_RUNS_MAX, SendBuf,
};
use crate::sockets::{Flag, Sockets};
use crate::waker::Waker;

/// The half of a reactor that does not depend on how the kernel is asked.
pub(crate) struct SocketCore {
    pub(crate) sockets: Sockets,
    pub(crate) events: VecDeque<Event>,
    pub(crate) spare: SpareBuffers,
    pub(crate) stats: ReactorStats,
    pub(crate) waker: Waker,
    tcp_user_timeout: Option<Duration>,
    sockets_max: usize,
}

/// What a readiness report of the kernel says.
#[derive(Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its stream, or the connection is in error.
    pub(crate) hang_up: bool,
}

/// What became of one send.
pub(crate) enum Sent {
    /// All bytes were taken.
    Whole,
    /// The socket is full: a report of writability must be on its way.
    Short,
    /// The socket is dead.
    Failed,
}

impl SocketCore {
    pub(crate) fn new(config: &ReactorConfig) -> io::Result<Self> {
        Ok(Self {
            sockets: Sockets::default(),
            events: VecDeque::new(),
            spare: SpareBuffers::new(config.spare_bytes_max),
            stats: ReactorStats::default(),
            waker: Waker::new()?,
            tcp_user_timeout: config.tcp_user_timeout,
            sockets_max: config.sockets_max,
        })
    }

    /// Sets on a listener what its connections inherit.
    pub(crate) fn prepare_listener(&self, listener: &TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.set_options(SockRef::from(listener))
    }

    fn set_options(&self, socket: SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.tcp_user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.tcp_user_timeout)?;
        }
        Ok(())
    }

    /// Takes an accepted connection in.
    pub(crate) fn accepted(&mut self, fd: OwnedFd) -> ConnectionHandle {
        let id = self.sockets.insert(fd, &[]);
        self.stats.accepted += 1;
        self.events.push_back(Event::Accepted(id));
        id
    }

    /// Returns whether one more connection may be accepted.
    pub(crate) fn has_room(&self) -> bool {
        self.sockets.held() < self.sockets_max
    }

    /// Closes a socket that no engine knows of.
    pub(crate) fn forget(&mut self, id: ConnectionHandle) {
        if self.sockets.retire(id).is_some() {
            self.sockets.close_retired(id.slot);
        }
    }

    pub(crate) fn accept_failed(&mut self, error: io::Error) {
        self.stats.accepts_failed += 1;
        self.events.push_back(Event::AcceptFailed(error));
    }

    /// Starts a connection; the engine then reports when the socket is writable.
    pub(crate) fn connect(
        &mut self,
        local: Option<SocketAddr>,
        peer: SocketAddr,
    ) -> io::Result<ConnectionHandle> {
        let socket = NewSocket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        self.set_options(SockRef::from(&socket))?;
        if let Some(local) = local {
            if local.port() == 0 {
                // The port is then chosen by `connect`, which knows the peer: 28,000 ports per pair of addresses
                // rather than per local address.
                bind_without_port(&socket)?;
            }
            socket.bind(&local.into())?;
        }
        match socket.connect(&peer.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(self.sockets.insert(socket.into(), &[Flag::Connecting]))
    }

    /// Decides a connect whose socket has become writable or failed.
    pub(crate) fn finish_connect(&mut self, id: ConnectionHandle) -> bool {
        let Some(socket) = self.sockets.get_mut(id) else {
            return false;
        };
        socket.clear(Flag::Connecting);
        let outcome = sockopt::socket_error(socket.fd()).and_then(|outcome| outcome);
        match outcome {
            Ok(()) => {
                self.events.push_back(Event::Connected(id));
                true
            }
            Err(errno) => {
                self.failed(id, errno.into());
                false
            }
        }
    }

    /// Posts what a report of readiness means, once per kind.
    pub(crate) fn ready(&mut self, id: ConnectionHandle, readiness: Readiness) {
        let Some(socket) = self.sockets.get_mut(id) else {
            return;
        };
        if readiness.hang_up {
            if socket.raise(Flag::HangUpQueued) {
                self.events.push_back(Event::HangUp(id));
            }
        } else if readiness.readable && socket.raise(Flag::ReadableQueued) {
            self.events.push_back(Event::Readable(id));
        }
        if readiness.writable && socket.has(Flag::Blocked) && socket.raise(Flag::WritableQueued) {
            self.events.push_back(Event::Writable(id));
        }
    }

    /// Refuses a send at once where it could not keep its place: `Some` gives the buffer to the engine.
    pub(crate) fn admit_send(&mut self, id: ConnectionHandle, buf: SendBuf) -> Option<SendBuf> {
        assert!(
            buf.len() <= SEND_BYTES_MAX,
            "a send has at most {SEND_BYTES_MAX} bytes, this one {}",
            buf.len()
        );
        assert!(
            !matches!(&buf, SendBuf::Runs(runs) if runs.len() > SEND_RUNS_MAX),
            "a send has at most {SEND_RUNS_MAX} runs"
        );
        match self.sockets.get(id) {
            Some(socket) if socket.has(Flag::Blocked) => {
                self.stats.sends += 1;
                self.stats.sends_short += 1;
                self.events.push_back(Event::SendShort { id, rest: buf });
                None
            }
            Some(socket) if !socket.has(Flag::Failed) && !buf.is_empty() => {
                self.stats.sends += 1;
                Some(buf)
            }
            Some(_) | None => {
                self.spare.put(buf);
                None
            }
        }
    }

    /// Posts what became of a send: the count of bytes taken, or the error.
    pub(crate) fn finish_send(
        &mut self,
        id: ConnectionHandle,
        buf: SendBuf,
        outcome: Result<usize, Errno>,
    ) -> Sent {
        let taken = match outcome {
            Ok(taken) if taken >= buf.len() => {
                self.spare.put(buf);
                return Sent::Whole;
            }
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => {
                self.spare.put(buf);
                self.stats.sends_failed += 1;
                self.failed(id, errno.into());
                return Sent::Failed;
            }
        };
        self.stats.sends_short += 1;
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.set(Flag::Blocked);
            self.events.push_back(Event::SendShort {
                id,
                rest: buf.after(taken),
            });
        }
        Sent::Short
    }

    /// Posts that a socket is dead, once.
    pub(crate) fn failed(&mut self, id: ConnectionHandle, error: io::Error) {
        if let Some(socket) = self.sockets.get_mut(id)
            && socket.raise(Flag::Failed)
        {
            self.events.push_back(Event::Failed { id, error });
        }
    }

    /// Takes the next event that still concerns an open socket.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            let Some(id) = event.socket() else {
                return Some(event);
            };
            // An event of a socket that was closed while it waited here is nobody's business any more.
            let Some(socket) = self.sockets.get_mut(id) else {
                continue;
            };
            match event {
                Event::Readable(_) => socket.clear(Flag::ReadableQueued),
                Event::HangUp(_) => socket.clear(Flag::HangUpQueued),
                Event::Writable(_) => {
                    // Only now: a send made before the caller knows could overtake the rest it is about to be given.
                    socket.clear(Flag::WritableQueued);
                    socket.clear(Flag::Blocked);
                }
                Event::Accepted(_)
                | Event::Connected(_)
                | Event::SendShort { .. }
                | Event::Failed { .. }
                | Event::AcceptFailed(_)
                | Event::Woken => {}
            }
            return Some(event);
        }
    }

    /// Ends a sleep and posts `Woken` if it was called for.
    pub(crate) fn wake_up(&mut self) {
        if self.waker.wake_up() {
            self.events.push_back(Event::Woken);
        }
    }

    pub(crate) fn recv(&self, id: ConnectionHandle, buf: &mut [u8]) -> io::Result<usize> {
        let socket = self.sockets.get(id).ok_or(io::ErrorKind::NotConnected)?;
        let (_, received) = rustix::io::retry_on_intr(|| recv(socket.fd(), &mut *buf, RecvFlags::DONTWAIT))?;
        Ok(received)
    }

    pub(crate) fn shutdown_write(&self, id: ConnectionHandle) {
        if let Some(socket) = self.sockets.get(id) {
            // Fails only where the connection is gone, which an event tells.
            let _ = shutdown(socket.fd(), Shutdown::Write);
        }
    }

    pub(crate) fn stats(&self) -> ReactorStats {
        ReactorStats {
            sockets_open: self.sockets.len() as u64,
            spare_bytes: self.spare.bytes() as u64,
            ..self.stats
        }
    }
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`, which neither socket2 nor rustix knows.
fn bind_without_port(socket: &impl AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
