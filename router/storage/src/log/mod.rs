//! [`Log`], and the segmented append-only log: the truth of a router that runs alone, "Kafka with one partition".
//!
//! Reading order: [`Log`], which is all that a running router knows of it; the layout below, [`Group`], [`SegmentedLog`]
//! (append and delete), `recover` (what start does), [`Records`] (reading back). `MemoryLog` (feature `sim`) is its twin in
//! memory; `contract` tests what both promise.
//!
//! # Layout
//! The directory holds segments named by the offset of their first record in 20 decimal digits and `.log`, and the
//! file `lock`. All numbers are little-endian; every checksum is CRC32C (Castagnoli).
//!
//! ```text
//! segment header                                group frame
//!  0  4  magic "TGSG"                             0  4  magic "TGGR"
//!  4  4  version, 2                               4  4  body bytes
//!  8  4  generation of the store                  8  8  offset of the first record
//! 12  4  fold version                            16  4  records
//! 16  8  salt of this segment                    20  8  salt of this segment
//! 24  8  offset of the first record              28  4  CRC of the body
//! 32  4  CRC of bytes 0..32                      32  4  CRC of bytes 0..32
//! 36     groups                                  36     body: per record 4 bytes of length, then the record
//!
//! footer of a sealed segment, right after its last group
//!  0  4  magic "TGSF"                             24  8  offset after the last record
//!  4  4  groups                                   32  8  bytes before the footer
//!  8  8  salt of this segment                     40  8  time of the first record    both unknown: all ones, 0
//! 16  8  offset of the first record               48  8  time of the last record
//!                                                 56  4  CRC of bytes 0..56
//! ```
//!
//! The salt is random, so that no bytes that a client sent, and none of another segment, pass for a group.
//!
//! # Order of writes
//! A group is one write and one sync, and the next write starts only after that sync: at a crash only the last group
//! can be torn. A full segment is sealed with a footer and synced; only then the next one starts, whose header and the
//! directory are synced before its first group. So the newest segment may have no footer, a torn one, or a whole one, which
//! a start takes away; an older one without a whole footer (of version 1, or damaged there alone) is walked. A write that found no space is cut away and the cut synced before anything else is
//! written. A sync that failed leaves the group's fate unknown and stops the log until it is opened again.
//!
//! The newest segment is lengthened in advance, in steps, with zeros: a sync has less to write then. After its last group
//! nothing but zeros is a clean end; a seal cuts the file to its true length, and so does a start.
//!
//! # What start does
//! See [`SegmentedLog::open`].

#[cfg(any(test, feature = "sim"))]
pub mod contract;
mod error;
mod format;
mod group;
#[cfg(any(test, feature = "sim"))]
mod memory;
mod planned;
mod port;
mod read;
mod recover;
mod segmented;
mod walk;

#[cfg(test)]
mod tests;

pub use error::{AppendError, OpenError, ReadError, TruncateError};
pub use format::{FOOTER_BYTES, GROUP_BYTES_MAX, HEADER_BYTES};
pub use group::Group;
#[cfg(any(test, feature = "sim"))]
pub use memory::MemoryLog;
pub use planned::PlannedLog;
pub use port::{Log, LogStats, ReadRecord, Section};
pub use read::Records;
pub use recover::{Cut, Recovery};
pub use segmented::{LogConfig, SegmentInfo, SegmentedLog};

pub(crate) use format::segment_first;
pub(crate) use group::next_record;
pub(crate) use recover::{plan, read_segment_header};
pub(crate) use walk::{clean_end, find_group, read_body, read_footer, read_group_header};
