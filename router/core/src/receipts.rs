//! Watermarks: how far a member has received and read. Max-merge, so records may repeat and come late.

use router_records::log::{Delivered, StatusInput};
use router_records::row::{ReceiptRow, Row};
use wire_base::ids::{ConversationId, DeviceId, Offset, Seq, UserId};
use wire_base::status::Status;

use crate::cache::Cache;
use crate::effects::{Effects, StatusUpdate};
use crate::membership::{Conversation, Membership};

/// Returns how many messages of others came after the later of the user's own read and own last send.
///
/// After the own last send everything is the other's, so this is a difference of seqs. 0 for who is no member, and in a
/// conversation with oneself.
pub fn unread(conversation: &Conversation, receipt: Option<&ReceiptRow>, user: UserId) -> u64 {
    let Some(base) = conversation.membership.unread_base(user) else {
        return 0;
    };
    let read = receipt.map_or(Seq(0), |row| row.read);
    conversation.last_seq.0.saturating_sub(read.max(base).0)
}

/// Returns how far every one of these members has received and read: the least of their watermarks.
pub fn watermarks(receipts: &[ReceiptRow], members: impl Iterator<Item = UserId>) -> (Seq, Seq) {
    let of = |user| {
        let row = receipts.iter().find(|row| row.user == user);
        row.map_or((Seq(0), Seq(0)), |row| (row.delivered, row.read))
    };
    members
        .map(of)
        .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
        .unwrap_or_default()
}

/// Returns what an ack of `user` says about one conversation, as the status that it is.
pub fn status_of_delivered(user: UserId, device: DeviceId, delivered: &Delivered) -> StatusInput {
    StatusInput {
        user,
        device,
        conversation: delivered.conversation,
        status: Status::Delivered,
        seq: delivered.seq,
        message_id: delivered.message_id,
    }
}

/// Watermarks of the members of conversations.
#[derive(Debug)]
pub struct ReceiptFold {
    receipts: Cache<(ConversationId, UserId), Watermarks>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watermarks {
    delivered: Seq,
    read: Seq,
}

impl ReceiptFold {
    /// Returns a fold that holds the watermarks of at most `receipts_max` members, about 130 bytes each.
    pub fn new(receipts_max: usize) -> Self {
        Self {
            receipts: Cache::new(receipts_max),
        }
    }

    /// Returns whether the fold needs the member's row.
    pub fn is_missing(&self, conversation: ConversationId, user: UserId) -> bool {
        self.receipts.get(&(conversation, user)).is_none()
    }

    /// Takes a member's row as the store has it. What memory has is newer and stays.
    pub fn handle_loaded(&mut self, conversation: ConversationId, user: UserId, row: Option<ReceiptRow>) {
        if self.is_missing(conversation, user) {
            let held = row.map_or_else(Watermarks::default, |row| Watermarks {
                delivered: row.delivered,
                read: row.read,
            });
            self.receipts.insert((conversation, user), held, None);
        }
    }

    /// Moves a watermark, at most to the last seq that `conversation` has as of the record. Nothing when it stands
    /// there already, or when the user is no member.
    ///
    /// Panics: when the row [`is_missing`](Self::is_missing).
    pub fn fold(
        &mut self,
        offset: Offset,
        conversation: &Conversation,
        mark: &StatusInput,
        effects: &mut Effects,
    ) {
        if !conversation.membership.contains(mark.user) {
            return;
        }
        let held = self
            .receipts
            .write(&(mark.conversation, mark.user), offset)
            .expect("the caller loads what missing() names");
        let seq = mark.seq.min(conversation.last_seq);
        let moved = match mark.status {
            Status::Delivered => Watermarks {
                delivered: held.delivered.max(seq),
                ..*held
            },
            Status::Read => Watermarks {
                delivered: held.delivered.max(seq),
                read: held.read.max(seq),
            },
        };
        if moved == *held {
            return;
        }
        *held = moved;
        effects.rows.push(Row::Receipt(ReceiptRow {
            conversation: mark.conversation,
            user: mark.user,
            delivered: moved.delivered,
            read: moved.read,
        }));
        // An update never names another message than that of its seq; the check before the log makes them agree.
        if seq == mark.seq {
            effects.updates.extend(update(mark, &conversation.membership));
        }
    }

    /// Cuts memory back to its bound.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, applied: Option<Offset>) {
        self.receipts.evict(applied);
    }
}

/// Delivered is news for the others, read also for the reader's other devices. One's own messages are news to nobody.
fn update(mark: &StatusInput, membership: &Membership) -> Option<StatusUpdate> {
    let told: Vec<_> = membership.others(mark.user).collect();
    let except = (mark.status == Status::Read).then_some(mark.device);
    (!told.is_empty() || except.is_some()).then_some(StatusUpdate {
        conversation: mark.conversation,
        user: mark.user,
        status: mark.status,
        seq: mark.seq,
        message_id: mark.message_id,
        told,
        except,
    })
}

#[cfg(test)]
mod tests;
