//! Queues in shared memory.
