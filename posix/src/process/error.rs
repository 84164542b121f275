//! What can go wrong when a process is started, and how a process can end.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::method::UnknownMethod;

use super::handle::Child;

/// Why a process was not started. Nothing of it runs after this error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The arguments could not be encoded.
    #[error("the arguments of {target} cannot be encoded: {message}; nothing was started")]
    Arguments {
        /// The type name of the target.
        target: String,
        /// What the encoder said.
        message: String,
    },
    /// The target is not part of the program itself.
    #[error(
        "{target} lies outside the main program (in a shared library?); a target has to be \
         linked into the executable, or the process started by StartMethod::Fork"
    )]
    ForeignTarget {
        /// The type name of the target.
        target: String,
    },
    /// The kernel, or a filter, does not offer pidfds.
    #[error(
        "pidfd_open failed: {0}; processes need pidfds (Linux 5.3 or later, and a seccomp \
         filter that lets pidfd_open pass)"
    )]
    NoPidfd(#[source] io::Error),
    /// The program runs with more rights than its user (set-user-ID, file capabilities).
    #[error(
        "this program gained rights when it was executed (AT_SECURE), so it ignores the mark by \
         which it would turn into the parent of the new process; use StartMethod::Fork"
    )]
    Privileged,
    /// `/proc/self/exe` could not be executed.
    #[error(
        "cannot execute /proc/self/exe: {0}; {hint}",
        hint = no_process(.0, "is /proc mounted, and was the program's file system lost?")
    )]
    Execute(#[source] io::Error),
    /// The program that was named by [`set_executable`](super::set_executable) could not be executed.
    #[error("cannot execute {path:?}, which set_executable named: {source}")]
    Executable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The zygote was executed, but did not report for duty.
    #[error("the zygote did not report for duty, for which it has {seconds} s: {reason}")]
    Handshake {
        /// How long was waited, in seconds.
        seconds: u64,
        /// What was seen instead.
        reason: String,
    },
    /// The zygote lives, but did not answer a request.
    #[error("the zygote (pid {pid}) gave no answer within {seconds} s; is it stopped?")]
    NoAnswer {
        /// The process id of the zygote.
        pid: u32,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The kernel refused a new process.
    #[error(
        "cannot fork: {0}; {hint}",
        hint = no_process(.0, "check the limit of processes (RLIMIT_NPROC, pids.max) and memory")
    )]
    Fork(#[source] io::Error),
    /// [`StartMethod::Fork`](super::StartMethod::Fork) in a process with several threads.
    #[error(
        "this process has several threads, and locks that they hold would stay locked in a fork; \
         use StartMethod::Zygote or StartMethod::Spawn"
    )]
    Threads,
    /// The starting process is a daemon.
    #[error(
        "{name} is a daemon, and daemons may not have children, which would be left alone when it is \
         killed; start it with allow_children(true)"
    )]
    Daemon {
        /// The name of the starting process.
        name: String,
    },
    /// Memory, descriptors or another resource ran out.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The working directory of the new process could not be opened.
    #[error("cannot start in the directory {path:?}: {source}")]
    Directory {
        /// The path that was given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else that was chosen for the new process is not possible.
    #[error("cannot start with this {what}: {reason}")]
    Choice {
        /// What was chosen.
        what: &'static str,
        /// Why it is not possible.
        reason: String,
    },
    /// A word that names no start method.
    #[error("PROCESSION_START_METHOD in the environment: {0}")]
    Method(#[source] UnknownMethod),
    /// More than this many processes run or wait to be joined.
    #[error("{limit} processes started from here run or still have a handle; drop some handles")]
    TooMany {
        /// The number of processes that one process can have.
        limit: u32,
    },
}

impl StartError {
    /// An error of pidfd_open: either there is no room, or there are no pidfds here.
    pub(super) fn no_pidfd(error: impl Into<io::Error>) -> StartError {
        let source = error.into();
        match source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                StartError::Resource { what: "open a pidfd", source }
            }
            _ => StartError::NoPidfd(source),
        }
    }
}

/// What to do about an error of fork or exec; mostly `usual`.
fn no_process(error: &io::Error, usual: &'static str) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            "memory is full, or this process has moved its children to a PID namespace whose first \
             process has ended: nothing can begin there any more"
        }
        Some(libc::EPERM) => {
            "does a seccomp filter forbid execve, or clone3 by EPERM? Answered by ENOSYS, the C \
             library takes another call"
        }
        Some(libc::EAGAIN) => "check the limit of processes (RLIMIT_NPROC, pids.max)",
        _ => usual,
    }
}

/// How a process ended, if it did not deliver its target's result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The time ran out; the process runs on.
    #[error("{name} (pid {pid}) still runs")]
    TimedOut {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// The target panicked.
    #[error(
        "{name} (pid {pid}) panicked{}: {message}",
        location.as_ref().map(|at| format!(" at {at}")).unwrap_or_default()
    )]
    Panicked {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The panic's message.
        message: String,
        /// Where in the source it happened: file, line and column. None if nobody noted it, as when the target
        /// resumed a panic of another thread.
        location: Option<String>,
        /// How it came there, if the environment variable `RUST_BACKTRACE` asked for that.
        backtrace: Option<String>,
    },
    /// The process left by itself, without a result: somebody called `exit`.
    #[error("{name} (pid {pid}) exited with status {code} before its target returned")]
    Exited {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The exit status, 0 to 255.
        code: i32,
    },
    /// A signal ended the process.
    #[error(
        "{name} (pid {pid}) was ended by signal {signal}{}",
        if *out_of_memory { ", probably because its control group ran out of memory" } else { "" }
    )]
    Killed {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The signal's number.
        signal: i32,
        /// Whether its memory cgroup has counted one more kill for want of memory, and nobody else is known to have
        /// sent SIGKILL: a hint, since others in the same cgroup are counted too.
        out_of_memory: bool,
    },
    /// Its [deadline](super::Process::deadline) passed, and the kernel killed it.
    #[error("{name} (pid {pid}) was killed since its deadline had passed")]
    DeadlinePassed {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// The process was created, but its target was never called.
    #[error("{name} (pid {pid}) could not begin: {message}")]
    NotBegun {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// What failed.
        message: String,
    },
    /// The target returned, but its result did not arrive.
    #[error("the result of {name} (pid {pid}) did not arrive: {message}")]
    Result {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// What failed.
        message: String,
    },
    /// The process is gone, and so is the one that knew how it ended.
    #[error("{name} (pid {pid}) is gone; its exit status was lost with its parent process")]
    Lost {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
    },
}

/// A handle was to be closed, but its process still runs. It has the handle.
#[derive(thiserror::Error)]
#[error("{} (pid {}) still runs; join or kill it first, or drop the handle", child.name(), child.pid())]
pub struct StillRunning<R> {
    /// The handle.
    pub child: Child<R>,
}

impl<R> fmt::Debug for StillRunning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StillRunning").field("child", &self.child).finish()
    }
}

impl<R> From<StillRunning<R>> for JoinError {
    fn from(error: StillRunning<R>) -> Self {
        let StillRunning { child } = error;
        JoinError::TimedOut { name: child.name().into(), pid: child.pid() }
    }
}
