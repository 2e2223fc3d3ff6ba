//! Tests of the store: one contract for both engines, then what is particular to each.

mod fjall;
mod gathered;
mod kv;
mod memory;
mod prune;
mod rows;
mod shortage;

use bytes::Bytes;
use router_records::row::{ConversationRow, InboxRow, MessageRow, Row, Table};
use wire_base::ids::{Offset, Seq};

use super::contract::samples::*;
use super::contract::{self, Place};
use super::*;

/// An engine that can be opened again after its process ended.
trait Engine {
    type Kv: Kv;
    fn new() -> Self;
    fn open(&self) -> Self::Kv;
}

struct OnDisk(tempfile::TempDir);
struct InMemory(MemoryKv);

impl Engine for OnDisk {
    type Kv = FjallKv;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> FjallKv {
        FjallKv::open(self.0.path().join("store"), FjallConfig::default()).unwrap()
    }
}

impl Engine for InMemory {
    type Kv = MemoryKv;

    fn new() -> Self {
        Self(MemoryKv::seeded(1))
    }

    fn open(&self) -> MemoryKv {
        self.0.restart();
        self.0.clone()
    }
}

/// A store over an engine.
struct Over<E>(E);

impl<E: Engine> Place for Over<E> {
    type Store = KvStore<E::Kv>;

    fn open(&self) -> Self::Store {
        open_store(&self.0)
    }
}

/// Runs each generic test of a module on both engines.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        mod on_disk {
            $(#[test] fn $test() { super::$test::<super::super::OnDisk>(); })+
        }
        mod in_memory {
            $(#[test] fn $test() { super::$test::<super::super::InMemory>(); })+
        }
    };
}
use on_both_engines;

fn open_store<E: Engine>(engine: &E) -> KvStore<E::Kv> {
    KvStore::open(engine.open(), GENERATION).unwrap()
}

/// The rows of an engine as keys and values.
fn dump(kv: &impl Kv) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    kv.scan(everything, Direction::Forward, &mut |key, value| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    pairs
}

fn all<T: Table>(store: &impl Reads, owner: T::Owner) -> Result<Vec<T>, StoreError> {
    let page = store.scan(Range::of(owner), Direction::Forward, Limits::rows(usize::MAX))?;
    Ok(page.rows)
}

/// The messages of a conversation, oldest first.
fn messages(store: &impl Reads, number: u128) -> Result<Vec<MessageRow>, StoreError> {
    all(store, conversation(number))
}

/// The inbox of a user, oldest first.
fn inbox(store: &impl Reads, number: u64) -> Result<Vec<InboxRow>, StoreError> {
    all(store, user(number))
}
