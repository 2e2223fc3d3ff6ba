//! The segmented append-only log: the truth of a router that runs alone, "Kafka with one partition".
//!
//! Reading order: the layout below, [`Group`], [`SegmentedLog`] (append and delete), `recover` (what start does),
//! [`Records`] (reading back).
//!
//! # Layout
//! The directory holds segments named by the offset of their first record in 20 decimal digits and `.log`, and the
//! file `lock`. All numbers are little-endian; every checksum is CRC32C (Castagnoli).
//!
//! ```text
//! segment header                                group frame
//!  0  4  magic "TGSG"                             0  4  magic "TGGR"
//!  4  4  version, 1                               4  4  body bytes
//!  8  4  generation of the store                  8  8  offset of the first record
//! 12  4  fold version                            16  4  records
//! 16  8  salt of this segment                    20  8  salt of this segment
//! 24  8  offset of the first record              28  4  CRC of the body
//! 32  4  CRC of bytes 0..32                      32  4  CRC of bytes 0..32
//! 36     groups                                  36     body: per record 4 bytes of length, then the record
//! ```
//!
//! The salt is random, so that no bytes that a client sent, and none of another segment, pass for a group.
//!
//! # Order of writes
//! A group is one write and one sync, and the next write starts only after that sync: at a crash only the last group
//! can be torn. A new segment starts only after the last sync of the one before; its header and the directory are
//! synced before its first group. A write that found no space is cut away and the cut synced before anything else is
//! written. A sync that failed leaves the group's fate unknown and stops the log until it is opened again.
//!
//! # What start does
//! See [`SegmentedLog::open`].

mod error;
mod format;
mod group;
mod planned;
mod read;
mod recover;
mod segmented;
mod walk;

#[cfg(test)]
mod tests;

pub use error::{AppendError, OpenError, ReadError};
pub use format::{GROUP_BYTES_MAX, HEADER_BYTES};
pub use group::Group;
pub use planned::PlannedLog;
pub use read::Records;
pub use recover::{Cut, Recovery};
pub use segmented::{LogConfig, LogStats, SegmentInfo, SegmentedLog};

pub(crate) use format::{SegmentHeader, segment_first};
pub(crate) use group::next_record;
pub(crate) use recover::{plan, read_segment_header};
pub(crate) use walk::{find_group, read_body, read_group_header};
