//! Spare send buffers, bounded in bytes.

use crate::reactor::SendBuf;

/// Keeps the buffers of finished sends for the next ones.
pub(crate) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

/// A buffer that grew beyond this is given back to the allocator: one large message should not stay for good.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

impl SpareBuffers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            buffers: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Returns an empty buffer, with capacity where one is spare.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes back the buffer of a finished send.
    pub(crate) fn put(&mut self, buf: SendBuf) {
        let SendBuf::Owned(mut buffer) = buf else {
            return;
        };
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > BUFFER_BYTES_MAX || self.bytes + capacity > self.bytes_max {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.buffers.push(buffer);
    }

    /// Returns how much memory the spare buffers hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_come_back_empty_and_stay_within_their_bound() {
        let mut spare = SpareBuffers::new(10_000);
        for _ in 0..4 {
            let mut buffer = Vec::with_capacity(4_000);
            buffer.push(1);
            spare.put(SendBuf::Owned(buffer));
        }
        assert_eq!(spare.bytes(), 8_000);
        assert!(spare.take().is_empty());
        assert_eq!(spare.take().capacity(), 4_000);
        assert_eq!(spare.take().capacity(), 0);
        assert_eq!(spare.bytes(), 0);
    }

    #[test]
    fn a_buffer_that_grew_large_is_not_kept() {
        let mut spare = SpareBuffers::new(1 << 20);
        spare.put(SendBuf::Owned(Vec::with_capacity(BUFFER_BYTES_MAX + 1)));
        spare.put(SendBuf::Shared(bytes::Bytes::from(vec![0; 100])));
        assert_eq!(spare.bytes(), 0);
    }
}
