//! Which log holds what: one for everything, or one for each slot.

use wire_base::ids::{ConversationId, UserId};
use wire_base::message::{Draft, Target};
use wire_base::slots::Slot;

/// How conversations and users are spread over logs. Fixed when the logs are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One log holds everything: the embedded driver.
    OnePartition,
    /// A log for each slot: a cluster.
    PartitionPerSlot {
        /// How many slots conversations are spread over.
        conversation_slots: u16,
        /// How many slots users are spread over.
        user_slots: u16,
    },
}

/// One ordered log, and with it all whose records it holds: the unit of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartitionId {
    /// The only one.
    One,
    /// That of a slot of conversations: sends, statuses.
    Conversation(Slot),
    /// That of a slot of users: what comes into inboxes, acks, devices.
    User(Slot),
}

impl Topology {
    /// Returns the log of a conversation.
    pub fn of_conversation(self, id: ConversationId) -> PartitionId {
        match self {
            Self::OnePartition => PartitionId::One,
            Self::PartitionPerSlot {
                conversation_slots, ..
            } => PartitionId::Conversation(Slot::of_conversation(id, conversation_slots)),
        }
    }

    /// Returns the log of a user.
    pub fn of_user(self, id: UserId) -> PartitionId {
        match self {
            Self::OnePartition => PartitionId::One,
            Self::PartitionPerSlot { user_slots, .. } => PartitionId::User(Slot::of_user(id, user_slots)),
        }
    }

    /// Returns the log of the conversation that a message goes to, without making its id where there is but one log.
    pub fn of_draft(self, draft: &Draft) -> PartitionId {
        match (self, draft.target) {
            (Self::OnePartition, _) => PartitionId::One,
            (Self::PartitionPerSlot { .. }, Target::Direct(receiver)) => {
                self.of_conversation(ConversationId::direct(draft.sender, receiver))
            }
            (Self::PartitionPerSlot { .. }, Target::Group(id)) => self.of_conversation(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{other_message_id, send, user};

    #[test]
    fn one_log_holds_everything() {
        let topology = Topology::OnePartition;
        assert_eq!(topology.of_user(user(7)), PartitionId::One);
        let conversation = ConversationId::direct(user(7), user(8));
        assert_eq!(topology.of_conversation(conversation), PartitionId::One);
    }

    #[test]
    fn a_slot_is_that_of_the_hash_for_users_and_for_conversations_apart() {
        let topology = Topology::PartitionPerSlot {
            conversation_slots: 16,
            user_slots: 64,
        };
        let conversation = ConversationId::direct(user(7), user(8));
        assert_eq!(
            topology.of_user(user(7)),
            PartitionId::User(Slot::of_user(user(7), 64))
        );
        assert_eq!(
            topology.of_conversation(conversation),
            PartitionId::Conversation(Slot::of_conversation(conversation, 16))
        );
        let draft = send(8, 7, other_message_id(1), "x").draft;
        assert_eq!(topology.of_draft(&draft), topology.of_conversation(conversation));
    }
}
