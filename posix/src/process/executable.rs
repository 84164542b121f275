//! Which program new processes are executed from.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

static EXECUTABLE: Mutex<Option<Arc<Path>>> = Mutex::new(None);

/// Has all later processes executed from this file instead of the running program; those that are started by
/// [`StartMethod::Fork`](super::StartMethod::Fork) are not executed at all. A relative path means what it means
/// now. `/proc/self/exe` is the running program again.
///
/// - *The same build* (a copy of this program, or a script that executes it): everything works as before.
/// - *Another build* that uses the same release of this crate: it runs the functions that it
///   [exports](crate::export_target), found by their names: those that are given to
///   [`Process::new`](super::Process::new), and by [`Process::named`](super::Process::named) those that this
///   program does not have. Handles travel there too.
/// - *Any other program*: it is executed and does what it does, with this program's arguments, until the start fails:
///   [`StartError::Handshake`](super::StartError::Handshake), after ten seconds at most, and it is killed.
///
/// The first start after a change makes a new helper process, which takes some milliseconds.
///
/// The started processes' own children are executed from what they are executed from. A file that cannot be executed
/// is an error of the start, not of this call.
///
/// ```
/// use procession_posix::process::{Process, executable, set_executable};
///
/// set_executable("/proc/self/exe");
/// assert_eq!(executable().as_deref(), Some("/proc/self/exe".as_ref()));
/// assert_eq!(Process::new(|| 5, ()).start()?.join()?, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_executable(path: impl AsRef<Path>) {
    let path = path.as_ref();
    // Without a working directory it stays as it is, and the start says that there is no such file.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    *lock() = Some(path.into());
}

/// The file that was [set](set_executable); `None`: the running program.
pub fn executable() -> Option<PathBuf> {
    chosen().map(|path| path.to_path_buf())
}

/// The same, to be compared and kept.
pub(super) fn chosen() -> Option<Arc<Path>> {
    lock().clone()
}

fn lock() -> std::sync::MutexGuard<'static, Option<Arc<Path>>> {
    // Nothing panics under this lock.
    EXECUTABLE.lock().unwrap_or_else(PoisonError::into_inner)
}
