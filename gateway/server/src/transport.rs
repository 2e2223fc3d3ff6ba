//! What was sent and the sockets did not take.
//!
//! Once the Hub has sent frames they are the transport's: it tries the rest again when the socket takes bytes, and tells the
//! Hub only how much it holds, and when it holds nothing. A connection has one send under way, so nothing can come between
//! the parts of a frame, nor (where a transport encrypts) of a record.

use std::collections::HashMap;

use bytes::Bytes;
use gateway_core::Frames;
use gateway_core::limits::{OUTBOX_TICK_BYTES_MAX, SHARED_BYTES_MIN};
use runtime::reactor::SEND_RUNS_MAX;
use runtime::{ConnectionHandle, Reactor, SendBuf};

/// The plain transports of one worker.
///
/// Shape: an entry of [`Transports::ENTRY_BYTES`] for each socket that did not take what it was sent, and nothing for all
/// others; its bytes count in the Hub's outboxes, which bound them.
#[derive(Default)]
pub(crate) struct Transports {
    unsent: HashMap<ConnectionHandle, Unsent>,
    /// Sockets that take bytes again.
    writable: Vec<ConnectionHandle>,
    /// Sockets whose rest was tried again in this tick. A send that is taken whole posts no event, so that this shows when the
    /// events of the next tick are over.
    retried: Vec<ConnectionHandle>,
    /// Sockets whose stream ends when what was sent in this tick is known to be taken.
    ending: Vec<ConnectionHandle>,
}

/// What a socket did not take.
struct Unsent {
    /// `None` while it is tried again.
    rest: Option<SendBuf>,
    /// The stream ends behind it.
    is_ending: bool,
}

impl Transports {
    /// What an entry takes beside the bytes that wait.
    pub(crate) const ENTRY_BYTES: usize = size_of::<(ConnectionHandle, Unsent)>();

    /// Sends frames.
    ///
    /// Order: not while the transport holds something of this socket.
    pub(crate) fn send(&self, reactor: &mut impl Reactor, id: ConnectionHandle, frames: Frames) {
        debug_assert!(
            !self.unsent.contains_key(&id),
            "a send behind one that is not taken"
        );
        reactor.send(id, send_buf(frames));
    }

    /// Ends the stream behind everything that was sent.
    pub(crate) fn shutdown_write(&mut self, id: ConnectionHandle) {
        self.ending.push(id);
    }

    /// Forgets a socket that is being closed, and what it did not take.
    pub(crate) fn close(&mut self, id: ConnectionHandle) {
        self.unsent.remove(&id);
    }

    /// Takes what a socket did not take of a send; returns how many bytes that is.
    pub(crate) fn handle_short(&mut self, id: ConnectionHandle, rest: SendBuf) -> usize {
        let bytes = rest.len();
        let unsent = self.unsent.entry(id).or_insert(Unsent {
            rest: None,
            is_ending: false,
        });
        debug_assert!(unsent.rest.is_none(), "one send under way at a time");
        unsent.rest = Some(rest);
        bytes
    }

    /// Notes that a socket takes bytes again.
    pub(crate) fn handle_writable(&mut self, id: ConnectionHandle) {
        self.writable.push(id);
    }

    /// Returns whether it is to be seen, at once, what became of sends.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.retried.is_empty() || !self.ending.is_empty()
    }

    /// Looks at what was tried or ended in the last tick, reports sockets that have taken everything, and tries again where
    /// a socket takes bytes.
    ///
    /// Order: behind all events that a wait brought: only then is a send that posted none known to be taken.
    pub(crate) fn settle(&mut self, reactor: &mut impl Reactor, mut writable: impl FnMut(ConnectionHandle)) {
        for id in std::mem::take(&mut self.ending) {
            match self.unsent.get_mut(&id) {
                Some(unsent) => unsent.is_ending = true,
                None => reactor.shutdown_write(id),
            }
        }
        for id in std::mem::take(&mut self.retried) {
            if self.unsent.get(&id).is_none_or(|unsent| unsent.rest.is_some()) {
                continue;
            }
            if self.unsent.remove(&id).is_some_and(|unsent| unsent.is_ending) {
                reactor.shutdown_write(id);
            }
            writable(id);
        }
        for id in std::mem::take(&mut self.writable) {
            if let Some(rest) = self.unsent.get_mut(&id).and_then(|unsent| unsent.rest.take()) {
                reactor.send(id, rest);
                self.retried.push(id);
            }
        }
    }
}

