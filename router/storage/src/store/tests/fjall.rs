//! What is particular to the engine on disk: torn journals, locks, half-made directories.

use std::fs;
use std::path::Path;

use wire_base::random::Random;

use super::*;

const BATCHES: u64 = 40;
const PERSISTED: u64 = 12;

/// A store with batches 0 to 39, of which 0 to 12 were persisted; returns the length of its journal then.
fn written(path: &Path) -> (KvStore<FjallKv>, usize) {
    let mut store = KvStore::open(FjallKv::open(path, FjallConfig::default()).unwrap(), 1).unwrap();
    let mut persisted_bytes = 0;
    for offset in 0..BATCHES {
        store.apply(&rows(offset), Offset(offset)).unwrap();
        if offset == PERSISTED {
            store.persist().unwrap();
            persisted_bytes = journal_end(&fs::read(journal_of(path)).unwrap());
        }
    }
    (store, persisted_bytes)
}

/// Every batch overwrites one row and adds one of some sectors.
pub(super) fn rows(offset: u64) -> [Row; 2] {
    let text = "y".repeat(1 + (offset as usize * 331) % 1_500);
    [
        Row::Message(message_row(1, offset, offset, &text)),
        Row::Conversation(conversation_row(1, offset)),
    ]
}

#[test]
fn power_failure_leaves_a_prefix_of_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("store");
    let (_running, persisted_bytes) = written(&original);
    let journal = fs::read(journal_of(&original)).unwrap();
    let end = journal_end(&journal);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let path = folder.path().join(format!("copy-{seed}"));
        copy_directory(&original, &path);
        let mut random = Random::seeded(seed);
        let mut torn = journal[..end].to_vec();
        // The first sectors are likelier to have been written back, so that every prefix is met.
        let healthy = persisted_bytes + random.index(end - persisted_bytes);
        for sector in persisted_bytes / 512..end.div_ceil(512) {
            let start = (sector * 512).max(persisted_bytes);
            let is_lost = start >= healthy && random.coin();
            if is_lost {
                torn[start..((sector + 1) * 512).min(end)].fill(0);
            }
        }
        fs::write(journal_of(&path), [&torn[..], &[0; 10_000]].concat()).unwrap();
        let mut store = KvStore::open(FjallKv::open(&path, FjallConfig::default()).unwrap(), 2).unwrap();
        let flushed = store.flushed().unwrap().0;
        assert!(flushed >= PERSISTED, "seed {seed}");
        for offset in 0..BATCHES {
            let row = store.get::<MessageRow>(conversation(1), Seq(offset)).unwrap();
            assert_eq!(row.is_some(), offset <= flushed, "seed {seed}, batch {offset}");
        }
        assert_eq!(
            store.get::<ConversationRow>(conversation(1), ()).unwrap(),
            Some(conversation_row(1, flushed)),
            "seed {seed}"
        );
        assert_eq!(store.generation(), 1);
        seen.insert(flushed);
        store.apply(&rows(flushed + 1), Offset(flushed + 1)).unwrap();
        drop(store);
        let store = KvStore::open(FjallKv::open(&path, FjallConfig::default()).unwrap(), 2).unwrap();
        assert_eq!(store.flushed(), Some(Offset(flushed + 1)), "seed {seed}");
    }
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn journal_with_a_flipped_byte_costs_the_batches_from_there_on() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("store");
    let (_running, persisted_bytes) = written(&original);
    let journal = fs::read(journal_of(&original)).unwrap();
    let end = journal_end(&journal);
    for step in 0..40 {
        let at = persisted_bytes + step * (end - persisted_bytes) / 40;
        let path = folder.path().join(format!("copy-{step}"));
        copy_directory(&original, &path);
        let mut damaged = journal.clone();
        damaged[at] ^= 0x04;
        fs::write(journal_of(&path), damaged).unwrap();
        let store = KvStore::open(FjallKv::open(&path, FjallConfig::default()).unwrap(), 2).unwrap();
        let flushed = store.flushed().unwrap();
        assert!(
            (PERSISTED..BATCHES).contains(&flushed.0),
            "byte {at}: {flushed:?}"
        );
        assert!(
            store
                .get::<MessageRow>(conversation(1), Seq(flushed.0))
                .unwrap()
                .is_some()
        );
        assert_eq!(
            store
                .get::<MessageRow>(conversation(1), Seq(flushed.0 + 1))
                .unwrap(),
            None
        );
    }
}

#[test]
fn every_open_writes_the_recovered_rows_to_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(written(&path));
    drop(FjallKv::open(&path, FjallConfig::default()).unwrap());
    // Without its journal the store is still complete: no byte depends on what the page cache made of the journal.
    let journal = journal_of(&path);
    let length = fs::metadata(&journal).unwrap().len();
    fs::write(&journal, vec![0; length as usize]).unwrap();
    let store = KvStore::open(FjallKv::open(&path, FjallConfig::default()).unwrap(), 2).unwrap();
    assert_eq!(store.flushed(), Some(Offset(BATCHES - 1)));
    assert_eq!(messages(&store, 1).unwrap().len(), BATCHES as usize);
}

#[test]
fn rows_survive_many_tables_and_merges() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let config = FjallConfig {
        memtable_bytes: 64 * 1024,
        ..FjallConfig::default()
    };
    let mut store = KvStore::open(FjallKv::open(&path, config.clone()).unwrap(), 1).unwrap();
    for offset in 0..3_000 {
        store.apply(&rows(offset), Offset(offset)).unwrap();
    }
    drop(store);
    let store = KvStore::open(FjallKv::open(&path, config).unwrap(), 1).unwrap();
    assert_eq!(store.flushed(), Some(Offset(2_999)));
    for offset in 0..3_000 {
        let [Row::Message(expected), _] = rows(offset) else {
            unreachable!()
        };
        assert_eq!(
            store.get::<MessageRow>(conversation(1), Seq(offset)).unwrap(),
            Some(expected)
        );
    }
}

#[test]
fn second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let running = FjallKv::open(&path, FjallConfig::default()).unwrap();
    let error = FjallKv::open(&path, FjallConfig::default()).err().unwrap();
    assert!(matches!(&error, KvError::Failed(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(running);
    FjallKv::open(&path, FjallConfig::default()).unwrap();
}

#[test]
fn half_made_store_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    assert!(!FjallKv::exists(&path));
    // What a crash leaves beside the place of a new store: some of its files.
    fs::create_dir_all(folder.path().join("store.new/keyspaces")).unwrap();
    fs::write(folder.path().join("store.new/0.jnl"), b"").unwrap();
    let mut store = KvStore::open(FjallKv::open(&path, FjallConfig::default()).unwrap(), 1).unwrap();
    store.apply(&rows(0), Offset(0)).unwrap();
    assert!(FjallKv::exists(&path) && !folder.path().join("store.new").exists());
}

#[test]
fn foreign_directory_is_not_taken_for_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter.txt"), b"mine").unwrap();
    assert!(matches!(
        FjallKv::open(&path, FjallConfig::default()),
        Err(KvError::Failed(_))
    ));
    assert_eq!(fs::read(path.join("letter.txt")).unwrap(), b"mine");
}

fn journal_of(store: &Path) -> std::path::PathBuf {
    let mut journals: Vec<_> = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    journals.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    assert_eq!(journals.len(), 1);
    journals.remove(0)
}

fn journal_end(journal: &[u8]) -> usize {
    journal
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "jnl")
        {
            // Sparse, and written by the test anyway.
            fs::write(target, b"").unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
