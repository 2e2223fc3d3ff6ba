//! Received bytes to messages and control frames.

use wire_base::ids::ConnectionHandle;
use wire_ws::{Input, Item, Opcode};

use super::Hub;
use crate::application::Application;
use crate::connections::{Held, Phase};
use crate::disconnect::Reason;
use crate::limits::{HELD_BYTES_MAX, MESSAGE_MS_MAX};
use crate::output::Output;
use crate::time::{Now, Stamp};

impl<A: Application> Hub<A> {
    /// Handles every frame in `bytes`, until the connection ends or is no longer read; then the rest is kept.
    pub(super) fn read_frames(&mut self, id: ConnectionHandle, bytes: &mut [u8], now: Now) {
        let mut input = Input::new(bytes);
        let was_partial = self
            .connections
            .get(id)
            .is_some_and(|conn| conn.reader.is_partial());
        let mut is_message_complete = false;
        loop {
            let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.is_readable()) else {
                self.hold(id, input.rest(), now);
                return;
            };
            let held_before = conn.reader.partial_bytes();
            let item = conn.reader.next(&mut input, &self.rules);
            let held = conn.reader.partial_bytes();
            if held != held_before {
                self.connections.stats.input_bytes =
                    self.connections.stats.input_bytes + held as u64 - held_before as u64;
            }
            match item {
                Ok(Some(item)) => {
                    is_message_complete |= matches!(item, Item::Text(_) | Item::Binary(_));
                    self.handle_item(id, item, now);
                }
                Ok(None) => break,
                Err(violation) => self.connections.close_violation(id, violation, now),
            }
        }
        if self
            .connections
            .get(id)
            .is_some_and(|conn| conn.reader.is_partial())
        {
            self.watch_partial(id, !was_partial || is_message_complete, now);
        }
    }

    /// Handles the input that waited while a connection was paused, and reads on unless it is paused again.
    pub(super) fn read_held(&mut self, id: ConnectionHandle, now: Now) {
        if !self.connections.get(id).is_some_and(|conn| conn.is_readable()) {
            return;
        }
        let held = self
            .connections
            .change_input(id, |conn| conn.held.take())
            .flatten();
        if let Some(Held::Frames(mut bytes)) = held.map(|held| *held) {
            self.read_frames(id, &mut bytes, now);
        }
        if self.connections.get(id).is_some_and(|conn| conn.is_readable()) {
            self.connections.push_output(Output::ResumeReading(id));
        }
    }

    fn handle_item(&mut self, id: ConnectionHandle, item: Item<'_>, now: Now) {
        self.connections.stats.frames_received += 1;
        match item {
            Item::Text(text) => self.application.handle_text(&mut self.connections, id, text, now),
            Item::Binary(bytes) => self
                .application
                .handle_binary(&mut self.connections, id, bytes, now),
            Item::Ping(payload) => {
                if self.count_ping(id, now) {
                    self.connections.send_frame(id, Opcode::Pong, payload, now);
                }
            }
            Item::Pong(_) => {
                self.count_ping(id, now);
            }
            Item::Close(frame) => self.connections.answer_close(id, frame, now),
        }
    }

    /// Counts a ping or pong; closes the connection and returns `false` when there are too many.
    fn count_ping(&mut self, id: ConnectionHandle, now: Now) -> bool {
        let may = self.connections.count_ping(id, now);
        if !may {
            self.connections.close(id, Reason::PingFlood, now);
        }
        may
    }

    /// Keeps what came before reading stopped.
    fn hold(&mut self, id: ConnectionHandle, rest: &[u8], now: Now) {
        let is_open = self
            .connections
            .get(id)
            .is_some_and(|conn| conn.phase == Phase::Open);
        if rest.is_empty() || !is_open {
            return;
        }
        let held = self.connections.change_input(id, |conn| {
            if let Some(Held::Frames(bytes)) = conn.held.as_deref_mut() {
                bytes.extend_from_slice(rest);
            } else {
                conn.held = Some(Box::new(Held::Frames(rest.to_vec())));
            }
            conn.input_bytes()
        });
        if held.is_some_and(|bytes| bytes > HELD_BYTES_MAX) {
            self.connections.close(id, Reason::Internal, now); // The driver reads on although it was told to pause.
        }
        self.keep_input_total(id, now);
    }

    /// Bounds how long the incomplete message of a connection may take, and how much all of them may hold.
    fn watch_partial(&mut self, id: ConnectionHandle, is_new: bool, now: Now) {
        if is_new && let Some(conn) = self.connections.get_mut(id) {
            conn.partial_since = Stamp::of(now);
            self.connections.wake_at(id, now.mono_ms + MESSAGE_MS_MAX);
        }
        self.keep_input_total(id, now);
    }

    fn keep_input_total(&mut self, id: ConnectionHandle, now: Now) {
        if self.connections.stats.input_bytes > self.connections.config.input_total_bytes_max as u64 {
            self.connections.close(id, Reason::Overloaded, now);
        }
    }
}
