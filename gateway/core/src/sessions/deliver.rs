//! Fan-out: what goes to many connections is encoded once in each format that is spoken among them.

use std::rc::Rc;

use wire_base::ids::Position;
use wire_client::{Event, Format, ShownMessage, StatusUpdate};
use wire_link::{Deliver, StatusUpdateRecord};

use super::session::Stage;
use super::{Session, Sessions};
use crate::connections::Connections;
use crate::event::{Key, SharedEvent};
use crate::routes::RouterId;
use crate::time::Now;

impl Sessions {
    /// Forwards a message to every connection that is named and has not had it.
    ///
    /// Order: what comes late from a router that a user has left is not forwarded. The new one begins where this connection was
    /// when it was announced there, and anything taken from both could leave a gap.
    pub(super) fn deliver(
        &self,
        connections: &mut Connections<Session>,
        router: RouterId,
        deliver: &Deliver,
        now: Now,
    ) {
        let mut encoded = Encoded::default();
        let is_shared = deliver.to.len() > 1;
        for &(id, position) in &deliver.to {
            let Some(session) = connections
                .session_mut(id)
                .filter(|session| session.stage == Stage::Live && self.uplinks.owns(router, session))
            else {
                continue;
            };
            if !session.try_forward(position) {
                connections.stats.messages_repeated += 1;
                continue;
            }
            let format = session.format();
            connections.stats.messages_delivered += 1;
            if is_shared {
                let message = || SharedEvent::message(format, &ShownMessage::new(&deliver.message, None));
                connections.send_shared(id, encoded.in_format(format, message), position, now);
            } else {
                let event = Event::Message(ShownMessage::new(&deliver.message, Some(position)));
                connections.send_event(id, format, now, |out| format.encode(&event, out));
            }
        }
    }

    /// Tells everybody who is named of a watermark. Where an earlier one of the same user still waits, it takes its place:
    /// watermarks only rise.
    pub(super) fn handle_status_update(
        &self,
        connections: &mut Connections<Session>,
        update: &StatusUpdateRecord,
        now: Now,
    ) {
        let key = Key::Status(update.conversation, update.user, update.status);
        let event = Event::StatusUpdate(StatusUpdate {
            conversation: update.conversation,
            user: update.user,
            status: update.status,
            seq: update.seq,
            message_id: update.message_id,
        });
        let mut encoded = Encoded::default();
        for &id in &update.to {
            let Some(session) = connections
                .session(id)
                .filter(|session| session.stage == Stage::Live)
            else {
                continue;
            };
            let format = session.format();
            let update = encoded.in_format(format, || SharedEvent::replacing(format, key, &event));
            connections.send_shared(id, update, Position::default(), now);
        }
    }
}

/// One event in the formats that were asked for.
#[derive(Default)]
struct Encoded([Option<Rc<SharedEvent>>; Format::COUNT]);

impl Encoded {
    fn in_format(&mut self, format: Format, encode: impl FnOnce() -> Rc<SharedEvent>) -> &Rc<SharedEvent> {
        self.0[format.index()].get_or_insert_with(encode)
    }
}
