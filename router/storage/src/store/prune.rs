//! Retention, in steps: each looks at a bounded number of rows and deletes, in one batch, those made by old records.
//!
//! A step is safe to repeat and to lose: a crash brings rows back, and the next pass deletes them again. A row that cannot
//! be read is kept, as is what comes after it in order: nobody knows how old it is (`tidegate store check` names it).

use std::ops::ControlFlow;

use router_records::row::{self, DedupeRow, InboxRow, MessageRow, Row, Table as _};
use wire_base::ids::{ConversationId, MessageId, Offset, Seq, UserId};

use super::StoreError;
use super::kv::{Batch, Kv};
use super::kv_store::{KvStore, PRUNE_FLOOR_KEY, encode_offset, within};
use super::ports::{Direction, IndexKey};

/// See [`super::Retention::prune_inbox`].
pub(super) fn inbox<K: Kv>(
    store: &mut KvStore<K>,
    below: Offset,
    from: Option<UserId>,
    rows_max: usize,
) -> Result<Option<UserId>, StoreError> {
    let table = Table {
        byte: InboxRow::INFO.byte,
        owner_bytes: InboxRow::INFO.owner_bytes,
        offset_of: |row| InboxRow::from_row(row).map(|row| row.position.offset),
    };
    let start = from.map_or_else(|| table.start(), InboxRow::encode_owner);
    let floor = store.prune_floor.max(below);
    let mut batch = Batch::default();
    batch.put(PRUNE_FLOOR_KEY, encode_offset(floor));
    let rest = delete_old(&store.kv, &table, start, below, rows_max, &mut batch)?;
    store.write(&batch)?;
    store.prune_floor = floor;
    Ok(rest.and_then(|key| UserId::new(u64::from_be_bytes(field(&key, 1)))))
}

/// See [`super::Retention::prune_messages`].
pub(super) fn messages<K: Kv>(
    store: &mut KvStore<K>,
    below: Offset,
    from: Option<(ConversationId, Seq)>,
    rows_max: usize,
) -> Result<Option<(ConversationId, Seq)>, StoreError> {
    let table = Table {
        byte: MessageRow::INFO.byte,
        owner_bytes: MessageRow::INFO.owner_bytes,
        offset_of: |row| MessageRow::from_row(row).map(|row| row.offset),
    };
    let start = from.map_or_else(
        || table.start(),
        |(conversation, seq)| MessageRow::encode_key(conversation, seq),
    );
    let mut batch = Batch::default();
    let rest = delete_old(&store.kv, &table, start, below, rows_max, &mut batch)?;
    store.write_if_any(&batch)?;
    Ok(rest.and_then(|key| {
        let conversation = ConversationId::new(uuid::Uuid::from_bytes(field(&key, 1)))?;
        Some((conversation, Seq(u64::from_be_bytes(field(&key, 17)))))
    }))
}

/// See [`super::Retention::prune_index`].
pub(super) fn index<K: Kv>(
    store: &mut KvStore<K>,
    below: Offset,
    from: Option<IndexKey>,
    rows_max: usize,
) -> Result<Option<IndexKey>, StoreError> {
    let start = match from {
        Some((message_id, sender, conversation)) => DedupeRow::encode_key(message_id, (sender, conversation)),
        None => vec![DedupeRow::INFO.byte],
    };
    let mut batch = Batch::default();
    let mut left = rows_max.max(1);
    let mut rest = None;
    let end = [DedupeRow::INFO.byte + 1];
    store
        .kv
        .scan(within(&start, &end), Direction::Forward, &mut |key, value| {
            if left == 0
                && let Some(at) = index_key(key)
            {
                rest = Some(at);
                return ControlFlow::Break(());
            }
            left = left.saturating_sub(1);
            if read(key, value)
                .and_then(DedupeRow::from_row)
                .is_some_and(|row| row.offset < below)
            {
                batch.delete(key);
            }
            ControlFlow::Continue(())
        })?;
    store.write_if_any(&batch)?;
    Ok(rest)
}

