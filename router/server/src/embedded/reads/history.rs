//! A page of a conversation, newest first.

use router_core::receipts::peer;
use router_core::sessions::{Entry, LinkId};
use router_storage::disk::Disk;
use router_storage::store::Store;
use wire_base::ids::{Position, Seq};
use wire_link::{FromRouter, HistoryPageRecord, HistoryRecord, MessageRecord};

use super::{NOT_A_MEMBER, OBJECT_BYTES, PAGE_BYTES_MAX, Unanswered};
use crate::embedded::Router;
use crate::embedded::sessions::message_record;

impl<D: Disk, S: Store> Router<D, S> {
    pub(super) fn serve_history(&mut self, id: LinkId, history: &HistoryRecord) -> Result<(), Unanswered> {
        let page = self.history_page(history)?;
        self.answer_page(id, &FromRouter::HistoryPage(page));
        Ok(())
    }

    fn history_page(&self, history: &HistoryRecord) -> Result<HistoryPageRecord, Unanswered> {
        let HistoryRecord {
            request,
            user,
            conversation,
            before,
            limit,
        } = *history;
        let row = self.conversation(conversation)?;
        let peer = row.and_then(|row| peer(&row, user)).ok_or(NOT_A_MEMBER)?;
        let page = self
            .store
            .messages_before(conversation, before, limit as usize, PAGE_BYTES_MAX)?;
        let receipt = self.store.receipt(conversation, peer)?;
        let mut messages = Vec::with_capacity(page.rows.len());
        let mut more = page.more;
        let mut bytes = 0;
        for row in page.rows {
            let message = message_record(row);
            bytes += json_bytes(&message);
            if bytes > PAGE_BYTES_MAX && !messages.is_empty() {
                more = true;
                break;
            }
            messages.push(message);
        }
        let (delivered, read) = receipt.map_or((Seq(0), Seq(0)), |row| (row.delivered, row.read));
        Ok(HistoryPageRecord {
            request,
            conversation,
            messages,
            more,
            delivered,
            read,
        })
    }
}

/// Returns what a message takes as JSON, at most.
pub(super) fn json_bytes(message: &MessageRecord) -> usize {
    OBJECT_BYTES + Entry::new(Position::default(), message).bytes as usize
}
