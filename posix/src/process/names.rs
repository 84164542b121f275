//! Who this process is: its name, and that of the process that started it.
//!
//! Without a name of its own a process is called by its way from the first one: `Process-2` is the
//! second child of the main process, `Process-2:1` the first child of that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::StartError;
use super::link::{is_gone, sleep_on};
use crate::signal::Ends;

struct Identity {
    name: String,
    path: Vec<u32>,
    parent: Option<ParentProcess>,
    daemon: bool,
    childless: bool,
    children: u32,
}

static IDENTITY: Mutex<Option<Identity>> = Mutex::new(None);

/// What a child is told about itself.
#[derive(serde::Serialize, serde::Deserialize, Debug, Clone)]
pub(super) struct Birth {
    pub(super) name: String,
    pub(super) path: Vec<u32>,
    pub(super) parent_pid: u32,
    pub(super) parent_name: String,
    pub(super) daemon: bool,
    /// Which signals end it in order.
    ends: Ends,
    /// Where it logs.
    #[cfg(feature = "tracing")]
    log: Option<Vec<u8>>,
    /// It may not start processes.
    pub(super) childless: bool,
    /// How long it may take from when its target begins.
    pub(super) deadline: Option<Duration>,
}

/// The running process, see [`current_process`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentProcess {
    /// `MainProcess`, the name given to the builder, or a default like `Process-1`.
    pub name: String,
    /// The process id.
    pub pid: u32,
    /// Whether this process is killed when the one that started it dies.
    pub daemon: bool,
}

/// The process that started this one, see [`parent_process`].
///
/// It is known by a pidfd that came with the start, so whatever is asked here is about that very process, even if its
/// id has long been given to another one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ParentProcess {
    /// Its name.
    pub name: String,
    /// Its process id. It may be gone by now, and the id taken by another.
    pub pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl ParentProcess {
    /// Whether it has not ended. One system call.
    ///
    /// ```
    /// use procession_posix::process::{Process, parent_process};
    ///
    /// let child = Process::new(|| parent_process().is_some_and(|parent| parent.is_alive()), ());
    /// assert!(child.start()?.join()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_alive(&self) -> bool {
        !is_gone(&self.pidfd)
    }

    /// Waits until it has ended, however it does.
    pub fn join(&self) {
        self.wait(None);
    }

    /// Waits until it has ended, no longer than `timeout`, and says whether it has; zero only looks.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        // A time that the clock cannot express never comes.
        self.wait(Instant::now().checked_add(timeout));
        !self.is_alive()
    }

    fn wait(&self, deadline: Option<Instant>) {
        while self.is_alive() && deadline.is_none_or(|at| Instant::now() < at) {
            sleep_on(&self.pidfd, deadline);
        }
    }

    /// A descriptor that is readable exactly when it is gone, for `poll`, `epoll` and
    /// [`wait`](crate::wait::wait()).
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

/// Who am I? In a process that was not started by this library: `MainProcess`.
///
/// Takes an uncontended lock and one system call.
///
/// ```
/// let me = procession_posix::process::current_process();
/// assert_eq!(me.name, "MainProcess");
/// assert_eq!(me.pid, std::process::id());
/// ```
pub fn current_process() -> CurrentProcess {
    let mut guard = identity();
    let me = me(&mut guard);
    CurrentProcess { name: me.name.clone(), pid: std::process::id(), daemon: me.daemon }
}

/// Who started me? `None` in the main process.
///
/// It is the process that called `start`, not the parent that the kernel knows.
///
/// ```
/// assert!(procession_posix::process::parent_process().is_none());
/// ```
pub fn parent_process() -> Option<ParentProcess> {
    let mut guard = identity();
    me(&mut guard).parent.clone()
}

/// Whether this is the process that started this one.
pub(crate) fn is_starter(pid: u32) -> bool {
    let mut guard = identity();
    me(&mut guard).parent.as_ref().is_some_and(|parent| parent.pid == pid)
}

/// Draws the next identity for a child; a daemon may have children only if it was `allowed`.
pub(super) fn next_birth(
    name: Option<String>,
    kind: &str,
    daemon: Option<bool>,
    allowed: bool,
) -> Result<Birth, StartError> {
    let mut guard = identity();
    let me = me(&mut guard);
    if me.childless {
        return Err(StartError::Daemon { name: me.name.clone() });
    }
    me.children += 1;
    let mut path = me.path.clone();
    path.push(me.children);
    let daemon = daemon.unwrap_or(me.daemon);
    Ok(Birth {
        name: name.unwrap_or_else(|| default_name(kind, &path)),
        path,
        parent_pid: std::process::id(),
        parent_name: me.name.clone(),
        daemon,
        ends: Ends::now(),
        #[cfg(feature = "tracing")]
        log: crate::log::Heritage::now(),
        childless: daemon && !allowed,
        deadline: None,
    })
}

/// Takes on the identity that the parent drew.
pub(super) fn take_on(birth: Birth, pidfd: Arc<OwnedFd>) -> Result<(), String> {
    crate::memory::name_process(&birth.name);
    let parent = ParentProcess { name: birth.parent_name, pid: birth.parent_pid, pidfd };
    *identity() = Some(Identity {
        name: birth.name,
        path: birth.path,
        parent: Some(parent),
        daemon: birth.daemon,
        childless: birth.childless,
        children: 0,
    });
    #[cfg(feature = "tracing")]
    if let Some(log) = birth.log {
        let failed = |error| format!("cannot log where its starter does: {error}");
        crate::log::Heritage::take_on(&log).map_err(failed)?;
    }
    birth.ends.take_on().map_err(|error| format!("cannot see to its end by signals: {error}"))
}

fn identity() -> MutexGuard<'static, Option<Identity>> {
    IDENTITY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn me<'a>(guard: &'a mut MutexGuard<'static, Option<Identity>>) -> &'a mut Identity {
    guard.get_or_insert_with(|| Identity {
        name: "MainProcess".into(),
        path: Vec::new(),
        parent: None,
        daemon: false,
        childless: false,
        children: 0,
    })
}

fn default_name(kind: &str, path: &[u32]) -> String {
    let path: Vec<String> = path.iter().map(u32::to_string).collect();
    format!("{kind}-{}", path.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_are_paths() {
        assert_eq!(default_name("Process", &[3]), "Process-3");
        assert_eq!(default_name("Worker", &[3, 1, 12]), "Worker-3:1:12");
    }
}
