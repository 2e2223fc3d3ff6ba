//! Accepting, the same on both engines: they say when a listener may have connections; here those are taken.
//!
//! One `accept4` a connection, and not a multishot accept on io_uring: that one takes all that waits in the backlog, up
//! to thousands, before anybody can say that there are enough.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::reactor::{ACCEPT_PAUSE, ConnectionHandle, ReactorConfig};
use crate::socket_core::SocketCore;

/// The listeners of a reactor.
pub(crate) struct Listeners {
    listeners: Vec<Listener>,
    accepts_per_wait: usize,
    /// Accepting rests until then.
    again: Option<Instant>,
    /// Connections wait because `sockets_max` are open.
    is_full: bool,
}

/// One listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Connections may wait: accept until there are none, or the budget is spent.
    pub(crate) is_ready: bool,
    /// The engine waits for it to become ready (uring: a oneshot poll is pending).
    pub(crate) is_armed: bool,
}

impl Listeners {
    pub(crate) fn new(config: &ReactorConfig) -> Self {
        Self {
            listeners: Vec::new(),
            accepts_per_wait: config.accepts_per_wait.max(1),
            again: None,
            is_full: false,
        }
    }

    /// Takes a listener in and returns its index.
    pub(crate) fn add(&mut self, socket: TcpListener) -> usize {
        self.listeners.push(Listener {
            socket,
            is_ready: true,
            is_armed: false,
        });
        self.listeners.len() - 1
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Listener> {
        self.listeners.get_mut(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Accepts what waits, within the budget of one wait and the room there is; `watch` registers each connection
    /// with the engine.
    pub(crate) fn accept(
        &mut self,
        core: &mut SocketCore,
        mut watch: impl FnMut(&SocketCore, ConnectionHandle) -> io::Result<()>,
    ) {
        if self.again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.again = None;
        let mut budget = self.accepts_per_wait;
        for listener in &mut self.listeners {
            while budget > 0 && listener.is_ready && core.has_room() {
                match accept(&listener.socket) {
                    Ok(Some(fd)) => {
                        budget -= 1;
                        let id = core.accepted(fd);
                        if let Err(error) = watch(core, id) {
                            core.forget(id);
                            core.accept_failed(error);
                        }
                    }
                    Ok(None) => listener.is_ready = false,
                    Err(error) => {
                        core.accept_failed(error);
                        self.again = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                }
            }
        }
        let is_full = self.are_ready() && !core.has_room();
        if is_full && !self.is_full {
            core.stats.accept_pauses += 1;
        }
        self.is_full = is_full;
    }

    /// Returns how long the kernel may wait: not at all while there are connections to accept, and not beyond the rest
    /// after a failure.
    pub(crate) fn sleep_max(&self, core: &SocketCore, timeout: Option<Duration>) -> Option<Duration> {
        if !self.are_ready() || !core.has_room() {
            return timeout;
        }
        let pause = self
            .again
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        Some(timeout.map_or(pause, |timeout| timeout.min(pause)))
    }

    fn are_ready(&self) -> bool {
        self.listeners.iter().any(|listener| listener.is_ready)
    }
}

/// Takes one connection; `None` when none waits.
fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
