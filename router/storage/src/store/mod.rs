//! The store of a router that runs alone: projections of the log, in one keyspace.
//!
//! Reading order: [`Store`] is what the folds and the read side ask. [`KvStore`] answers over any [`Kv`], of which there
//! are two: [`FjallKv`] on disk and [`MemoryKv`], its twin, which reverts at a crash to any batch boundary that a disk
//! may leave. The layout of rows is `router_records::row`; the store's own rows (generation, flushed offset, prune floor, end
//! of a complete checkpoint) lie beside them under table byte 0, so that a batch and the offset it completes are one.

mod fjall_copy;
mod fjall_glance;
mod fjall_journal;
mod fjall_kv;
mod kv;
mod kv_store;
mod memory;
mod prune;

#[cfg(test)]
mod tests;

pub use fjall_copy::StoreCopy;
pub use fjall_glance::StoreGlance;
pub use fjall_kv::{FjallConfig, FjallKv};
pub use kv::{Batch, Direction, KeyRange, Kv, KvError, Visit};
pub use kv_store::KvStore;
pub use memory::{KvFault, MemoryKv};

pub(crate) use kv_store::{
    CHECKPOINT_END_KEY, FLUSHED_KEY, IDENTITY_KEY, Identity, PRUNE_FLOOR_KEY, decode_offset,
};

use std::error::Error;

use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, MessageRow, ReceiptRow, Row,
    UserConversationRow,
};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};

/// The rows that the folds wrote, and how far they go.
///
/// Shape: every list is bounded by its argument, or (devices, checkpoints) by what the folds may write.
/// Order: a change is seen by the next read; it is durable after the next [`Store::persist`].
pub trait Store {
    /// Returns the number that positions of this store carry: its creation time in unix seconds.
    fn generation(&self) -> u32;

    /// Returns the last record whose rows are in the store; `None` before the first.
    fn flushed(&self) -> Option<Offset>;

    /// Returns the offset below which inbox entries may be gone.
    fn prune_floor(&self) -> Offset;

    /// Returns the state of a conversation.
    fn conversation(&self, conversation: ConversationId) -> Result<Option<ConversationRow>, StoreError>;

    /// Returns the outcome of a send.
    fn index(
        &self,
        message_id: MessageId,
        sender: UserId,
        conversation: ConversationId,
    ) -> Result<Option<DedupeRow>, StoreError>;

    /// Returns the outcomes of sends that had this message id, from whomever and wherever.
    fn index_by_message(&self, message_id: MessageId, limit: usize) -> Result<Vec<DedupeRow>, StoreError>;

    /// Returns a message.
    fn message(&self, conversation: ConversationId, seq: Seq) -> Result<Option<MessageRow>, StoreError>;

    /// Returns messages older than `before` (the newest ones when `None`), newest first: at most `limit`, with bodies of
    /// at most `bytes_max` together, but always one if there is one.
    fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<MessagePage, StoreError>;

    /// Returns the watermarks of a member.
    fn receipt(&self, conversation: ConversationId, user: UserId) -> Result<Option<ReceiptRow>, StoreError>;

    /// Returns the conversations of a user by id, those after `after`.
    fn user_conversations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<UserConversationRow>, StoreError>;

    /// Returns the entries of an inbox after a position (not at it), oldest first.
    fn inbox_after(
        &self,
        user: UserId,
        position: Position,
        limit: usize,
    ) -> Result<Vec<InboxRow>, StoreError>;

    /// Returns the oldest entry of an inbox.
    fn inbox_first(&self, user: UserId) -> Result<Option<InboxRow>, StoreError>;

    /// Returns the newest entry of an inbox.
    fn inbox_last(&self, user: UserId) -> Result<Option<InboxRow>, StoreError>;

    /// Returns a device.
    fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>, StoreError>;

    /// Returns the devices of a user.
    fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>, StoreError>;

