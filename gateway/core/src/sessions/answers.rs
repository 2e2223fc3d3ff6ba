//! Router to client: each record becomes an event, or a change of the session.

use bytes::Bytes;
use wire_base::ids::ConnectionHandle;
use wire_client::{Event, Sent};
use wire_link::codec::decode_from_router;
use wire_link::{
    ConversationsPageRecord, FailedRecord, FromRouter, HistoryPageRecord, LinkId, RejectedRecord, RequestId,
    SentRecord, Synced,
};

use super::commands::message_id_of;
use super::pending::Request;
use super::session::{Flags, Stage};
use super::{Refused, Session, Sessions};
use crate::connections::{Connections, Pauses};
use crate::limits::CONNECTION_PENDING_LOW;
use crate::output::Output;
use crate::routes::RouterId;
use crate::time::Now;

impl Sessions {
    /// Takes a batch of records.
    pub(super) fn handle_batch(
        &mut self,
        connections: &mut Connections<Session>,
        link: LinkId,
        router: RouterId,
        batch: Bytes,
        now: Now,
    ) {
        connections.stats.link_batches_received += 1;
        for record in decode_from_router(batch) {
            match record {
                Ok(record) => self.handle_record(connections, router, record, now),
                Err(_) => {
                    connections.stats.link_batches_bad += 1;
                    connections.push_output(Output::CloseLink(link));
                }
            }
        }
    }

    fn handle_record(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        record: FromRouter,
        now: Now,
    ) {
        match record {
            FromRouter::Deliver(deliver) => self.deliver(connections, router, &deliver, now),
            FromRouter::Sent(sent) => self.handle_sent(connections, router, &sent, now),
            FromRouter::SessionOpened(opened) => self.handle_opened(connections, router, &opened, now),
            FromRouter::SessionRefused(refused) => self.handle_refused(connections, router, &refused, now),
            FromRouter::SessionReplaced(replaced) => {
                self.handle_replaced(connections, router, &replaced, now)
            }
            FromRouter::Synced(synced) => self.handle_synced(connections, router, synced, now),
            FromRouter::StatusUpdate(update) => self.handle_status_update(connections, &update, now),
            FromRouter::Rejected(rejected) => self.handle_rejected(connections, router, &rejected, now),
            FromRouter::HistoryPage(page) => self.handle_history(connections, router, &page, now),
            FromRouter::ConversationsPage(page) => self.handle_conversations(connections, router, &page, now),
            FromRouter::Done(request) => {
                self.take_request(connections, router, request, now);
            }
            FromRouter::Failed(failed) => self.handle_failed(connections, router, &failed, now),
        }
    }

    fn handle_sent(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        sent: &SentRecord,
        now: Now,
    ) {
        let Some(request) = self.take_request(connections, router, sent.request, now) else {
            return;
        };
        let event = Event::Sent(Sent {
            id: request.id,
            message_id: sent.message_id,
            conversation: sent.conversation,
            seq: sent.seq,
            timestamp: sent.timestamp,
            duplicate: sent.duplicate,
        });
        self.send_event(connections, request.connection, &event, now);
    }

    fn handle_rejected(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        rejected: &RejectedRecord,
        now: Now,
    ) {
        let Some(request) = self.take_request(connections, router, rejected.request, now) else {
            return;
        };
        let refused = Refused {
            code: rejected.code,
            reason: &rejected.reason,
        };
        let event = refused.rejected(request.id, message_id_of(request.kind), rejected.retry_after_ms);
        self.send_rejected(connections, request.connection, event, now);
    }

    fn handle_failed(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        failed: &FailedRecord,
        now: Now,
    ) {
        let Some(request) = self.take_request(connections, router, failed.request, now) else {
            return;
        };
        let refused = Refused {
            code: failed.code,
            reason: &failed.reason,
        };
        self.send_error(connections, request.connection, refused.failure(request.id), now);
    }

    /// Tells a client, once, that its backlog is over; a session announced again may have none.
    fn handle_synced(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        synced: Synced,
        now: Now,
    ) {
        let uplinks = &self.uplinks;
        let is_first = |session: &&mut Session| {
            session.stage == Stage::Live
                && !session.flags.contains(Flags::SYNCED)
                && uplinks.owns(router, session)
        };
        if let Some(session) = connections.session_mut(synced.connection).filter(is_first) {
            session.flags.set(Flags::SYNCED, true);
            session.take_synced(synced.cursor);
            self.send_event(connections, synced.connection, &Event::Synced(synced.cursor), now);
        }
    }

    fn handle_history(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        page: &HistoryPageRecord,
        now: Now,
    ) {
        let Some(request) = self.take_request(connections, router, page.request, now) else {
            return;
        };
        let event = |count| Event::History(page.shown(request.id, count));
        self.send_page(connections, request.connection, page.messages.len(), event, now);
    }

    fn handle_conversations(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        page: &ConversationsPageRecord,
        now: Now,
    ) {
        let Some(request) = self.take_request(connections, router, page.request, now) else {
            return;
        };
        let event = |count| Event::Conversations(page.shown(request.id, count));
        self.send_page(
            connections,
            request.connection,
            page.conversations.len(),
            event,
            now,
        );
    }

    /// Sends as many entries of a page as a frame holds; `event` shows the first so many of them.
    fn send_page<'a>(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        entries: usize,
        event: impl Fn(usize) -> Event<'a>,
        now: Now,
    ) {
        if let Some(format) = connections.session(id).map(Session::format) {
            connections.send_event(id, format, now, |out| format.encode_page(entries, event, out));
        }
    }

    /// Takes the request of a router's answer; `None` if nobody waits for it any more.
    fn take_request(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        request: RequestId,
        now: Now,
    ) -> Option<Request> {
        let Some(request) = self.pending.take_from(router, request) else {
            connections.stats.answers_late += 1;
            return None;
        };
        self.end_request(connections, &request, now);
        Some(request)
    }

    /// Notes that a request has its answer; a connection that had too many without one is read again.
    pub(super) fn end_request(&self, connections: &mut Connections<Session>, request: &Request, now: Now) {
        let Some(session) = connections.session_mut(request.connection) else {
            return;
        };
        session.pending = session.pending.saturating_sub(1);
        if session.pending <= CONNECTION_PENDING_LOW {
            connections.resume(request.connection, Pauses::PENDING, now);
        }
    }
}
