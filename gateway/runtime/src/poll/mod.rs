//! The engine on epoll: for kernels and containers that do not allow io_uring.
//!
//! Every socket is registered once, on its edges, for reading, writing and hang-up, and never again: as many system
//! calls as reads and writes, plus one wait per tick. The `Readable` of both engines therefore means the same.
//!
//! rustix rather than a portable poller, because those hide `EPOLLRDHUP` and add four system calls to each wait.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::accepting::Listeners;
use crate::coalesce::{Coalesce, ENOUGH};
use crate::engine::Engine;
use crate::reactor::{ConnectionHandle, Event, Reactor, ReactorConfig, ReactorStats, SendBuf};
use crate::socket_core::{Readiness, Sent, SocketCore};
use crate::sockets::Flag;
use crate::waker::Waker;

/// A [`Reactor`] on epoll.
pub struct PollReactor {
    core: SocketCore,
    epoll: OwnedFd,
    /// Where the kernel writes what is ready; empty between waits.
    batch: Vec<epoll::Event>,
    /// Events of the last wait.
    taken: usize,
    coalesce: Coalesce,
    listeners: Listeners,
}

/// Keys of what is not a socket; a socket's key is its generation and slot, whose slots never grow this high.
const WAKER_KEY: u64 = u64::MAX;
const LISTENER_SLOT_FIRST: u32 = u32::MAX - (1 << 16);

impl PollReactor {
    /// Opens the engine for the calling thread.
    pub fn open(config: &ReactorConfig) -> io::Result<Self> {
        let core = SocketCore::new(config)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            core.waker.as_fd(),
            EventData::new_u64(WAKER_KEY),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            core,
            epoll,
            batch: Vec::with_capacity(config.events_per_wait.max(1)),
            taken: 0,
            coalesce: Coalesce::new(config),
            listeners: Listeners::new(config),
        })
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &SocketCore {
        &self.core
    }

    fn handle(&mut self, event: epoll::Event) {
        let (flags, key) = (event.flags, event.data.u64());
        let (slot, generation) = (key as u32, (key >> 32) as u32);
        if key == WAKER_KEY {
            return; // The state of the waker tells whether anybody called.
        }
        if slot >= LISTENER_SLOT_FIRST {
            if let Some(listener) = self.listeners.get_mut((slot - LISTENER_SLOT_FIRST) as usize) {
                listener.is_ready = true;
            }
            return;
        }
        let Some(id) = self.core.sockets.find(slot, generation, u32::MAX) else {
            self.core.stats.completions_stale += 1;
            return;
        };
        let readiness = Readiness {
            readable: flags.contains(EventFlags::IN),
            // A socket in error takes no more bytes: who waits to write learns that from the next send.
            writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
            hang_up: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
        };
        let connecting = self
            .core
            .sockets
            .get(id)
            .is_some_and(|socket| socket.has(Flag::Connecting));
        if !connecting || (readiness.writable && self.core.finish_connect(id)) {
            self.core.ready(id, readiness);
        }
    }
}

impl Reactor for PollReactor {
    fn add_listener(&mut self, listener: TcpListener) -> io::Result<()> {
        self.core.prepare_listener(&listener)?;
        let slot = LISTENER_SLOT_FIRST + self.listeners.len() as u32;
        epoll::add(
            &self.epoll,
            &listener,
            EventData::new_u64(u64::from(slot)),
            EventFlags::IN | EventFlags::ET,
        )?;
        self.listeners.add(listener);
        Ok(())
    }

    fn connect(&mut self, local: Option<SocketAddr>, peer: SocketAddr) -> io::Result<ConnectionHandle> {
        let id = self.core.connect(local, peer)?;
        let watched = match self.core.sockets.get(id) {
            Some(socket) => watch(&self.epoll, socket.fd(), id),
            None => Ok(()),
        };
        if watched.is_err() {
            self.core.forget(id);
        }
        watched.map(|()| id)
    }

    fn recv(&mut self, id: ConnectionHandle, buf: &mut [u8]) -> io::Result<usize> {
        self.core.recv(id, buf)
    }

    fn send(&mut self, id: ConnectionHandle, buf: SendBuf) {
        let Some(buf) = self.core.admit_send(id, buf) else {
            return;
        };
        let Some(socket) = self.core.sockets.get(id) else {
            return;
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let outcome = rustix::io::retry_on_intr(|| match buf.one_run() {
            Some(bytes) => send(socket.fd(), bytes, flags),
            None => {
                let runs: Vec<IoSlice<'_>> = buf.runs().map(IoSlice::new).collect();
                sendmsg(socket.fd(), &runs, &mut SendAncillaryBuffer::default(), flags)
            }
        });
        // A short count has filled the socket, so the kernel reports the edge when there is room, as after EAGAIN.
        match self.core.finish_send(id, buf, outcome) {
            Sent::Whole | Sent::Short | Sent::Failed => {}
        }
    }

    fn shutdown_write(&mut self, id: ConnectionHandle) {
        self.core.shutdown_write(id);
    }

    fn close(&mut self, id: ConnectionHandle) {
        // Leaves the epoll set by itself: nobody else holds the socket.
        self.core.forget(id);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.stats.waits += 1;
        let mut sleep_max = if self.core.events.is_empty() {
            self.listeners.sleep_max(&self.core, timeout)
        } else {
            Some(Duration::ZERO)
        };
        if sleep_max != Some(Duration::ZERO) && !self.core.waker.fall_asleep() {
            sleep_max = Some(Duration::ZERO);
        }
        if sleep_max != Some(Duration::ZERO) && self.taken < ENOUGH as usize {
            let gather = self.coalesce.next(self.core.stats.completions);
            // Whatever comes meanwhile, a waker's call too, the wait after it finds.
            thread::sleep(sleep_max.map_or(gather, |sleep| gather.min(sleep)));
        }
        let timespec = sleep_max.and_then(|sleep| Timespec::try_from(sleep).ok());
        self.core.stats.enters += 1;
        let outcome = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.batch),
            timespec.as_ref(),
        );
        self.core.wake_up();
        match outcome {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let batch = std::mem::take(&mut self.batch);
        self.taken = batch.len();
        self.core.stats.completions += batch.len() as u64;
        for event in &batch {
            self.handle(*event);
        }
        self.batch = batch;
        self.batch.clear();
        let epoll = &self.epoll;
        self.listeners
            .accept(&mut self.core, |core, id| match core.sockets.get(id) {
                Some(socket) => watch(epoll, socket.fd(), id),
                None => Ok(()),
            });
        Ok(())
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.core.poll_event()
    }

    fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.core.spare.take()
    }

    fn stats(&self) -> ReactorStats {
        self.core.stats()
    }

    fn engine(&self) -> Engine {
        Engine::Poll
    }
}

/// Registers a socket on all its edges.
fn watch(epoll: &OwnedFd, socket: impl AsFd, id: ConnectionHandle) -> io::Result<()> {
    let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    Ok(epoll::add(epoll, socket, EventData::new_u64(key(id)), edges)?)
}

fn key(id: ConnectionHandle) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.slot)
}
