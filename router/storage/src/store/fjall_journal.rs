//! fjall's journals, read and cut without fjall: a batch that a power failure tore off the end of the newest one is cut
//! before fjall reads it.
//!
//! fjall syncs the journal only when asked to, so that any part of what it wrote since may be missing after a power
//! failure. It recognises a batch that breaks off; one whose middle is missing fails its checksum, and fjall refuses to
//! open. Its checksum covers the items of a batch and not the number that orders it; here that has to grow. Everything
//! cut was never persisted, or is damage that the log's own check of the flushed offset tells.
//!
//! Source: fjall 3.1, `journal/entry.rs`: a batch is `1, items: u32, seqno: u64`, then items, then `3, xxh3 of the
//! items: u64, "FJL", 3`; an item is `2, value type: u8, compression: u8, keyspace: u64, key bytes: u16, value bytes:
//! u32, stored bytes: u32, key, value`; all little-endian; zeros follow the last batch.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::disk::private_file;

/// What becomes of bytes that are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// They are kept beside the journal, as `<journal>.<position>.cut`: an operator may want to see what a start cut.
    Kept,
    /// This process failed to write them a moment ago.
    Dropped,
}

/// Cuts the newest journal of a database after its last whole batch.
///
/// Order: of use before fjall opens the database, and only by the process that holds its lock.
pub(super) fn cut_torn_batch(database: &Path, tail: Tail) -> io::Result<()> {
    let Some(torn) = torn_batch(database)? else {
        return Ok(());
    };
    if tail == Tail::Kept {
        let kept = keep_tail(database, &torn)?;
        tracing::warn!(
            journal = %torn.journal.display(),
            position = torn.end,
            kept = %kept.display(),
            "cut a torn batch off the store's journal; the log holds its records"
        );
    }
    let file = OpenOptions::new().write(true).open(&torn.journal)?;
    file.set_len(torn.end as u64)?;
    file.sync_all()
}

/// Copies what follows the whole batches of a journal to a file beside it, and removes the oldest such file when there
/// are many. fjall looks at names that end in `.jnl` alone.
fn keep_tail(database: &Path, Torn { journal, end, bytes }: &Torn) -> io::Result<PathBuf> {
    let mut name = journal.as_os_str().to_owned();
    name.push(format!(".{end}{CUT_SUFFIX}"));
    let kept = PathBuf::from(name);
    let mut file = private_file()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&kept)?;
    file.write_all(&fs::read(journal)?[*end..end + bytes])?;
    file.sync_all()?;
    let mut others = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        if is_cut_tail(&path) && path != kept {
            others.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    others.sort();
    for (_, path) in others.iter().rev().skip(TAILS_MAX - 1) {
        fs::remove_file(path)?;
    }
    File::open(database)?.sync_all()?;
    Ok(kept)
}

/// Returns the values that the whole batches of a database's journals gave these keys last.
///
/// Errors: `InvalidData` for a damaged journal that was written past: it was synced before the next one began, so that
/// no crash explains it.
pub(super) fn journal_values<const KEYS: usize>(
    database: &Path,
    keys: [&[u8]; KEYS],
) -> io::Result<[Option<Vec<u8>>; KEYS]> {
    let mut values = [const { None }; KEYS];
    let mut damage = None;
    for (_, path) in journals(database)? {
        let bytes = fs::read(&path)?;
        let end = whole_batches_end(&bytes);
        if let Some(place) = damage.as_ref().filter(|_| end > 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{place}, and others follow it"),
            ));
        }
        if length_without_zeros(&bytes[end..]) > 0 {
            damage = Some(format!("the journal {} is damaged at byte {end}", path.display()));
        }
        for (value, key) in values.iter_mut().zip(keys) {
            if let Some(found) = last_value(&bytes[..end], key) {
                *value = found.map(<[u8]>::to_vec);
            }
        }
    }
    Ok(values)
}

