//! The HTTP API: a thread of its own with a small async runtime, and one link to the router.
//!
//! The router does not know HTTP: a request becomes a record on the link, and the record that answers it becomes the
//! response. Connections, requests in flight, bodies and waiting times are bounded (by [`bounded_http`], and here); what
//! passes a bound gets a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), never a queue.

mod auth;
mod budget;
mod conversations;
mod extract;
mod fields;
mod link;
mod messages;
mod openapi;
mod problem;
mod schema;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bounded_http::Bounds;
use bounded_http::body::Bodies;
use tokio::sync::watch;
use wire_base::limits::FRAME_BYTES_MAX;
use wire_link::{FromRouter, LINK_VERSION, LinkHello, LinkKind, LinkPort, RequestId, ToRouter};

pub use self::auth::Auth;
use self::auth::Caller;
pub use self::budget::MemoryBudget;
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
    /// Most connections open at once; then one that waits for its client leaves for one that comes. Default 1,024.
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

    /// Returns the most memory that the API may hold.
    pub fn memory_budget(&self) -> MemoryBudget {
        MemoryBudget::of(self.connections_max)
    }
}

/// The running API; dropping it stops it without waiting.
pub struct ApiServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    auth: watch::Sender<Auth>,
    link: LinkClient,
    thread: Option<JoinHandle<()>>,
}

/// Serves the API on `listener` from a thread of its own, as a client of the router at the other end of `port`.
///
/// Errors: those of the listener and of starting a thread.
pub fn serve(
    listener: TcpListener,
    port: impl LinkPort + 'static,
    config: ApiConfig,
) -> io::Result<ApiServer> {
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
    let (link, carrier) = LinkClient::new(port, hello, config.in_flight_max, config.answer_timeout);
    let (auth, current_auth) = watch::channel(config.auth);
    let api = Arc::new(Api {
        auth: current_auth,
        link: link.clone(),
        bodies: Bodies::new(REQUEST_BYTES_MAX, BODIES_BYTES_MAX),
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
        auth,
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

    /// Checks callers in another way from the next request on.
    pub fn set_auth(&self, auth: Auth) {
        // The thread may have ended, which `broken_part` says.
        let _ = self.auth.send(auth);
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
    let bounds = Bounds {
        name: "the API",
        connections_max,
        drain_timeout: DRAIN_TIMEOUT,
    };
    let stopped = async {
        // A dropped sender ends it too.
        let _ = stopped.changed().await;
    };
    bounded_http::serve(listener, routes(api), bounds, stopped).await;
    carrier.abort();
}

fn routes(api: Arc<Api>) -> axum::Router {
    let (routes, _) = openapi::calls().split_for_parts();
    routes
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
        .layer(from_fn_with_state(Arc::clone(&api), refuse_foreign_pages))
        .with_state(api)
}

/// Refuses pages that may not speak to a server without tokens, before anything else is looked at.
async fn refuse_foreign_pages(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let checked = api.auth.borrow().check_page(request.headers());
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// What every handler shares.
struct Api {
    auth: watch::Receiver<Auth>,
    link: LinkClient,
    bodies: Bodies,
}

impl Api {
    /// Returns who calls.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        // The driver of this crate is where the clock is read; a clock before 1970 accepts no token.
        self.auth.borrow().caller(headers, SystemTime::now().into())
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
/// Largest body of a request, as of a frame: well over the largest send, so that a content that is too long is told so by
/// its field.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// All bodies together, those that still arrive among them: 128 of the largest.
const BODIES_BYTES_MAX: usize = 128 * REQUEST_BYTES_MAX;
/// How long requests in flight may take once the API stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wire_link::pipe::pipe;

    use super::*;

    #[test]
    fn an_api_whose_link_ends_is_broken() {
        let (endpoint, router) = pipe(1 << 20);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = ApiConfig::new(Auth::InsecureDev { origins: Vec::new() }, "n".to_owned(), 1);
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
