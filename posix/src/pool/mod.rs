//! Pools of workers.

pub(crate) mod board;

pub use crate::task::{Part, PoolError, PoolState, Retry, Statistics, TaskError, WorkerInfo};
