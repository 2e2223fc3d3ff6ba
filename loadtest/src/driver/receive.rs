//! What a socket received: first the answer to the upgrade, then frames.

use std::io;

use runtime::Reactor;
use wire_ws::upgrade::{Accepted, HeadScan, ResponseError, parse_response};
use wire_ws::{Input, Item, Rules};

use super::peer::{State, Upgrade};
use super::{READ_BYTES, Worker};
use crate::clock::Ns;
use crate::funnel::{Ending, Stage};
use crate::population::{Message, Population};

impl<R: Reactor, P: Population> Worker<R, P> {
    /// Reads what has arrived, at most [`READS_PER_TURN`] buffers of it.
    pub(super) fn read(&mut self, client: u32) {
        for _ in 0..READS_PER_TURN {
            let Some(socket) = self.clients.entries[client as usize].link.socket else {
                return;
            };
            let mut buffer = std::mem::take(&mut self.received);
            let result = self.reactor.recv(socket, &mut buffer);
            let outcome = match result {
                Ok(0) => Err(Ending::EndOfStream),
                Ok(bytes) => self
                    .handle_bytes(client, &mut buffer[..bytes])
                    .map(|()| bytes < READ_BYTES),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(Ending::Io(error.kind())),
            };
            self.received = buffer;
            match outcome {
                Ok(true) => return,
                Ok(false) => {}
                Err(ending) => return self.end(client, ending),
            }
        }
        self.unread.push(client);
    }

    /// Takes the bytes of one read apart.
    ///
    /// Errors: the connection is over.
    fn handle_bytes(&mut self, client: u32, bytes: &mut [u8]) -> Result<(), Ending> {
        let now = self.now();
        let link = &mut self.clients.entries[client as usize].link;
        let frames = match &mut link.upgrade {
            None => bytes,
            Some(upgrade) => match take_response(upgrade, bytes, self.assignment.route.subprotocols)? {
                None => return Ok(()),
                Some(head_bytes) => {
                    link.upgrade = None;
                    link.state = State::Open;
                    self.clients
                        .shared
                        .funnel
                        .reach(Stage::Upgrade, now.since(link.since));
                    self.population.handle_open(&mut self.clients.peer(client), now);
                    &mut bytes[head_bytes..]
                }
            },
        };
        self.handle_frames(client, frames, now)?;
        self.population
            .handle_read_end(&mut self.clients.peer(client), now);
        Ok(())
    }

    fn handle_frames(&mut self, client: u32, bytes: &mut [u8], now: Ns) -> Result<(), Ending> {
        let mut input = Input::new(bytes);
        loop {
            let link = &mut self.clients.entries[client as usize].link;
            let item = match link.reader.next(&mut input, &RULES) {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(violation) => {
                    self.clients.peer(client).close(violation.close_code());
                    return Err(Ending::Violation(violation.close_code()));
                }
            };
            let mut peer = self.clients.peer(client);
            match item {
                Item::Text(text) => self
                    .population
                    .handle_message(&mut peer, Message::Text(text), now),
                Item::Binary(bytes) => self
                    .population
                    .handle_message(&mut peer, Message::Binary(bytes), now),
                Item::Ping(payload) => peer.pong(payload),
                Item::Pong(_) => {}
                Item::Close(frame) => {
                    peer.close(frame.map_or(1000, |frame| frame.code));
                    return Err(Ending::closed(frame));
                }
            }
            if let Some(ending) = self.clients.entries[client as usize].link.abandoned.take() {
                self.clients.peer(client).close(1000);
                return Err(*ending);
            }
        }
    }
}

/// Takes the answer to an upgrade; returns how many of `bytes` it was once it is whole.
fn take_response(
    upgrade: &mut Upgrade,
    bytes: &[u8],
    subprotocols: &[&str],
) -> Result<Option<usize>, Ending> {
    let Some(head_bytes) = upgrade
        .head
        .push(bytes)
        .map_err(|_| Ending::BadUpgrade("not an HTTP response"))?
    else {
        return Ok(None);
    };
    let parsed = parse_response(
        upgrade.head.as_bytes(),
        &mut HeadScan::new(),
        &upgrade.key,
        subprotocols,
    );
    match parsed {
        Ok(Some((Accepted { subprotocol }, _))) if subprotocol.is_some() || subprotocols.is_empty() => {
            Ok(Some(head_bytes))
        }
        Ok(_) => Err(Ending::BadUpgrade("no subprotocol chosen")),
        Err(ResponseError::Status(status)) => Err(Ending::Status(status)),
        Err(ResponseError::NotUpgraded) => Err(Ending::BadUpgrade("not upgraded")),
        Err(ResponseError::WrongAccept) => Err(Ending::BadUpgrade("wrong Sec-WebSocket-Accept")),
        Err(_) => Err(Ending::BadUpgrade("malformed response")),
    }
}

const RULES: Rules = Rules::client();
const READS_PER_TURN: u32 = 4;
