//! A WebSocket echo server on a bare io_uring loop: the lower bound that the benchmarks compare the engines with.
//!
//! `bare_echo PORT [CORE]`. One thread, no crate of this workspace, no limits, no UTF-8 checks, no time-outs: multishot
//! accept, multishot receive from a ring of shared buffers, and one coalesced send per connection and turn. A peer that
//! does not read its echoes is dropped. For measurements on the loopback interface only.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use base64::Engine as _;
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use sha1::{Digest, Sha1};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port = args
        .next()
        .and_then(|port| port.parse::<u16>().ok())
        .expect("usage: bare_echo PORT [CORE]");
    if let Some(id) = args.next().and_then(|core| core.parse().ok()) {
        assert!(
            core_affinity::set_for_current(core_affinity::CoreId { id }),
            "cannot pin to core {id}"
        );
    }
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // SAFETY: plain system calls on a descriptor that `listener` owns. Accepted sockets inherit TCP_NODELAY.
    unsafe {
        let on: libc::c_int = 1;
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            4,
        );
        libc::listen(listener.as_raw_fd(), 65_535);
    }
    println!("ready listen={}", listener.local_addr()?);
    Server::new(listener)?.run()
}

struct Server {
    ring: IoUring,
    buffers: SharedBuffers,
    listener: TcpListener,
    /// By descriptor. A slot is emptied when the last completion of its socket is in, so none is ever stale.
    connections: Vec<Option<Connection>>,
    /// Descriptors with bytes to send at the end of this turn.
    dirty: Vec<i32>,
    /// Bytes the kernel may still read until the next enter has returned, then buffers to use again.
    sent: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Connection {
    upgraded: bool,
    /// The beginning of a request or frame whose rest is to come.
    partial: Vec<u8>,
    out: Vec<u8>,
}

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(32 * 1024)
            .build(4096)?;
        let buffers = SharedBuffers::register(&ring)?;
        let (connections, dirty, sent, spare) = Default::default();
        Ok(Self {
            ring,
            buffers,
            listener,
            connections,
            dirty,
            sent,
            spare,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut completions = Vec::new();
        self.push(
            opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
                .build()
                .user_data(ACCEPT << 32),
        )?;
        loop {
            self.ring.submit_and_wait(1)?;
            self.spare.extend(self.sent.drain(..).map(|mut bytes| {
                bytes.clear();
                bytes
            }));
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                let fd = completion.user_data() as u32 as i32;
                match completion.user_data() >> 32 {
                    ACCEPT => self.accepted(&completion)?,
                    RECEIVE => self.received(fd, &completion)?,
                    // Only a short or failed send has a completion; the receive then ends, too.
                    // SAFETY: a plain system call; the descriptor is closed only after its receive has ended.
                    _ => drop(unsafe { libc::shutdown(fd, libc::SHUT_RDWR) }),
                }
            }
            self.buffers.publish();
            self.send_all()?;
        }
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: sends point into `sent` or `connections[..].out`, which outlive the enter that consumes them.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let fd = completion.result();
        if fd >= 0 {
            if self.connections.len() <= fd as usize {
                self.connections.resize_with(fd as usize + 1, || None);
            }
            self.connections[fd as usize] = Some(Connection::default());
            self.receive(fd)?;
        }
        if !cqueue::more(completion.flags()) {
            self.push(
                opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
                    .build()
                    .user_data(ACCEPT << 32),
            )?;
        }
        Ok(())
    }

