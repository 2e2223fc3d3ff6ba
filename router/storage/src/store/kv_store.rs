//! The store over an ordered key-value engine.

use std::ops::{Bound, ControlFlow};

use router_records::row::{self, CheckpointRow, Row, TABLE_META, Table};
use wire_base::ids::Offset;

use super::StoreError;
use super::expiry::{Expiring, LIST_MESSAGES_MAX, encode_list};
use super::kv::{Batch, KeyRange, Kv};
use super::ports::{Apply, Direction, Limits, Page, Range, Reads, Retention};
use super::prune::{self, Swept};

/// A [`Store`](super::Store) over any [`Kv`].
#[derive(Debug)]
pub struct KvStore<K> {
    pub(super) kv: K,
    pub(super) generation: u32,
    flushed: Option<Offset>,
    pub(super) prune_floor: Offset,
    pub(super) swept: Swept,
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
        let mut swept = Swept::unknown();
        swept.first_list(&kv)?;
        Ok(Self {
            kv,
            generation,
            flushed,
            prune_floor,
            swept,
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
}

impl<K: Kv> Reads for KvStore<K> {
    fn get<T: Table>(&self, owner: T::Owner, order: T::Order) -> Result<Option<T>, StoreError> {
        let key = T::encode_key(owner, order);
        match self.kv.get(&key)? {
            Some(value) => decode_row(&key, &value).map(Some),
            None => Ok(None),
        }
    }

    fn scan<T: Table>(
        &self,
        range: Range<T>,
        direction: Direction,
        limits: Limits,
    ) -> Result<Page<T>, StoreError> {
        let (start, end) = key_range(&range);
        let mut page = Page {
            rows: Vec::new(),
            more: false,
        };
        let mut bytes = 0;
        let mut outcome = Ok(());
        self.kv
            .scan((bound(&start), bound(&end)), direction, &mut |key, value| {
                page.more = page.rows.len() >= limits.rows;
                if page.more {
                    return ControlFlow::Break(());
                }
                let row = match Row::decode(key, value) {
                    Ok(row) => row,
                    Err(error) => {
                        outcome = Err(damaged(key, error.to_string()));
                        return ControlFlow::Break(());
                    }
                };
                bytes += row.body_bytes();
                page.more = bytes > limits.bytes && !page.rows.is_empty();
                if page.more {
                    return ControlFlow::Break(());
                }
                // The range is one of this table's keys.
                page.rows.extend(T::from_row(row));
                ControlFlow::Continue(())
            })?;
        outcome.map(|()| page)
    }
}

impl<K: Kv> Apply for KvStore<K> {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn flushed(&self) -> Option<Offset> {
        self.flushed
    }

    fn apply(&mut self, rows: &[Row], through: Offset) -> Result<(), StoreError> {
        let mut batch = Batch {
            changes: Vec::with_capacity(rows.len() + 2),
        };
        let expiring = Expiring::of(rows);
        prune::replaced(self, rows, &expiring, &mut batch)?;
        for row in rows {
            let (key, value) = row.encode();
            batch.put(key, value);
        }
        for list in expiring.chunks(LIST_MESSAGES_MAX) {
            let (key, value) = encode_list(list);
            batch.put(key, value);
        }
        batch.put(FLUSHED_KEY, encode_offset(through));
        if let Err(error) = self.write(&batch) {
            self.swept.forget();
            return Err(error);
        }
        if let Some(first) = expiring.first() {
            self.swept.written(first.offset);
        }
        self.flushed = Some(through);
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
}

impl<K: Kv> Retention for KvStore<K> {
    fn prune_floor(&self) -> Offset {
        self.prune_floor
    }

    fn prune(&mut self, below: Offset, messages_max: usize) -> Result<Option<Offset>, StoreError> {
        prune::step(self, below, messages_max)
    }

    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError> {
        let all = Range::<CheckpointRow>::of(());
        let mut rows = self.scan(all, Direction::Forward, Limits::rows(usize::MAX))?.rows;
        rows.retain(|row| row.offset < below);
        let mut batch = Batch::default();
        for row in rows.iter().rev().skip(1) {
            batch.delete(CheckpointRow::encode_key((), row.time));
        }
        self.write_if_any(&batch)
    }
}

/// Returns the keys between which the rows of a range lie.
pub(super) fn key_range<T: Table>(range: &Range<T>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let owner = T::encode_owner(range.owner);
    let key = |order: &T::Order| T::encode_key(range.owner, *order);
    let start = match range.from.as_ref().map(key) {
        Bound::Unbounded => Bound::Included(owner.clone()),
        bound => bound,
    };
    let end = match range.to.as_ref().map(key) {
        Bound::Unbounded => Bound::Excluded(row::after(&owner)),
        bound => bound,
    };
    (start, end)
}

fn bound(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// The range from a key on, up to another one.
pub(super) fn within<'a>(start: &'a [u8], end: &'a [u8]) -> KeyRange<'a> {
    (Bound::Included(start), Bound::Excluded(end))
}

fn decode_row<T: Table>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    T::decode(key, value).map_err(|error| damaged(key, error.to_string()))
}

fn damaged(key: &[u8], reason: String) -> StoreError {
    StoreError::Damaged {
        key: hex(key),
        reason,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

pub(crate) const IDENTITY_KEY: [u8; 2] = [TABLE_META, 1];
pub(crate) const FLUSHED_KEY: [u8; 2] = [TABLE_META, 2];
pub(crate) const PRUNE_FLOOR_KEY: [u8; 2] = [TABLE_META, 3];
pub(crate) const CHECKPOINT_END_KEY: [u8; 2] = [TABLE_META, 4];

/// Raised when tables, keys or values change: whether a store can be read is known before any row of it is.
const SCHEMA: u32 = 2;
