//! The contract of an I/O engine: what goes in, which events come out, and who owns what meanwhile.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
pub use wire_base::ids::ConnectionHandle;

use crate::engine::Engine;
use crate::waker::Waker;

/// The I/O engine of one worker. Lives and dies on the thread that opened it.
///
/// Order: `wait`, then `poll_event` until it gives `None`, then the sends and closes these led to, then `wait` again.
/// Nothing a caller does with a [`ConnectionHandle`] that is closed or foreign has any effect.
pub trait Reactor {
    /// Starts to accept from `listener`, which becomes the reactor's own.
    ///
    /// Shape: sets non-blocking mode, `TCP_NODELAY` and the configured `TCP_USER_TIMEOUT` on the listener; Linux lets
    /// accepted sockets inherit both options, so that a connection costs no further call.
    fn add_listener(&mut self, listener: TcpListener) -> io::Result<()>;

    /// Opens a connection to `peer`, from `local` if given (port 0: chosen so that one port may serve many peers).
    /// [`Event::Connected`] or [`Event::Failed`] follows.
    ///
    /// Errors: the local side's fault (descriptors or ports exhausted, no such address); there is no socket to close then.
    fn connect(&mut self, local: Option<SocketAddr>, peer: SocketAddr) -> io::Result<ConnectionHandle>;

    /// Copies received bytes into `buf`; 0 at the end of the stream. Never waits.
    ///
    /// Errors: `WouldBlock` when all has been read (the next arrival posts an event), `NotConnected` for a socket that
    /// is closed, anything else is fatal to the socket.
    fn recv(&mut self, id: ConnectionHandle, buf: &mut [u8]) -> io::Result<usize>;

    /// Queues `buf`; it leaves with the next `wait` at the latest. A send that is taken whole posts no event.
    ///
    /// Shape: the reactor owns `buf` until then; an `Owned` one goes back to the spare buffers of
    /// [`Reactor::take_buffer`], or comes back in [`Event::SendShort`].
    /// Order: bytes leave in the order of the calls. A socket has at most one unfinished send: after `SendShort` wait
    /// for [`Event::Writable`], else each further send comes straight back as `SendShort`.
    /// Panics: if `buf` is longer than [`SEND_BYTES_MAX`], or has more runs than [`SEND_RUNS_MAX`].
    fn send(&mut self, id: ConnectionHandle, buf: SendBuf);

    /// Ends the stream to the peer; bytes still arrive. Queued sends leave first.
    fn shutdown_write(&mut self, id: ConnectionHandle);

    /// Closes the socket: sends queued before are tried once more, and no event of `id` appears after this call.
    fn close(&mut self, id: ConnectionHandle);

    /// Hands everything queued to the kernel, then sleeps until there is an event, `timeout` has passed (`None`: for
    /// ever) or a [`Waker`] calls. Does not sleep while events wait to be polled. May return early without an event.
    ///
    /// Errors: the engine is broken and the worker cannot go on.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Returns the next event of the last `wait`s, in the order they happened.
    fn poll_event(&mut self) -> Option<Event>;

    /// Returns a handle that ends `wait` from another thread.
    fn waker(&self) -> Waker;

    /// Returns an empty buffer for [`SendBuf::Owned`], recycled from an earlier send where possible.
    fn take_buffer(&mut self) -> Vec<u8>;

    /// Returns the counters.
    fn stats(&self) -> ReactorStats;

    /// Returns which engine this is.
    fn engine(&self) -> Engine;
}