    fn receive(&mut self, fd: i32) -> io::Result<()> {
        self.push(
            opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP)
                .build()
                .user_data(RECEIVE << 32 | fd as u64),
        )
    }

    fn received(&mut self, fd: i32, completion: &cqueue::Entry) -> io::Result<()> {
        if completion.result() == -libc::ENOBUFS {
            return self.receive(fd);
        }
        let Some(buffer) = cqueue::buffer_select(completion.flags()).filter(|_| completion.result() > 0)
        else {
            self.connections[fd as usize] = None;
            // SAFETY: the descriptor is ours, and nothing is pending on it any more.
            unsafe { libc::close(fd) };
            return Ok(());
        };
        let connection = self.connections[fd as usize]
            .as_mut()
            .expect("receives end before their connection");
        let was_clean = connection.out.is_empty();
        if was_clean && connection.out.capacity() == 0 {
            connection.out = self.spare.pop().unwrap_or_default();
        }
        connection.take_in(self.buffers.bytes(buffer, completion.result() as usize));
        if was_clean && !connection.out.is_empty() {
            self.dirty.push(fd);
        }
        self.buffers.give_back(buffer);
        if cqueue::more(completion.flags()) {
            Ok(())
        } else {
            self.receive(fd)
        }
    }

    fn send_all(&mut self) -> io::Result<()> {
        for fd in std::mem::take(&mut self.dirty) {
            let Some(connection) = &mut self.connections[fd as usize] else {
                continue;
            };
            let bytes = std::mem::take(&mut connection.out);
            let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            let send = opcode::Send::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32)
                .flags(flags)
                .build();
            self.sent.push(bytes);
            self.push(
                send.flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(SEND << 32 | fd as u64),
            )?;
        }
        Ok(())
    }
}

impl Connection {
    /// Answers what is complete and keeps the rest.
    fn take_in(&mut self, received: &mut [u8]) {
        if self.partial.is_empty() {
            let used = self.answer(received);
            self.partial.extend_from_slice(&received[used..]);
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(received);
            let used = self.answer(&mut all);
            all.drain(..used);
            self.partial = all;
        }
    }

    /// Returns how many bytes were complete.
    fn answer(&mut self, input: &mut [u8]) -> usize {
        let mut used = 0;
        if !self.upgraded {
            let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                return 0;
            };
            used = end + 4;
            self.upgraded = true;
            write_upgrade(&input[..used], &mut self.out);
        }
        while let Some(length) = echo_frame(&mut input[used..], &mut self.out) {
            used += length;
        }
        used
    }
}

fn write_upgrade(request: &[u8], out: &mut Vec<u8>) {
    const NAME: &str = "sec-websocket-key:";
    let text = String::from_utf8_lossy(request);
    let key = text
        .lines()
        .find(|line| {
            line.get(..NAME.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
        })
        .map_or("", |line| line[NAME.len()..].trim());
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    out.extend_from_slice(format!("Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
}

/// Appends the answer to the first frame of `input` to `out` and returns its length; `None` until all of it is there.
/// Fragments are echoed as they come, a ping as a pong, a close as a close.
fn echo_frame(input: &mut [u8], out: &mut Vec<u8>) -> Option<usize> {
    let (mut head, length) = match *input.get(1)? & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize,
        ),
        length => (2, usize::from(length)),
    };
    let key: [u8; 4] = input.get(head..head + 4)?.try_into().ok()?;
    head += 4;
    let (first, end) = (input[0], head.checked_add(length)?);
    let payload = input.get_mut(head..end)?;
    unmask(payload, key);
    out.push(if first == 0x89 { 0x8a } else { first });
    match length {
        0..126 => out.push(length as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    Some(end)
}

fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let word = u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001;
    let mut words = payload.chunks_exact_mut(8);
    for bytes in &mut words {
        let masked = u64::from_ne_bytes((&*bytes).try_into().expect("eight bytes"));
        bytes.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

const BUFFER_GROUP: u16 = 0;
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 4096;

/// A ring of receive buffers from which the kernel takes one per arrival.
struct SharedBuffers {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl SharedBuffers {
    fn register(ring: &IoUring) -> io::Result<Self> {
        let entries = map(usize::from(BUFFERS) * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let bytes = map(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: the mapping is page-aligned, large enough, and never unmapped.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries as u64, BUFFERS, BUFFER_GROUP, 0)?
        };
        let mut buffers = Self {
            entries,
            bytes,
            tail: 0,
        };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers.publish();
        Ok(buffers)
    }

    fn bytes(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        // SAFETY: the kernel has handed this buffer over with `length` bytes in it, until it is given back.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.add(usize::from(buffer) * BUFFER_BYTES), length) }
    }

    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the index is within the ring, and the kernel looks at the entry only once the tail has passed it.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.bytes.add(usize::from(buffer) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lies in the ring that `register` mapped; the kernel reads it with acquire order.
        unsafe {
            (*BufRingEntry::tail(self.entries).cast::<AtomicU16>()).store(self.tail, Ordering::Release)
        };
    }
}

fn map(length: usize) -> io::Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping touches no memory of ours.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(start.cast())
    }
}
