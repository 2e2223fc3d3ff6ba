//! What a node wants done, and what it asks of the store.

use std::collections::BTreeMap;

use router_records::row::{DedupeRow, MessageRow, ReceiptRow, Row};
use wire_base::ids::{ConversationId, MessageId, Offset, Position, Seq, UnixMs, UserId};
use wire_base::message::Message;
use wire_link::LinkHello;

use super::condition::Condition;
use super::group::{AppendId, Group};
use super::partition::Flushed;
use super::questions::Stage;
use super::upkeep::Prune;
use crate::effects::StatusUpdate;
use crate::fold::{Loaded, Lookup};
use crate::membership::Conversation;
use crate::sessions::{LinkId, PageRequest};
use crate::topology::PartitionId;

/// Something for the driver to do.
#[derive(Debug)]
pub enum Intention {
    /// Append a group to a log ([`AppendId::to`]), durably. Answered by [`super::Node::handle_appended`]. A partition has one
    /// group at a time on its way into each log.
    Append {
        /// Names it.
        id: AppendId,
        /// In this order.
        group: Group,
    },
    /// Read a log from a record on, and go on as it grows; a consumer that reads it already goes there. Answered by
    /// [`super::Node::handle_consumed`], and once, with where the log ended, by [`super::Node::handle_caught_up`].
    Consume {
        /// Which log.
        partition: PartitionId,
        /// The first record wanted.
        from: Offset,
    },
    /// Ask where a log ends now, durably. Answered by [`super::Node::handle_caught_up`].
    FindEnd {
        /// Which log.
        partition: PartitionId,
    },
    /// Tell the node that owns a partition of users that a watermark moved: [`super::Node::handle_told`] there. Soon, or not at
    /// all: whoever is not told reads it from the store.
    TellOwner {
        /// Whose users are to know.
        partition: PartitionId,
        /// What.
        update: StatusUpdate,
    },
    /// A partition was released by the node itself, which cannot go on with it: to be taken again from what the store has.
    GivenUp(PartitionId),
    /// Look whether the log takes groups again. Answered by [`super::Node::handle_log_probed`].
    ProbeLog,
    /// Write rows, in their order, and then what [`ApplyTicket::flushed`] says; embedded: all of it as one. Those of a partition
    /// in the order they come. Answered by [`super::Node::handle_applied`].
    Apply {
        /// Of two rows with one key the later one holds.
        rows: Vec<Row>,
        /// To be returned with the answer.
        ticket: ApplyTicket,
    },
    /// Write the rows that were gathered. A driver may keep them in memory until then, as long as what is asked sees them.
    FlushRows,
    /// Try again to write what could not be written. Answered by [`super::Node::handle_store_retried`].
    RetryStore,
    /// Make everything that was applied durable. Answered by [`super::Node::handle_persisted`].
    Persist,
    /// Delete rows past retention. Answered by [`super::Node::handle_pruned`].
    Prune(Prune),
    /// Delete segments of the log. Answered by [`super::Node::handle_trimmed`].
    TrimLog {
        /// The first record that must stay.
        below: Offset,
    },
    /// Read the store. Answered by [`super::Node::handle_answer`].
    Ask(Ask),
    /// Close a link; the node has forgotten it.
    CloseLink(LinkId),
    /// Tell the operator.
    Note(Notice),
}

/// Rows that the store is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyTicket {
    /// Whose records made them.
    pub partition: PartitionId,
    pub(super) tenure: u64,
    /// The last record that made some of them.
    pub through: Offset,
    /// What is done with them; the store keeps it for the next owner, and embedded `through` is the same.
    pub flushed: Option<Flushed>,
    /// About what they take.
    pub bytes: usize,
}

/// A question to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Ties the answer to it.
    pub id: AskId,
    /// Who asks.
    pub partition: PartitionId,
    /// Every row made by its records up to here must be seen; `None`: nothing was ever folded.
    pub after: Option<Offset>,
    /// What is asked.
    pub question: Question,
}

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What can be asked of the store. Nothing here decides: rows are read, and the node judges them.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Something that a fold or a hello needs: [`Answer::Loaded`].
    Lookup(Lookup),
    /// Entries of an inbox with their messages: [`Answer::Inbox`].
    Inbox {
        /// The owner of the inbox.
        user: UserId,
        /// Entries after this,
        after: Position,
        /// at most so many,
        limit: usize,
        /// until their bodies have this many bytes as text, but at least one.
        bytes_max: usize,
        /// The message of an entry up to here may be gone; such an entry is passed over.
        oldest: Position,
    },
    /// Messages of a conversation, newest first, without anything else: [`Answer::Messages`].
    Messages {
        /// The conversation of all messages.
        conversation: ConversationId,
        /// Only seqs below this; `None`: from the newest.
        before: Option<Seq>,
        /// At most so many,
        limit: usize,
        /// and bodies of at most this many bytes together, but at least one message.
        bytes_max: usize,
    },
    /// The same with the state and the watermarks of the conversation: [`Answer::History`].
    History {
        /// The conversation of all messages.
        conversation: ConversationId,
        /// Only seqs below this; `None`: from the newest.
        before: Option<Seq>,
        /// At most so many,
        limit: usize,
        /// and bodies of at most this many bytes together, but at least one message.
        bytes_max: usize,
    },
    /// Messages that were sent under an id, from whomever and wherever: [`Answer::Named`].
    Named {
        /// As its sender made it: several senders may have made the same.
        message_id: MessageId,
        /// At most so many messages.
        limit: usize,
    },
    /// Conversations of a user by id, with their states: [`Answer::Conversations`].
    Conversations {
        /// The one who takes part.
        user: UserId,
        /// Only ids above this; `None`: from the lowest.
        after: Option<ConversationId>,
        /// At most so many conversations.
        limit: usize,
    },
    /// State, newest message and watermarks of some conversations: [`Answer::Summaries`].
    Summaries(Vec<ConversationId>),
}

