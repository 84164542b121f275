//! What can go wrong when values and arrays are made.

use procession_core::value::ValueError;

use crate::memory::MemoryError;

/// Why a value or an array cannot be made. What can go wrong with one that is there is a [`ValueError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No room, or no shared memory at all.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// Not what a value or an array can hold.
    #[error("{0}")]
    Value(#[from] ValueError),
}
