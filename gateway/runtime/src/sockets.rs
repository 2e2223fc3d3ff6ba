//! The table of open sockets of one reactor: 12 bytes each, dense slots, generations.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::reactor::ConnectionHandle;

/// Sockets by slot. Owns their descriptors.
#[derive(Default)]
pub(crate) struct Sockets {
    slots: Vec<Socket>,
    /// Slots that may be used again, the last freed first, so that the table stays dense and warm.
    free: Vec<u32>,
    open: usize,
}

/// One slot. All a reactor keeps for an idle connection.
pub(crate) struct Socket {
    fd: RawFd,
    generation: u32,
    /// Which of the facts below hold.
    flags: u16,
}

const _: () = assert!(size_of::<Socket>() <= 16);

/// A fact about a socket.
#[derive(Clone, Copy)]
#[repr(u16)]
pub(crate) enum Flag {
    /// The caller may use it.
    Open = 1,
    /// It is closed to the caller, and its descriptor not yet: the request is on its way to the kernel.
    Closing = 1 << 8,
    /// `connect` has not been answered.
    Connecting = 1 << 1,
    /// A `Readable` waits to be polled.
    ReadableQueued = 1 << 2,
    /// A `HangUp` waits to be polled.
    HangUpQueued = 1 << 3,
    /// A send is on its way to the kernel, outcome unknown.
    Sending = 1 << 4,
    /// A send came back short and `Writable` has not been polled.
    Blocked = 1 << 5,
    /// A `Writable` waits to be polled.
    WritableQueued = 1 << 6,
    /// `Failed` has been posted.
    Failed = 1 << 7,
}

