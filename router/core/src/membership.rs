//! A conversation as of its newest message, and who belongs to it.
//!
//! Whoever must know who gets, reads or is told something asks [`Membership`]; how members are kept is decided in this
//! file alone.

use router_records::row::{ConversationRow, Members, Pair};
use wire_base::ids::{ConversationId, Offset, Seq, UnixMs, UserId};
use wire_base::message::{Draft, Target};

use crate::time::Stamp;

/// State of a conversation that has a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// Who may write and read.
    pub membership: Membership,
    /// The newest seq.
    pub last_seq: Seq,
    /// The newest record that took a seq.
    pub last_offset: Offset,
    /// Its timestamp.
    pub last_time: UnixMs,
}

/// Who belongs to a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Two users, or one with itself.
    Direct(Pair),
}

impl Conversation {
    /// Returns the state after a message of `sender` took the seq behind `before`, or the first one.
    pub(crate) fn next(
        id: ConversationId,
        before: Option<&Self>,
        mut membership: Membership,
        stamp: Stamp,
        sender: UserId,
    ) -> Self {
        let last_seq = before.map_or(Seq(0), |before| before.last_seq).next();
        membership.note_sent(sender, last_seq);
        Self {
            id,
            membership,
            last_seq,
            last_offset: stamp.offset,
            last_time: stamp.time,
        }
    }

    /// Returns what the conversation is to a member: its peer, or the group; `None` when the user is no member.
    pub fn target(&self, user: UserId) -> Option<Target> {
        match &self.membership {
            Membership::Direct(pair) => pair.other(user).map(Target::Direct),
        }
    }

    /// Returns what the store keeps of it.
    pub fn row(&self) -> ConversationRow {
        let members = match &self.membership {
            Membership::Direct(pair) => Members::Direct(*pair),
        };
        ConversationRow {
            conversation: self.id,
            members,
            last_seq: self.last_seq,
            last_offset: self.last_offset,
            last_time: self.last_time,
        }
    }
}

impl From<ConversationRow> for Conversation {
    fn from(row: ConversationRow) -> Self {
        let membership = match row.members {
            Members::Direct(pair) => Membership::Direct(pair),
        };
        Self {
            id: row.conversation,
            membership,
            last_seq: row.last_seq,
            last_offset: row.last_offset,
            last_time: row.last_time,
        }
    }
}

impl Membership {
    /// Returns who belongs to a conversation that begins with this message; `None` for a group, which does not begin so.
    pub fn begun_by(draft: &Draft) -> Option<Self> {
        match draft.target {
            Target::Direct(receiver) => Some(Self::Direct(Pair {
                low: draft.sender.min(receiver),
                high: draft.sender.max(receiver),
                low_sent: Seq(0),
                high_sent: Seq(0),
            })),
            Target::Group(_) => None,
        }
    }

    /// Returns whether the sender may write here under that target. The id of a direct conversation is no group's.
    pub fn may_send(&self, draft: &Draft) -> bool {
        match (self, draft.target) {
            (Self::Direct(_), Target::Direct(_)) => self.contains(draft.sender),
            (Self::Direct(_), Target::Group(_)) => false,
        }
    }

    /// Returns whether the user is a member.
    pub fn contains(&self, user: UserId) -> bool {
        match self {
            Self::Direct(pair) => pair.other(user).is_some(),
        }
    }

    /// Returns every member once.
    pub fn members(&self) -> impl Iterator<Item = UserId> {
        match self {
            Self::Direct(pair) => once_each(pair.low, pair.high),
        }
    }

    /// Returns the users that get an entry of a message, in the order of their entries: the sender last.
    pub fn recipients(&self, sender: UserId) -> impl Iterator<Item = UserId> {
        self.others(sender).chain(self.contains(sender).then_some(sender))
    }

    /// Returns the members beside this one; none for who is no member.
    pub fn others(&self, user: UserId) -> impl Iterator<Item = UserId> {
        match self {
            Self::Direct(pair) => pair.other(user).filter(|other| *other != user).into_iter(),
        }
    }

    /// Returns the members whose watermarks this one is shown: the others, and in a conversation with oneself the own.
    pub fn watched_by(&self, user: UserId) -> impl Iterator<Item = UserId> {
        match self {
            Self::Direct(pair) => pair.other(user).into_iter(),
        }
    }

    /// Returns whether the only member is this user, whose own messages are then what it receives.
    pub fn is_of_one(&self) -> bool {
        match self {
            Self::Direct(pair) => pair.low == pair.high,
        }
    }

