//! Peers that hold what others need: half heads, half bodies, unread answers, and the end of the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use bounded_http::body::Bodies;
use bounded_http::{Bounds, HEAD_TIMEOUT, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A server with room for two connections.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = std::sync::Arc::new(Bodies::new(1 << 20, 1 << 20));
        let length = move |request: Request| {
            let bodies = std::sync::Arc::clone(&bodies);
            async move {
                bodies
                    .read(request)
                    .await
                    .map(|body| body.len().to_string())
                    .unwrap_or_default()
            }
        };
        let slowly = || async {
            sleep(Duration::from_secs(1)).await;
            "slow"
        };
        let routes = Router::new()
            .route("/", get(|| async { "ok" }))
            .route("/slow", get(slowly))
            .route("/large", get(|| async { vec![b'x'; 32 << 20] }))
            .route("/length", post(length));
        let bounds = Bounds {
            name: "the test",
            connections_max: 2,
            drain_timeout: Duration::from_millis(300),
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(listener, routes, bounds, stopped));
        Self {
            address,
            stop,
            serving,
        }
    }

    async fn write(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    async fn assert_answers(&self) {
        let mut stream = self
            .write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await;
        let answer = timeout(Duration::from_secs(2), read_all(&mut stream)).await;
        assert!(answer.expect("no answer").ends_with("\r\n\r\nok"));
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset tells no less than an end.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn whoever_waits_for_its_peer_makes_room_for_the_next() {
    let server = Server::start().await;
    let waiting = [
        "",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1234",
        "GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    for request in waiting {
        let _held = [
            server.write(request).await,
            server.write(request).await,
            server.write(request).await,
        ];
        // Until each has taken its place, and the larger answers fill what the kernel holds.
        sleep(Duration::from_millis(100)).await;
        for _ in 0..3 {
            server.assert_answers().await;
        }
    }
}

#[tokio::test]
async fn a_request_that_is_worked_on_is_answered_however_many_come() {
    let server = Server::start().await;
    let mut slow = server
        .write("GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    sleep(Duration::from_millis(100)).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(server.write("GET / HTTP/1.1\r\n").await);
    }
    server.assert_answers().await;
    assert!(read_all(&mut slow).await.ends_with("slow"));
}

#[tokio::test]
async fn a_head_has_an_absolute_deadline() {
    let server = Server::start().await;
    let mut stream = server.write("GET / HTTP/1.1\r\nX: ").await;
    let started = Instant::now();
    while started.elapsed() < HEAD_TIMEOUT * 2 && stream.write_all(b"x").await.is_ok() {
        sleep(Duration::from_millis(200)).await;
    }
    assert!(
        started.elapsed() < HEAD_TIMEOUT * 2,
        "still taken after {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn the_end_waits_for_requests_and_not_for_peers() {
    let server = Server::start().await;
    let mut length = server
        .write("POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n12")
        .await;
    let _half = server.write("GET / HTTP/1.1\r\n").await;
    sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    sleep(Duration::from_millis(50)).await;
    length.write_all(b"34").await.unwrap();
    assert!(read_all(&mut length).await.ends_with("\r\n\r\n4"));
    timeout(Duration::from_secs(5), server.serving)
        .await
        .expect("it ends")
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
