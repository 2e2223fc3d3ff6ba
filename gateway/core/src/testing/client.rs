//! The far end of a socket.

use std::collections::VecDeque;

use serde_json::Value;
use wire_ws::{Input, Item, Opcode, Reader, Rules, encode_frame};

/// What a client has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
}

pub(crate) struct Client {
    /// Bytes it sent that the hub has not read.
    pub(crate) unread: Vec<u8>,
    pub(crate) is_paused: bool,
    /// Bytes its socket still takes.
    pub(crate) room: usize,
    /// What its transport holds.
    pub(crate) unsent: Vec<u8>,
    /// What became of a send is still to be reported.
    pub(crate) is_news: bool,
    /// The server ends its stream once the transport holds nothing.
    pub(crate) is_ending: bool,
    /// The server has ended its stream.
    pub(crate) is_ended: bool,
    /// The server has closed the socket.
    pub(crate) is_closed: bool,
    /// The response to the upgrade.
    pub(crate) response: String,
    pub(crate) seen: VecDeque<Seen>,
    /// Payload sizes of the text frames received.
    pub(crate) text_bytes: Vec<usize>,
    received: Vec<u8>,
    reader: Reader,
    events: VecDeque<Value>,
    rules: Rules,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            unread: Vec::new(),
            is_paused: false,
            room: usize::MAX,
            unsent: Vec::new(),
            is_news: false,
            is_ending: false,
            is_ended: false,
            is_closed: false,
            response: String::new(),
            seen: VecDeque::new(),
            text_bytes: Vec::new(),
            received: Vec::new(),
            reader: Reader::new(),
            events: VecDeque::new(),
            rules: Rules {
                message_bytes_max: 1 << 30,
                frame_bytes_max: 1 << 30,
                ..Rules::client()
            },
        }
    }
}

impl Client {
    /// Takes what there is room for.
    pub(crate) fn take(&mut self) {
        let taken = self.unsent.len().min(self.room);
        if self.room != usize::MAX {
            self.room -= taken;
        }
        self.received.extend(self.unsent.drain(..taken));
        self.parse();
    }

    /// Returns the status of the response; 0 without one.
    pub(crate) fn status(&self) -> u16 {
        self.response
            .get(9..12)
            .map_or(0, |status| status.parse().unwrap())
    }

    /// Returns the next event, taken out of its batch.
    pub(crate) fn event(&mut self) -> Option<Value> {
        while self.events.is_empty() {
            let text = loop {
                match self.seen.pop_front()? {
                    Seen::Text(text) => break text,
                    Seen::Close(code, reason) => {
                        self.seen.push_front(Seen::Close(code, reason));
                        return None;
                    }
                    _ => {}
                }
            };
            let object: Value = serde_json::from_str(&text).unwrap();
            if object["type"] == "batch" {
                let messages = object["messages"].as_array().unwrap();
                assert!(
                    (2..=100).contains(&messages.len()),
                    "a batch of {}",
                    messages.len()
                );
                self.events.extend(messages.iter().cloned());
            } else {
                self.events.push_back(object);
            }
        }
        self.events.pop_front()
    }

    /// Returns every event so far.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.event()).collect()
    }

    /// Returns the types of every event so far.
    pub(crate) fn types(&mut self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the code of the close frame, which is the last thing seen; 0 without one.
    pub(crate) fn close_code(&self) -> u16 {
        match self.seen.back() {
            Some(Seen::Close(code, _)) => *code,
            _ => 0,
        }
    }

    fn parse(&mut self) {
        if self.response.is_empty() {
            let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else {
                return;
            };
            let head = String::from_utf8(self.received.drain(..end + 4).collect()).unwrap();
            self.response = head;
        }
        if self.status() != 101 {
            self.response
                .push_str(std::str::from_utf8(&self.received).unwrap());
            self.received.clear();
            return;
        }
        let mut input = Input::new(&mut self.received);
        while let Some(item) = self
            .reader
            .next(&mut input, &self.rules)
            .expect("the server keeps to RFC 6455")
        {
            assert!(
                !matches!(self.seen.back(), Some(Seen::Close(..))),
                "something behind a close frame"
            );
            self.seen.push_back(match item {
                Item::Text(text) => {
                    self.text_bytes.push(text.len());
                    Seen::Text(text.to_owned())
                }
                Item::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Item::Ping(_) => Seen::Ping,
                Item::Pong(payload) => Seen::Pong(payload.to_vec()),
                Item::Close(frame) => frame.map_or(Seen::Close(1005, String::new()), |frame| {
                    Seen::Close(frame.code, frame.reason.to_owned())
                }),
            });
        }
        self.received.clear();
    }
}

/// Returns a client's frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(&mut out, opcode, payload, Some([0x12, 0x34, 0x56, 0x78]));
    out
}

/// Returns a request for an upgrade, with header lines.
pub(crate) fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:9000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}
