//! The store over an ordered key-value engine.

use std::ops::{Bound, ControlFlow};

use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, MessageRow, ReceiptRow, Row,
    UserConversationRow, key,
};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};

use super::kv::{Batch, Direction, KeyRange, Kv};
use super::prune;
use super::{IndexKey, MessagePage, Store, StoreError};

/// Takes the row out of its variant, `None` when it is of another.
macro_rules! pick {
    ($row:expr, $variant:ident) => {
        match $row {
            Row::$variant(row) => Some(row),
            _ => None,
        }
    };
}
pub(super) use pick;

/// A [`Store`] over any [`Kv`].
#[derive(Debug)]
pub struct KvStore<K> {
    pub(super) kv: K,
    generation: u32,
    flushed: Option<Offset>,
    pub(super) prune_floor: Offset,
    checkpoint_end: Option<Offset>,
    /// Opened again, the engine lacked rows: what is written behind the gap would hide it from the next start.
    has_gap: bool,
}

impl<K: Kv> KvStore<K> {
    /// Opens a store, or starts one in an empty engine with `created` (unix seconds) as its generation, durable when it
    /// returns: no log may carry a generation that a crash takes back.
    ///
    /// Errors: [`StoreError::Schema`] and [`StoreError::Damaged`]: another version wrote it.
    pub fn open(mut kv: K, created: u32) -> Result<Self, StoreError> {
        let generation = match kv.get(&IDENTITY_KEY)? {
            Some(bytes) => Identity::decode(&bytes)?.generation,
            None => {
                let mut batch = Batch::default();
                batch.put(
                    IDENTITY_KEY,
                    Identity {
                        schema: SCHEMA,
                        generation: created,
                    }
                    .encode(),
                );
                kv.apply(&batch)?;
                kv.persist()?;
                created
            }
        };
        let flushed = get_offset(&kv, FLUSHED_KEY)?;
        let prune_floor = get_offset(&kv, PRUNE_FLOOR_KEY)?.unwrap_or_default();
        let checkpoint_end = get_offset(&kv, CHECKPOINT_END_KEY)?;
        Ok(Self {
            kv,
            generation,
            flushed,
            prune_floor,
            checkpoint_end,
            has_gap: false,
        })
    }

