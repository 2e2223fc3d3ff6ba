//! The link within one process: two bounded queues of batches, credits in bytes, and a wake-up each way.
