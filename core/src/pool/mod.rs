//! What a pool's owner and its workers share, and the pool's life, as algorithms: no process and no closure in sight.
//!
//! - [`Board`]: cells in which tasks lie, the order in which they are taken, and the seats of those who take them.
//! - [`State`]: whether a pool still accepts tasks, and how it ends.

mod board;
#[cfg(not(loom))]
mod error;
mod owner;
mod seats;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;
mod word;
mod worker;

pub use board::{Board, Corrupt, PAYLOAD, Plan};
#[cfg(not(loom))]
pub use error::BoardPlaceError;
pub use owner::Look;
pub use seats::{Order, SeatAt, SeatLook, SeatRecord, SitError};
pub use state::{Closing, Phase, Refused, State};
pub use word::{MOST_CELLS, MOST_SEATS, Ticket};
pub use worker::{Lease, Leave, Take, Worker};

/// A board on the heap for the model checker.
#[cfg(loom)]
pub mod model {
    pub use super::board::Heap as BoardHeap;
}
