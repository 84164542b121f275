//! Who this process is: its name, and that of the process that started it.
//!
//! Without a name of its own a process is called by its way from the first one: `Process-2` is the
//! second child of the main process, `Process-2:1` the first child of that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::StartError;
use crate::signal::Ends;

struct Identity {
    name: String,
    path: Vec<u32>,
    parent: Option<(u32, String)>,
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
    /// It may not start processes.
    pub(super) childless: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentProcess {
    /// Its name.
    pub name: String,
    /// Its process id. It may be gone by now, and the id taken by another.
    pub pid: u32,
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
    me(&mut guard).parent.clone().map(|(pid, name)| ParentProcess { name, pid })
}

/// Whether this is the process that started this one.
pub(crate) fn is_starter(pid: u32) -> bool {
    let mut guard = identity();
    me(&mut guard).parent.as_ref().is_some_and(|(parent, _)| *parent == pid)
}

/// Draws the next identity for a child; a daemon may have children only if it was `allowed`.
pub(super) fn next_birth(
    name: Option<String>,
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
        name: name.unwrap_or_else(|| default_name(&path)),
        path,
        parent_pid: std::process::id(),
        parent_name: me.name.clone(),
        daemon,
        ends: Ends::now(),
        childless: daemon && !allowed,
    })
}

/// Takes on the identity that the parent drew.
pub(super) fn take_on(birth: Birth) -> Result<(), String> {
    crate::memory::name_process(&birth.name);
    *identity() = Some(Identity {
        name: birth.name,
        path: birth.path,
        parent: Some((birth.parent_pid, birth.parent_name)),
        daemon: birth.daemon,
        childless: birth.childless,
        children: 0,
    });
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

fn default_name(path: &[u32]) -> String {
    let path: Vec<String> = path.iter().map(u32::to_string).collect();
    format!("Process-{}", path.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_are_paths() {
        assert_eq!(default_name(&[3]), "Process-3");
        assert_eq!(default_name(&[3, 1, 12]), "Process-3:1:12");
    }
}
