//! Listeners: one per worker on the same port, so that the kernel spreads connections without a shared queue.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Builds the listeners of a group of workers.
///
/// ```
/// let address = "127.0.0.1:0".parse().unwrap();
/// let listeners = runtime::ListenerBuilder::new(address).bind_group(2).unwrap();
/// assert_eq!(listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap());
/// ```
#[derive(Clone, Debug)]
pub struct ListenerBuilder {
    address: SocketAddr,
    backlog: i32,
}

impl ListenerBuilder {
    /// Returns a builder for `address`; port 0 lets the kernel choose one. `[::]` takes IPv4 as well.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            backlog: 65_535,
        }
    }

    /// Sets how many connections may wait to be accepted, per listener (default 65,535; the kernel caps it at
    /// `net.core.somaxconn`). Beyond it, handshakes are dropped and clients try again after a second.
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Binds `count` listeners to one port: the first picks it, the others join.
    ///
    /// Errors: `AddrInUse` also when the other listener on the port would share it: two servers that divide the clients
    /// of one port between them are never what was meant.
    pub fn bind_group(&self, count: usize) -> io::Result<Vec<TcpListener>> {
        if self.address.port() != 0 {
            // Fails where a listener exists, whatever it shares; leaves nothing behind.
            self.bound_socket(self.address, false)?;
        }
        let mut listeners = Vec::with_capacity(count);
        let mut address = self.address;
        for _ in 0..count {
            let listener = self.listen_on(address)?;
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        Ok(listeners)
    }

    /// Binds one more listener to the port, which others may share already.
    pub fn join(&self) -> io::Result<TcpListener> {
        self.listen_on(self.address)
    }

    fn listen_on(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.bound_socket(address, true)?;
        socket.listen(self.backlog)?;
        Ok(socket.into())
    }

    fn bound_socket(&self, address: SocketAddr, shared: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    }
}
