//! Threads with the API of processes.

mod crew;

pub(crate) use crew::{Initializer, ThreadCrew, ThreadOptions};

/// A pool of threads: as [`pool::Pool`](crate::pool::Pool), in this process. Functions may capture, and nothing has to be serde data.
pub type Pool = crate::pool::PoolOf<ThreadCrew>;
