//! From hello to welcome, and a new token for a session that stands.

use wire_base::code::Code;
use wire_base::ids::{ConnectionHandle, DeviceId, Position, SessionNumber, UserId};
use wire_base::limits::{CONTENT_CHARS_MAX, FRAME_BYTES_MAX};
use wire_client::{Event, Hello, Welcome, WelcomeLimits};
use wire_link::{SessionOpened, SessionRef, SessionRefused};

use super::session::{Flags, Stage};
use super::upgrade::take_claims;
use super::{Auth, Refused, Session, Sessions};
use crate::connections::{Connections, Pauses};
use crate::disconnect::Reason;
use crate::limits::{HELLO_MS_MAX, ROUTER_MS_MAX};
use crate::routes::RouterId;
use crate::time::Now;

/// A hello that the router has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Repeated in `welcome`.
    pub(super) id: Option<u32>,
    /// Where the client wants to continue.
    pub(super) cursor: Option<Position>,
    /// When the router must have answered.
    pub(super) due_ms: u64,
}

/// Why a hello does not go to the router.
enum BadHello {
    /// Nothing that another hello could correct.
    Close(Reason),
    /// An `error`; hello may be repeated.
    Error(&'static str),
}

impl Sessions {
    /// Takes a hello: the router decides, and until then the connection is not read.
    pub(super) fn hello(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        request_id: Option<u32>,
        hello: &Hello<'_>,
        now: Now,
    ) {
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        if !session.stage.awaits_hello() {
            self.bad_request(connections, id, request_id, "type: hello was said before", now);
            return;
        }
        match identify(session, &self.config.auth, hello, now) {
            Ok(()) => {
                session.stage = Stage::Opening;
                session.window = hello.window;
                let user = session.user();
                let due_ms = now.mono_ms + ROUTER_MS_MAX;
                self.opening.insert(
                    id,
                    Opening {
                        id: request_id,
                        cursor: hello.cursor,
                        due_ms,
                    },
                );
                connections.pause(id, Pauses::ANSWER);
                connections.wake_at(id, due_ms);
                if let Some(user) = user {
                    self.uplinks.of_user(user).announce_from(id.slot);
                }
            }
            Err(BadHello::Close(reason)) => connections.close(id, reason, now),
            Err(BadHello::Error(reason)) => self.bad_request(connections, id, request_id, reason, now),
        }
    }

    /// Takes the router's consent: a welcome, or for a session announced again nothing the client sees.
    pub(super) fn handle_opened(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        opened: &SessionOpened,
        now: Now,
    ) {
        let id = opened.connection;
        let uplinks = &self.uplinks;
        let is_asked = |session: &&mut Session| {
            session.flags.contains(Flags::ANNOUNCED) && uplinks.owns(router, session)
        };
        let Some(session) = connections.session_mut(id).filter(is_asked) else {
            return;
        };
        let oldest = opened.resync.as_ref().map(|&(_, oldest)| oldest);
        match session.stage {
            Stage::Hello | Stage::Refused => return,
            Stage::Live if oldest.is_none() => {
                session.set_number(opened.session);
                return;
            }
            Stage::Live => session.restart(opened.session, opened.cursor, oldest),
            Stage::Opening => {
                let Some(opening) = self.opening.remove(&id) else {
                    return;
                };
                let accepted = opening.cursor.filter(|_| opened.resumed);
                session.begin(opened.session, opened.cursor, oldest.or(accepted), opened.resumed);
                connections.stats.sessions += 1;
                connections.stats.sessions_opened += 1;
                self.send_welcome(connections, id, opening.id, opened.cursor, now);
            }
        }
        if let Some((reason, oldest)) = &opened.resync {
            self.send_event(
                connections,
                id,
                &Event::Resync {
                    reason,
                    oldest: *oldest,
                },
                now,
            );
        }
        connections.resume(id, Pauses::ANSWER, now);
    }