/// What happened. Readiness is reported on its edge, and each socket waits at most once in the queue for each kind.
#[derive(Debug)]
pub enum Event {
    /// A listener took a connection.
    Accepted(ConnectionHandle),
    /// [`Reactor::connect`] succeeded.
    Connected(ConnectionHandle),
    /// Bytes arrived. Read until `recv` comes back short or with `WouldBlock`, or remember that there is more: do not
    /// count on a second event for bytes that were left unread. There may be none any more if they were read meanwhile.
    Readable(ConnectionHandle),
    /// The peer ended its stream or reset the connection. Unread bytes are still there: read until 0 or an error.
    HangUp(ConnectionHandle),
    /// The kernel did not take all of a send. [`Event::Writable`] follows; the caller then sends `rest` again.
    SendShort {
        /// The socket.
        id: ConnectionHandle,
        /// The bytes not sent, to be sent before any others.
        rest: SendBuf,
    },
    /// The socket takes bytes again after a `SendShort`.
    Writable(ConnectionHandle),
    /// A send or a connect failed. The socket is dead but still open: the caller closes it. Posted once per socket.
    Failed {
        /// The socket.
        id: ConnectionHandle,
        /// The socket's error, as the kernel gave it.
        error: io::Error,
    },
    /// A connection could not be accepted, mostly because descriptors ran out. The reactor tries again after
    /// [`ACCEPT_PAUSE`]; the connection waits in the backlog.
    AcceptFailed(io::Error),
    /// A [`Waker`] called. Look at everything it may have been for: calls coalesce.
    Woken,
}

impl Event {
    /// Returns the socket this is about.
    pub fn socket(&self) -> Option<ConnectionHandle> {
        match *self {
            Self::Accepted(id)
            | Self::Connected(id)
            | Self::Readable(id)
            | Self::HangUp(id)
            | Self::SendShort { id, .. }
            | Self::Writable(id)
            | Self::Failed { id, .. } => Some(id),
            Self::AcceptFailed(_) | Self::Woken => None,
        }
    }
}

/// Bytes to send: of one connection, shared by many, or both in turns.
#[derive(Clone)]
pub enum SendBuf {
    /// Goes back to the spare buffers once it is sent.
    Owned(Vec<u8>),
    /// One encoding for many receivers.
    Shared(Bytes),
    /// One run after the other, sent with one call; at most [`SEND_RUNS_MAX`].
    Runs(Vec<Bytes>),
}

impl SendBuf {
    /// Returns the bytes, run by run.
    pub fn runs(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match self {
            Self::Runs(runs) => (None, &runs[..]),
            Self::Owned(_) | Self::Shared(_) => (self.one_run(), &[][..]),
        };
        one.into_iter().chain(many.iter().map(Bytes::as_ref))
    }

    /// Returns the bytes if they are one run.
    pub(crate) fn one_run(&self) -> Option<&[u8]> {
        match self {
            Self::Owned(bytes) => Some(bytes),
            Self::Shared(bytes) => Some(bytes),
            Self::Runs(_) => None,
        }
    }

    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.runs().map(<[u8]>::len).sum()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.runs().flatten().copied().collect()
    }

    /// Returns what is left after the first `sent` bytes, without copying.
    ///
    /// Panics: if there are fewer.
    pub fn after(self, sent: usize) -> Self {
        match self {
            whole if sent == 0 => whole,
            Self::Owned(bytes) => Self::Shared(Bytes::from(bytes).slice(sent..)),
            Self::Shared(bytes) => Self::Shared(bytes.slice(sent..)),
            Self::Runs(mut runs) => {
                let mut left = sent;
                let mut whole = 0;
                while let Some(run) = runs.get(whole).filter(|run| run.len() <= left) {
                    left -= run.len();
                    whole += 1;
                }
                runs.drain(..whole);
                if let Some(run) = runs.first_mut() {
                    *run = run.split_off(left);
                }
                Self::Runs(runs)
            }
        }
    }
}

