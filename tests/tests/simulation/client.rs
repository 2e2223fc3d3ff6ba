//! The far end of a socket: a client that speaks the protocol, on a socket that takes as many bytes as it likes.

use std::collections::{BTreeMap, VecDeque};

use wire_base::code::Code;
use wire_base::ids::{ConversationId, MessageId, Position, Seq};
use wire_base::message::Message;
use wire_client::json::{encode_request, parse_events};
use wire_client::{Command, Event, Request, StatusUpdate};
use wire_ws::{Input, Item, Opcode, Reader, Rules, encode_close, encode_frame};

use crate::world::Delivery;

/// One connection, as its client sees it.
pub(crate) struct Client {
    /// Index of the device.
    pub(crate) device: usize,
    pub(crate) is_welcomed: bool,
    pub(crate) is_synced: bool,
    /// What it got and has not acked.
    pub(crate) unacked: VecDeque<Position>,
    /// The newest message it got.
    pub(crate) last: Option<Position>,
    /// What it asked and has no answer to.
    pub(crate) asked: BTreeMap<u32, Asked>,
    /// It is gone without a word, and its gateway does not know.
    pub(crate) is_gone: bool,
    /// It has ended its stream.
    pub(crate) has_left: bool,
    /// The gateway has read that.
    pub(crate) is_end_told: bool,
    /// The gateway has closed the socket.
    pub(crate) is_closed: bool,
    /// The gateway does not read for now.
    pub(crate) is_paused: bool,
    /// Bytes that the gateway has not read.
    pub(crate) unread: Vec<u8>,
    /// Bytes that the transport holds, and whether what became of a send is still to be reported.
    pub(crate) unsent: Vec<u8>,
    pub(crate) is_news: bool,
    /// Bytes that its socket takes in a round, and how many of them are left.
    pub(crate) room: usize,
    pub(crate) room_left: usize,
    hello: Vec<u8>,
    is_upgraded: bool,
    received: Vec<u8>,
    reader: Reader,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Hello,
    Letter(Delivery),
    Page,
    /// Answered only if it fails.
    Status,
}

/// What a client learns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Welcome {
        cursor: Position,
        resumed: bool,
    },
    Resync {
        oldest: Position,
    },
    Message(Position, Message),
    Synced(Position),
    Sent {
        id: u32,
        message_id: MessageId,
        conversation: ConversationId,
        seq: Seq,
        timestamp_ms: u64,
        duplicate: bool,
    },
    Rejected {
        id: u32,
        code: Code,
    },
    Failed {
        id: Option<u32>,
        code: Code,
    },
    Page {
        id: u32,
    },
    Status(StatusUpdate),
    /// The gateway says why it closes.
    Farewell(u16),
    /// The socket is closed.
    Closed,
}

impl Client {
    /// Returns a client that asks for an upgrade, and says hello once it has it.
    pub(crate) fn new(device: usize, room: usize, hello: &Request<'_>) -> Self {
        let mut client = Self {
            device,
            is_welcomed: false,
            is_synced: false,
            unacked: VecDeque::new(),
            last: None,
            asked: BTreeMap::new(),
            is_gone: false,
            has_left: false,
            is_end_told: false,
            is_closed: false,
            is_paused: false,
            unread: UPGRADE.as_bytes().to_vec(),
            unsent: Vec::new(),
            is_news: false,
            room,
            room_left: room,
            hello: Vec::new(),
            is_upgraded: false,
            received: Vec::new(),
            reader: Reader::new(),
        };
        client.hello = frame(hello);
        if let Some(id) = hello.id {
            client.asked.insert(id, Asked::Hello);
        }
        client
    }

    /// Returns whether its commands are taken: it was welcomed, and has not left.
    pub(crate) fn is_live(&self) -> bool {
        self.is_welcomed && !self.is_gone && !self.has_left
    }

    /// Says something that has no answer.
    pub(crate) fn say(&mut self, command: Command<'_>) {
        self.unread.extend(frame(&Request { id: None, command }));
    }