    /// Takes the router's refusal: hello may be said again.
    pub(super) fn handle_refused(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        refused: &SessionRefused,
        now: Now,
    ) {
        let id = refused.connection;
        let uplinks = &self.uplinks;
        let is_asked = |session: &&mut Session| {
            session.flags.contains(Flags::ANNOUNCED) && uplinks.owns(router, session)
        };
        let Some(session) = connections.session_mut(id).filter(is_asked) else {
            return;
        };
        session.flags.set(Flags::ANNOUNCED, false);
        match session.stage {
            Stage::Hello | Stage::Refused => {}
            Stage::Live => connections.close(id, Reason::SessionLost, now),
            Stage::Opening => {
                session.stage = Stage::Refused;
                let opening = self.opening.remove(&id);
                let refused = Refused {
                    code: refused.code,
                    reason: &refused.reason,
                };
                self.send_error(
                    connections,
                    id,
                    refused.failure(opening.and_then(|opening| opening.id)),
                    now,
                );
                if matches!(refused.code, Code::Unavailable | Code::Busy) {
                    // Nothing the client does within its 5 s changes that; it shall come back, not give up.
                    return connections.close(id, Reason::StorageUnavailable, now);
                }
                if let Some(at_ms) = connections.after_upgrade_ms(id, HELLO_MS_MAX, now) {
                    connections.wake_at(id, at_ms);
                }
                connections.resume(id, Pauses::ANSWER, now);
            }
        }
    }

    /// Tells a client whose hello got no answer in time why it is closed.
    pub(super) fn refuse_hello(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        now: Now,
    ) {
        if let Some(opening) = self.opening.remove(&id) {
            let refused = Refused {
                code: Code::Unavailable,
                reason: "no answer from the router in time",
            };
            self.send_error(connections, id, refused.failure(opening.id), now);
        }
    }

    /// Takes the news that a newer connection of the device has the session.
    pub(super) fn handle_replaced(
        &mut self,
        connections: &mut Connections<Session>,
        router: RouterId,
        replaced: &SessionRef,
        now: Now,
    ) {
        let uplinks = &self.uplinks;
        let is_meant = |session: &&mut Session| {
            uplinks.owns(router, session)
                && !session.stage.awaits_hello()
                && session.user() == Some(replaced.user)
                && session.device() == Some(replaced.device)
        };
        if let Some(session) = connections.session_mut(replaced.connection).filter(is_meant) {
            session.flags.set(Flags::ANNOUNCED, false);
            connections.close(replaced.connection, Reason::Replaced, now);
        }
    }

    /// Takes a new token for the same user and device.
    pub(super) fn refresh(
        &mut self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        request_id: Option<u32>,
        token: &str,
        now: Now,
    ) {
        let Some(session) = connections.session_mut(id) else {
            return;
        };
        if let Auth::Tokens(verifier) = &self.config.auth {
            let failure = match verifier.verify(token, now.unix) {
                Err(error) => Some(format!("token: {error}")),
                Ok(claims) if session.user() != Some(claims.user) => {
                    Some("token: of another user".to_owned())
                }
                Ok(claims) if claims.device.is_some() && claims.device != session.device() => {
                    Some("token: of another device".to_owned())
                }
                Ok(claims) => {
                    session.set_expires(claims.expires);
                    None
                }
            };
            if let Some(reason) = failure {
                let refused = Refused {
                    code: Code::Forbidden,
                    reason: &reason,
                };
                self.send_error(connections, id, refused.failure(request_id), now);
                self.count_bad_request(connections, id, now);
                return;
            }
        }
        let cursor = session.cursor();
        self.wake_for_token(connections, id, now);
        self.send_welcome(connections, id, request_id, cursor, now);
    }

