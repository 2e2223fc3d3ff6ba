//! A watermark that is to move: which message is meant, and may this user say so?

use router_core::prelog::{NOT_RECEIVED, check_status, received};
use router_core::receipts::peer;
use router_core::sessions::LinkId;
use router_records::log::{Input, LogRecord, StatusInput};
use router_records::row::MessageRow;
use router_storage::disk::Disk;
use router_storage::store::Store;
use wire_base::ids::{ConversationId, MessageId, Seq, UserId};
use wire_base::status::StatusOf;
use wire_link::{FromRouter, StatusRecord};

use super::Unanswered;
use crate::embedded::Router;
use crate::embedded::condition::UNAVAILABLE;
use crate::embedded::group::Asker;

/// A place in a conversation, with the message there.
struct Place {
    conversation: ConversationId,
    seq: Seq,
    message_id: MessageId,
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Puts a status into the next group; `Done` follows when it is durable.
    pub(super) fn serve_status(&mut self, id: LinkId, status: &StatusRecord) -> Result<(), Unanswered> {
        if !self.condition.takes_records() {
            return Err(UNAVAILABLE.into());
        }
        let place = match status.command.of {
            StatusOf::Message(message_id) => Some(self.place_of_message(status.user, message_id)?),
            StatusOf::Seq(conversation, seq) => self.place_of_seq(status.user, conversation, seq)?,
        };
        let Some(Place {
            conversation,
            seq,
            message_id,
        }) = place
        else {
            // What came before is past retention, or far behind own messages: nobody is left to tell.
            self.links.push(id, &FromRouter::Done(status.request));
            return Ok(());
        };
        let input = StatusInput {
            user: status.user,
            device: status.device,
            conversation,
            status: status.command.status,
            seq,
            message_id,
        };
        let time = self.folds.stamp(self.now.unix);
        self.forming.push(
            LogRecord {
                time,
                input: Input::Status(input),
            },
            Asker::Status(id, status.request, status.user),
        );
        Ok(())
    }

    fn place_of_message(&self, user: UserId, message_id: MessageId) -> Result<Place, Unanswered> {
        let mut candidates = Vec::new();
        for index in self.store.index_by_message(message_id, CANDIDATES_MAX)? {
            if let Some(conversation) = self.conversation(index.conversation)? {
                candidates.push((index, conversation));
            }
        }
        let index = received(&candidates, user)?;
        Ok(Place {
            conversation: index.conversation,
            seq: index.seq,
            message_id,
        })
    }

    fn place_of_seq(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Option<Place>, Unanswered> {
        let state = self.conversation(conversation)?;
        let seq = check_status(state.as_ref(), user, seq)?;
        let is_with_oneself = state.as_ref().and_then(|state| peer(state, user)) == Some(user);
        let mut before = seq.next();
        // Almost always the first row; more only where the user named one of many own messages in a row.
        for rows_max in OWN_ROWS_MAX {
            let page = self
                .store
                .messages_before(conversation, Some(before), rows_max, OWN_BYTES_MAX)?;
            let mut rows = page.rows.iter();
            if let Some(row) = rows.find(|row| row.sender != user || is_with_oneself) {
                return Ok(Some(Place {
                    conversation,
                    seq: row.seq,
                    message_id: row.message_id,
                }));
            }
            match page.rows.last() {
                Some(MessageRow { seq: Seq(1), .. }) => return Err(NOT_RECEIVED.into()),
                Some(row) => before = row.seq,
                None => break,
            }
        }
        Ok(None)
    }
}

/// Rows that are looked at, step by step, to get behind own messages; each step also ends at [`OWN_BYTES_MAX`].
const OWN_ROWS_MAX: [usize; 3] = [1, 64, 256];
/// Bounds what one status makes the router read.
const OWN_BYTES_MAX: usize = 128 * 1024;
/// Sends by others with the same message id that are looked at; a sender makes its ids unique.
const CANDIDATES_MAX: usize = 256;
