//! Forking the starting process itself.
//!
//! The child has everything that its parent has: memory, descriptors, handlers. That is only sound while
//! there is one thread, so a process with several is refused. What was written to standard output but not
//! yet flushed is flushed first, else both would write it, and the child leaves by `_exit`, so that it does
//! not run what its parent registered for its own end.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};

use super::child::{Child, Delivery, Letter};
use super::error::StartError;
use super::starter::Starter;
use super::status::{ExitStatus, Slot, Slots};
use super::stdio::{Pipes, Places};
use super::target::Entry;
use super::wire;
use crate::attendant;

/// How long is waited for threads of this library that do what a fork must not interrupt: to start a worker, mostly.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that was forked from here, and that we have to reap.
pub(super) struct Forked {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// Where a large result will lie.
    pub(super) result: OwnedFd,
}

/// Forks, and lives the child's life in the child.
pub(super) fn fork(
    starter: &Starter,
    slot: u32,
    entry: Option<&'static Entry>,
    letter: Letter,
    args: &[u8],
    places: Places,
    pipes: Pipes,
) -> Result<(Forked, Pipes), StartError> {
    let Some((hush, attendants)) = attendant::hush(PATIENCE) else {
        return Err(StartError::Threads);
    };
    if !has_no_threads_but(attendants) {
        return Err(StartError::Threads);
    }
    let slots: Arc<Slots> = starter.slots.clone();
    let result = wire::empty_letter()
        .map_err(|source| StartError::Resource { what: "create a memory file", source })?;
    let parent = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map(wire::above_standard)
        .map_err(StartError::no_pidfd)?;
    let _ = io::stdout().flush();
    // SAFETY: this process has one thread, and some that hold nothing now, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(StartError::Fork(io::Error::last_os_error())),
        0 => {
            hush.forked();
            starter.close();
            let slots = Box::leak(Box::new(slots));
            let leave = |code| {
                // SAFETY: ends the process; what the parent registered for its end is not for us.
                unsafe { libc::_exit(code) }
            };
            let Some(place) = slots.records.slot(slot) else { leave(super::child::NOT_BEGUN) };
            let delivery = Delivery::File(result);
            let parent = Arc::new(parent);
            let child =
                Child { slot: place, delivery, guardian: None, parent, known: entry, leave };
            // Else it would hold the other ends of its own streams, and never see one closed.
            drop(pipes);
            match places.take_up() {
                Ok(()) => child.run(letter, args),
                Err(error) => child.refuse(&format!("its streams cannot be set: {error}")),
            }
        }
        pid => {
            // Makes room for a pidfd. The process begins when we have one.
            drop((parent, places));
            let pidfd = Pid::from_raw(pid)
                .ok_or(rustix::io::Errno::SRCH)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
            match pidfd.map(wire::above_standard) {
                Ok(pidfd) => {
                    slots.records.slot(slot).map(Slot::confirm);
                    Ok((Forked { pid: pid as u32, pidfd, result }, pipes))
                }
                Err(error) => {
                    // SAFETY: `pid` is our child and not yet reaped, so the number is its own.
                    unsafe {
                        libc::kill(pid, libc::SIGKILL);
                        while libc::waitpid(pid, std::ptr::null_mut(), 0) < 0
                            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                        {
                        }
                    }
                    Err(StartError::no_pidfd(error))
                }
            }
        }
    }
}

/// Whether there is nobody but the calling thread and so many attendants.
fn has_no_threads_but(attendants: u32) -> bool {
    /// One that has ended may be counted for a moment after it was joined.
    const LOOKS: u32 = 100;
    if attendants == 0 && is_single_threaded() {
        return true;
    }
    let alone = || {
        // It has a link for each thread, and two of its own.
        rustix::fs::stat("/proc/self/task")
            .is_ok_and(|stat| usize::try_from(stat.st_nlink) == Ok(3 + attendants as usize))
    };
    (0..LOOKS).any(|_| {
        alone() || {
            std::thread::yield_now();
            false
        }
    })
}

/// Whether the calling thread is the only one.
pub(super) fn is_single_threaded() -> bool {
    // SAFETY: asks for nothing that a process with one thread does not have already, so nothing
    // changes; with several threads the kernel refuses.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return true;
    }
    if io::Error::last_os_error().raw_os_error() != Some(libc::EPERM) {
        return false;
    }
    // A filter forbids the question. The directory has a link for each thread, and two of its own.
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3)
}

/// Reaps a forked process if it has ended.
pub(super) fn try_reap(pidfd: &OwnedFd) -> Option<ExitStatus> {
    // SAFETY: all zeroes are a valid siginfo_t, and the kernel fills it in.
    unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let options = libc::WEXITED | libc::WNOHANG;
        let id = pidfd.as_raw_fd() as libc::id_t;
        if libc::waitid(libc::P_PIDFD, id, &mut info, options) != 0 {
            // Somebody else in this program has reaped it. Or a filter forbids the question: then it may live.
            let reaped = io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
            return (reaped || super::link::is_gone(pidfd)).then_some(ExitStatus::Lost);
        }
        (info.si_pid() != 0).then(|| ExitStatus::from_wait(info.si_code, info.si_status()))
    }
}
