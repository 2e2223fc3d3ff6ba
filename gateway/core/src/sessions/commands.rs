//! Client to router: each command becomes a record, or is answered at once.

use wire_base::code::Code;
use wire_base::ids::{ConnectionHandle, ConversationId, MessageId, Position};
use wire_base::message::{Draft, Target};
use wire_base::slots::Slot;
use wire_base::status::StatusOf;
use wire_client::json::{BadCommand, BadKind, FrameKind, parse_frame};
use wire_client::{Command, Event, Request, Send, SendBody};
use wire_link::{ConversationsRecord, HistoryRecord, RequestId, SendRecord, StatusRecord, ToRouter};

use super::pending::{self, Kind};
use super::session::{Flags, Stage};
use super::{Auth, Refused, Session, Sessions};
use crate::connections::{Connections, Pauses};
use crate::disconnect::Reason;
use crate::limits::{BUSY_RETRY_MS, CONNECTION_PENDING_MAX};
use crate::routes::RouterId;
use crate::time::Now;

/// What decides about the router of a command.
#[derive(Clone, Copy)]
enum To {
    /// The session's user.
    User,
    /// A conversation.
    Conversation(ConversationId),
    /// The conversation of the session's user with another, or of a group.
    Target(Target),
}

/// A command under way: who gave it, and what its answer repeats.
#[derive(Clone, Copy)]
struct CommandContext {
    connection: ConnectionHandle,
    id: Option<u32>,
    kind: Kind,
}

impl Sessions {
    /// Runs every command of a text frame, in order.
    pub(super) fn handle_frame(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        text: &str,
        now: Now,
    ) {
        let frame = parse_frame(text, &mut |parsed| {
            // A command of this frame may have ended the connection.
            if connections.is_open(id) {
                match parsed {
                    Ok(request) => self.handle_command(connections, id, request, now),
                    Err(bad) => self.handle_bad_command(connections, id, &bad, now),
                }
            }
        });
        // Also a batch without commands is one.
        if frame == FrameKind::Batch && is_before_hello(connections, id) {
            connections.close(id, Reason::CommandBeforeHello, now);
        }
    }

    fn handle_command(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        request: Request<'_>,
        now: Now,
    ) {
        connections.stats.commands += 1;
        let Some(stage) = connections.session(id).map(|session| session.stage) else {
            return;
        };
        let context = CommandContext {
            connection: id,
            id: request.id,
            kind: kind_of(&request.command),
        };
        match request.command {
            Command::Hello(hello) => self.hello(connections, id, request.id, &hello, now),
            _ if stage == Stage::Hello => connections.close(id, Reason::CommandBeforeHello, now),
            _ if stage == Stage::Refused => self.answer_no_session(connections, context, now),
            Command::Send(send) => self.send(connections, context, send, now),
            Command::Ack(position) => self.ack(connections, id, position),
            Command::Status(command) => {
                let to = match command.of {
                    StatusOf::Message(_) => To::User,
                    StatusOf::Seq(conversation, _) => To::Conversation(conversation),
                };
                self.ask(connections, context, to, now, |request, session| {
                    let (user, device) = (session.user()?, session.device()?);
                    Some(ToRouter::Status(StatusRecord {
                        request,
                        user,
                        device,
                        command,
                    }))
                });
            }
            Command::History(history) => {
                let to = To::Conversation(history.conversation);
                self.ask(connections, context, to, now, |request, session| {
                    Some(ToRouter::History(HistoryRecord {
                        request,
                        user: session.user()?,
                        conversation: history.conversation,
                        before: history.before,
                        limit: history.limit,
                    }))
                });
            }
            Command::Conversations(page) => {
                self.ask(connections, context, To::User, now, |request, session| {
                    let before = page.before.map(str::to_owned);
                    let user = session.user()?;
                    Some(ToRouter::Conversations(ConversationsRecord {
                        request,
                        user,
                        limit: page.limit,
                        before,
                    }))
                });
            }
            Command::Refresh(token) => self.refresh(connections, id, request.id, token, now),
            Command::Ping => {
                self.send_event(
                    connections,
                    id,
                    &Event::Pong {
                        id: request.id,
                        server_time: now.unix,
                    },
                    now,
                );
            }
            Command::Typing(_) => self.answer_unsupported(connections, context, "type: typing", now),
            Command::Presence(_) => self.answer_unsupported(connections, context, "type: presence", now),
        }
    }

