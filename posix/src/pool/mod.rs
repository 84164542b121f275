//! Pools of workers.

pub use crate::task::{Part, PoolError, PoolState, Retry, Statistics, TaskError, WorkerInfo};
