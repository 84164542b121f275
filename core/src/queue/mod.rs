//! Queues of plain data in shared memory.
//!
//! - [`SlotQueue`]: many producers, many consumers.
//! - [`Store`]: the same with an order, with items that are to be finished, and growing; slower.
//! - [`SpscRing`]: one of each; faster, and an item whose reader dies is seen again.

mod error;
mod shape;
mod slot;
mod spsc;
mod store;

#[cfg(not(loom))]
pub use error::QueueError;
pub use error::{PopError, PushError, RoleError};
pub use shape::MOST;
pub use slot::{Claim, Room, SlotQueue};
pub use spsc::{Consumer, Producer, SpscRing};
pub use store::{
    JoinItemsError, Lease, MOST_STORED, Order, Plan, Policy, Putter, Released, Store, StoreError,
    StoreRoom, Taker,
};

/// Queues on the heap for the model checker.
#[cfg(loom)]
pub mod model {
    pub use super::slot::Heap as SlotHeap;
    pub use super::spsc::Heap as SpscHeap;
    pub use super::store::Heap as StoreHeap;
}
