//! The application's part of a slab entry: who is on the connection, and how far.

use bitflags::bitflags;
use wire_base::ids::{DeviceId, Position, SessionNumber, UnixMs, UserId};
use wire_client::Format;

use crate::limits::{BAD_REQUEST_WINDOW_S, BAD_REQUESTS_MAX, TOKEN_LEEWAY_MS};
use crate::time::Now;

/// One session.
///
/// Shape: 64 bytes, nothing on the heap. Both positions share a generation: another one is a new inbox. 58 bytes and 9 of 16
/// flags are in use; the rest is room for the revocation of tokens (4 bytes, in seconds) and for presence.
#[derive(Debug, Default)]
pub struct Session {
    number: SessionNumber,
    /// 0: not known yet.
    user: u64,
    acked_offset: u64,
    forwarded_offset: u64,
    generation: u32,
    device: u32,
    /// When the token ends, in seconds since 1970; 0: no token.
    expires_s: u32,
    acked_index: u16,
    forwarded_index: u16,
    pub(super) window: u16,
    bad_requests_since_s: u16,
    bad_requests: u8,
    /// Requests without answer.
    pub(super) pending: u8,
    pub(super) stage: Stage,
    format: Format,
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Session>() <= 64);

/// How far the log-in has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// No hello has come that could go to the router.
    #[default]
    Hello,
    /// The router refused the last hello. Commands may be on their way that were sent behind it.
    Refused,
    /// The router has not answered.
    Opening,
    /// The client was welcomed.
    Live,
}

impl Stage {
    /// Returns whether a hello is what must come next.
    pub(super) const fn awaits_hello(self) -> bool {
        matches!(self, Self::Hello | Self::Refused)
    }
}

bitflags! {
    /// Facts about a session that are true or not.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        /// Something was acked.
        const ACKED = 1 << 0;
        /// Something was forwarded to the client.
        const FORWARDED = 1 << 1;
        /// Listed to have its ack passed on.
        const ACK_QUEUED = 1 << 2;
        /// The router of this link knows the session.
        const ANNOUNCED = 1 << 3;
        /// The cursor of hello was accepted.
        const RESUMED = 1 << 4;
        /// The client was told that its backlog is over.
        const SYNCED = 1 << 5;
        /// The path or the token names the user.
        const USER_FIXED = 1 << 6;
        /// The token names the device.
        const DEVICE_FIXED = 1 << 7;
        /// Nothing was forwarded that an ack is owed for.
        const OWES_NO_ACK = 1 << 8;
    }
}

impl Session {
    /// Returns how events are encoded for this client.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    pub(super) const fn number(&self) -> SessionNumber {
        self.number
    }

    /// Returns the user, once something has named one.
    pub(super) const fn user(&self) -> Option<UserId> {
        UserId::new(self.user)
    }

    pub(super) const fn set_user(&mut self, user: UserId) {
        self.user = user.get();
    }

    /// Returns the device, once something has named one.
    pub(super) const fn device(&self) -> Option<DeviceId> {
        DeviceId::new(self.device)
    }

    pub(super) const fn set_device(&mut self, device: DeviceId) {
        self.device = device.get();
    }

    /// Returns whether a token was accepted.
    pub(super) const fn has_token(&self) -> bool {
        self.expires_s != 0
    }

    pub(super) fn set_expires(&mut self, expires: UnixMs) {
        self.expires_s = u32::try_from(expires.0.div_ceil(1_000))
            .unwrap_or(u32::MAX)
            .max(1);
    }

    /// Returns how long the token is still honoured; `None` without one.
    pub(super) fn expires_in_ms(&self, now: Now) -> Option<u64> {
        let expires_ms = u64::from(self.expires_s) * 1_000 + TOKEN_LEEWAY_MS;
        self.has_token().then(|| expires_ms.saturating_sub(now.unix.0))
    }

    /// Begins the session that the router gave a number to, behind `from` if that is known.
    pub(super) fn begin(
        &mut self,
        number: SessionNumber,
        head: Position,
        from: Option<Position>,
        resumed: bool,
    ) {
        self.stage = Stage::Live;
        self.flags.set(Flags::RESUMED, resumed);
        self.restart(number, head, from);
    }

    /// Forgets how far the client was: the inbox is read anew, behind `from`.
    ///
    /// Order: `from` counts as acked, so that an announcement after a broken link goes on from there.
    pub(super) fn restart(&mut self, number: SessionNumber, head: Position, from: Option<Position>) {
        self.number = number;
        self.generation = head.generation;
        self.flags.set(Flags::ACKED, false);
        self.flags.set(Flags::FORWARDED, false);
        if let Some(from) = from.filter(|from| from.generation == head.generation) {
            self.set_acked(from);
        }
    }

    pub(super) const fn set_number(&mut self, number: SessionNumber) {
        self.number = number;
    }

    /// Returns the last position that the client acked.
    pub(super) fn acked(&self) -> Option<Position> {
        self.flags
            .contains(Flags::ACKED)
            .then(|| self.position(self.acked_offset, self.acked_index))
    }

    /// Returns the last position that was forwarded to the client.
    pub(super) fn forwarded(&self) -> Option<Position> {
        self.flags
            .contains(Flags::FORWARDED)
            .then(|| self.position(self.forwarded_offset, self.forwarded_index))
    }

    /// Returns where the client is: everything behind this is still to come.
    pub(super) fn cursor(&self) -> Position {
        self.forwarded()
            .or(self.acked())
            .unwrap_or(Position::start(self.generation))
    }

    /// Takes an ack; `false` if it says nothing new, or speaks of what was not forwarded.
    pub(super) fn ack(&mut self, position: Position) -> bool {
        let is_new = self.acked().is_none_or(|acked| position > acked);
        let was_forwarded = self.forwarded().is_some_and(|forwarded| position <= forwarded);
        if !is_new || !was_forwarded || position.generation != self.generation {
            return false;
        }
        self.set_acked(position);
        true
    }

    /// Notes that a position goes to the client; `false` if it has been there.
    pub(super) fn try_forward(&mut self, position: Position) -> bool {
        if self.forwarded().is_some_and(|forwarded| position <= forwarded) {
            return false;
        }
        if position.generation != self.generation {
            self.generation = position.generation;
            self.flags.set(Flags::ACKED, false);
        }
        (self.forwarded_offset, self.forwarded_index) = (position.offset.0, position.index);
        self.flags.set(Flags::FORWARDED, true);
        self.flags.set(Flags::OWES_NO_ACK, false);
        true
    }

    /// Notes the end of the backlog: what lies between the last message and this was the device's own, and an ack may name it.
    pub(super) fn take_synced(&mut self, cursor: Position) {
        let owes_no_ack = self.forwarded().is_none();
        if self.try_forward(cursor) {
            self.flags.set(Flags::OWES_NO_ACK, owes_no_ack);
        }
    }

    /// Returns what an announcement gives as the client's cursor: what it acked, or all that was forwarded where nothing needs an ack.
    /// A router that lost the device's last acks would count what they name as in flight, and the client has nothing left to ack.
    pub(super) fn cursor_to_announce(&self) -> Option<Position> {
        match self.flags.contains(Flags::OWES_NO_ACK) {
            true => self.forwarded(),
            false => self.acked(),
        }
    }

    /// Counts a malformed command; `false` when there were too many lately.
    pub(super) fn count_bad_request(&mut self, now: Now) -> bool {
        let now_s = (now.mono_ms / 1_000) as u16;
        if self.bad_requests == 0 || now_s.wrapping_sub(self.bad_requests_since_s) >= BAD_REQUEST_WINDOW_S {
            self.bad_requests_since_s = now_s;
            self.bad_requests = 0;
        }
        self.bad_requests += 1;
        self.bad_requests <= BAD_REQUESTS_MAX
    }

    fn set_acked(&mut self, position: Position) {
        (self.acked_offset, self.acked_index) = (position.offset.0, position.index);
        self.flags.set(Flags::ACKED, true);
    }

    const fn position(&self, offset: u64, index: u16) -> Position {
        Position {
            generation: self.generation,
            offset: wire_base::ids::Offset(offset),
            index,
        }
    }
}

