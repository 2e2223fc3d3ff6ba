//! One chat client, across its connections: its unanswered sends, and how far it has read its inbox.

use std::collections::VecDeque;

use uuid::Uuid;
use wire_base::ids::{MessageId, Position, UnixMs};
use wire_base::random::mix;

use crate::clock::Ns;
use crate::identity::Identity;

/// What a client keeps.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Oldest first; bounded by the run's `in_flight_max`.
    pub(super) pending: VecDeque<Pending>,
    pub(super) next_request: u32,
    /// Highest cursor received: what the next ack, or the next hello, says.
    pub(super) cursor: Option<Position>,
    /// Last cursor of this connection.
    pub(super) cursor_here: Option<Position>,
    /// Messages came since the last ack.
    pub(super) ack_due: bool,
    /// This is not the client's first connection.
    pub(super) resumed: bool,
    pub(super) welcomed: bool,
    pub(super) losses_in_a_row: u32,
    /// What `reconnect` said: wait this many ms, and up to this many longer.
    pub(super) advice: Option<(u32, u32)>,
}

const _: () = assert!(size_of::<Session>() <= 128);

/// A send without an answer; the same message can be made again from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) request: u32,
    pub(super) pair: u32,
    pub(super) number: u32,
    /// How often it was written again.
    pub(super) retries: u8,
    /// When it is to be written again; [`Ns::NEVER`] while an answer may come.
    pub(super) retry_at: Ns,
    /// After the start of the schedule.
    pub(super) intended: Ns,
    pub(super) written: Ns,
    /// The time inside the message id.
    pub(super) unix: UnixMs,
}

const _: () = assert!(size_of::<Pending>() <= 48);

impl Session {
    /// Takes the send that an answer belongs to.
    pub(super) fn take(&mut self, request: Option<u32>) -> Option<Pending> {
        let at = self.position(request)?;
        self.pending.remove(at)
    }

    /// Returns the place of the send that an answer belongs to.
    pub(super) fn position(&self, request: Option<u32>) -> Option<usize> {
        self.pending
            .iter()
            .position(|pending| Some(pending.request) == request)
    }

    /// Starts another connection of the same device.
    pub(super) fn start_over(&mut self) {
        self.resumed = true;
        self.welcomed = false;
        self.ack_due = false;
        self.cursor_here = None;
    }
}

impl Pending {
    /// Returns what the message carries.
    pub(super) fn identity(&self, run: u32) -> Identity {
        Identity {
            run,
            pair: self.pair,
            number: self.number,
            intended: self.intended,
        }
    }

    /// Returns the message's id, a UUIDv7; the same each time, so that a repeated send is recognised.
    pub(super) fn message_id(&self, run: u32) -> MessageId {
        let unique = mix(mix(u64::from(run)) ^ (u64::from(self.pair) << 32 | u64::from(self.number)));
        let mut random = [0; 10];
        random[..8].copy_from_slice(&unique.to_be_bytes());
        random[8..].copy_from_slice(&(self.number as u16).to_be_bytes());
        let uuid = uuid::Builder::from_unix_timestamp_millis(self.unix.0, &random).into_uuid();
        MessageId::new(uuid)
            .unwrap_or_else(|| MessageId::new(Uuid::max()).expect("the largest UUID is not nil"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pending(request: u32, pair: u32, number: u32) -> Pending {
        Pending {
            request,
            pair,
            number,
            retries: 0,
            retry_at: Ns::NEVER,
            intended: Ns(0),
            written: Ns(0),
            unix: UnixMs(1_700_000_000_000),
        }
    }

    #[test]
    fn message_ids_are_v7_distinct_and_repeatable() {
        let ids: BTreeSet<MessageId> = (0..100)
            .flat_map(|pair| (1..100).map(move |number| pending(0, pair, number).message_id(7)))
            .collect();
        assert_eq!(ids.len(), 100 * 99);
        assert!(ids.iter().all(|id| id.unix_ms() == Some(1_700_000_000_000)));
        assert_eq!(pending(0, 3, 4).message_id(7), pending(9, 3, 4).message_id(7));
        assert_ne!(pending(0, 3, 4).message_id(7), pending(0, 3, 4).message_id(8));
    }

    #[test]
    fn an_answer_takes_its_send_and_no_other() {
        let mut session = Session {
            pending: (0..5).map(|n| pending(n, 1, n)).collect(),
            ..Session::default()
        };
        assert_eq!(session.take(Some(3)), Some(pending(3, 1, 3)));
        assert_eq!(
            (session.take(Some(3)), session.take(None), session.take(Some(9))),
            (None, None, None)
        );
        assert_eq!(session.pending.len(), 4);
    }
}
