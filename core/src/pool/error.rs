//! Why a board cannot be made or found.

use super::{MOST_CELLS, MOST_SEATS};
use crate::region::{JoinError, RegionError};

/// Why a board cannot be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardPlaceError {
    /// No board can have so many cells or seats.
    #[error(
        "a board has a power of two of cells, up to {MOST_CELLS}, and 1 to {MOST_SEATS} seats, \
         not {cells} and {seats}"
    )]
    Plan {
        /// Cells asked for.
        cells: u32,
        /// Seats asked for.
        seats: u32,
    },
    /// Something else lies there, or nothing, or its maker has not finished.
    #[error("no board lies here (kind {found:#010x}): open what a pool's owner has made")]
    NoBoard {
        /// The kind found.
        found: u32,
    },
    /// Its header names what no board has.
    #[error("the board's header is damaged: {cells} cells, {seats} seats; start the pool anew")]
    Damaged {
        /// Cells by the header.
        cells: u32,
        /// Seats by the header.
        seats: u32,
    },
    /// It does not lie in the region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}
