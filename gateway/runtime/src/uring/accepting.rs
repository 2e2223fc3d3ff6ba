//! Accepting: one multishot request per listener, ended and armed again as the budget and the descriptors allow.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fd};
use rustix::io::Errno;

use super::UringReactor;
use super::tag::{Operation, Tag};
use crate::reactor::ACCEPT_PAUSE;

impl UringReactor {
    pub(super) fn handle_accept(&mut self, tag: Tag, outcome: Result<u32, Errno>, ended: bool) {
        match outcome {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
            Ok(fd) => self
                .accepted
                .push_back(Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
            Err(Errno::CANCELED | Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => {
                self.accepted.push_back(Err(errno.into()));
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
        if ended && let Some(listener) = self.listeners.get_mut(tag.slot as usize) {
            listener.state = Accept::Idle;
        }
    }

    pub(super) fn handle_accept_cancel(&mut self, tag: Tag, outcome: Result<u32, Errno>) {
        // The accept was just running and goes on: try again.
        if outcome == Err(Errno::ALREADY)
            && let Some(listener) = self.listeners.get_mut(tag.slot as usize)
            && listener.state == Accept::Ending
        {
            listener.state = Accept::Armed;
        }
    }

    /// Starts or ends accepting on each listener, as the caller, the last failure and the connections in hand demand.
    pub(super) fn arm_accepts(&mut self) {
        let resting = match self.accept_again {
            Some(at) if Instant::now() < at => true,
            Some(_) | None => false,
        };
        if !resting {
            self.accept_again = None;
        }
        let wanted = self.accepting && !resting && self.accepted.len() < self.accepts_per_wait;
        for index in 0..self.listeners.len() {
            let tag = Tag::new(Operation::Accept, 0, index as u32);
            let (entry, state) = match self.listeners[index].state {
                Accept::Idle if wanted => {
                    let fd = Fd(self.listeners[index].socket.as_raw_fd());
                    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                    (
                        opcode::AcceptMulti::new(fd)
                            .flags(flags)
                            .build()
                            .user_data(tag.encode()),
                        Accept::Armed,
                    )
                }
                Accept::Armed if !wanted => {
                    let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(tag.encode())).build();
                    let tag = Tag::new(Operation::AcceptCancel, 0, index as u32);
                    (cancel.user_data(tag.encode()), Accept::Ending)
                }
                Accept::Idle | Accept::Armed | Accept::Ending => continue,
            };
            if !self.make_room(1) {
                return;
            }
            // SAFETY: neither request refers to memory: a multishot accept reports no address.
            unsafe { self.ring.push(&entry) };
            self.listeners[index].state = state;
        }
    }

    /// Hands accepted connections out, within the budget of one wait.
    pub(super) fn hand_out_accepted(&mut self) {
        for _ in 0..self.accepts_per_wait {
            match self.accepted.pop_front() {
                Some(Ok(fd)) => {
                    let id = self.desk.accepted(fd);
                    self.to_arm.push_back(Tag::of_socket(Operation::PollRead, id));
                }
                Some(Err(error)) => self.desk.accept_failed(error),
                None => return,
            }
        }
    }

    /// Returns how long the kernel may sleep: not beyond the pause of accepting.
    pub(super) fn sleep_max(&self, timeout: Option<Duration>) -> Option<Duration> {
        let Some(at) = self.accept_again.filter(|_| self.accepting) else {
            return timeout;
        };
        let pause = at.saturating_duration_since(Instant::now());
        Some(timeout.map_or(pause, |timeout| timeout.min(pause)))
    }
}

/// A listener and its place in the kernel.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) state: Accept,
}

/// State of the multishot accept of a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// Not in the kernel.
    Idle,
    /// In the kernel, accepting.
    Armed,
    /// To be cancelled; its last completion is still to come.
    Ending,
}
