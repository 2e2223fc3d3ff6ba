//! The expiry lists: whether they name what is there, each once, and the rows that they should have deleted are gone.

use std::ops::{Bound, ControlFlow};

use router_records::row::{Claims, DedupeRow, Kept, MessageRow, Table, TableInfo};
use wire_base::ids::Offset;

use super::store_check::StoreCheck;
use crate::store::{Direction, Expiring, Kv, KvError, decode_list, hex, list_key, lists_end};

/// What the lists say of the rows.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// How far deletion came: the first message that is listed.
    first: Option<Offset>,
    last: Option<Offset>,
    /// Messages that they name.
    listed: u64,
    /// Messages from the first one on.
    found: u64,
}

impl Lists {
    /// Returns whether deletion has passed a record.
    pub(super) fn have_passed(&self, offset: Offset) -> bool {
        self.first.is_none_or(|first| offset < first)
    }

    /// Counts a message.
    pub(super) fn take(&mut self, table: &TableInfo, claims: &Claims) {
        let is_message = table.byte == MessageRow::INFO.byte;
        if is_message && claims.offset.is_some_and(|offset| !self.have_passed(offset)) {
            self.found += 1;
        }
    }
}

impl StoreCheck {
    /// Reads the lists and follows everything they name. They are read before the rows.
    pub(super) fn read_lists(&mut self, kv: &impl Kv) -> Result<(), KvError> {
        let (mut start, end) = (list_key(Offset(0)), lists_end());
        loop {
            let mut lists = Vec::new();
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            kv.scan(range, Direction::Forward, &mut |key, value| {
                lists.push((key.to_vec(), decode_list(value)));
                self.count("expiry lists", key, value);
                match lists.len() {
                    LISTS_AT_ONCE => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
            let Some((last, _)) = lists.last() else {
                return Ok(());
            };
            start = [&last[..], &[0]].concat();
            for (key, list) in lists {
                match list {
                    Ok(list) => self.take_list(kv, &key, &list)?,
                    Err(error) => self.find(format!("an expiry list cannot be read: {error}")),
                }
            }
        }
    }

    fn take_list(&mut self, kv: &impl Kv, key: &[u8], list: &[Expiring]) -> Result<(), KvError> {
        if list.first().map(|message| list_key(message.offset)).as_deref() != Some(key) {
            self.find(format!("the expiry list {} begins elsewhere", hex(key)));
        }
        for message in list {
            if Some(message.offset) <= self.lists.last {
                self.find(format!(
                    "offset {} is twice in the expiry lists",
                    message.offset.0
                ));
            }
            self.lists.first.get_or_insert(message.offset);
            self.lists.last = Some(message.offset);
            self.lists.listed += 1;
            self.follow_listed(kv, message)?;
        }
        Ok(())
    }

    fn follow_listed(&mut self, kv: &impl Kv, message: &Expiring) -> Result<(), KvError> {
        let offset = message.offset;
        let key = message.message_key();
        let row = kv.get(&key)?.map(|value| MessageRow::decode(&key, &value));
        self.is_listed_rightly("message", offset, row.map(|row| row.ok().map(|row| row.offset)));
        let key = message.index_key();
        let row = kv.get(&key)?.map(|value| DedupeRow::decode(&key, &value));
        self.is_listed_rightly("outcome", offset, row.map(|row| row.ok().map(|row| row.offset)));
        for reader in &message.readers {
            let key = message.inbox_key(reader, self.generation.unwrap_or_default());
            let row = kv.get(&key)?;
            self.is_listed_rightly("inbox entry", offset, row.map(|_| Some(offset)));
        }
        Ok(())
    }

    /// `found` is the offset of the row; one that cannot be read is found elsewhere.
    fn is_listed_rightly(&mut self, what: &str, offset: Offset, found: Option<Option<Offset>>) {
        match found {
            None => self.find(format!(
                "expiry lists: the {what} of offset {} is missing",
                offset.0
            )),
            Some(Some(found)) if found != offset => self.find(format!(
                "expiry lists: the {what} of offset {} is of offset {}",
                offset.0, found.0
            )),
            _ => {}
        }
    }

    /// Looks whether a row should have been deleted, which `next` of the same owner follows.
    pub(super) fn is_kept_rightly(&mut self, table: &TableInfo, claims: &Claims, has_next: bool) {
        let is_over = match table.kept {
            Kept::Stays | Kept::Apart => false,
            Kept::Expires => !has_next,
            Kept::ExpiresButTheNewest => has_next,
        };
        if let Some(offset) = claims
            .offset
            .filter(|offset| is_over && self.lists.have_passed(*offset))
        {
            let name = table.row_name;
            self.find(format!(
                "a {name} is of offset {}, past what was deleted",
                offset.0
            ));
        }
    }

    /// Looks whether every message is listed; at the end.
    pub(super) fn all_are_listed(&mut self) {
        let Lists { listed, found, .. } = self.lists;
        if listed != found {
            self.find(format!(
                "the expiry lists name {listed} messages, and there are {found}"
            ));
        }
    }
}

const LISTS_AT_ONCE: usize = 200;