    /// Makes a batch, in an engine that took changes before or takes them again.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.make_writable()?;
        Ok(self.kv.apply(batch)?)
    }

    pub(super) fn write_if_any(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if batch.changes.is_empty() {
            Ok(())
        } else {
            self.write(batch)
        }
    }

    /// Opens an engine that stopped again, and looks whether it still holds every batch it took.
    ///
    /// It does unless the disk lost what it was given, because a batch is in the operating system before its write
    /// returns. So whoever waits with a batch makes that one alone again; nothing is folded again while running.
    fn make_writable(&mut self) -> Result<(), StoreError> {
        if !self.has_gap && !self.kv.make_writable()? {
            return Ok(());
        }
        let held = get_offset(&self.kv, FLUSHED_KEY)?;
        // More is possible: a batch that was refused for lack of room may have been made.
        if self.has_gap || held < self.flushed {
            self.has_gap = true;
            let (held, flushed) = (held.map(|offset| offset.0), self.flushed.map(|offset| offset.0));
            return Err(StoreError::Failed(
                format!("opened again it reaches offset {held:?} and not {flushed:?}; a restart reads the log again").into(),
            ));
        }
        Ok(())
    }

    fn get<T>(&self, key: &[u8], pick: impl Fn(Row) -> Option<T>) -> Result<Option<T>, StoreError> {
        let Some(value) = self.kv.get(key)? else {
            return Ok(None);
        };
        pick(decode_row(key, &value)?)
            .ok_or_else(|| misplaced(key))
            .map(Some)
    }

    /// Returns the rows of a range, at most `limit`, each of the table that `pick` picks.
    fn scan<T>(
        &self,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
        pick: impl Fn(Row) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        scan_rows(&self.kv, range, direction, &mut |key, row| {
            rows.push(pick(row).ok_or_else(|| misplaced(key))?);
            Ok(if rows.len() >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        Ok(rows)
    }

    fn scan_prefix<T>(
        &self,
        prefix: &[u8],
        direction: Direction,
        limit: usize,
        pick: impl Fn(Row) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.scan(within(prefix, &key::after(prefix)), direction, limit, pick)
    }
}

impl<K: Kv> Store for KvStore<K> {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn flushed(&self) -> Option<Offset> {
        self.flushed
    }

    fn prune_floor(&self) -> Offset {
        self.prune_floor
    }

    fn conversation(&self, conversation: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        self.get(&key::conversation(conversation), |row| pick!(row, Conversation))
    }

    fn index(
        &self,
        message_id: MessageId,
        sender: UserId,
        conversation: ConversationId,
    ) -> Result<Option<DedupeRow>, StoreError> {
        self.get(&key::dedupe(message_id, sender, conversation), |row| {
            pick!(row, Dedupe)
        })
    }

    fn index_by_message(&self, message_id: MessageId, limit: usize) -> Result<Vec<DedupeRow>, StoreError> {
        self.scan_prefix(
            &key::dedupe_prefix(message_id),
            Direction::Forward,
            limit,
            |row| pick!(row, Dedupe),
        )
    }

    fn message(&self, conversation: ConversationId, seq: Seq) -> Result<Option<MessageRow>, StoreError> {
        self.get(&key::message(conversation, seq), |row| pick!(row, Message))
    }

    fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<MessagePage, StoreError> {
        let prefix = key::message_prefix(conversation);
        let end = match before {
            Some(seq) => key::message(conversation, seq).to_vec(),
            None => key::after(&prefix),
        };
        let mut page = MessagePage::default();
        let mut bytes = 0;
        scan_rows(
            &self.kv,
            within(&prefix, &end),
            Direction::Backward,
            &mut |key, row| {
                let row = pick!(row, Message).ok_or_else(|| misplaced(key))?;
                bytes += row.message.body.len();
                if page.rows.len() >= limit || (bytes > bytes_max && !page.rows.is_empty()) {
                    page.more = true;
                    return Ok(ControlFlow::Break(()));
                }
                page.rows.push(row);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(page)
    }

    fn receipt(&self, conversation: ConversationId, user: UserId) -> Result<Option<ReceiptRow>, StoreError> {
        self.get(&key::receipt(conversation, user), |row| pick!(row, Receipt))
    }

    fn user_conversations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<UserConversationRow>, StoreError> {
        let prefix = key::user_conversation_prefix(user);
        let end = key::after(&prefix);
        let last = after.map(|conversation| key::user_conversation(user, conversation));
        let start = last
            .as_ref()
            .map_or(Bound::Included(&prefix[..]), |last| Bound::Excluded(&last[..]));
        self.scan((start, Bound::Excluded(&end)), Direction::Forward, limit, |row| {
            pick!(row, UserConversation)
        })
    }

    fn inbox_after(
        &self,
        user: UserId,
        position: Position,
        limit: usize,
    ) -> Result<Vec<InboxRow>, StoreError> {
        let start = key::inbox(user, position);
        let end = key::after(&key::inbox_prefix(user));
        let range = (Bound::Excluded(&start[..]), Bound::Excluded(&end[..]));
        self.scan(range, Direction::Forward, limit, |row| pick!(row, Inbox))
    }

    fn inbox_first(&self, user: UserId) -> Result<Option<InboxRow>, StoreError> {
        Ok(self
            .scan_prefix(&key::inbox_prefix(user), Direction::Forward, 1, |row| {
                pick!(row, Inbox)
            })?
            .pop())
    }

    fn inbox_last(&self, user: UserId) -> Result<Option<InboxRow>, StoreError> {
        Ok(self
            .scan_prefix(&key::inbox_prefix(user), Direction::Backward, 1, |row| {
                pick!(row, Inbox)
            })?
            .pop())
    }

    fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        self.get(&key::device(user, device), |row| pick!(row, Device))
    }

    fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>, StoreError> {
        self.scan_prefix(&key::device_prefix(user), Direction::Forward, usize::MAX, |row| {
            pick!(row, Device)
        })
    }

    fn checkpoints(&self) -> Result<Vec<CheckpointRow>, StoreError> {
        self.scan_prefix(&key::checkpoint_prefix(), Direction::Forward, usize::MAX, |row| {
            pick!(row, Checkpoint)
        })
    }

    fn apply(&mut self, rows: &[Row], flushed: Offset) -> Result<(), StoreError> {
        let mut batch = Batch {
            changes: Vec::with_capacity(rows.len() + 1),
        };
        for row in rows {
            let (key, value) = row.encode();
            batch.put(key, value);
        }
        batch.put(FLUSHED_KEY, encode_offset(flushed));
        self.write(&batch)?;
        self.flushed = Some(flushed);
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        // The row says what it said before, so that a crash in between means nothing.
        let identity = Identity {
            schema: SCHEMA,
            generation: self.generation,
        }
        .encode();
        let mut batch = Batch::default();
        batch.put(IDENTITY_KEY, identity.clone());
        self.write(&batch)?;
        if self.kv.get(&IDENTITY_KEY)? == Some(identity) {
            Ok(())
        } else {
            Err(StoreError::Failed(
                "it does not hold what was just written".into(),
            ))
        }
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.make_writable()?;
        Ok(self.kv.persist()?)
    }

    fn checkpoint_end(&self) -> Option<Offset> {
        self.checkpoint_end
    }

    fn complete_checkpoint(&mut self) -> Result<(), StoreError> {
        // One sync is enough: what survives of the batches is a prefix, so that the mark implies all before it.
        let end = self.flushed.map_or(Offset(0), |flushed| Offset(flushed.0 + 1));
        let mut batch = Batch::default();
        batch.put(CHECKPOINT_END_KEY, encode_offset(end));
        self.write(&batch)?;
        self.persist()?;
        self.checkpoint_end = Some(end);
        Ok(())
    }

    fn prune_inbox(
        &mut self,
        below: Offset,
        from: Option<UserId>,
        rows_max: usize,
    ) -> Result<Option<UserId>, StoreError> {
        prune::inbox(self, below, from, rows_max)
    }

    fn prune_messages(
        &mut self,
        below: Offset,
        from: Option<(ConversationId, Seq)>,
        rows_max: usize,
    ) -> Result<Option<(ConversationId, Seq)>, StoreError> {
        prune::messages(self, below, from, rows_max)
    }

    fn prune_index(
        &mut self,
        below: Offset,
        from: Option<IndexKey>,
        rows_max: usize,
    ) -> Result<Option<IndexKey>, StoreError> {
        prune::index(self, below, from, rows_max)
    }

    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError> {
        let old: Vec<_> = self
            .checkpoints()?
            .into_iter()
            .filter(|row| row.offset < below)
            .collect();
        let mut batch = Batch::default();
        for row in old.iter().rev().skip(1) {
            batch.delete(key::checkpoint(row.time));
        }
        self.write_if_any(&batch)
    }
}

/// Takes one key and its row; breaks when it has enough.
type VisitRow<'a> = dyn FnMut(&[u8], Row) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Visits the decoded rows of a range until `visit` breaks or fails.
fn scan_rows(
    kv: &impl Kv,
    range: KeyRange<'_>,
    direction: Direction,
    visit: &mut VisitRow<'_>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    kv.scan(
        range,
        direction,
        &mut |key, value| match decode_row(key, value).and_then(|row| visit(key, row)) {
            Ok(flow) => flow,
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome
}

/// The range from a key on, up to another one.
pub(super) fn within<'a>(start: &'a [u8], end: &'a [u8]) -> KeyRange<'a> {
    (Bound::Included(start), Bound::Excluded(end))
}

fn decode_row(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    Row::decode(key, value).map_err(|error| damaged(key, error.to_string()))
}

fn damaged(key: &[u8], reason: String) -> StoreError {
    StoreError::Damaged {
        key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        reason,
    }
}

fn misplaced(key: &[u8]) -> StoreError {
    damaged(key, "it is of another table".to_owned())
}

/// Which store this is: the first row of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) schema: u32,
    pub(crate) generation: u32,
}

impl Identity {
    fn encode(self) -> Vec<u8> {
        [self.schema.to_le_bytes(), self.generation.to_le_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let field = |at: usize| {
            bytes
                .get(at..at + 4)
                .and_then(|field| field.try_into().ok())
                .map(u32::from_le_bytes)
        };
        let wrong_size = || damaged(&IDENTITY_KEY, "it has another size".to_owned());
        let schema = field(0).ok_or_else(wrong_size)?;
        if schema != SCHEMA {
            return Err(StoreError::Schema {
                found: schema,
                expected: SCHEMA,
            });
        }
        Ok(Self {
            schema,
            generation: field(4).ok_or_else(wrong_size)?,
        })
    }
}

pub(super) fn encode_offset(offset: Offset) -> [u8; 8] {
    offset.0.to_le_bytes()
}

fn get_offset(kv: &impl Kv, key: [u8; 2]) -> Result<Option<Offset>, StoreError> {
    match kv.get(&key)? {
        Some(bytes) => decode_offset(&key, &bytes).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn decode_offset(key: &[u8], bytes: &[u8]) -> Result<Offset, StoreError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(Offset(u64::from_le_bytes(bytes))),
        Err(_) => Err(damaged(key, "it has another size".to_owned())),
    }
}

pub(crate) const IDENTITY_KEY: [u8; 2] = [key::TABLE_META, 1];
pub(crate) const FLUSHED_KEY: [u8; 2] = [key::TABLE_META, 2];
pub(crate) const PRUNE_FLOOR_KEY: [u8; 2] = [key::TABLE_META, 3];
pub(crate) const CHECKPOINT_END_KEY: [u8; 2] = [key::TABLE_META, 4];

/// Raised when tables, keys or values change: whether a store can be read is known before any row of it is.
const SCHEMA: u32 = 2;
