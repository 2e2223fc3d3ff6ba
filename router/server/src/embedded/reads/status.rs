//! A watermark that is to move: which message is meant, and may this user say so?

use router_backend::disk::Disk;
use router_backend::store::Store;
use router_core::prelog::{check_status, received};
use router_core::sessions::LinkId;
use wire::client::StatusOf;
use wire::ids::{ConversationId, MessageId, Seq, UserId};
use wire::link::{FromRouter, StatusRecord};
use wire::log::{Input, LogRecord, StatusInput};

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
            // Everything up to it is past retention: nobody is left to tell.
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
            Asker::Status(id, status.request),
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
        let seq = check_status(self.conversation(conversation)?.as_ref(), user, seq)?;
        // The message of that seq, or the newest one before it that is still kept.
        let page = self.store.messages_before(conversation, Some(seq.next()), 1, 0)?;
        let place = page.rows.first().map(|row| Place {
            conversation,
            seq,
            message_id: row.message_id,
        });
        Ok(place)
    }
}

/// Sends by others with the same message id that are looked at; a sender makes its ids unique.
const CANDIDATES_MAX: usize = 256;
