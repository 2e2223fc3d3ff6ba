//! The far end of the link.

use bytes::Bytes;
use wire_link::codec::{BatchWriter, decode_to_router};
use wire_link::{FromRouter, ToRouter};

/// A router that does what a test says.
#[derive(Default)]
pub(crate) struct Router {
    /// Refuses every batch.
    pub(crate) is_full: bool,
    /// Everything received, oldest first.
    pub(crate) records: Vec<ToRouter>,
    pub(crate) batches: usize,
}

impl Router {
    pub(crate) fn take(&mut self, batch: Bytes) -> Result<(), Bytes> {
        if self.is_full {
            return Err(batch);
        }
        self.batches += 1;
        self.records
            .extend(decode_to_router(batch).map(|record| record.expect("the gateway keeps to the format")));
        Ok(())
    }

    /// Returns what came since the last call.
    pub(crate) fn take_records(&mut self) -> Vec<ToRouter> {
        std::mem::take(&mut self.records)
    }
}

/// Returns a batch of a router's records.
pub(crate) fn batch(records: &[FromRouter]) -> Bytes {
    let mut writer = BatchWriter::new();
    for record in records {
        writer.push_from_router(record);
    }
    writer.take()
}
