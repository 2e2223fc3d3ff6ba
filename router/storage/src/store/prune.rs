//! Retention: deletes what the expiry lists name, from the oldest on, and knows how far it came.
//!
//! Of a conversation the newest message stays, as its summary, and of a user the newest inbox entry, as the head; they go
//! in the batch that replaces them ([`replaced`]). A step is safe to repeat and to lose: a crash brings its rows back
//! together with their list. A list that cannot be read is stepped over: nobody knows what it names
//! (`tidegate store check` finds it).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use router_records::row::{ConversationRow, InboxRow, Members, MessageRow, Row, Table as _, after};
use wire_base::ids::{ConversationId, Offset, Seq, UserId};

use super::StoreError;
use super::expiry::{Expiring, decode_list, encode_list, list_key, lists_end};
use super::kv::{Batch, Kv};
use super::kv_store::{KvStore, PRUNE_FLOOR_KEY, encode_offset, within};
use super::ports::{Direction, Reads as _};

/// How far retention came: everything that the lists before the first one named is deleted, or kept as the newest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    /// No list that can be read is before this.
    from: Offset,
    /// The first one; not known when the last write failed, which may have been made all the same.
    first: Option<FirstList>,
}

/// The record that made the first message of the first list; `None` without lists.
type FirstList = Option<Offset>;

impl Swept {
    pub(super) fn unknown() -> Self {
        Self {
            from: Offset(0),
            first: None,
        }
    }

    fn at(first: FirstList) -> Self {
        Self {
            from: first.unwrap_or_default(),
            first: Some(first),
        }
    }

    pub(super) fn forget(&mut self) {
        self.first = None;
    }

    /// Takes note of lists that were written.
    pub(super) fn written(&mut self, first: Offset) {
        if self.first == Some(None) {
            *self = Self::at(Some(first));
        }
    }

    /// Returns the first list.
    pub(super) fn first_list(&mut self, kv: &impl Kv) -> Result<FirstList, StoreError> {
        if let Some(first) = self.first {
            return Ok(first);
        }
        let mut first = None;
        scan_lists(kv, self.from, &mut |_, list| {
            first = Some(list[0].offset);
            ControlFlow::Break(())
        })?;
        *self = Self::at(first);
        Ok(first)
    }
}

/// See [`super::Retention::prune`].
pub(super) fn step<K: Kv>(
    store: &mut KvStore<K>,
    below: Offset,
    messages_max: usize,
) -> Result<Option<Offset>, StoreError> {
    let floor = store.prune_floor.max(below);
    let mut batch = Batch::default();
    batch.put(PRUNE_FLOOR_KEY, encode_offset(floor));
    let mut expired = Vec::new();
    let mut first_left = None;
    if let Some(first) = store.swept.first_list(&store.kv)? {
        scan_lists(&store.kv, first, &mut |key, mut list| {
            let room = messages_max.max(1) - expired.len();
            let old = list.partition_point(|message| message.offset < below).min(room);
            if old > 0 {
                batch.delete(key);
                let rest = list.split_off(old);
                expired.extend(list);
                list = rest;
            }
            let Some(left) = list.first() else {
                return ControlFlow::Continue(());
            };
            first_left = Some(left.offset);
            if old > 0 {
                let (key, value) = encode_list(&list);
                batch.put(key, value);
            }
            ControlFlow::Break(())
        })?;
    }
    delete(store, &expired, &mut batch)?;
    // Should the write fail, it may have been made all the same.
    store.prune_floor = floor;
    store.swept.forget();
    store.write(&batch)?;
    store.swept = Swept::at(first_left);
    Ok(first_left.filter(|offset| *offset < below))
}

