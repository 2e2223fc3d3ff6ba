//! Checks before the log. What is refused here was never an input of a fold, so these may look at the clock.

mod rate;

use router_records::row::DedupeRow;
use wire_base::code::Code;
use wire_base::ids::{Seq, UnixMs, UserId};
use wire_base::limits::{MESSAGE_ID_AGE_MS_MAX, MESSAGE_ID_AHEAD_MS_MAX};
use wire_link::SendRecord;

pub use rate::{SendRate, SendRateConfig};

use crate::membership::Conversation;

/// Why a request does not reach the log; becomes `rejected` or `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The protocol's code.
    pub code: Code,
    /// A sentence for the client's developer that names the field.
    pub reason: &'static str,
    /// When to try again, for what passes by itself.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    pub(crate) const fn new(code: Code, reason: &'static str) -> Self {
        Self {
            code,
            reason,
            retry_after_ms: None,
        }
    }
}

/// Checks what a send says about itself. Its body was bounded when it was decoded, and any user may be written to.
///
/// Units: `now` is at most the stamp of the record: the dedupe window relies on an id being at most 60 s ahead of that.
/// It is a clock and not log time, so that one record from a wrong future does not make good ids bad. What was logged up
/// to `forgotten` may be deleted: an id that may have come then cannot be told from a new one.
/// Errors: the sender's fault; `bad_request`.
pub fn check_send(send: &SendRecord, now: UnixMs, forgotten: UnixMs) -> Result<(), Refusal> {
    let Some(time) = send.message_id.and_then(|id| id.unix_ms()) else {
        return Ok(());
    };
    if time > now.0.saturating_add(MESSAGE_ID_AHEAD_MS_MAX) {
        return Err(Refusal::new(
            Code::BadRequest,
            "message_id: its time is more than 60 s ahead of the server; use server_time_ms",
        ));
    }
    let is_forgotten = forgotten > UnixMs(0) && time <= forgotten.0.saturating_add(MESSAGE_ID_AHEAD_MS_MAX);
    if is_forgotten || time < now.0.saturating_sub(MESSAGE_ID_AGE_MS_MAX) {
        return Err(Refusal::new(
            Code::BadRequest,
            "message_id: its time is more than 29 days ago; use a new one",
        ));
    }
    Ok(())
}

/// Checks a status by conversation and seq, and returns where to look for the message it means: at most the newest that
/// the user received.
///
/// Order: log the seq and id of the newest message of another at or before the seq returned, read from the messages.
/// Errors: the client's fault; `bad_request` for seq 0, `forbidden` for a conversation that is unknown, another's, or
/// without a message to this user.
pub fn check_status(conversation: Option<&Conversation>, user: UserId, seq: Seq) -> Result<Seq, Refusal> {
    if seq == Seq(0) {
        return Err(Refusal::new(Code::BadRequest, "seq: counts from 1"));
    }
    match conversation.and_then(|row| row.membership.newest_received(user)) {
        Some(Seq(0)) => Err(NOT_RECEIVED),
        Some(newest) => Ok(seq.min(newest)),
        None => Err(Refusal::new(
            Code::Forbidden,
            "conversation_id: not a conversation of this user",
        )),
    }
}

/// Why a seq that only own messages reach is refused.
pub const NOT_RECEIVED: Refusal = Refusal::new(
    Code::Forbidden,
    "seq: no message up to it was received by this user",
);

/// Picks the message that a status by message id means: the newest of that id that the user received from another.
///
/// `candidates` are the index rows of the id, each with its conversation.
/// Errors: the client's fault; `forbidden`, the same for an unknown id as for a message of others.
pub fn received(candidates: &[(DedupeRow, Conversation)], user: UserId) -> Result<&DedupeRow, Refusal> {
    candidates
        .iter()
        .filter(|(index, conversation)| index.sender != user && conversation.membership.contains(user))
        .map(|(index, _)| index)
        .max_by_key(|index| index.offset)
        .ok_or(Refusal::new(
            Code::Forbidden,
            "message_id: not a message that this user received",
        ))
}

