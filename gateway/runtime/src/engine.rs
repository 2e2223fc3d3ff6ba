//! Which engine a worker runs on, how that was decided, and the one type that stands for either.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;
use std::time::Duration;

use crate::poll::PollReactor;
use crate::reactor::{ConnectionHandle, Event, Reactor, ReactorConfig, ReactorStats, SendBuf};
use crate::uring::{UringReactor, UringRefusal};
use crate::waker::Waker;

/// Opens a reactor for the calling thread.
///
/// `Auto` takes io_uring when the kernel allows it and it works (see [`crate::probe`]), else epoll; the [`Report`] says
/// which and why. Takes a few milliseconds; a refusal is known within a second.
///
/// Errors: [`OpenError::Uring`] only when io_uring was asked for by name; [`OpenError::Poll`] when the process is out
/// of descriptors.
pub fn open(choice: EngineChoice, config: ReactorConfig) -> Result<(AnyReactor, Report), OpenError> {
    let refusal = match choice {
        EngineChoice::Poll => None,
        EngineChoice::Uring | EngineChoice::Auto => match crate::probe::open_uring(&config) {
            Ok(reactor) => {
                let reason = format!("io_uring works here ({})", reactor.features());
                return Ok((
                    AnyReactor::Uring(Box::new(reactor)),
                    Report {
                        engine: Engine::Uring,
                        reason,
                    },
                ));
            }
            Err(refusal) if choice == EngineChoice::Uring => return Err(OpenError::Uring(refusal)),
            Err(refusal) => Some(refusal),
        },
    };
    let reactor = PollReactor::open(&config).map_err(OpenError::Poll)?;
    let reason = match refusal {
        Some(refusal) => refusal.to_string(),
        None => "chosen by configuration".to_owned(),
    };
    Ok((
        AnyReactor::Poll(Box::new(reactor)),
        Report {
            engine: Engine::Poll,
            reason,
        },
    ))
}

/// An I/O engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// io_uring.
    Uring,
    /// epoll.
    Poll,
}

impl Engine {
    /// Returns the name used in configuration, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Poll,
}

impl From<Engine> for EngineChoice {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Uring => Self::Uring,
            Engine::Poll => Self::Poll,
        }
    }
}

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "poll" => Ok(Self::Poll),
            _ => Err(UnknownEngine(text.to_owned())),
        }
    }
}

/// A text that names no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an engine: auto, uring or poll")]
pub struct UnknownEngine(String);

/// Which engine was taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The engine.
    pub engine: Engine,
    /// One sentence for the log.
    pub reason: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {}: {}", self.engine, self.reason)
    }
}

/// No reactor could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// io_uring was asked for by name and cannot be used; the text says what forbids it and what to change.
    #[error("--engine uring: {0}")]
    Uring(#[source] UringRefusal),
    /// Not even epoll could be set up.
    #[error("epoll cannot be set up (are there descriptors left? see `ulimit -n`): {0}")]
    Poll(#[source] io::Error),
}

/// Either engine, chosen at run time without dynamic dispatch.
pub enum AnyReactor {
    /// io_uring.
    Uring(Box<UringReactor>),
    /// epoll.
    Poll(Box<PollReactor>),
}

macro_rules! either {
    ($reactor:expr, $inner:ident => $call:expr) => {
        match $reactor {
            AnyReactor::Uring($inner) => $call,
            AnyReactor::Poll($inner) => $call,
        }
    };
}

impl Reactor for AnyReactor {
    fn add_listener(&mut self, listener: TcpListener) -> io::Result<()> {
        either!(self, r => r.add_listener(listener))
    }

    fn connect(&mut self, local: Option<SocketAddr>, peer: SocketAddr) -> io::Result<ConnectionHandle> {
        either!(self, r => r.connect(local, peer))
    }

    fn recv(&mut self, id: ConnectionHandle, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, r => r.recv(id, buf))
    }

    fn send(&mut self, id: ConnectionHandle, buf: SendBuf) {
        either!(self, r => r.send(id, buf))
    }

    fn shutdown_write(&mut self, id: ConnectionHandle) {
        either!(self, r => r.shutdown_write(id))
    }

    fn close(&mut self, id: ConnectionHandle) {
        either!(self, r => r.close(id))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, r => r.wait(timeout))
    }

    fn poll_event(&mut self) -> Option<Event> {
        either!(self, r => r.poll_event())
    }

    fn waker(&self) -> Waker {
        either!(self, r => r.waker())
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        either!(self, r => r.take_buffer())
    }

    fn stats(&self) -> ReactorStats {
        either!(self, r => r.stats())
    }

    fn engine(&self) -> Engine {
        either!(self, r => r.engine())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    impl AnyReactor {
        fn user_timeout_and_nodelay(&self, id: ConnectionHandle) -> (Option<Duration>, bool) {
            let socket = either!(self, r => r.core().sockets.get(id)).unwrap();
            let fd = socket.fd();
            let options = SockRef::from(&fd);
            (
                options.tcp_user_timeout().unwrap(),
                options.tcp_nodelay().unwrap(),
            )
        }

        /// Neither inherited by child processes nor able to block the worker.
        fn is_private_and_nonblocking(&self, id: ConnectionHandle) -> bool {
            let socket = either!(self, r => r.core().sockets.get(id)).unwrap();
            rustix::io::fcntl_getfd(socket.fd())
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
                && rustix::fs::fcntl_getfl(socket.fd())
                    .unwrap()
                    .contains(rustix::fs::OFlags::NONBLOCK)
        }

        fn binds_without_port(&self, id: ConnectionHandle) -> bool {
            let socket = either!(self, r => r.core().sockets.get(id)).unwrap();
            let (mut value, mut length) = (0, size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: the pointers describe `value` and `length`, which outlive the call.
            let result = unsafe {
                libc::getsockopt(
                    socket.raw_fd(),
                    libc::SOL_IP,
                    libc::IP_BIND_ADDRESS_NO_PORT,
                    (&raw mut value).cast::<libc::c_void>(),
                    &raw mut length,
                )
            };
            assert_eq!(result, 0);
            value == 1
        }

        fn next_socket(&mut self) -> ConnectionHandle {
            loop {
                self.wait(Some(Duration::from_secs(5))).unwrap();
                if let Some(event) = self.poll_event() {
                    return event.socket().unwrap();
                }
            }
        }
    }

    fn socket_options_are_in_force(choice: EngineChoice) {
        let config = ReactorConfig {
            tcp_user_timeout: Some(Duration::from_secs(77)),
            ..ReactorConfig::default()
        };
        let Ok((mut reactor, _)) = open(choice, config) else {
            eprintln!("SKIPPED: {choice:?} cannot be opened here");
            return;
        };
        // Not one of ours, so that nothing was set before.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        reactor.add_listener(listener).unwrap();
        let _peer = TcpStream::connect(address).unwrap();
        let accepted = reactor.next_socket();
        let options = (Some(Duration::from_secs(77)), true);
        assert_eq!(reactor.user_timeout_and_nodelay(accepted), options);
        let connected = reactor
            .connect(Some("127.0.0.1:0".parse().unwrap()), address)
            .unwrap();
        assert_eq!(reactor.user_timeout_and_nodelay(connected), options);
        assert!(reactor.binds_without_port(connected) && reactor.is_private_and_nonblocking(connected));
    }

    #[test]
    fn accepted_and_connected_sockets_have_their_options_on_uring() {
        socket_options_are_in_force(EngineChoice::Uring);
    }

    #[test]
    fn accepted_and_connected_sockets_have_their_options_on_poll() {
        socket_options_are_in_force(EngineChoice::Poll);
    }
}
