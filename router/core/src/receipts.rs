//! Watermarks: how far a member has received and read. Max-merge, so records may repeat and come late.

use router_records::log::{Delivered, StatusInput};
use router_records::row::{ConversationRow, Members, ReceiptRow, Row};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Seq, UserId};
use wire_base::status::Status;

use crate::cache::Cache;
use crate::effects::{Effects, StatusUpdate};

/// Returns the other member of a conversation (in one with oneself: the user); `None` when the user is no member.
pub fn peer(conversation: &ConversationRow, user: UserId) -> Option<UserId> {
    let Members::Direct { low, high, .. } = conversation.members;
    match user {
        _ if user == low => Some(high),
        _ if user == high => Some(low),
        _ => None,
    }
}

/// Returns the newest seq that a member sent, 0 when there is none; `None` when the user is no member.
fn newest_sent(conversation: &ConversationRow, user: UserId) -> Option<Seq> {
    let Members::Direct {
        low,
        high,
        low_sent,
        high_sent,
    } = conversation.members;
    match user {
        _ if user == low => Some(low_sent),
        _ if user == high => Some(high_sent),
        _ => None,
    }
}

/// Returns the newest seq that a user received from another (in a conversation with oneself: the newest of all), 0 when
/// there is none; `None` when the user is no member.
pub fn newest_received(conversation: &ConversationRow, user: UserId) -> Option<Seq> {
    newest_sent(conversation, peer(conversation, user)?)
}

/// Returns how many messages of others came after the later of the user's own read and own last send.
///
/// After the own last send everything is the other's, so this is a difference of seqs. 0 for who is no member, and in a
/// conversation with oneself.
pub fn unread(conversation: &ConversationRow, receipt: Option<&ReceiptRow>, user: UserId) -> u64 {
    let Some(own_sent) = newest_sent(conversation, user) else {
        return 0;
    };
    if peer(conversation, user) == Some(user) {
        return 0;
    }
    let read = receipt.map_or(Seq(0), |row| row.read);
    conversation.last_seq.0.saturating_sub(read.max(own_sent).0)
}

/// A watermark that is to move: a status, or one conversation of an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub conversation: ConversationId,
    /// Who received or read.
    pub user: UserId,
    /// The device that said so.
    pub device: DeviceId,
    /// Which watermark.
    pub status: Status,
    /// Everything up to here.
    pub seq: Seq,
    /// The message of that seq.
    pub message_id: MessageId,
}

impl Mark {
    /// Returns what a status record asks for.
    pub fn of_status(input: &StatusInput) -> Self {
        Self {
            conversation: input.conversation,
            user: input.user,
            device: input.device,
            status: input.status,
            seq: input.seq,
            message_id: input.message_id,
        }
    }

    /// Returns what an ack of `user` says about one conversation.
    pub fn of_delivered(user: UserId, device: DeviceId, delivered: &Delivered) -> Self {
        Self {
            conversation: delivered.conversation,
            user,
            device,
            status: Status::Delivered,
            seq: delivered.seq,
            message_id: delivered.message_id,
        }
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
        conversation: &ConversationRow,
        mark: &Mark,
        effects: &mut Effects,
    ) {
        let Some(peer) = peer(conversation, mark.user) else {
            return;
        };
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
            effects.updates.extend(update(mark, peer));
        }
    }

    /// Cuts memory back to its bound.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, applied: Option<Offset>) {
        self.receipts.evict(applied);
    }
}

/// Delivered is news for the peer, read also for the reader's other devices. One's own messages are news to nobody.
fn update(mark: &Mark, peer: UserId) -> Option<StatusUpdate> {
    let peer = (peer != mark.user).then_some(peer);
    let except = (mark.status == Status::Read).then_some(mark.device);
    (peer.is_some() || except.is_some()).then_some(StatusUpdate {
        conversation: mark.conversation,
        user: mark.user,
        status: mark.status,
        seq: mark.seq,
        message_id: mark.message_id,
        peer,
        except,
    })
}

#[cfg(test)]
mod tests;