#[cfg(test)]
mod tests {
    use wire_base::ids::Offset;

    use super::*;

    const fn at(offset: u64) -> Position {
        Position {
            generation: 3,
            offset: Offset(offset),
            index: 1,
        }
    }

    fn live() -> Session {
        let mut session = Session::default();
        session.begin(SessionNumber(9), at(100), None, false);
        session
    }

    #[test]
    fn an_ack_counts_once_and_only_up_to_what_was_forwarded() {
        let mut session = live();
        assert!(!session.ack(at(5)));
        assert!(session.try_forward(at(5)) && session.try_forward(at(7)));
        assert!(!session.ack(at(8)));
        assert!(!session.ack(Position {
            generation: 2,
            ..at(5)
        }));
        assert!(session.ack(at(5)) && session.ack(at(7)));
        assert!(!session.ack(at(5)) && !session.ack(at(7)));
        assert_eq!(session.acked(), Some(at(7)));
    }

    #[test]
    fn the_end_of_a_backlog_without_messages_is_announced_as_the_cursor() {
        let mut session = live();
        session.take_synced(at(9));
        assert_eq!(
            (session.acked(), session.cursor_to_announce()),
            (None, Some(at(9)))
        );
        assert!(session.try_forward(at(10)));
        assert_eq!(session.cursor_to_announce(), None, "that one is in flight");
        let mut session = live();
        assert!(session.try_forward(at(5)));
        session.take_synced(at(9));
        assert_eq!(session.cursor_to_announce(), None);
    }

    #[test]
    fn a_position_is_forwarded_once() {
        let mut session = live();
        assert!(session.try_forward(at(5)));
        assert!(!session.try_forward(at(5)) && !session.try_forward(at(4)));
        assert!(session.try_forward(Position {
            generation: 4,
            ..at(1)
        }));
        assert!(!session.try_forward(at(9)));
    }

    #[test]
    fn a_session_begins_behind_a_cursor_of_its_own_generation() {
        let mut session = Session::default();
        session.begin(SessionNumber(1), at(100), Some(at(40)), true);
        assert_eq!((session.acked(), session.cursor()), (Some(at(40)), at(40)));
        session.begin(
            SessionNumber(2),
            at(100),
            Some(Position {
                generation: 2,
                ..at(40)
            }),
            false,
        );
        assert_eq!((session.acked(), session.cursor()), (None, Position::start(3)));
    }

    #[test]
    fn ten_bad_requests_a_minute_are_borne() {
        let now = |s: u64| Now {
            mono_ms: s * 1_000,
            unix: UnixMs(0),
        };
        let mut session = live();
        assert!((0..10).all(|_| session.count_bad_request(now(100))));
        assert!(!session.count_bad_request(now(159)));
        assert!(session.count_bad_request(now(160)));
    }
}