impl fmt::Debug for SendBuf {
    /// Prints the length only: content belongs to users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Owned(_) => "Owned",
            Self::Shared(_) => "Shared",
            Self::Runs(_) => "Runs",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

/// Sizes of one reactor. The default is right for a gateway worker.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// Submission queue of the ring, in entries of 64 bytes (default 4,096). A full queue costs an extra system call.
    pub sq_entries: u32,
    /// Completion queue of the ring, in entries of 16 bytes (default 32,768; at least `sq_entries`). When it overflows
    /// the kernel keeps the rest in a list and ends every multishot request that met it: nothing is lost, but all of it
    /// is slow.
    pub cq_entries: u32,
    /// Most events one `wait` of the poll engine takes from the kernel (default 1,024).
    pub events_per_wait: usize,
    /// Most connections one `wait` accepts (default 256), so that a storm of them leaves room for the traffic of others.
    /// The others wait in the backlog of the kernel for the next call.
    pub accepts_per_wait: usize,
    /// Most descriptors of sockets held at once (default: no bound). At the bound nothing is accepted, connections wait
    /// in the backlog, and accepting goes on by itself as sockets close. `connect` does not ask.
    pub sockets_max: usize,
    /// How long sent bytes may stay unacknowledged before the kernel gives a connection up (default 80 s, behind three
    /// ping intervals of 25 s); `None`: the kernel's own limit, about 15 minutes.
    pub tcp_user_timeout: Option<Duration>,
    /// Most memory kept in spare send buffers, in bytes (default 512 KiB).
    pub spare_bytes_max: usize,
    /// How long a wait goes on after its first event to gather more, while there are many (default: not at all). It ends at
    /// 128 events. A kernel before 6.12 has no such wait for io_uring: there it is not done.
    pub coalesce: Duration,
    /// Events a second over which there are many (default 6,000: served one at a time they take about half of a core).
    pub coalesce_over_per_s: u64,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        Self {
            sq_entries: 4096,
            cq_entries: 32 * 1024,
            events_per_wait: 1024,
            accepts_per_wait: 256,
            sockets_max: usize::MAX,
            tcp_user_timeout: Some(Duration::from_secs(80)),
            spare_bytes_max: 512 * 1024,
            coalesce: Duration::ZERO,
            coalesce_over_per_s: 6_000,
        }
    }
}

/// Longest send: one system call of the kernel takes less than 2 GiB.
pub const SEND_BYTES_MAX: usize = 1 << 30;
/// Most runs of one send: `UIO_MAXIOV` of the kernel.
pub const SEND_RUNS_MAX: usize = 1_024;

/// How long accepting rests after a failure, so that running out of descriptors costs ten attempts a second, not a core.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counters since the reactor was opened, except for the two gauges at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorStats {
    /// Calls of `wait`.
    pub waits: u64,
    /// System calls that submitted or waited (`io_uring_enter`, `epoll_pwait`).
    pub enters: u64,
    /// Completions or epoll events taken from the kernel.
    pub completions: u64,
    /// Completions dropped because their socket was closed meanwhile.
    pub completions_stale: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Attempts to accept that failed.
    pub accepts_failed: u64,
    /// Times connections had to wait because [`ReactorConfig::sockets_max`] sockets were held.
    pub accept_pauses: u64,
    /// Sends queued.
    pub sends: u64,
    /// Sends the kernel took only in part or not at all.
    pub sends_short: u64,
    /// Sends that failed.
    pub sends_failed: u64,
    /// Times the completion queue was found overflown (uring).
    pub cq_overflows: u64,
    /// Times the submission queue was full and had to be submitted in the middle of a tick (uring).
    pub sq_full: u64,
    /// Times the kernel could not take all that was submitted, for want of memory (uring).
    pub submits_partial: u64,
    /// Multishot requests that had to be armed again (uring).
    pub rearms: u64,
    /// Gauge: sockets open now, without those whose close is still on its way.
    pub sockets_open: u64,
    /// Gauge: bytes of spare send buffers.
    pub spare_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_runs_begins_at_every_byte() {
        let runs = [&b"ab"[..], b"", b"cde", b"f"].map(Bytes::from_static).to_vec();
        for sent in 0..=6 {
            let rest = SendBuf::Runs(runs.clone()).after(sent);
            assert_eq!(
                (rest.to_vec(), rest.len()),
                (b"abcdef"[sent..].to_vec(), 6 - sent)
            );
        }
    }
}
