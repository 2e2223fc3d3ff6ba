//! The HTTP API: a thread of its own with a small async runtime, and one link to the router.
//!
//! The router does not know HTTP: a request becomes a record on the link, and the record that answers it becomes the
//! response. Connections, requests in flight, bodies and waiting times are bounded; what passes a bound gets a problem
//! document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), never a queue.

mod auth;
mod conversations;
mod fields;
mod link;
mod messages;
mod problem;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::sync::{Semaphore, watch};
use wire::ids::UnixMs;
use wire::link::pipe::Endpoint;
use wire::link::{FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, ToRouter};

pub use self::auth::Auth;
use self::auth::Caller;
use self::link::{AskError, LinkClient};
use self::problem::{Kind, Problem};

/// What the API needs to know.
pub struct ApiConfig {
    /// How callers prove who they are.
    pub auth: Auth,
    /// Name of this process, for the hello of the link.
    pub node: String,
    /// Start time of this process in ms since 1970, for the hello of the link.
    pub epoch: u64,
    /// Most connections open at once; further ones wait in the listener's backlog. Default 1,024.
    pub connections_max: usize,
    /// Most requests that wait for the router at once; further ones are answered `busy`. Default 1,024.
    pub in_flight_max: usize,
    /// How long a request waits for the router. Default 15 s.
    pub answer_timeout: Duration,
}

impl ApiConfig {
    /// Returns a configuration with the default bounds.
    pub fn new(auth: Auth, node: String, epoch: u64) -> Self {
        Self {
            auth,
            node,
            epoch,
            connections_max: 1024,
            in_flight_max: 1024,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }
}

/// The running API; dropping it stops it without waiting.
pub struct ApiServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    link: LinkClient,
    thread: Option<JoinHandle<()>>,
}

/// Serves the API on `listener` from a thread of its own, as a client of the router at the other end of `endpoint`.
///
/// Errors: those of the listener and of starting a thread.
pub fn serve(listener: TcpListener, endpoint: Endpoint, config: ApiConfig) -> io::Result<ApiServer> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let hello = LinkHello {
        version: LINK_VERSION,
        kind: LinkKind::Api,
        node: config.node.clone(),
        epoch: config.epoch,
        worker: 0,
    };
    let (link, carrier) = LinkClient::new(endpoint, hello, config.in_flight_max, config.answer_timeout);
    let api = Arc::new(Api {
        auth: config.auth,
        link: link.clone(),
    });
    let thread = std::thread::Builder::new().name("api".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => run(listener, api, carrier, config.connections_max, stopped).await,
                Err(error) => tracing::error!(%error, "the API listener cannot be used"),
            }
        });
    })?;
    Ok(ApiServer {
        address,
        stop,
        link,
        thread: Some(thread),
    })
}

impl ApiServer {
    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what has ended that should run: the thread, or its link, without which it answers nothing.
    pub fn broken_part(&self) -> Option<&'static str> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            Some("the API")
        } else if self.link.is_down() {
            Some("the link of the API to the router")
        } else {
            None
        }
    }

    /// Takes no more connections, lets requests in flight finish for 5 s, and returns.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

async fn run(
    listener: tokio::net::TcpListener,
    api: Arc<Api>,
    carrier: impl Future<Output = ()> + Send + 'static,
    connections_max: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let carrier = tokio::spawn(carrier);
    let routes = routes(api);
    let permits = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = async {
            let permit = permits
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, routes.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or a connection that broke while it waited: neither is a reason to end.
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = permits.acquire_many(connections_max as u32);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
    carrier.abort();
}

async fn serve_connection(
    stream: tokio::net::TcpStream,
    routes: axum::Router,
    mut stopped: watch::Receiver<bool>,
) {
    let socket = SockRef::from(&stream);
    // Neither is needed for a right answer, only for a prompt one, and for an end to a peer that reads nothing.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        // An error is the peer's: a broken connection, or a head that is no HTTP (answered 400 by the library).
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn routes(api: Arc<Api>) -> axum::Router {
    axum::Router::new()
        .route("/messages/send", post(messages::send))
        .route("/messages/{id}/status", post(messages::status))
        .route("/conversations", get(conversations::conversations))
        .route("/conversations/{id}/messages", get(conversations::history))
        .fallback(|request: Request| async move {
            Problem::new(
                Kind::NotFound,
                format!("there is nothing at {}", request.uri().path()),
            )
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let detail = format!("{} does not take {}", request.uri().path(), request.method());
            Problem::new(Kind::MethodNotAllowed, detail)
        })
        .with_state(api)
}

/// What every handler shares.
struct Api {
    auth: Auth,
    link: LinkClient,
}

impl Api {
    /// Returns who calls.
    fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        // The driver of this crate is where the clock is read; a clock before 1970 accepts no token.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.auth
            .caller(request.headers(), UnixMs(now.as_millis() as u64))
    }

    /// Asks the router to store something.
    async fn write(&self, question: impl FnOnce(RequestId) -> ToRouter) -> Result<FromRouter, Problem> {
        self.ask(question, true).await
    }

    /// Asks the router for something stored.
    async fn read(&self, question: impl FnOnce(RequestId) -> ToRouter) -> Result<FromRouter, Problem> {
        self.ask(question, false).await
    }

    async fn ask(
        &self,
        question: impl FnOnce(RequestId) -> ToRouter,
        writes: bool,
    ) -> Result<FromRouter, Problem> {
        match self.link.ask(question).await {
            Ok(FromRouter::Rejected(it)) => {
                Err(Problem::from_code(it.code, it.reason, it.retry_after_ms, writes))
            }
            Ok(FromRouter::Failed(it)) => Err(Problem::from_code(it.code, it.reason, None, writes)),
            Ok(answer) => Ok(answer),
            Err(AskError::Busy) => Err(Problem::new(
                Kind::Busy,
                "too many requests wait for the router; this one was not taken",
            )),
            Err(AskError::Down) => Err(Problem::new(
                Kind::Unavailable,
                "the router is not running; this request was not taken",
            )),
            Err(AskError::NoAnswer) if writes => Err(Problem::new(
                Kind::OutcomeUnknown,
                "the router did not answer in time; repeat the request with the same message_id",
            )),
            Err(AskError::NoAnswer) => Err(Problem::new(
                Kind::Unavailable,
                "the router did not answer in time",
            )),
        }
    }

    /// Returns the problem of an answer of the wrong kind, which only a fault of ours can cause.
    fn unexpected(&self, answer: &FromRouter) -> Problem {
        tracing::error!(answer = ?std::mem::discriminant(answer), "the router answered a question with the wrong kind of record");
        Problem::new(
            Kind::OutcomeUnknown,
            "the router's answer could not be understood",
        )
    }
}

/// After this a gateway answers by itself too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest body of a request: far over the largest send, so that a content that is too long is told so by its field.
const REQUEST_BYTES_MAX: usize = 512 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request head may take to arrive, and how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head, and what one connection may buffer while it reads.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long requests in flight may take once the API stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that running out of descriptors does not take a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wire::link::pipe::pipe;

    use super::*;

    #[test]
    fn an_api_whose_link_ends_is_broken() {
        let (endpoint, router) = pipe(1 << 20);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = ApiConfig::new(Auth::InsecureDev, "n".to_owned(), 1);
        let server = serve(listener, endpoint, config).unwrap();
        assert_eq!(server.broken_part(), None);
        drop(router);
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.broken_part().is_none() {
            assert!(Instant::now() < deadline, "nobody noticed");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.broken_part(), Some("the link of the API to the router"));
        server.stop();
    }
}