    fn send(
        &mut self,
        connections: &mut Connections<Session>,
        context: CommandContext,
        send: Send<'_>,
        now: Now,
    ) {
        if let Target::Group(_) = send.to {
            self.answer_unsupported(connections, context, "group_id: groups", now);
            return;
        }
        let to = To::Target(send.to);
        self.ask(connections, context, to, now, |request, session| {
            Some(ToRouter::Send(SendRecord {
                request,
                message_id: send.message_id,
                draft: Draft {
                    sender: session.user()?,
                    sender_device: session.device()?,
                    target: send.to,
                    body: match send.body {
                        SendBody::Borrowed(body) => body.encode(),
                        SendBody::Encoded(body) => body,
                    },
                },
            }))
        });
    }

    /// Notes an ack; the highest of a tick is passed on at its end. Without a link, the next announcement carries it.
    fn ack(&mut self, connections: &mut Connections<Session>, id: ConnectionHandle, position: Position) {
        if let Some(session) = connections.session_mut(id)
            && session.ack(position)
            && let Some(router) = self.uplinks.of_session(session)
            && self.uplinks.get(router).is_up()
            && !session.flags.contains(Flags::ACK_QUEUED)
        {
            session.flags.set(Flags::ACK_QUEUED, true);
            self.uplinks.get_mut(router).acks.push(id);
        }
    }

    /// Passes a request on to its router, if there is a way, and otherwise says so.
    ///
    /// Order: whoever finds the link full, or has many requests without answer, is not read until that is over. What
    /// was read already still runs, and is answered `busy` once all room is used up. Sends to a slot that has another router
    /// now are answered `busy` as long as the one before owes answers to earlier ones.
    fn ask(
        &mut self,
        connections: &mut Connections<Session>,
        context: CommandContext,
        to: To,
        now: Now,
        record: impl FnOnce(RequestId, &Session) -> Option<ToRouter>,
    ) {
        let CommandContext { connection, id, kind } = context;
        let Some(session) = connections.session_mut(connection) else {
            return;
        };
        let Some((router, slot)) = self.way(session, to) else {
            unreachable!("a session that is live has a user");
        };
        let slot = slot.filter(|_| matches!(kind, Kind::Send(_)));
        if !self.uplinks.get(router).is_up() {
            let refused = Refused {
                code: Code::Unavailable,
                reason: "no router",
            };
            self.answer_refused(connections, context, refused, None, now);
            return;
        }
        let busy = if !self.uplinks.has_room(router) || self.pending.is_full() {
            Some("too many requests wait for the router")
        } else if slot.is_some_and(|slot| self.pending.is_moving(slot)) {
            Some("earlier sends wait for the router that had the conversation")
        } else {
            None
        };
        if let Some(reason) = busy {
            connections.stats.busy += 1;
            let refused = Refused {
                code: Code::Busy,
                reason,
            };
            self.answer_refused(connections, context, refused, Some(BUSY_RETRY_MS), now);
            return;
        }
        let request = pending::Request {
            connection,
            id,
            kind,
            router,
            slot,
        };
        let request = self.pending.insert(request, now);
        let Some(record) = record(request, session) else {
            unreachable!("a session that is live has a user and a device");
        };
        session.pending = session.pending.saturating_add(1);
        let has_many = session.pending >= CONNECTION_PENDING_MAX;
        if kind == Kind::Page {
            self.pages
                .ask(connection, request, router, record, &mut self.uplinks);
        } else {
            self.uplinks.get_mut(router).push(&record);
        }
        if has_many {
            connections.pause(connection, Pauses::PENDING);
        }
        let uplink = self.uplinks.get_mut(router);
        if uplink.is_refused() && connections.pause(connection, Pauses::LINK) {
            uplink.behind.push(connection);
        }
        self.update_gauges(connections);
    }

    /// Returns the router that a command goes to, and the slot of its conversation if that decides.
    fn way(&self, session: &Session, to: To) -> Option<(RouterId, Option<Slot>)> {
        let user = session.user()?;
        let routes = self.uplinks.routes();
        let slot = match to {
            To::User => return Some((routes.of_user(user), None)),
            To::Conversation(id) => routes.conversation_slot(|| id),
            To::Target(Target::Direct(other)) => {
                routes.conversation_slot(|| ConversationId::direct(user, other))
            }
            To::Target(Target::Group(id)) => routes.conversation_slot(|| id),
        };
        Some((routes.of_conversations(slot), Some(slot)))
    }

