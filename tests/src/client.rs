//! A client on tokio-tungstenite: a second implementation of RFC 6455, so that ours is not its own judge.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long a test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One WebSocket of a test.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: VecDeque<Value>,
}

/// What arrived: an event, or the close of the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// One event; a batch is taken apart.
    Event(Value),
    /// The close frame's code, or `None` where the stream just ended.
    Closed(Option<u16>),
}

/// How a [`Client`] connects.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Request path; `/ws` when empty.
    pub path: String,
    /// Offered subprotocols.
    pub protocols: Vec<String>,
    /// More headers.
    pub headers: Vec<(String, String)>,
}

impl Client {
    /// Connects to `/ws` with the JSON subprotocol and no token.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let options = ConnectOptions {
            protocols: vec!["tidegate.json.v1".into()],
            ..Default::default()
        };
        Ok(Self::connect_with(address, &options).await?)
    }

    /// Connects as asked.
    ///
    /// Errors: tungstenite's own, so that a test can look at the HTTP status of a refusal.
    pub async fn connect_with(address: SocketAddr, options: &ConnectOptions) -> Result<Self, Error> {
        let path = if options.path.is_empty() {
            "/ws"
        } else {
            &options.path
        };
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let headers = request.headers_mut();
        if !options.protocols.is_empty() {
            headers.insert("sec-websocket-protocol", options.protocols.join(", ").parse()?);
        }
        for (name, value) in &options.headers {
            let name: tokio_tungstenite::tungstenite::http::HeaderName =
                name.parse().map_err(|_| Error::AttackAttempt)?;
            headers.insert(name, value.parse()?);
        }
        let config = WebSocketConfig::default();
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await?;
        Ok(Self {
            socket,
            unread: VecDeque::new(),
        })
    }

    /// Connects and says hello in development mode; returns the client and its `welcome`.
    pub async fn hello(address: SocketAddr, user: u64, device: u32) -> Result<(Self, Value)> {
        Self::resume(address, user, device, None).await
    }

    /// As [`Client::hello`], continuing from a cursor.
    pub async fn resume(
        address: SocketAddr,
        user: u64,
        device: u32,
        cursor: Option<&str>,
    ) -> Result<(Self, Value)> {
        let mut client = Self::connect(address).await?;
        let mut hello = json!({"type": "hello", "user_id": user, "device_id": device, "id": 1});
        if let Some(cursor) = cursor {
            hello["cursor"] = cursor.into();
        }
        client.send(&hello).await?;
        let welcome = client.expect("welcome").await?;
        Ok((client, welcome))
    }

    /// Connects, says hello and waits until the (empty or skipped) backlog is over.
    pub async fn live(address: SocketAddr, user: u64, device: u32) -> Result<Self> {
        let (mut client, _) = Self::hello(address, user, device).await?;
        client.until("synced").await?;
        Ok(client)
    }

    /// As [`Client::live`], acking a backlog on the way, however long it is.
    pub async fn live_skipping(address: SocketAddr, user: u64, device: u32) -> Result<Self> {
        let (mut client, _) = Self::hello(address, user, device).await?;
        loop {
            let event = client.event().await?;
            match event["type"].as_str() {
                Some("synced") => return Ok(client),
                Some("message") => client.ack(event["cursor"].as_str().unwrap_or_default()).await?,
                _ => {}
            }
        }
    }

    /// Sends a JSON value as a text frame.
    pub async fn send(&mut self, value: &Value) -> Result<()> {
        self.send_text(&value.to_string()).await
    }

    /// Sends any text frame.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// Sends any frame.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends several frames with one write.
    pub async fn send_together(&mut self, messages: Vec<Message>) -> Result<()> {
        for message in messages {
            self.socket.feed(message).await?;
        }
        Ok(self.socket.flush().await?)
    }

    /// Sends a text message to a user; returns the `sent` or `rejected`.
    pub async fn message(&mut self, receiver: u64, message_id: &str, content: &str) -> Result<Value> {
        self.send(&json!({"type": "send", "id": 7, "receiver_id": receiver, "message_id": message_id, "content": content})).await?;
        let mut passed = VecDeque::new();
        let answer = loop {
            let event = self.event().await?;
            if event["type"] == "sent" || event["type"] == "rejected" {
                break event;
            }
            passed.push_back(event);
        };
        passed.append(&mut self.unread);
        self.unread = passed;
        Ok(answer)
    }

    /// Acknowledges everything up to a cursor.
    pub async fn ack(&mut self, cursor: &str) -> Result<()> {
        self.send(&json!({"type": "ack", "cursor": cursor})).await
    }

    /// Returns the next arrival within [`PATIENCE`].
    pub async fn arrival(&mut self) -> Result<Arrival> {
        if let Some(event) = self.unread.pop_front() {
            return Ok(Arrival::Event(event));
        }
        self.arrival_within(PATIENCE).await?.context("nothing arrived")
    }

    /// Returns what arrives from the socket within a time, or `None`.
    pub async fn arrival_within(&mut self, within: Duration) -> Result<Option<Arrival>> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(event) = self.unread.pop_front() {
                return Ok(Some(Arrival::Event(event)));
            }
            let next = match tokio::time::timeout_at(deadline, self.socket.next()).await {
                Err(_) => return Ok(None),
                Ok(next) => next,
            };
            match next {
                None | Some(Err(_)) => return Ok(Some(Arrival::Closed(None))),
                Some(Ok(Message::Text(text))) => {
                    let value: Value =
                        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
                    self.take_apart(value)?;
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    // Reading on lets tungstenite answer the close.
                    let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.next()).await;
                    return Ok(Some(Arrival::Closed(code)));
                }
                Some(Ok(Message::Binary(_))) => bail!("a binary frame on a JSON connection"),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            }
        }
    }

    /// Returns the text of the next frame as it came, a batch in one piece.
    pub async fn frame(&mut self) -> Result<String> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.context("nothing arrived")?.context("the stream ended")?? {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// Returns the next event; an error where the connection closed instead.
    pub async fn event(&mut self) -> Result<Value> {
        match self.arrival_within(PATIENCE).await? {
            None => bail!("nothing arrived"),
            Some(Arrival::Event(event)) => Ok(event),
            Some(Arrival::Closed(code)) => bail!("closed with {code:?}"),
        }
    }

    /// Returns the next event and checks its type.
    pub async fn expect(&mut self, kind: &str) -> Result<Value> {
        let event = self.arrival().await?;
        match event {
            Arrival::Event(event) if event["type"] == kind => Ok(event),
            other => bail!("expected {kind}, got {other:?}"),
        }
    }

    /// Returns every event up to and with the first of a type.
    pub async fn until(&mut self, kind: &str) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        loop {
            let event = match self.arrival().await? {
                Arrival::Event(event) => event,
                Arrival::Closed(code) => bail!("closed with {code:?} before {kind}; had {events:?}"),
            };
            let done = event["type"] == kind;
            events.push(event);
            if done {
                return Ok(events);
            }
        }
    }

    /// Waits for the close and returns its code.
    pub async fn close_code(&mut self) -> Result<Option<u16>> {
        loop {
            if let Arrival::Closed(code) = self.arrival().await? {
                return Ok(code);
            }
        }
    }

    /// Checks that nothing but control frames arrives for a while.
    pub async fn quiet(&mut self, time: Duration) -> Result<()> {
        match self.arrival_within(time).await? {
            None => Ok(()),
            Some(arrival) => bail!("expected nothing, got {arrival:?}"),
        }
    }

    fn take_apart(&mut self, value: Value) -> Result<()> {
        if value["type"] != "batch" {
            self.unread.push_back(value);
            return Ok(());
        }
        let Value::Array(messages) = value["messages"].clone() else {
            bail!("a batch without messages: {value}")
        };
        if messages.is_empty() || messages.len() > 100 {
            bail!("a batch of {} messages", messages.len());
        }
        self.unread.extend(messages);
        Ok(())
    }
}
