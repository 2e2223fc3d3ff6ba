//! The store, row by row.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};

use router_records::row::{Claims, Kept, MessageRow, Row, TABLE_META, Table, TableInfo};
use wire_base::ids::{ConversationId, Offset, Seq};

use super::lists_check::Lists;
use crate::store::{
    CHECKPOINT_END_KEY, Direction, FLUSHED_KEY, IDENTITY_KEY, Identity, Kv, KvError, PRUNE_FLOOR_KEY,
    StoreError, decode_offset, hex,
};

/// A whole store, read to its last row.
#[derive(Debug, Default)]
pub struct StoreCheck {
    /// Its generation; `None` in an empty store.
    pub generation: Option<u32>,
    /// The last record whose rows it holds.
    pub flushed: Option<Offset>,
    /// The offset below which inbox entries may be gone.
    pub prune_floor: Offset,
    /// Where a clean stop left a complete checkpoint.
    pub checkpoint_end: Option<Offset>,
    /// Its tables by name.
    pub tables: BTreeMap<&'static str, TableCheck>,
    /// What does not agree, the first hundred.
    pub findings: Vec<String>,
    /// How many findings there are.
    pub findings_total: u64,
    pub(super) lists: Lists,
}

/// One table of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Reads every row: whether it can be decoded, is not from beyond the flushed offset, what it points at is there, and whether
/// retention knows of it.
///
/// Errors: the engine's. What is wrong with the rows is in the findings.
pub fn check_store(kv: &impl Kv) -> Result<StoreCheck, KvError> {
    let mut check = StoreCheck::default();
    check.read_own_rows(kv)?;
    check.read_lists(kv)?;
    let mut last = None;
    let mut pointers = Vec::new();
    let mut after = vec![TABLE_META + 1];
    loop {
        let start = after.clone();
        let mut rows = 0;
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        kv.scan(range, Direction::Forward, &mut |key, value| {
            check.take_pair(key, value, &mut last, &mut pointers);
            rows += 1;
            if rows < ROWS_AT_ONCE {
                return ControlFlow::Continue(());
            }
            after = key.to_vec();
            ControlFlow::Break(())
        })?;
        for pointer in pointers.drain(..) {
            check.follow(kv, &pointer)?;
        }
        if rows < ROWS_AT_ONCE {
            check.all_are_listed();
            return Ok(check);
        }
    }
}

/// A row says that a message is there.
struct Pointer {
    from: &'static str,
    conversation: ConversationId,
    seq: Seq,
    /// The record that made both.
    offset: Option<Offset>,
    /// It is kept as long as the pointer is.
    is_kept: bool,
}

/// The row before, in order of keys.
struct Last {
    owner: Vec<u8>,
    table: &'static TableInfo,
    claims: Claims,
}

impl StoreCheck {
    /// Returns whether there is nothing to find.
    pub fn is_sound(&self) -> bool {
        self.findings_total == 0
    }

    fn read_own_rows(&mut self, kv: &impl Kv) -> Result<(), KvError> {
        match kv.get(&IDENTITY_KEY)?.map(|bytes| Identity::decode(&bytes)) {
            Some(Ok(identity)) => self.generation = Some(identity.generation),
            Some(Err(error)) => self.find(error.to_string()),
            None => self.find("it has no generation: it was never opened".to_owned()),
        }
        self.flushed = self.offset(kv, FLUSHED_KEY)?;
        self.prune_floor = self.offset(kv, PRUNE_FLOOR_KEY)?.unwrap_or_default();
        self.checkpoint_end = self.offset(kv, CHECKPOINT_END_KEY)?;
        Ok(())
    }

    fn offset(&mut self, kv: &impl Kv, key: [u8; 2]) -> Result<Option<Offset>, KvError> {
        let decoded: Option<Result<_, StoreError>> = kv.get(&key)?.map(|bytes| decode_offset(&key, &bytes));
        Ok(match decoded {
            Some(Ok(offset)) => Some(offset),
            Some(Err(error)) => {
                self.find(error.to_string());
                None
            }
            None => None,
        })
    }

    pub(super) fn count(&mut self, table: &'static str, key: &[u8], value: &[u8]) {
        let table = self.tables.entry(table).or_default();
        table.rows += 1;
        table.bytes += (key.len() + value.len()) as u64;
    }