/// Returns frames as runs of bytes, without a copy.
fn send_buf(frames: Frames) -> SendBuf {
    if frames.shared.is_empty() {
        return SendBuf::Owned(frames.own);
    }
    let own = Bytes::from(frames.own);
    let mut runs = Vec::with_capacity(2 * frames.shared.len() + 1);
    let mut from = 0;
    for (at, run) in frames.shared {
        runs.push(own.slice(from..at));
        runs.push(run);
        from = at;
    }
    runs.push(own.slice(from..));
    SendBuf::Runs(runs)
}

// Each shared run stands for an event of at least so many bytes, one of them beyond the bound, and has a run before it.
const _: () = assert!(2 * (OUTBOX_TICK_BYTES_MAX / SHARED_BYTES_MIN + 1) < SEND_RUNS_MAX);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use runtime::reactor::ReactorStats;
    use runtime::{Engine, Event, Waker};

    use super::*;

    /// A reactor with one socket, which takes as many bytes as it has room.
    #[derive(Default)]
    struct Script {
        room: usize,
        taken: Vec<u8>,
        shorts: VecDeque<SendBuf>,
        sends: usize,
        is_ended: bool,
    }

    const ID: ConnectionHandle = ConnectionHandle {
        slot: 3,
        generation: 1,
    };

    impl Reactor for Script {
        fn send(&mut self, id: ConnectionHandle, buf: SendBuf) {
            assert!(id == ID && !self.is_ended && self.shorts.is_empty());
            self.sends += 1;
            let count = buf.len().min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&buf.to_vec()[..count]);
            let rest = buf.after(count);
            if !rest.is_empty() {
                self.shorts.push_back(rest);
            }
        }

        fn shutdown_write(&mut self, _: ConnectionHandle) {
            assert!(!std::mem::replace(&mut self.is_ended, true));
        }

        fn close(&mut self, _: ConnectionHandle) {}
        fn add_listener(&mut self, _: TcpListener) -> io::Result<()> {
            unreachable!()
        }
        fn connect(&mut self, _: Option<SocketAddr>, _: SocketAddr) -> io::Result<ConnectionHandle> {
            unreachable!()
        }
        fn recv(&mut self, _: ConnectionHandle, _: &mut [u8]) -> io::Result<usize> {
            unreachable!()
        }
        fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
            unreachable!()
        }
        fn poll_event(&mut self) -> Option<Event> {
            unreachable!()
        }
        fn waker(&self) -> Waker {
            unreachable!()
        }
        fn take_buffer(&mut self) -> Vec<u8> {
            unreachable!()
        }
        fn stats(&self) -> ReactorStats {
            unreachable!()
        }
        fn engine(&self) -> Engine {
            unreachable!()
        }
    }

    /// Brings the events of the last sends and settles; returns the bytes held, if they were reported, and whether all are
    /// taken.
    fn next_tick(transports: &mut Transports, reactor: &mut Script) -> (Option<usize>, bool) {
        let held = reactor.shorts.pop_front();
        let held = held.map(|rest| transports.handle_short(ID, rest));
        let mut is_writable = false;
        transports.settle(reactor, |id| {
            assert_eq!(id, ID);
            is_writable = true;
        });
        (held, is_writable)
    }

    /// Brings the event that the socket takes bytes, upon which the rest is tried again.
    fn retry(transports: &mut Transports, reactor: &mut Script) {
        transports.handle_writable(ID);
        assert_eq!(next_tick(transports, reactor), (None, false));
    }

    fn frames(own: &[u8], shared: &[(usize, &'static [u8])]) -> Frames {
        let run = |&(at, bytes): &(usize, &'static [u8])| (at, Bytes::from_static(bytes));
        Frames {
            own: own.to_vec(),
            shared: shared.iter().map(run).collect(),
        }
    }

    #[test]
    fn what_is_taken_whole_leaves_nothing_behind() {
        let (mut transports, mut reactor) = (Transports::default(), Script::default());
        reactor.room = 100;
        transports.send(&mut reactor, ID, frames(b"abgh", &[(2, b"cdef"), (4, b"ij")]));
        transports.shutdown_write(ID);
        assert!(transports.is_unsettled() && !reactor.is_ended);
        assert_eq!(next_tick(&mut transports, &mut reactor), (None, false));
        assert_eq!((&reactor.taken[..], reactor.is_ended), (&b"abcdefghij"[..], true));
        assert!(transports.unsent.is_empty() && !transports.is_unsettled());
    }

    #[test]
    fn a_rest_is_sent_before_the_hub_hears_that_it_may_go_on() {
        let (mut transports, mut reactor) = (Transports::default(), Script::default());
        reactor.room = 3;
        transports.send(&mut reactor, ID, frames(b"abgh", &[(2, b"cdef")]));
        assert_eq!(next_tick(&mut transports, &mut reactor), (Some(5), false));
        assert!(!transports.is_unsettled(), "it waits for the socket");
        for (room, held) in [(0, Some(5)), (2, Some(3))] {
            reactor.room = room;
            retry(&mut transports, &mut reactor);
            assert!(transports.is_unsettled());
            assert_eq!(next_tick(&mut transports, &mut reactor), (held, false));
        }
        reactor.room = 3;
        retry(&mut transports, &mut reactor);
        assert_eq!(next_tick(&mut transports, &mut reactor), (None, true));
        assert_eq!((&reactor.taken[..], reactor.is_ended), (&b"abcdefgh"[..], false));
        retry(&mut transports, &mut reactor);
        assert_eq!((reactor.sends, transports.is_unsettled()), (4, false));
    }

    #[test]
    fn the_stream_ends_behind_the_rest() {
        let (mut transports, mut reactor) = (Transports::default(), Script::default());
        transports.send(&mut reactor, ID, frames(b"abc", &[]));
        transports.shutdown_write(ID);
        assert_eq!(next_tick(&mut transports, &mut reactor), (Some(3), false));
        reactor.room = 2;
        retry(&mut transports, &mut reactor);
        assert_eq!(next_tick(&mut transports, &mut reactor), (Some(1), false));
        assert!(!reactor.is_ended);
        reactor.room = 2;
        retry(&mut transports, &mut reactor);
        assert_eq!(next_tick(&mut transports, &mut reactor), (None, true));
        assert!(reactor.is_ended);
    }

    #[test]
    fn a_retry_that_fell_short_is_not_taken_for_done_where_the_socket_calls_again_at_once() {
        let (mut transports, mut reactor) = (Transports::default(), Script::default());
        transports.send(&mut reactor, ID, frames(b"abc", &[]));
        next_tick(&mut transports, &mut reactor);
        reactor.room = 1;
        retry(&mut transports, &mut reactor);
        reactor.room = 2;
        transports.handle_writable(ID);
        assert_eq!(next_tick(&mut transports, &mut reactor), (Some(2), false));
        assert_eq!(reactor.taken, b"abc");
        assert_eq!(next_tick(&mut transports, &mut reactor), (None, true));
    }

    #[test]
    fn a_socket_that_is_closed_is_forgotten() {
        let (mut transports, mut reactor) = (Transports::default(), Script::default());
        transports.send(&mut reactor, ID, frames(b"abc", &[]));
        next_tick(&mut transports, &mut reactor);
        reactor.room = 2;
        retry(&mut transports, &mut reactor);
        transports.close(ID);
        reactor.shorts.clear(); // No event of a closed socket appears.
        assert_eq!(next_tick(&mut transports, &mut reactor), (None, false));
        assert!(transports.unsent.is_empty() && !transports.is_unsettled());
    }
}