/// What the store has; the variants are those of [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Question::Lookup`].
    Loaded(Loaded),
    /// To [`Question::Inbox`].
    Inbox(InboxPage),
    /// To [`Question::Messages`], newest first.
    Messages(Vec<MessageRow>),
    /// To [`Question::History`].
    History {
        /// The conversation's state.
        state: Option<Conversation>,
        /// Watermarks of its members.
        receipts: Vec<ReceiptRow>,
        /// Newest first, as many as `limit` and `bytes_max` allow.
        messages: Vec<MessageRow>,
        /// Older ones exist.
        more: bool,
    },
    /// To [`Question::Named`].
    Named(Vec<NamedMessage>),
    /// To [`Question::Conversations`], by id.
    Conversations(Vec<UserConversation>),
    /// To [`Question::Summaries`], in its order.
    Summaries(Vec<Summary>),
}

/// Entries of an inbox, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InboxPage {
    /// Positions and messages.
    pub entries: Vec<(Position, Message)>,
    /// Everything there is up to here is in the page, or gone: the last entry, or the end of the inbox as it was read.
    pub through: Option<Position>,
}

/// A message by its id.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedMessage {
    /// Its conversation, sender and seq, as dedupe keeps them.
    pub index: DedupeRow,
    /// The newest state of its conversation; `None` where no row is.
    pub state: Option<Conversation>,
}

/// A conversation that a user takes part in.
#[derive(Clone, Debug, PartialEq)]
pub struct UserConversation {
    /// Its id, by which a list of them is in order.
    pub conversation: ConversationId,
    /// Its newest state; `None` where no row is.
    pub state: Option<Conversation>,
}

/// What a list shows of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// One of those that were asked for, at the same place of the list.
    pub conversation: ConversationId,
    /// Its newest state; `None` where no row is.
    pub state: Option<Conversation>,
    /// Its newest message; `None` when that is past retention.
    pub last: Option<MessageRow>,
    /// Watermarks of its members.
    pub receipts: Vec<ReceiptRow>,
}

/// What an operator may want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A client said hello.
    LinkUp(LinkId, LinkHello),
    /// A client does not keep to the protocol of links, and is closed.
    LinkRefused(LinkId, String),
    /// The node takes messages again, or no longer.
    ConditionChanged(Condition),
    /// The wall clock jumped; it is believed once it has stood by that for a while.
    ClockDoubted {
        /// What it says.
        said: UnixMs,
        /// What is believed.
        expected: UnixMs,
    },
    /// The wall clock is believed again, and says this.
    ClockBelieved(UnixMs),
    /// A log holds another record than was reported when it was appended. The partition is given up.
    LogDiffers {
        /// Which.
        partition: PartitionId,
        /// Where.
        offset: Offset,
    },
}

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Folds, or sessions to be opened.
    Lookup(Lookup),
    /// A session that is behind.
    Page(PageRequest),
    /// A client's question.
    Question(LinkId, Stage),
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: u64,
    open: BTreeMap<AskId, Open>,
}

#[derive(Debug)]
struct Open {
    partition: PartitionId,
    after: Option<Offset>,
    purpose: Purpose,
}

impl Asks {
    /// Returns the question to be asked, and remembers what for.
    pub(super) fn ask(
        &mut self,
        partition: PartitionId,
        after: Option<Offset>,
        purpose: Purpose,
        question: Question,
    ) -> Intention {
        let id = AskId(self.next);
        self.next += 1;
        let open = Open {
            partition,
            after,
            purpose,
        };
        self.open.insert(id, open);
        Intention::Ask(Ask {
            id,
            partition,
            after,
            question,
        })
    }

    /// Takes out who asked a question and what for; `None` when it was answered already, or its partition was released.
    pub(super) fn take(&mut self, id: AskId) -> Option<(PartitionId, Purpose)> {
        self.open.remove(&id).map(|open| (open.partition, open.purpose))
    }

    /// Takes out what a partition has asked.
    pub(super) fn take_all_of(&mut self, partition: PartitionId) -> Vec<Purpose> {
        let of_partition = self.open.extract_if(.., |_, open| open.partition == partition);
        of_partition.map(|(_, open)| open.purpose).collect()
    }

    /// Returns whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the offset below which no answer to a question under way of a partition is: what was written later must stay
    /// in memory, or an old answer would take its place.
    pub(super) fn oldest(&self, partition: PartitionId) -> Option<Option<Offset>> {
        let of_partition = self.open.values().filter(|open| open.partition == partition);
        of_partition.map(|open| open.after).min()
    }
}
