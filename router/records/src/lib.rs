//! What the router writes: records of its log, and rows of its store. Layouts with versions, without I/O.
//!
//! Reading order: [`log`], the inputs of the folds; [`row`], what the folds make of them.
//!
//! Invariants: decoding never panics and never skips what it does not know; `decode(encode(x)) == x`; rewriting a row
//! after a crash gives the identical bytes. Deliberately absent: files, tables, what a record means.

#![warn(clippy::iter_over_hash_type)]

pub mod log;
pub mod row;