    pub(super) fn find(&mut self, finding: String) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn take_pair(&mut self, key: &[u8], value: &[u8], last: &mut Option<Last>, pointers: &mut Vec<Pointer>) {
        match Row::decode(key, value) {
            Ok(row) => {
                let (table, claims) = (row.table(), row.claims());
                self.count(table.name, key, value);
                self.lists.take(table, &claims);
                self.take_row(&row, &claims, pointers);
                self.is_kept_rightly(table, &claims, false);
                let owner = key[..table.owner_bytes].to_vec();
                if let Some(last) = last.as_ref().filter(|last| last.owner == owner) {
                    self.follows(&row, &claims, &last.claims);
                    self.is_kept_rightly(last.table, &last.claims, true);
                }
                *last = Some(Last { owner, table, claims });
            }
            Err(error) => {
                self.count("unreadable", key, value);
                self.find(format!(
                    "a row of table {} cannot be read: {error}",
                    key.first().unwrap_or(&0)
                ));
            }
        }
    }

    fn take_row(&mut self, row: &Row, claims: &Claims, pointers: &mut Vec<Pointer>) {
        let table = row.table();
        if let Some(offset) = claims.offset.filter(|offset| Some(*offset) > self.flushed) {
            self.find(format!(
                "a {} is of offset {}, beyond the flushed offset",
                table.row_name, offset.0
            ));
        }
        if let Some(fault) = claims.fault {
            self.find(format!("{}: {fault}: {row:?}", table.row_name));
        }
        if let Some((conversation, seq)) = claims.message {
            // The newest entry of an inbox stays longer than its message.
            let is_passed = claims.offset.is_some_and(|offset| self.lists.have_passed(offset));
            let is_kept = table.kept == Kept::Stays || !is_passed;
            pointers.push(Pointer {
                from: table.row_name,
                conversation,
                seq,
                offset: claims.offset,
                is_kept,
            });
        }
    }

    /// Rows of an owner that count up have no gap, and those that name the record of the one before name the right one.
    fn follows(&mut self, row: &Row, claims: &Claims, last: &Claims) {
        let name = row.table().row_name;
        if let (Some(number), Some(last)) = (claims.number, last.number)
            && number != last + 1
        {
            let key = hex(&row.encode_key());
            self.find(format!("{name} {number} follows {last}: key {key}"));
        } else if claims.previous.is_some() && claims.previous != last.offset {
            let key = hex(&row.encode_key());
            self.find(format!(
                "a {name} names another record as the one before: key {key}"
            ));
        }
    }

    fn follow(&mut self, kv: &impl Kv, pointer: &Pointer) -> Result<(), KvError> {
        let Pointer {
            from,
            conversation,
            seq,
            offset,
            is_kept,
        } = pointer;
        let key = MessageRow::encode_key(*conversation, *seq);
        match kv.get(&key)?.map(|value| MessageRow::decode(&key, &value)) {
            Some(Ok(row)) if Some(row.offset) != *offset => {
                let (found, expected) = (row.offset.0, offset.unwrap_or_default().0);
                self.find(format!(
                    "{from}: message {} of {conversation} is of offset {found}, not {expected}",
                    seq.0
                ));
            }
            None if *is_kept => self.find(format!("{from}: message {} of {conversation} is missing", seq.0)),
            // One that cannot be read was found already.
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for StoreCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.generation, self.flushed) {
            (Some(generation), Some(flushed)) => {
                writeln!(
                    f,
                    "store: generation {generation}, complete up to offset {}",
                    flushed.0
                )?;
            }
            (Some(generation), None) => writeln!(f, "store: generation {generation}, empty")?,
            (None, _) => writeln!(f, "store: of no generation")?,
        }
        for (name, table) in &self.tables {
            writeln!(f, "  {name}: {} rows, {} bytes", table.rows, table.bytes)?;
        }
        for finding in &self.findings {
            writeln!(f, "  WRONG {finding}")?;
        }
        let hidden = self.findings_total - self.findings.len() as u64;
        if hidden > 0 {
            writeln!(f, "  and {hidden} more")
        } else {
            Ok(())
        }
    }
}

const FINDINGS_MAX: usize = 100;
/// Rows whose pointers are held before they are followed.
const ROWS_AT_ONCE: usize = 10_000;