    /// Asks something.
    pub(crate) fn ask(&mut self, id: u32, command: Command<'_>, asked: Asked) {
        self.asked.insert(id, asked);
        self.unread.extend(frame(&Request {
            id: Some(id),
            command,
        }));
    }

    /// Goes, with a word or without.
    pub(crate) fn leave(&mut self, is_polite: bool) {
        if is_polite {
            encode_close(&mut self.unread, 1000, "", Some(MASK));
        }
        self.has_left = true;
    }

    /// Takes the end of the socket. What the transport still held is lost.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.has_left = true;
        self.unsent.clear();
    }

    /// Takes as many bytes of the transport as there is room for.
    pub(crate) fn take(&mut self, learn: &mut dyn FnMut(News)) {
        if self.is_gone {
            // The kernel of a fast one goes on taking for a program that hangs.
            if self.room == usize::MAX {
                self.unsent.clear();
            }
            return;
        }
        let taken = self.unsent.len().min(self.room_left);
        self.room_left -= taken;
        self.received.extend(self.unsent.drain(..taken));
        if self.has_left {
            return self.received.clear(); // Nobody looks at it any more.
        }
        if !self.is_upgraded {
            let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                return;
            };
            assert!(
                self.received.starts_with(b"HTTP/1.1 101 "),
                "the upgrade is granted"
            );
            self.received.drain(..end + 4);
            self.is_upgraded = true;
            self.unread.append(&mut self.hello);
        }
        self.parse(learn);
    }

    fn parse(&mut self, learn: &mut dyn FnMut(News)) {
        let mut received = std::mem::take(&mut self.received);
        let mut input = Input::new(&mut received);
        loop {
            let item = self.reader.next(&mut input, &RULES);
            match item.expect("the gateway keeps to RFC 6455") {
                None => return,
                Some(Item::Text(text)) => {
                    let mut each = |event: Event<'_>| learn(News::of(event));
                    parse_events(text, &mut each).expect("the gateway keeps to the protocol");
                }
                Some(Item::Ping(payload)) => {
                    encode_frame(&mut self.unread, Opcode::Pong, payload, Some(MASK));
                }
                Some(Item::Close(close)) => {
                    let code = close.map_or(1005, |close| close.code);
                    learn(News::Farewell(code));
                    encode_close(&mut self.unread, 1000, "", Some(MASK));
                    self.has_left = true;
                    return;
                }
                Some(Item::Binary(_) | Item::Pong(_)) => panic!("a gateway says no such thing"),
            }
        }
    }
}

impl News {
    fn of(event: Event<'_>) -> Self {
        let answered = |id: Option<u32>| id.expect("every question of the simulation has an id");
        match event {
            Event::Welcome(welcome) => Self::Welcome {
                cursor: welcome.cursor,
                resumed: welcome.resumed,
            },
            Event::Resync { oldest, .. } => Self::Resync { oldest },
            Event::Message(shown) => {
                let message = shown.message;
                let body = message.body.encode();
                let position = shown.cursor.expect("a message of an inbox has its place");
                Self::Message(position, message.with_body(body))
            }
            Event::Synced(cursor) => Self::Synced(cursor),
            Event::Sent(sent) => Self::Sent {
                id: answered(sent.id),
                message_id: sent.message_id,
                conversation: sent.conversation,
                seq: sent.seq,
                timestamp_ms: sent.timestamp.0,
                duplicate: sent.duplicate,
            },
            Event::Rejected(rejected) => Self::Rejected {
                id: answered(rejected.id),
                code: rejected.code,
            },
            Event::Error(failure) => Self::Failed {
                id: failure.id,
                code: failure.code,
            },
            Event::History(page) => Self::Page {
                id: answered(page.id),
            },
            Event::Conversations(page) => Self::Page {
                id: answered(page.id),
            },
            Event::StatusUpdate(update) => Self::Status(update),
            Event::Reconnect { .. } | Event::Pong { .. } => panic!("{event:?} was not asked for"),
        }
    }
}

fn frame(request: &Request<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    encode_request(request, &mut text);
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, Opcode::Text, &text, Some(MASK));
    bytes
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const RULES: Rules = Rules::client();
