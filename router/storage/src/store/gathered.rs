//! Rows that wait a moment in memory for others, to be written with them.
//!
//! Within some milliseconds the same state of a conversation, watermark or device is written again and again. Gathered, only
//! the last of each is written; and a batch in order of keys is less work for an LSM tree than the same rows one by one.
//! Reads see what waits, so that nobody can tell. Nothing here knows the time: whoever owns this says when to flush.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use router_records::row::{Row, Table};
use wire_base::ids::Offset;

use super::StoreError;
use super::kv_store::key_range;
use super::ports::{Apply, Direction, Limits, Page, Range, Reads, Retention, Store};

/// A store, and rows that it is to be given.
///
/// Shape: 4 MiB of rows, over which it writes them itself where it is used as a store.
/// Order: what waits is written by [`Gathered::flush`], and before all of [`Apply`] and [`Retention`] that is about what is
/// written. A crash is to rows that wait what it is to a batch that the disk has not got.
#[derive(Debug)]
pub struct Gathered<S> {
    store: S,
    /// In order of keys.
    waiting: BTreeMap<Vec<u8>, Row>,
    /// Of all that was gathered since the last flush, also what was replaced.
    bytes: usize,
    /// The last record whose rows wait.
    through: Option<Offset>,
}

impl<S: Store> Gathered<S> {
    /// Returns a store for which nothing waits.
    pub fn new(store: S) -> Self {
        Self {
            store,
            waiting: BTreeMap::new(),
            bytes: 0,
            through: None,
        }
    }

    /// Takes rows that are to be written, and are seen from now on: with those before them they hold everything up to
    /// `through`.
    ///
    /// Order: [`Gathered::is_full`] says when to flush at the latest.
    pub fn gather(&mut self, rows: Vec<Row>, through: Offset) {
        for row in rows {
            self.bytes += size_of::<Row>() + row.body_bytes();
            self.waiting.insert(row.encode_key(), row);
        }
        self.through = Some(through);
    }

    /// Returns whether so much waits that more time would gain nothing.
    pub fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Writes what waits, in one batch.
    ///
    /// Errors: those of [`Apply::apply`]; it waits on.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let Some(through) = self.through else {
            return Ok(());
        };
        let rows: Vec<_> = std::mem::take(&mut self.waiting).into_values().collect();
        if let Err(error) = self.store.apply(&rows, through) {
            self.waiting = rows.into_iter().map(|row| (row.encode_key(), row)).collect();
            return Err(error);
        }
        self.bytes = 0;
        self.through = None;
        Ok(())
    }

    /// Makes durable what was written, not what waits, and returns how far it goes.
    pub fn persist_written(&mut self) -> Result<Option<Offset>, StoreError> {
        self.store.persist()?;
        Ok(self.store.flushed())
    }

    /// Returns the rows of a range that wait, in its direction.
    fn of<T: Table>(&self, range: Range<T>, direction: Direction) -> Vec<(&[u8], &Row)> {
        let rows = self.waiting.range::<Vec<u8>, _>(key_range(&range));
        let mut rows: Vec<_> = rows.map(|(key, row)| (&key[..], row)).collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        rows
    }
}

impl<S: Store> Reads for Gathered<S> {
    fn get<T: Table>(&self, owner: T::Owner, order: T::Order) -> Result<Option<T>, StoreError> {
        match self.waiting.get(&T::encode_key(owner, order)) {
            Some(row) => Ok(T::from_row(row.clone())),
            None => self.store.get(owner, order),
        }
    }

    fn scan<T: Table>(
        &self,
        range: Range<T>,
        direction: Direction,
        limits: Limits,
    ) -> Result<Page<T>, StoreError> {
        let page = self.store.scan(range, direction, limits)?;
        let waiting = self.of(range, direction);
        match waiting.is_empty() {
            true => Ok(page),
            false => Ok(merge(page, &waiting, direction, limits)),
        }
    }
}

/// Adds rows that wait to a page of those that are stored, and cuts it again; of two with one key the one that waits holds.
fn merge<T: Table>(
    stored: Page<T>,
    waiting: &[(&[u8], &Row)],
    direction: Direction,
    limits: Limits,
) -> Page<T> {
    let keyed = |row: T| {
        let row: Row = row.into();
        (row.encode_key(), row)
    };
    let mut rows_stored = stored.rows.into_iter().map(keyed).peekable();
    let mut rows_waiting = waiting.iter().peekable();
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let order = match (rows_stored.peek(), rows_waiting.peek()) {
            (None, None) => break,
            // What comes between is not in the page.
            (None, Some(_)) if stored.more => break,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some((stored, _)), Some((waiting, _))) => match direction {
                Direction::Forward => stored[..].cmp(waiting),
                Direction::Backward => stored[..].cmp(waiting).reverse(),
            },
        };
        let row_stored = (order != Ordering::Greater).then(|| rows_stored.next()).flatten();
        let row_waiting = (order != Ordering::Less).then(|| rows_waiting.next()).flatten();
        let row = row_waiting.map(|(_, row)| Row::clone(row));
        let Some(row) = row.or(row_stored.map(|(_, row)| row)) else {
            break;
        };
        bytes += row.body_bytes();
        if rows.len() >= limits.rows || (bytes > limits.bytes && !rows.is_empty()) {
            return Page { rows, more: true };
        }
        rows.extend(T::from_row(row));
    }
    let more = stored.more;
    Page { rows, more }
}

impl<S: Store> Apply for Gathered<S> {
    fn generation(&self) -> u32 {
        self.store.generation()
    }

    /// Also what waits.
    fn flushed(&self) -> Option<Offset> {
        self.through.or_else(|| self.store.flushed())
    }

    fn apply(&mut self, rows: &[Row], through: Offset) -> Result<(), StoreError> {
        self.gather(rows.to_vec(), through);
        match self.is_full() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.store.probe()
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.store.persist()
    }

    fn checkpoint_end(&self) -> Option<Offset> {
        self.store.checkpoint_end()
    }

    fn complete_checkpoint(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.store.complete_checkpoint()
    }
}

impl<S: Store> Retention for Gathered<S> {
    fn prune_floor(&self) -> Offset {
        self.store.prune_floor()
    }

    fn prune(&mut self, below: Offset, messages_max: usize) -> Result<Option<Offset>, StoreError> {
        self.flush()?;
        self.store.prune(below, messages_max)
    }

    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError> {
        self.flush()?;
        self.store.prune_checkpoints(below)
    }
}

/// A quarter of a memtable of the engine on disk, and some 20 ms of 100,000 messages a second.
const BYTES_MAX: usize = 4 << 20;