/// Returns what the journals of a database take on the disk; they are files with holes.
pub(super) fn journal_bytes(database: &Path) -> io::Result<u64> {
    journals(database)?
        .iter()
        .map(|(_, path)| Ok(fs::metadata(path)?.blocks() * 512))
        .sum()
}

/// A newest journal that does not end with a whole batch.
pub(super) struct Torn {
    pub(super) journal: PathBuf,
    /// Where its whole batches end.
    pub(super) end: usize,
    /// What follows them, without zeros at the end.
    pub(super) bytes: usize,
}

/// Returns the newest journal of a database if it is torn.
pub(super) fn torn_batch(database: &Path) -> io::Result<Option<Torn>> {
    let Some((_, journal)) = journals(database)?.pop() else {
        return Ok(None);
    };
    let bytes = fs::read(&journal)?;
    let end = whole_batches_end(&bytes);
    let bytes = length_without_zeros(&bytes[end..]);
    Ok((bytes > 0).then_some(Torn { journal, end, bytes }))
}

/// Returns whether a file is what was cut off a journal.
pub(super) fn is_cut_tail(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .ends_with(CUT_SUFFIX.as_bytes())
}

/// Returns the journals of a database with their numbers, oldest first.
fn journals(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jnl"))
            .and_then(|number| number.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals)
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

/// Returns the length up to the last byte that is not zero. A journal is mostly zeros: they are compared, not counted.
fn length_without_zeros(bytes: &[u8]) -> usize {
    let mut length = bytes.len();
    for chunk in bytes.rchunks(ZEROS.len()) {
        length -= chunk.len();
        if chunk != &ZEROS[..chunk.len()] {
            let last = chunk.iter().rposition(|byte| *byte != 0);
            return length + last.map_or(0, |last| last + 1);
        }
    }
    0
}

/// Returns end and sequence number of the batch at `start`; `None` when it is not whole.
fn batch_at(journal: &[u8], start: usize) -> Option<(usize, u64)> {
    let head: &[u8; BATCH_HEAD_BYTES] = journal.get(start..)?.first_chunk()?;
    let [TAG_START, i0, i1, i2, i3, number @ ..] = *head else {
        return None;
    };
    let items_start = start + head.len();
    let mut at = items_start;
    for _ in 0..u32::from_le_bytes([i0, i1, i2, i3]) {
        at = item_end(journal, at)?;
    }
    let tail: &[u8; BATCH_HEAD_BYTES] = journal.get(at..)?.first_chunk()?;
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

/// Returns what the last of these whole batches with this key made of it: a value, or none.
fn last_value<'a>(batches: &'a [u8], key: &[u8]) -> Option<Option<&'a [u8]>> {
    let (mut at, mut last) = (0, None);
    while let Some(tag) = batches.get(at) {
        match *tag {
            TAG_ITEM => {
                let end = item_end(batches, at)?;
                let key_start = at + ITEM_HEAD_BYTES;
                let key_end = key_start + u16::from_le_bytes([batches[at + 11], batches[at + 12]]) as usize;
                if batches[key_start..key_end] == *key {
                    last = Some((batches[at + 1] == TYPE_VALUE).then_some(&batches[key_end..end]));
                }
                at = end;
            }
            // A start and an end have the same length.
            _ => at += BATCH_HEAD_BYTES,
        }
    }
    last
}

fn item_end(journal: &[u8], start: usize) -> Option<usize> {
    let head: &[u8; ITEM_HEAD_BYTES] = journal.get(start..)?.first_chunk()?;
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
const TYPE_VALUE: u8 = 0;
const BATCH_HEAD_BYTES: usize = 13;
const ITEM_HEAD_BYTES: usize = 21;
const TRAILER: &[u8] = b"FJL\x03";
const ZEROS: [u8; 4096] = [0; 4096];
const CUT_SUFFIX: &str = ".cut";
/// Tails kept beside the journals; each is shorter than a journal.
const TAILS_MAX: usize = 4;