    /// Returns the seq sent to a recipient before `seq`; 0 when it is the first.
    pub fn sent_before(&self, _recipient: UserId, seq: Seq) -> Seq {
        match self {
            // Both get every message.
            Self::Direct(_) => Seq(seq.0 - 1),
        }
    }

    /// Returns the newest seq that a user received from another (alone with oneself: the newest of all), 0 when there is
    /// none; `None` when the user is no member.
    pub fn newest_received(&self, user: UserId) -> Option<Seq> {
        match self {
            Self::Direct(pair) => pair.newest_sent(pair.other(user)?),
        }
    }

    /// Returns the seq after which every message is another's: unread, unless it was read. `None` when nothing can be: in a
    /// conversation with oneself, and for who is no member.
    pub fn unread_base(&self, user: UserId) -> Option<Seq> {
        match self {
            Self::Direct(_) if self.is_of_one() => None,
            Self::Direct(pair) => pair.newest_sent(user),
        }
    }

    fn note_sent(&mut self, sender: UserId, seq: Seq) {
        match self {
            Self::Direct(pair) => {
                for (user, sent) in [(pair.low, &mut pair.low_sent), (pair.high, &mut pair.high_sent)] {
                    if user == sender {
                        *sent = seq;
                    }
                }
            }
        }
    }
}

fn once_each(low: UserId, high: UserId) -> impl Iterator<Item = UserId> {
    std::iter::once(low).chain((low != high).then_some(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, send, user};

    fn numbers(users: impl Iterator<Item = UserId>) -> Vec<u64> {
        users.map(UserId::get).collect()
    }

    #[test]
    fn of_a_pair_the_receiver_gets_its_entry_first_and_a_stranger_nothing() {
        let pair = conversation(1, 2, (1, 1)).membership;
        assert_eq!(numbers(pair.members()), [1, 2]);
        assert_eq!(numbers(pair.recipients(user(1))), [2, 1]);
        assert_eq!(numbers(pair.recipients(user(2))), [1, 2]);
        assert_eq!(numbers(pair.others(user(2))), [1]);
        assert_eq!(numbers(pair.watched_by(user(2))), [1]);
        assert!(!pair.contains(user(3)) && !pair.is_of_one());
        assert_eq!(pair.recipients(user(3)).next(), None);
        assert_eq!(
            (pair.newest_received(user(3)), pair.unread_base(user(3))),
            (None, None)
        );
    }

    #[test]
    fn alone_with_oneself_one_gets_one_entry_and_watches_oneself() {
        let own = conversation(4, 4, (7, 7)).membership;
        assert_eq!(numbers(own.members()), [4]);
        assert_eq!(numbers(own.recipients(user(4))), [4]);
        assert_eq!(own.others(user(4)).next(), None);
        assert_eq!(numbers(own.watched_by(user(4))), [4]);
        assert_eq!(own.newest_received(user(4)), Some(Seq(7)));
        assert_eq!(own.unread_base(user(4)), None);
    }

    #[test]
    fn what_the_other_sent_is_received_and_what_one_sent_is_where_unread_begins() {
        let pair = conversation(1, 2, (4, 7)).membership;
        assert_eq!(pair.newest_received(user(1)), Some(Seq(7)));
        assert_eq!(pair.unread_base(user(1)), Some(Seq(4)));
        assert_eq!(pair.unread_base(user(2)), Some(Seq(7)));
    }

    #[test]
    fn a_member_sees_its_peer_and_a_stranger_nothing() {
        let row = conversation(1, 2, (1, 1));
        assert_eq!(row.target(user(1)), Some(Target::Direct(user(2))));
        assert_eq!(row.target(user(2)), Some(Target::Direct(user(1))));
        assert_eq!(row.target(user(3)), None);
        assert_eq!(
            conversation(4, 4, (1, 1)).target(user(4)),
            Some(Target::Direct(user(4)))
        );
    }

    #[test]
    fn a_direct_conversation_is_not_written_to_as_a_group() {
        let id = crate::testing::other_message_id(1);
        let mut draft = send(1, 2, id, "x").draft;
        let row = conversation(1, 2, (1, 0));
        assert!(row.membership.may_send(&draft));
        draft.target = Target::Group(row.id);
        assert!(!row.membership.may_send(&draft));
        assert_eq!(Membership::begun_by(&draft), None);
    }

    #[test]
    fn the_row_comes_back() {
        let row = conversation(1, 2, (4, 7));
        assert_eq!(Conversation::from(row.row()), row);
    }
}