impl Socket {
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag) {
        self.flags |= flag as u16;
    }

    pub(crate) fn clear(&mut self, flag: Flag) {
        self.flags &= !(flag as u16);
    }

    /// Sets the flag and returns whether it was clear.
    pub(crate) fn raise(&mut self, flag: Flag) -> bool {
        let was_clear = !self.has(flag);
        self.set(flag);
        was_clear
    }

    /// Clears the flag and returns whether it was set.
    pub(crate) fn take(&mut self, flag: Flag) -> bool {
        let was_set = self.has(flag);
        self.clear(flag);
        was_set
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: only sockets that are open are handed out by `Sockets`, and those own `fd` until `retire`, which
        // needs the table mutably while this borrow holds it.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Sockets {
    /// Takes a socket in and names it.
    pub(crate) fn insert(&mut self, fd: OwnedFd, flags: &[Flag]) -> ConnectionHandle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Socket {
                fd: -1,
                generation: 0,
                flags: 0,
            });
            (self.slots.len() - 1) as u32
        });
        let socket = &mut self.slots[slot as usize];
        socket.fd = fd.into_raw_fd();
        socket.flags = flags
            .iter()
            .fold(Flag::Open as u16, |all, flag| all | *flag as u16);
        self.open += 1;
        ConnectionHandle {
            slot,
            generation: socket.generation,
        }
    }

    /// Returns the socket while it is open.
    pub(crate) fn get(&self, id: ConnectionHandle) -> Option<&Socket> {
        let socket = self.slots.get(id.slot as usize)?;
        (socket.generation == id.generation && socket.has(Flag::Open)).then_some(socket)
    }

    /// See [`Sockets::get`].
    pub(crate) fn get_mut(&mut self, id: ConnectionHandle) -> Option<&mut Socket> {
        let socket = self.slots.get_mut(id.slot as usize)?;
        (socket.generation == id.generation && socket.has(Flag::Open)).then_some(socket)
    }

    /// Returns the open socket of `slot` whose generation ends in these bits, which is all a completion carries.
    pub(crate) fn find(&self, slot: u32, generation_bits: u32, mask: u32) -> Option<ConnectionHandle> {
        let socket = self.slots.get(slot as usize)?;
        (socket.has(Flag::Open) && socket.generation & mask == generation_bits).then_some(ConnectionHandle {
            slot,
            generation: socket.generation,
        })
    }

    /// Ends the life of `id`. The slot keeps the descriptor, and is not used again, until [`Sockets::release`].
    pub(crate) fn retire(&mut self, id: ConnectionHandle) -> Option<RawFd> {
        let socket = self.get_mut(id)?;
        socket.flags = Flag::Closing as u16;
        socket.generation = socket.generation.wrapping_add(1);
        let fd = socket.fd;
        self.open -= 1;
        Some(fd)
    }

    /// Lets a retired slot be used again; returns its descriptor, which the kernel may have closed already.
    pub(crate) fn release(&mut self, slot: u32) -> Option<RawFd> {
        let socket = self.slots.get_mut(slot as usize)?;
        if !socket.take(Flag::Closing) {
            return None;
        }
        self.free.push(slot);
        Some(std::mem::replace(&mut socket.fd, -1))
    }

    /// Closes the descriptor of a retired slot and releases it.
    pub(crate) fn close_retired(&mut self, slot: u32) {
        if let Some(fd) = self.release(slot) {
            // SAFETY: the descriptor came in as an `OwnedFd` in `insert` and the slot has just given it up.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }

    /// Returns how many sockets are open.
    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// Returns how many descriptors the table holds: those of open sockets, and of those whose close is on its way.
    pub(crate) fn held(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Drop for Sockets {
    /// Closes what is open. A descriptor whose close is on its way is let go: the kernel may have closed it, and its number
    /// may be somebody else's by now.
    fn drop(&mut self) {
        for socket in &self.slots {
            if socket.has(Flag::Open) {
                // SAFETY: an open slot owns its descriptor, and the table is going away.
                drop(unsafe { OwnedFd::from_raw_fd(socket.fd) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_retired_id_is_unknown_and_its_slot_waits_for_release() {
        let mut sockets = Sockets::default();
        let first = sockets.insert(descriptor(), &[]);
        assert!(sockets.get(first).is_some());
        let fd = sockets.retire(first);
        assert!(fd.is_some());
        assert!(sockets.get(first).is_none() && sockets.retire(first).is_none());
        let second = sockets.insert(descriptor(), &[]);
        assert_ne!(second.slot, first.slot);
        assert_eq!((sockets.len(), sockets.held()), (1, 2));
        assert_eq!(sockets.release(first.slot), fd);
        assert_eq!(sockets.held(), 1);
        assert_eq!(sockets.release(first.slot), None);
        let third = sockets.insert(descriptor(), &[]);
        assert_eq!(
            third,
            ConnectionHandle {
                slot: first.slot,
                generation: first.generation + 1
            }
        );
        assert_eq!(sockets.len(), 2);
    }

    #[test]
    fn a_completion_finds_only_the_generation_it_was_made_for() {
        let mut sockets = Sockets::default();
        let id = sockets.insert(descriptor(), &[]);
        assert_eq!(sockets.find(id.slot, 0, 0xff), Some(id));
        sockets.retire(id);
        sockets.release(id.slot);
        sockets.insert(descriptor(), &[]);
        assert_eq!(sockets.find(id.slot, 0, 0xff), None);
        assert_eq!(sockets.find(7, 0, 0xff), None);
    }

    #[test]
    fn a_table_that_goes_closes_what_is_open_and_not_what_the_kernel_was_asked_to() {
        let mut sockets = Sockets::default();
        let (open, mut open_peer) = UnixStream::pair().unwrap();
        let (closing, mut closing_peer) = UnixStream::pair().unwrap();
        sockets.insert(open.into(), &[]);
        let id = sockets.insert(closing.into(), &[]);
        let fd = sockets.retire(id).unwrap();
        drop(sockets);
        let read = |peer: &mut UnixStream| {
            peer.set_nonblocking(true).unwrap();
            peer.read(&mut [0]).map_err(|error| error.kind())
        };
        assert_eq!(read(&mut open_peer), Ok(0), "closed");
        assert_eq!(read(&mut closing_peer), Err(ErrorKind::WouldBlock), "still there");
        // SAFETY: nobody else closes it, as was just seen.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
