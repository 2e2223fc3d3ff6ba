//! Questions that are answered from the store, after the commit of their tick.

mod conversations;
mod history;
mod status;

use router_core::prelog::Refusal;
use router_core::sessions::LinkId;
use router_records::row::ConversationRow;
use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, UserId};
use wire_base::limits::{CIPHERTEXT_BYTES_MAX, FRAME_BYTES_MAX, KIND_BYTES_MAX, MEDIA_URL_BYTES_MAX};
use wire_link::{ConversationsRecord, FromRouter, HistoryRecord, RequestId, StatusRecord};

use super::{Fatal, Router};
use conversations::Scan;

/// A question that waits for its turn.
pub(super) enum Read {
    /// Looked up here, logged with the next group.
    Status(StatusRecord),
    /// A page of a conversation.
    History(HistoryRecord),
    /// A page of a user's conversations, over as many steps as it takes.
    Conversations(Box<Scan>),
}

/// Why a question has no answer.
pub(super) enum Unanswered {
    /// Whoever asked may not know, or asked badly.
    Refused(Refusal),
    /// The store failed.
    Store(StoreError),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Read {
    pub(super) fn conversations(record: ConversationsRecord) -> Self {
        Self::Conversations(Box::new(Scan::new(record)))
    }

    fn request(&self) -> RequestId {
        match self {
            Self::Status(record) => record.request,
            Self::History(record) => record.request,
            Self::Conversations(scan) => scan.request(),
        }
    }

    fn user(&self) -> UserId {
        match self {
            Self::Status(record) => record.user,
            Self::History(record) => record.user,
            Self::Conversations(scan) => scan.user(),
        }
    }

    /// Returns what it takes of a tick's budget, in pages.
    fn cost(&self) -> usize {
        match self {
            Self::Status(_) | Self::History(_) => 1,
            Self::Conversations(_) => 4,
        }
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Serves the links' questions in turn, some of them. Returns whether others could be served at once.
    pub(super) fn serve_reads(&mut self) -> Result<bool, Fatal> {
        let mut budget = self.config.pages_per_tick;
        loop {
            let mut is_served = false;
            for id in (0..self.links.ids()).map(LinkId) {
                // A status goes into the next group, which must have room for it.
                if budget == 0 || self.forming.is_full(&self.config) {
                    return Ok(self.has_reads());
                }
                if let Some(read) = self.next_read(id) {
                    budget = budget.saturating_sub(read.cost());
                    is_served = true;
                    self.serve_read(id, read)?;
                }
            }
            if !is_served {
                return Ok(false);
            }
        }
    }

    fn has_reads(&mut self) -> bool {
        (0..self.links.ids()).map(LinkId).any(|id| {
            self.links.may_answer(id) && self.links.get_mut(id).is_some_and(|link| !link.reads.is_empty())
        })
    }

    fn next_read(&mut self, id: LinkId) -> Option<Read> {
        if !self.links.may_answer(id) {
            return None;
        }
        let link = self.links.get_mut(id)?;
        // What a user asks after a status shows it: so it waits for the commit of the next tick, and what comes behind it
        // of the same user too.
        let mut waiting = Vec::new();
        let at = link.reads.iter().position(|read| {
            let user = read.user();
            let is_shown = !matches!(read, Read::Status(_));
            let waits = waiting.contains(&user) || is_shown && self.forming.has_status_of(user);
            if waits {
                waiting.push(user);
            }
            !waits
        })?;
        link.reads.remove(at)
    }

    fn serve_read(&mut self, id: LinkId, read: Read) -> Result<(), Fatal> {
        let request = read.request();
        let served = match read {
            Read::Status(record) => self.serve_status(id, &record),
            Read::History(record) => self.serve_history(id, &record),
            Read::Conversations(scan) => self.serve_conversations(id, scan),
        };
        match served {
            Ok(()) => {}
            Err(Unanswered::Refused(refusal)) => self.fail(id, request, &refusal),
            Err(Unanswered::Store(error)) => {
                self.handle_read_error(&error)?;
                self.fail(id, request, &UNREADABLE);
            }
        }
        Ok(())
    }

    /// Answers with a page.
    fn answer_page(&mut self, id: LinkId, page: &FromRouter) {
        self.counters.history_pages.add(1);
        self.links.push(id, page);
    }

    /// Returns the state of a conversation, from memory or from the store.
    fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        match self.folds.conversation(id) {
            Some(row) => Ok(row.copied()),
            None => self.store.conversation(id),
        }
    }
}

/// What the messages of one page may take as JSON. A page holds at least one message, which may be larger, and has a
/// few fields of its own.
const PAGE_BYTES_MAX: usize = 96 * 1024;
/// What a message or a summary takes as JSON beside its content, its media URL and its kind, at most.
const OBJECT_BYTES: usize = 384;
/// The largest message alone in a page: ciphertext in base64, and media URL and kind of characters that are escaped.
const LARGEST_MESSAGE_BYTES: usize =
    CIPHERTEXT_BYTES_MAX.div_ceil(3) * 4 + (MEDIA_URL_BYTES_MAX + KIND_BYTES_MAX) * 6 + OBJECT_BYTES;
const _: () = assert!(PAGE_BYTES_MAX + OBJECT_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(LARGEST_MESSAGE_BYTES + OBJECT_BYTES <= FRAME_BYTES_MAX);

const UNREADABLE: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "the store cannot be read now; try again",
    retry_after_ms: None,
};
const NOT_A_MEMBER: Refusal = Refusal {
    code: Code::Forbidden,
    reason: "conversation_id: not a conversation of this user",
    retry_after_ms: None,
};