/// A table whose rows belong to owners, and within an owner are in order of the records that made them.
struct Table {
    byte: u8,
    /// Length of the part of a key that names table and owner.
    owner_bytes: usize,
    offset_of: fn(Row) -> Option<Offset>,
}

impl Table {
    fn start(&self) -> Vec<u8> {
        vec![self.byte]
    }
}

/// Adds the deletion of old rows to `batch`, never of the newest of an owner; returns the key to go on from.
fn delete_old(
    kv: &impl Kv,
    table: &Table,
    mut start: Vec<u8>,
    below: Offset,
    rows_max: usize,
    batch: &mut Batch,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut left = rows_max;
    loop {
        // Two rows at least, or a step might look at the same kept row for ever.
        let turn = owner_turn(kv, table, &start, below, left.max(2), batch)?;
        match turn {
            Turn::End => return Ok(None),
            Turn::Cut { at } => return Ok(Some(at)),
            Turn::Whole { owner, looked_at } => {
                start = row::after(&owner);
                left = left.saturating_sub(looked_at);
            }
        }
        if left == 0 {
            return Ok(Some(start));
        }
    }
}

/// How far one owner's rows were looked at.
enum Turn {
    /// There was no owner left.
    End,
    /// As far as needed.
    Whole {
        /// The part of the keys that names the owner.
        owner: Vec<u8>,
        looked_at: usize,
    },
    /// As far as allowed; the row at this key is to be looked at again.
    Cut { at: Vec<u8> },
}

/// Looks at the rows of the first owner at or after `start`.
fn owner_turn(
    kv: &impl Kv,
    table: &Table,
    start: &[u8],
    below: Offset,
    left: usize,
    batch: &mut Batch,
) -> Result<Turn, StoreError> {
    // An old row goes as soon as a newer one of its owner was seen.
    let mut held: Option<Vec<u8>> = None;
    let mut looked_at = 0;
    let mut turn = None;
    let mut owner = None;
    let end = [table.byte + 1];
    kv.scan(within(start, &end), Direction::Forward, &mut |key, value| {
        let this_owner = key.get(..table.owner_bytes).unwrap_or(key);
        if this_owner != &owner.get_or_insert_with(|| this_owner.to_vec())[..] {
            return ControlFlow::Break(());
        }
        looked_at += 1;
        let Some(offset) = read(key, value).and_then(table.offset_of) else {
            return ControlFlow::Break(());
        };
        if let Some(old) = held.take() {
            batch.delete(old);
        }
        if offset >= below {
            return ControlFlow::Break(());
        }
        held = Some(key.to_vec());
        if looked_at == left {
            turn = Some(Turn::Cut { at: key.to_vec() });
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(match (turn, owner) {
        (Some(turn), _) => turn,
        (None, Some(owner)) => Turn::Whole { owner, looked_at },
        (None, None) => Turn::End,
    })
}

/// Returns a row, unless it cannot be read.
fn read(key: &[u8], value: &[u8]) -> Option<Row> {
    Row::decode(key, value).ok()
}

/// Returns what a key of the index names, whatever its row says.
fn index_key(key: &[u8]) -> Option<IndexKey> {
    Some((
        MessageId::new(uuid::Uuid::from_bytes(field(key, 1)))?,
        UserId::new(u64::from_be_bytes(field(key, 17)))?,
        ConversationId::new(uuid::Uuid::from_bytes(field(key, 25)))?,
    ))
}

/// Returns the bytes of a key field; what a shortened key lacks are zeros.
fn field<const BYTES: usize>(key: &[u8], at: usize) -> [u8; BYTES] {
    let mut field = [0; BYTES];
    for (to, from) in field.iter_mut().zip(key.iter().skip(at)) {
        *to = *from;
    }
    field
}
