//! Cuts a batch that a power failure tore off the end of fjall's newest journal, before fjall reads it.
//!
//! fjall syncs the journal only when asked to, so that any part of what it wrote since may be missing after a power
//! failure. It recognises a batch that breaks off; one whose middle is missing fails its checksum, and fjall refuses to
//! open. Its checksum covers the items of a batch and not the number that orders it; here that has to grow. Everything
//! cut was never persisted, or is damage that the log's own check of the flushed offset tells.
//!
//! Source: fjall 3.1, `journal/entry.rs`: a batch is `1, items: u32, seqno: u64`, then items, then `3, xxh3 of the
//! items: u64, "FJL", 3`; an item is `2, value type: u8, compression: u8, keyspace: u64, key bytes: u16, value bytes:
//! u32, stored bytes: u32, key, value`; all little-endian; zeros follow the last batch.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Cuts the newest journal of a database after its last whole batch.
///
/// Order: of use before fjall opens the database, and only by the process that holds its lock.
pub(super) fn cut_torn_batch(database: &Path) -> io::Result<()> {
    let Some((journal, end)) = torn_batch(database)? else {
        return Ok(());
    };
    tracing::warn!(
        journal = %journal.display(),
        position = end,
        "cut a torn batch off the store's journal; the log holds its records"
    );
    let file = OpenOptions::new().write(true).open(&journal)?;
    file.set_len(end as u64)?;
    file.sync_all()
}

/// Returns the newest journal of a database and where its whole batches end, if anything follows them.
pub(super) fn torn_batch(database: &Path) -> io::Result<Option<(PathBuf, usize)>> {
    let Some(journal) = newest_journal(database)? else {
        return Ok(None);
    };
    let bytes = fs::read(&journal)?;
    let end = whole_batches_end(&bytes);
    let is_torn = bytes[end..].iter().any(|byte| *byte != 0);
    Ok(is_torn.then_some((journal, end)))
}

fn newest_journal(database: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jnl"))
            .and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Returns where the whole batches at the start of a journal end.
fn whole_batches_end(journal: &[u8]) -> usize {
    let (mut end, mut last) = (0, None);
    while let Some((next, number)) = batch_at(journal, end)
        && last < Some(number)
    {
        (end, last) = (next, Some(number));
    }
    end
}

/// Returns end and sequence number of the batch at `start`; `None` when it is not whole.
fn batch_at(journal: &[u8], start: usize) -> Option<(usize, u64)> {
    let head: &[u8; 13] = journal.get(start..)?.first_chunk()?;
    let [TAG_START, i0, i1, i2, i3, number @ ..] = *head else {
        return None;
    };
    let items_start = start + head.len();
    let mut at = items_start;
    for _ in 0..u32::from_le_bytes([i0, i1, i2, i3]) {
        at = item_end(journal, at)?;
    }
    let tail: &[u8; 13] = journal.get(at..)?.first_chunk()?;
    let (tag, checksum, magic) = (
        tail[0],
        u64::from_le_bytes(tail[1..9].try_into().ok()?),
        &tail[9..],
    );
    let is_whole = tag == TAG_END
        && magic == TRAILER
        && checksum == xxhash_rust::xxh3::xxh3_64(&journal[items_start..at]);
    is_whole.then_some((at + tail.len(), u64::from_le_bytes(number)))
}

fn item_end(journal: &[u8], start: usize) -> Option<usize> {
    let head: &[u8; 21] = journal.get(start..)?.first_chunk()?;
    let key_bytes = u16::from_le_bytes([head[11], head[12]]) as usize;
    let stored_bytes = u32::from_le_bytes([head[17], head[18], head[19], head[20]]) as usize;
    let end = start
        .checked_add(head.len() + key_bytes)?
        .checked_add(stored_bytes)?;
    (head[0] == TAG_ITEM && end <= journal.len()).then_some(end)
}

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";
