//! Threads with the API of processes.

mod crew;

pub(crate) use crew::{Initializer, ThreadCrew, ThreadOptions};
