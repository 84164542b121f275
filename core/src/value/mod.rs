//! Typed values in shared memory.