    /// Returns the checkpoints, oldest first.
    fn checkpoints(&self) -> Result<Vec<CheckpointRow>, StoreError>;

    /// Writes rows, and that everything up to `flushed` is now in the store, in one atomic batch that is not synced.
    ///
    /// Errors: [`StoreError::NoSpace`] may be tried again with the same rows; after any error the batch may have been
    /// made all the same, which making it again does not change.
    fn apply(&mut self, rows: &[Row], flushed: Offset) -> Result<(), StoreError>;

    /// Writes a row of the store's own and reads it back: whether the store works, opened again if it had stopped.
    ///
    /// Errors: those of `apply`.
    fn probe(&mut self) -> Result<(), StoreError>;

    /// Makes everything applied durable.
    fn persist(&mut self) -> Result<(), StoreError>;

    /// Returns where a clean stop left a complete checkpoint: the offset of the first record that it does not hold.
    ///
    /// It is of use while the store is complete up to just there, whoever opened it since.
    fn checkpoint_end(&self) -> Option<Offset>;

    /// Makes everything applied durable, and then that it is a complete checkpoint.
    ///
    /// Order: on a clean stop, when the log holds nothing more.
    fn complete_checkpoint(&mut self) -> Result<(), StoreError>;

    /// Deletes inbox entries made by records below `below`, except the newest of each user, and raises the prune floor
    /// in the same batch: one step that looks at about `rows_max` rows, beginning with the user `from`. Returns where
    /// the next step begins; `None` at the end.
    fn prune_inbox(
        &mut self,
        below: Offset,
        from: Option<UserId>,
        rows_max: usize,
    ) -> Result<Option<UserId>, StoreError>;

    /// Deletes messages made by records below `below`, except the newest of each conversation; steps as above.
    fn prune_messages(
        &mut self,
        below: Offset,
        from: Option<(ConversationId, Seq)>,
        rows_max: usize,
    ) -> Result<Option<(ConversationId, Seq)>, StoreError>;

    /// Deletes outcomes of sends made by records below `below`; steps as above.
    fn prune_index(
        &mut self,
        below: Offset,
        from: Option<IndexKey>,
        rows_max: usize,
    ) -> Result<Option<IndexKey>, StoreError>;

    /// Deletes the checkpoints below `below`, except the newest of them.
    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError>;
}

/// Key of an [`DedupeRow`].
pub type IndexKey = (MessageId, UserId, ConversationId);

/// A page of history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessagePage {
    /// Newest first.
    pub rows: Vec<MessageRow>,
    /// Older ones exist.
    pub more: bool,
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room: try the same again when space returns.
    #[error("no room for the store: the disk is full, or too many files are open")]
    NoSpace,
    /// The simulated machine is down.
    #[error("the simulated machine crashed")]
    Crashed,
    /// The store takes no changes until it is opened again, which it does when the same is tried again.
    #[error("the store stopped (opened again {reopens} times since it last synced): {source}")]
    Stopped {
        /// How often it was opened again since it last synced.
        reopens: u32,
        /// What stopped it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store failed: nothing can be changed until restart.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// A row cannot be read: another version wrote it, or the disk is at fault.
    #[error("the row with key {key} cannot be read: {reason}")]
    Damaged {
        /// Its key, in hex.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program keeps its rows differently.
    #[error(
        "the store has schema {found}, this build has {expected}, and none is converted: run the version that wrote it on \
         this data directory, or begin with an empty one"
    )]
    Schema {
        /// The schema in the store.
        found: u32,
        /// The schema of this build.
        expected: u32,
    },
}

impl StoreError {
    /// Returns whether the simulated machine went down.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Crashed)
    }
}

impl From<KvError> for StoreError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::NoSpace => Self::NoSpace,
            KvError::Crashed => Self::Crashed,
            KvError::Stopped { reopens, source } => Self::Stopped { reopens, source },
            KvError::Failed(source) => Self::Failed(source),
        }
    }
}
