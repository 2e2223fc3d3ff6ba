//! Accepts connections, serves each on a task, and ends them all.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::places::{Place, Places};

/// What one listener may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whose connections these are, for the log.
    pub name: &'static str,
    /// Most connections at once; at that many, one that waits for its peer leaves for one that comes.
    pub connections_max: usize,
    /// How long requests in flight may take once the server is told to end.
    pub drain_timeout: Duration,
}

/// Serves `routes` until the future `stopped` ends, then takes no more connections and returns once none is left, at
/// the latest after `drain_timeout`.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, stopped: impl Future<Output = ()>) {
    let places = Places::new(bounds.connections_max);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            Ok::<_, std::io::Error>((stream, places.enter().await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(serve_connection(stream, place, routes.clone(), stopping.clone()));
            }
            Err(error) => {
                // Out of descriptors, or a connection that broke while it waited: neither is a reason to end.
                tracing::warn!(%error, "{} cannot accept a connection", bounds.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = stop.send(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(bounds.drain_timeout, all_ended).await;
}

async fn serve_connection(
    stream: TcpStream,
    place: Place,
    routes: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let socket = SockRef::from(&stream);
    // Neither is needed for a right answer, only for a prompt one, and for an end to a peer that reads nothing.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let place = Arc::new(place);
    let routes = TowerToHyperService::new(routes);
    let served = Arc::clone(&place);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| serve_request(&served, &routes, request)),
        );
    tokio::pin!(connection);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // First, so that a request which comes in that moment is not begun.
            biased;
            () = place.evicted() => return,
            // An error is the peer's: a broken connection, or a head that is no HTTP (answered 400 by the library).
            _ = connection.as_mut() => return,
            _ = stopping.changed(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Serves one request; the connection waits for its peer except from the end of the request to the answer.
fn serve_request(
    place: &Arc<Place>,
    routes: &TowerToHyperService<Router>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let place = Arc::clone(place);
    let request = request.map(|body| {
        let place = Arc::clone(&place);
        Body::new(Arriving { body, place })
    });
    if request.body().is_end_stream() {
        place.works();
    }
    let answer = routes.call(request);
    async move {
        let answer = answer.await;
        place.waits();
        answer
    }
}

/// A body that notes when all of it has come.
struct Arriving {
    body: Incoming,
    place: Arc<Place>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.place.works();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// From the accept, and from the answer before, to the end of a request's head, whatever arrives meanwhile.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head, and what one connection may buffer while it reads.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a peer may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, so that running out of descriptors does not take a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
