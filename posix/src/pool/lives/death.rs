//! How a worker left, or died.

use serde::{Deserialize, Serialize};

use crate::process::JoinError;

/// Why a worker left in order. It is the result of the worker's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leaving {
    /// The pool asked for it.
    Asked,
    /// It has run as many tasks as a worker may.
    TasksDone,
    /// It has more memory than a worker may.
    Memory,
    /// It never got to work.
    NotReady(String),
    /// The pool's board is damaged: others would not get on with it either.
    Damaged,
}

/// The end of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// The status with which it left, where it was no signal and is known.
    pub(crate) code: Option<i32>,
    /// Whether it left in order, or was ended by the pool itself.
    pub(crate) asked: bool,
}

impl Death {
    pub(super) fn of(pid: u32, left: &Result<Leaving, JoinError>, asked: bool) -> Self {
        let (signal, code) = match left {
            Ok(_) => (None, Some(0)),
            Err(JoinError::Killed { signal, .. }) => (Some(*signal), None),
            Err(JoinError::DeadlinePassed { .. }) => (Some(libc::SIGKILL), None),
            Err(JoinError::Exited { code, .. }) => (None, Some(*code)),
            Err(JoinError::Panicked { .. }) => (None, Some(101)),
            Err(_) => (None, None),
        };
        Death { pid, signal, code, asked: asked || left.is_ok() }
    }
}

/// The same as the error of a worker by this name.
pub(super) fn as_error(name: &str, pid: u32, left: Result<Leaving, JoinError>) -> Box<JoinError> {
    let name = name.to_owned();
    Box::new(match left {
        Err(error) => error,
        Ok(Leaving::NotReady(message)) => JoinError::NotBegun { name, pid, message },
        Ok(_) => JoinError::Exited { name, pid, code: 0 },
    })
}