    /// Returns the earliest deadline of a session, and what it ends the connection for.
    pub(super) fn next_deadline(
        &self,
        connections: &Connections<Session>,
        id: ConnectionHandle,
        now: Now,
    ) -> Option<(u64, Reason)> {
        let session = connections.session(id)?;
        let stage = match session.stage {
            Stage::Hello | Stage::Refused => connections
                .after_upgrade_ms(id, HELLO_MS_MAX, now)
                .map(|at_ms| (at_ms, Reason::NoHello)),
            Stage::Opening => self
                .opening
                .get(&id)
                .map(|opening| (opening.due_ms, Reason::NoRouter)),
            Stage::Live => None,
        };
        let token = session
            .expires_in_ms(now)
            .map(|ms| (now.mono_ms + ms, Reason::TokenExpired));
        stage.into_iter().chain(token).min_by_key(|&(at_ms, _)| at_ms)
    }

    fn send_welcome(
        &self,
        connections: &mut Connections<Session>,
        id: ConnectionHandle,
        request_id: Option<u32>,
        cursor: Position,
        now: Now,
    ) {
        let Some(session) = connections.session(id) else {
            return;
        };
        let (Some(user), Some(device)) = (session.user(), session.device()) else {
            return;
        };
        let session_id = session_id(user, device, session.number());
        let welcome = Event::Welcome(Welcome {
            id: request_id,
            server_time: now.unix,
            session_id: &session_id,
            user,
            device,
            gateway: &self.config.gateway,
            cursor,
            resumed: session.flags.contains(Flags::RESUMED),
            ping_interval_ms: connections.config.ping_interval_ms,
            limits: WelcomeLimits {
                content_chars: CONTENT_CHARS_MAX as u32,
                frame_bytes: FRAME_BYTES_MAX as u32,
                sends_per_s: self.config.sends_per_s,
                window: session.window,
            },
        });
        self.send_event(connections, id, &welcome, now);
        self.wake_for_token(connections, id, now);
    }

    fn wake_for_token(&self, connections: &mut Connections<Session>, id: ConnectionHandle, now: Now) {
        if let Some(ms) = connections
            .session(id)
            .and_then(|session| session.expires_in_ms(now))
        {
            connections.wake_at(id, now.mono_ms + ms);
        }
    }
}

/// Returns the name of a session for people; numbers are unique only for each device.
///
/// Shape: at most 40 bytes, 64 being what clients are promised.
fn session_id(user: UserId, device: DeviceId, number: SessionNumber) -> String {
    format!("{:x}-{:x}-{:016x}", user.get(), device.get(), number.0)
}

/// Settles who says hello: what the path, the tokens and hello say must agree.
fn identify(session: &mut Session, auth: &Auth, hello: &Hello<'_>, now: Now) -> Result<(), BadHello> {
    match (auth, hello.token) {
        (Auth::InsecureDev, _) => {}
        (Auth::Tokens(verifier), Some(token)) => {
            let claims = verifier
                .verify(token, now.unix)
                .map_err(|_| BadHello::Close(Reason::TokenInvalid))?;
            take_claims(session, &claims).map_err(BadHello::Close)?;
        }
        (Auth::Tokens(_), None) if session.has_token() => {}
        (Auth::Tokens(_), None) => return Err(BadHello::Close(Reason::TokenMissing)),
    }
    match hello.user {
        Some(user) if session.flags.contains(Flags::USER_FIXED) && session.user() != Some(user) => {
            return Err(BadHello::Close(Reason::UserMismatch));
        }
        Some(user) => session.set_user(user),
        None if session.flags.contains(Flags::USER_FIXED) => {}
        None => {
            return Err(BadHello::Error(
                "user_id: neither the path nor hello names a user",
            ));
        }
    }
    match hello.device {
        Some(device) if session.flags.contains(Flags::DEVICE_FIXED) && session.device() != Some(device) => {
            return Err(BadHello::Close(Reason::DeviceMismatch));
        }
        Some(device) => session.set_device(device),
        None if session.flags.contains(Flags::DEVICE_FIXED) => {}
        None => session.set_device(DeviceId::DEFAULT),
    }
    Ok(())
}
