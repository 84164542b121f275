//! Pools of workers.

pub(crate) mod board;
mod lives;

pub use crate::task::{Part, PoolError, PoolState, Retry, Statistics, TaskError, WorkerInfo};
