//! A listener that holds a bounded number of connections, none of them idle for long; further ones wait in its backlog.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A TCP listener with a bound on its connections.
pub(crate) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle_timeout: Duration,
}

/// A connection, and its place until it ends.
pub(crate) struct Placed {
    stream: TcpStream,
    idle_timeout: Duration,
    /// When it ends unless something is read before.
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(connections_max)),
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        // The library's own: it waits a second after an error of this side, and tries again.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let placed = Placed {
            stream,
            idle_timeout: self.idle_timeout,
            idle: Box::pin(sleep(self.idle_timeout)),
            _place: place,
        };
        (placed, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buf) {
            let end = Instant::now() + self.idle_timeout;
            self.idle.as_mut().reset(end);
            return Poll::Ready(read);
        }
        let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
        self.idle.as_mut().poll(context).map(|()| timed_out())
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How long a connection may send nothing: far longer than a probe waits for its answer, and than scrapes are apart.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_connection_loses_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, 1);
        bounded.idle_timeout = Duration::from_millis(10);
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut placed, _) = bounded.accept().await;
        let _next = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let read = std::future::poll_fn(|context| {
            Pin::new(&mut placed).poll_read(context, &mut ReadBuf::new(&mut byte))
        })
        .await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(placed);
        bounded.accept().await;
    }
}