#[cfg(test)]
mod tests {
    use wire_base::ids::{MessageId, Offset};
    use wire_link::RequestId;

    use super::*;
    use crate::testing::{conversation, message_id_at, other_message_id, text, user};

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn send(message_id: Option<MessageId>) -> SendRecord {
        SendRecord {
            request: RequestId(1),
            message_id,
            draft: crate::testing::send(1, 2, other_message_id(1), "x").draft,
        }
    }

    fn code_of_id(message_id: MessageId) -> Option<Code> {
        check_send(&send(Some(message_id)), NOW, UnixMs(0))
            .err()
            .map(|refusal| refusal.code)
    }

    fn index(sender: u64, offset: u64, conversation: &Conversation) -> DedupeRow {
        DedupeRow {
            message_id: other_message_id(1),
            sender: user(sender),
            conversation: conversation.id,
            seq: Seq(offset),
            hash: text("x").hash(),
            timestamp: NOW,
            offset: Offset(offset),
        }
    }

    #[test]
    fn a_uuid_v7_passes_from_29_days_behind_to_60_s_ahead() {
        let oldest = NOW.0 - 29 * 24 * 3_600_000;
        for (time, code) in [
            (oldest - 1, Some(Code::BadRequest)),
            (oldest, None),
            (NOW.0 + 60_000, None),
            (NOW.0 + 60_001, Some(Code::BadRequest)),
        ] {
            assert_eq!(code_of_id(message_id_at(time, 1)), code, "{time}");
        }
    }

    #[test]
    fn an_id_that_may_be_forgotten_is_refused_whatever_the_clock_says() {
        for (time, is_good) in [(NOW.0 + 30_000, false), (NOW.0 + 30_001, true)] {
            let send = send(Some(message_id_at(time, 1)));
            assert_eq!(check_send(&send, NOW, UnixMs(NOW.0 - 30_000)).is_ok(), is_good);
        }
    }

    #[test]
    fn other_versions_and_a_missing_id_pass() {
        assert_eq!(code_of_id(other_message_id(1)), None);
        assert_eq!(check_send(&send(None), NOW, NOW), Ok(()));
    }

    #[test]
    fn a_status_is_for_members_counts_from_one_and_is_bounded_by_the_last_seq() {
        let row = conversation(1, 2, (5, 4));
        let check = |user, seq| check_status(Some(&row), user, Seq(seq)).map_err(|refusal| refusal.code);
        assert_eq!(check(user(1), 3), Ok(Seq(3)));
        assert_eq!(check(user(1), 9), Ok(Seq(4)), "seq 5 is an own message");
        assert_eq!(check(user(2), 9), Ok(Seq(5)));
        assert_eq!(check(user(2), 0), Err(Code::BadRequest));
        assert_eq!(check(user(3), 3), Err(Code::Forbidden));
        assert_eq!(
            check_status(None, user(1), Seq(1)).unwrap_err().code,
            Code::Forbidden
        );
        let one_sided = conversation(1, 2, (5, 0));
        assert_eq!(check_status(Some(&one_sided), user(1), Seq(5)), Err(NOT_RECEIVED));
    }

    #[test]
    fn a_status_by_id_means_the_newest_message_received_under_it() {
        let (ours, others) = (conversation(1, 2, (9, 9)), conversation(3, 4, (9, 9)));
        let candidates = [
            index(2, 4, &ours),
            index(2, 7, &ours),
            index(1, 8, &ours),
            index(3, 9, &others),
        ]
        .map(|row| {
            (
                row,
                if row.conversation == ours.id {
                    ours.clone()
                } else {
                    others.clone()
                },
            )
        });
        assert_eq!(
            received(&candidates, user(1)).map(|row| row.offset),
            Ok(Offset(7))
        );
        assert_eq!(
            received(&candidates, user(4)).map(|row| row.offset),
            Ok(Offset(9))
        );
        assert_eq!(received(&candidates, user(3)).unwrap_err().code, Code::Forbidden);
        assert_eq!(received(&[], user(1)).unwrap_err().code, Code::Forbidden);
    }
}
