//! What the targets share: memory that ends where it says, damage to it, and a user of the allocator.

pub mod damage;
pub mod memory;
pub mod user;
