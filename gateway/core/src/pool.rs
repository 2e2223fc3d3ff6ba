//! Spare send buffers and outboxes, so that a busy worker sends without allocating.

use crate::limits::{SPARE_BUFFER_BYTES_MAX, SPARE_BYTES_MAX, SPARE_OUTBOXES_MAX};
use crate::outbox::Outbox;

/// Buffers and outboxes that nobody uses at the moment.
///
/// Shape: at most [`SPARE_BYTES_MAX`] bytes of buffers and [`SPARE_OUTBOXES_MAX`] outboxes.
pub(crate) struct Pool {
    buffers: Vec<Vec<u8>>,
    buffers_bytes: usize,
    #[expect(
        clippy::vec_box,
        reason = "the box is what is reused: a connection holds 8 bytes for its outbox"
    )]
    outboxes: Vec<Box<Outbox>>,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self {
            buffers: Vec::new(),
            buffers_bytes: 0,
            outboxes: Vec::new(),
        }
    }

    /// Returns an empty outbox with an empty buffer.
    pub(crate) fn take_outbox(&mut self) -> Box<Outbox> {
        let mut outbox = self.outboxes.pop().unwrap_or_default();
        outbox.adopt(self.take_buffer());
        outbox
    }

    /// Returns an empty buffer, with capacity where one is spare.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.buffers_bytes -= buffer.capacity();
        buffer
    }

    /// Keeps an outbox that is empty.
    pub(crate) fn put_outbox(&mut self, mut outbox: Box<Outbox>) {
        let buffer = outbox.clear();
        self.put_buffer(buffer);
        if self.outboxes.len() < SPARE_OUTBOXES_MAX {
            self.outboxes.push(outbox);
        }
    }

    /// Keeps a buffer, unless it is too large or there are enough.
    pub(crate) fn put_buffer(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if (1..=SPARE_BUFFER_BYTES_MAX).contains(&capacity)
            && self.buffers_bytes + capacity <= SPARE_BYTES_MAX
        {
            buffer.clear();
            self.buffers_bytes += capacity;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_is_bounded() {
        let mut pool = Pool::new();
        pool.put_buffer(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX + 1));
        pool.put_buffer(Vec::new());
        assert_eq!((pool.buffers.len(), pool.buffers_bytes), (0, 0));
        for _ in 0..100 {
            pool.put_buffer(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX));
        }
        assert_eq!(pool.buffers_bytes, SPARE_BYTES_MAX);
        for _ in 0..SPARE_OUTBOXES_MAX + 10 {
            pool.put_outbox(Box::default());
        }
        assert_eq!(pool.outboxes.len(), SPARE_OUTBOXES_MAX);
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let mut pool = Pool::new();
        pool.put_buffer(b"old".to_vec());
        assert!(pool.take_outbox().is_empty());
        assert_eq!(pool.buffers_bytes, 0);
    }
}
