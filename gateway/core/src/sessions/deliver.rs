//! Fan-out: one message for many connections is encoded once, and only its cursor is written anew for each.

use wire_base::ids::Position;
use wire_client::Event;
use wire_client::json::encode_event;
use wire_link::Deliver;

use super::session::Stage;
use super::{Session, Sessions};
use crate::connections::Connections;
use crate::time::Now;

impl Sessions {
    /// Forwards a message to every connection that is named and has not had it.
    pub(super) fn deliver(&mut self, connections: &mut Connections<Session>, deliver: &Deliver, now: Now) {
        let Some(&(_, first)) = deliver.to.first() else {
            return;
        };
        self.scratch.clear();
        encode_event(
            &Event::Message(deliver.message.shown(Some(first))),
            &mut self.scratch,
        );
        let cursor_at = cursor_at(&self.scratch);
        for &(id, position) in &deliver.to {
            let Some(session) = connections
                .session_mut(id)
                .filter(|session| session.stage == Stage::Live)
            else {
                continue;
            };
            if !session.try_forward(position) {
                connections.stats.messages_repeated += 1;
                continue;
            }
            self.scratch[cursor_at..cursor_at + Position::TEXT_BYTES].copy_from_slice(&position.to_text());
            connections.stats.messages_delivered += 1;
            connections.send_object(id, &self.scratch, now);
        }
    }
}

/// Returns where the text of the cursor begins in an encoded message.
///
/// Shape: a quote inside of a JSON string is escaped, so no content can look like the field.
fn cursor_at(object: &[u8]) -> usize {
    let field = object
        .windows(CURSOR_FIELD.len())
        .position(|window| window == CURSOR_FIELD);
    field.expect("a message encoded with a cursor has the field") + CURSOR_FIELD.len()
}

const CURSOR_FIELD: &[u8] = br#""cursor":""#;
