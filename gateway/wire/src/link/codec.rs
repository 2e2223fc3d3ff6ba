//! Byte layout of link batches.
