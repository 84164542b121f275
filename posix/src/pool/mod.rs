//! Pools of workers.

mod lives;

pub use crate::task::{Part, PoolError, PoolState, Retry, Statistics, TaskError, WorkerInfo};
