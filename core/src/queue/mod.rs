//! Queues of plain data in shared memory.
//!
//! - [`SlotQueue`]: many producers, many consumers.
//! - [`Store`]: the same with an order, with items that are to be finished, and growing; slower.
//! - [`SpscRing`]: one of each; faster, and an item whose reader dies is seen again.
//! - [`Broadcast`]: one publishes, and many readers each see every item.
//!
//! And [`Holders`]: who has an end of one, and when nobody has it any more.

mod broadcast;
mod error;
mod holders;
mod shape;
mod slot;
mod spsc;
mod store;

pub use broadcast::{
    Broadcast, News, PublishError, Publisher, READERS, ReceiveError, Slow, Start, SubscribeError,
    Subscriber, Turn,
};
#[cfg(not(loom))]
pub use error::QueueError;
pub use error::{PopError, PushError, RoleError};
#[cfg(not(loom))]
pub use holders::HoldersPlaceError;
pub use holders::{
    Hold, HoldError, HolderCell, Holders, HoldersHead, MOST_HOLDERS, Passage, Passed, Standing,
};
pub use shape::MOST;
#[cfg(not(loom))]
pub use slot::AnySlotQueue;
pub use slot::{Claim, Room, SlotQueue};
pub use spsc::{Consumer, Producer, SpscRing};
pub use store::{
    GivenUp, JoinItemsError, Lease, MOST_STORED, Order, Plan, Policy, Putter, Released, Store,
    StoreError, StoreRoom, Taker,
};

/// Queues on the heap for the model checker.
#[cfg(loom)]
pub mod model {
    pub use super::broadcast::Heap as BroadcastHeap;
    pub use super::holders::Heap as HoldersHeap;
    pub use super::slot::Heap as SlotHeap;
    pub use super::spsc::Heap as SpscHeap;
    pub use super::store::Heap as StoreHeap;
}