    /// Answers a command that was sent behind a hello which the router refused.
    ///
    /// Order: does not count as a bad request, since the client could not know.
    fn answer_no_session(
        &mut self,
        connections: &mut Connections<Session>,
        context: CommandContext,
        now: Now,
    ) {
        let refused = Refused {
            code: Code::BadRequest,
            reason: "no session: hello was refused",
        };
        self.answer_refused(connections, context, refused, None, now);
        connections.stats.bad_commands += 1;
    }

    fn answer_unsupported(
        &mut self,
        connections: &mut Connections<Session>,
        context: CommandContext,
        what: &str,
        now: Now,
    ) {
        let reason = format!("{what} not supported by this version");
        self.answer_refused(
            connections,
            context,
            Refused {
                code: Code::BadRequest,
                reason: &reason,
            },
            None,
            now,
        );
    }

    fn answer_refused(
        &mut self,
        connections: &mut Connections<Session>,
        context: CommandContext,
        refused: Refused<'_>,
        retry_after_ms: Option<u32>,
        now: Now,
    ) {
        match context.kind {
            Kind::Send(message_id) => {
                let rejected = refused.rejected(context.id, message_id, retry_after_ms);
                self.send_rejected(connections, context.connection, rejected, now);
            }
            Kind::Page | Kind::Other => {
                self.send_error(connections, context.connection, refused.failure(context.id), now)
            }
        }
    }

    /// Answers a request that was passed on and whose outcome is not known.
    pub(super) fn answer_unavailable(
        &mut self,
        connections: &mut Connections<Session>,
        request: pending::Request,
        reason: &str,
        now: Now,
    ) {
        self.end_request(connections, &request, now);
        let context = CommandContext {
            connection: request.connection,
            id: request.id,
            kind: request.kind,
        };
        self.answer_refused(
            connections,
            context,
            Refused {
                code: Code::Unavailable,
                reason,
            },
            None,
            now,
        );
    }

    fn handle_bad_command(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        bad: &BadCommand,
        now: Now,
    ) {
        connections.stats.commands += 1;
        let kind = match bad.kind {
            BadKind::Send | BadKind::Other if is_before_hello(connections, id) => {
                connections.close(id, Reason::CommandBeforeHello, now);
                return;
            }
            BadKind::Send => Kind::Send(bad.message_id),
            BadKind::Hello | BadKind::Other | BadKind::Unknown => Kind::Other,
        };
        let refused = Refused {
            code: bad.code,
            reason: &bad.reason,
        };
        self.answer_refused(
            connections,
            CommandContext {
                connection: id,
                id: bad.id,
                kind,
            },
            refused,
            None,
            now,
        );
        connections.stats.bad_commands += 1;
        if bad.code == Code::BadRequest {
            self.count_bad_request(connections, id, now);
        }
    }

    /// Answers a command that is well-formed and yet makes no sense.
    pub(super) fn bad_request(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        request_id: Option<u32>,
        reason: &str,
        now: Now,
    ) {
        let refused = Refused {
            code: Code::BadRequest,
            reason,
        };
        self.send_error(connections, id, refused.failure(request_id), now);
        connections.stats.bad_commands += 1;
        self.count_bad_request(connections, id, now);
    }

    /// Counts a bad request of a client; too many end the connection.
    pub(super) fn count_bad_request(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        now: Now,
    ) {
        if matches!(self.config.auth, Auth::InsecureDev) {
            return;
        }
        if connections
            .session_mut(id)
            .is_some_and(|session| !session.count_bad_request(now))
        {
            connections.close(id, Reason::TooManyBadRequests, now);
        }
    }
}

/// Returns whether a connection is open and has not said a hello that went to the router.
fn is_before_hello(connections: &Connections<Session>, id: ConnectionHandle) -> bool {
    let stage = connections.session(id).map(|session| session.stage);
    connections.is_open(id) && stage == Some(Stage::Hello)
}

/// Returns how a failure of a command is answered.
const fn kind_of(command: &Command<'_>) -> Kind {
    match command {
        Command::Send(send) => Kind::Send(send.message_id),
        Command::History(_) | Command::Conversations(_) => Kind::Page,
        Command::Hello(_)
        | Command::Ack(_)
        | Command::Status(_)
        | Command::Typing(_)
        | Command::Presence(_)
        | Command::Refresh(_)
        | Command::Ping => Kind::Other,
    }
}

/// Keeps the message id of a send that may have none.
pub(super) const fn message_id_of(kind: Kind) -> Option<MessageId> {
    match kind {
        Kind::Send(message_id) => message_id,
        Kind::Page | Kind::Other => None,
    }
}