/// Adds the deletion of the rows of expired messages, but for what is the newest.
fn delete<K: Kv>(store: &KvStore<K>, expired: &[Expiring], batch: &mut Batch) -> Result<(), StoreError> {
    // A message that another one of this step follows needs no look.
    let newest: BTreeMap<ConversationId, Seq> = expired
        .iter()
        .map(|message| (message.conversation, message.seq))
        .collect();
    for message in expired {
        batch.delete(message.index_key());
        let is_last = newest.get(&message.conversation) == Some(&message.seq) && is_newest(store, message)?;
        if !is_last {
            batch.delete(message.message_key());
        }
        for reader in &message.readers {
            let key = message.inbox_key(reader, store.generation);
            // Whoever has the next message of the conversation has a newer entry.
            if !is_last || newest_entry(&store.kv, reader.user)?.as_ref() != Some(&key) {
                batch.delete(key);
            }
        }
    }
    Ok(())
}

/// Returns whether a message is the newest of its conversation, for all members.
fn is_newest<K: Kv>(store: &KvStore<K>, message: &Expiring) -> Result<bool, StoreError> {
    match store.get::<ConversationRow>(message.conversation, ()) {
        Ok(Some(row)) => {
            let Members::Direct(_) = row.members; // Both have every message.
            Ok(row.last_seq == message.seq)
        }
        Ok(None) => Ok(false),
        // It is kept, and holds up nothing else.
        Err(StoreError::Damaged { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Adds the deletion of what was kept past retention only as the newest, and is so no more once `rows` are written.
///
/// What the lists still name is left to them, so that at any time what is left of a conversation has no gap.
pub(super) fn replaced<K: Kv>(
    store: &mut KvStore<K>,
    rows: &[Row],
    expiring: &[Expiring],
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let Some(first) = expiring.first() else {
        return Ok(());
    };
    if store.prune_floor == Offset(0) {
        return Ok(()); // Nothing was ever kept so.
    }
    let first_list = store.swept.first_list(&store.kv)?;
    let swept = first_list.map_or(first.offset, |list| list.min(first.offset));
    let mut previous = BTreeMap::new();
    for row in rows {
        let Row::Message(row) = row else { continue };
        let (conversation, seq) = (row.message.conversation, row.message.seq);
        previous.insert((conversation, seq), row.prev_offset);
        if row.prev_offset < swept {
            let seq = Seq(seq.0.saturating_sub(1));
            batch.delete(MessageRow::encode_key(conversation, seq));
        }
    }
    for row in rows {
        let Row::Inbox(row) = row else { continue };
        // Whoever has the message before, and that is not swept, has an entry that is not either.
        let has_previous = row.prev_seq > Seq(0) && row.prev_seq.next() == row.seq;
        let previous = previous
            .get(&(row.conversation, row.seq))
            .filter(|_| has_previous);
        if previous.is_none_or(|offset| *offset < swept)
            && let Some(key) = newest_entry(&store.kv, row.user)?
            && entry_offset(&key) < swept
        {
            batch.delete(key);
        }
    }
    Ok(())
}

/// Returns the key of a user's newest inbox entry.
fn newest_entry(kv: &impl Kv, user: UserId) -> Result<Option<Vec<u8>>, StoreError> {
    let start = InboxRow::encode_owner(user);
    let mut newest = None;
    kv.scan(
        within(&start, &after(&start)),
        Direction::Backward,
        &mut |key, _| {
            newest = Some(key.to_vec());
            ControlFlow::Break(())
        },
    )?;
    Ok(newest)
}

/// Returns the offset in the key of an inbox entry, behind table, user and generation.
fn entry_offset(key: &[u8]) -> Offset {
    let at = InboxRow::INFO.owner_bytes + size_of::<u32>();
    let bytes = key.get(at..).and_then(|rest| rest.first_chunk());
    Offset(bytes.map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes)))
}

/// Takes the key of a list and its messages; breaks when it has enough.
type VisitList<'a> = dyn FnMut(&[u8], Vec<Expiring>) -> ControlFlow<()> + 'a;

/// Visits the lists that can be read, from one on.
fn scan_lists(kv: &impl Kv, from: Offset, visit: &mut VisitList<'_>) -> Result<(), StoreError> {
    let (start, end) = (list_key(from), lists_end());
    kv.scan(
        within(&start, &end),
        Direction::Forward,
        &mut |key, value| match decode_list(value) {
            Ok(list) => visit(key, list),
            Err(_) => ControlFlow::Continue(()),
        },
    )?;
    Ok(())
}
