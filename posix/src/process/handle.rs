//! The handle of a started process.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::error::JoinError;
use super::fork::{Forked, try_reap};
use super::link::{Link, Started, is_gone};
use super::status::{ExitStatus, Outcome, Slot, Slots};
use super::stdio::{self, Pipes};
use super::wire;
use crate::channel::luggage::{Luggage, recall};

/// A started process whose target returns `R`.
///
/// All methods take `&self`: any thread may wait, ask and signal, several at a time. Dropping the
/// handle neither ends the process nor waits for it; what it leaves is cleaned up by itself.
pub struct Child<R> {
    pid: u32,
    name: String,
    daemon: bool,
    pidfd: OwnedFd,
    slots: Arc<Slots>,
    slot: u32,
    source: Source,
    end: OnceLock<End>,
    pipes: Pipes,
    result: PhantomData<fn() -> R>,
}

/// Who knows how the process ends.
enum Source {
    Zygote(Arc<Link>),
    /// We are its parent. The lock is for whoever reaps.
    Fork {
        reaping: Mutex<()>,
        result: OwnedFd,
    },
}

/// How a process ended, and what it left.
struct End {
    status: ExitStatus,
    outcome: Outcome,
    bytes: Result<Vec<u8>, String>,
}

/// After a process is gone its zygote gets this long to say how, before a call that must not block gives up.
const GRACE: Duration = Duration::from_secs(1);

impl<R> Child<R> {
    pub(super) fn started(name: String, daemon: bool, slots: Arc<Slots>, new: Started) -> Self {
        Child {
            pid: new.pid,
            name,
            daemon,
            pidfd: new.pidfd,
            slots,
            slot: new.slot,
            source: Source::Zygote(new.link),
            end: OnceLock::new(),
            pipes: Pipes::default(),
            result: PhantomData,
        }
    }

    pub(super) fn forked(
        name: String,
        daemon: bool,
        slots: Arc<Slots>,
        slot: u32,
        new: Forked,
    ) -> Self {
        let source = Source::Fork { reaping: Mutex::new(()), result: new.result };
        let (pid, pidfd) = (new.pid, new.pidfd);
        let (end, pipes, result) = (OnceLock::new(), Pipes::default(), PhantomData);
        Child { pid, name, daemon, pidfd, slots, slot, source, end, pipes, result }
    }

    /// The process id. After the process has ended the kernel may give it to another: to signal,
    /// use the methods here, which never hit a stranger.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name given to the builder, or the default, like `Process-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process is killed when the one that started it dies.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Whether the process has not ended. Costs one system call, never blocks for a living process.
    pub fn is_alive(&self) -> bool {
        self.end.get().is_none() && !is_gone(&self.pidfd)
    }

    /// How the process ended: 0 or n for an exit, -n for signal n, `None` while it runs. A process
    /// whose target panicked has 101, one that could not call its target 126.
    ///
    /// If the one that knew was killed (the zygote, see the module), the kernel is asked; where
    /// it does not tell (before Linux 6.15) it is 255.
    pub fn exitcode(&self) -> Option<i32> {
        if self.end.get().is_none() && !is_gone(&self.pidfd) {
            return None;
        }
        self.wait(Some(Instant::now())).map(|end| end.status.exitcode())
    }

    /// A descriptor that is readable exactly when the process is gone, for `poll`, `select`, `epoll`.
    ///
    /// It is a pidfd: it belongs to the handle, and to this process only.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The end into which the process' standard input is written, if that is [piped](super::Stdio::Piped).
    /// The process reads to the end when this is dropped. The second time there is nothing to take.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        stdio::take(&self.pipes.stdin)
    }

    /// The end from which the process' standard output is read, if that is [piped](super::Stdio::Piped).
    /// It ends when the process and all who have the stream from it are gone, or have closed it.
    pub fn take_stdout(&self) -> Option<PipeReader> {
        stdio::take(&self.pipes.stdout)
    }

    /// The end from which the process' standard error is read, if that is [piped](super::Stdio::Piped);
    /// as [`take_stdout`](Child::take_stdout).
    pub fn take_stderr(&self) -> Option<PipeReader> {
        stdio::take(&self.pipes.stderr)
    }

    /// Sends SIGTERM, which ends the process unless it handles it. No error if it is already gone.
    ///
    /// # Errors
    /// `EPERM`, if the process has taken on another user's rights.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGKILL, which ends the process at whatever instruction it is. Survivors of the same tree are
    /// told of what it held. No error if it is already gone.
    ///
    /// # Errors
    /// `EPERM`, if the process has taken on another user's rights.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process is gone and its end is known, or the deadline has passed.
    fn wait(&self, deadline: Option<Instant>) -> Option<&End> {
        let mut deadline = deadline;
        let mut grace = Some(GRACE);
        loop {
            if let Some(end) = self.end.get() {
                return Some(end);
            }
            if let Some(status) = self.status_now() {
                return Some(self.end.get_or_init(|| self.make_end(status)));
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                if !is_gone(&self.pidfd) {
                    return None;
                }
                // It is gone: that was the question, and how it went will be known in a moment.
                deadline = Some(Instant::now() + grace.take()?);
            }
            // Others may be waiting for what went along with the arguments of one that has died over them.
            recall();
            match self.source {
                Source::Zygote(_) => self.place()?.sleep(deadline),
                Source::Fork { .. } => sleep_on(&self.pidfd, deadline),
            }
        }
    }

    /// How the process ended, if that is known or never will be.
    fn status_now(&self) -> Option<ExitStatus> {
        let slot = self.place()?;
        if let Some(status) = slot.status() {
            return Some(status);
        }
        match &self.source {
            Source::Zygote(link) => {
                if !link.is_gone() || !is_gone(&self.pidfd) {
                    return None;
                }
                // The zygote may have been quicker than its own end.
                Some(match slot.last_known_status() {
                    ExitStatus::Lost => ask_kernel(&self.pidfd),
                    known => known,
                })
            }
            Source::Fork { reaping, .. } => {
                let _reaping = reaping.lock().unwrap_or_else(PoisonError::into_inner);
                slot.status().or_else(|| reap_into(slot, &self.pidfd))
            }
        }
    }

    fn place(&self) -> Option<&Slot> {
        self.slots.records.slot(self.slot)
    }

    /// Leaves to it what goes along with its arguments, until it ends.
    pub(super) fn with(self, luggage: Option<Luggage>) -> Self {
        if let Some(luggage) = luggage {
            luggage.follow(self.sentinel());
        }
        self
    }

    /// Keeps our ends of its pipes until they are taken.
    pub(super) fn with_pipes(mut self, pipes: Pipes) -> Self {
        self.pipes = pipes;
        self
    }

    fn make_end(&self, status: ExitStatus) -> End {
        recall();
        let (outcome, bytes) = self.place().map_or((Outcome::None, Vec::new()), Slot::left);
        let bytes = match (&self.source, outcome) {
            (Source::Zygote(link), Outcome::File) => link.take_result(self.slot),
            (Source::Fork { result, .. }, Outcome::File) => wire::read_letter(result),
            _ => Ok(bytes),
        };
        End { status, outcome, bytes: bytes.map_err(|error| error.to_string()) }
    }
}

impl<R: DeserializeOwned> Child<R> {
    /// Waits for the end of the process and hands out its target's result. May be called again,
    /// with the same outcome; each call decodes a result of its own.
    ///
    /// # Errors
    /// The target panicked; the process left by `exit` or by a signal; the result did not arrive; the status
    /// was lost because the zygote was killed too. `exit(0)` is no error for a target without result.
    pub fn join(&self) -> Result<R, JoinError> {
        self.join_deadline(None)
    }

    /// Like [`join`](Child::join), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As [`join`](Child::join), and [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JoinError> {
        // A time that the clock cannot express never comes.
        self.join_deadline(Instant::now().checked_add(timeout))
    }

    fn join_deadline(&self, deadline: Option<Instant>) -> Result<R, JoinError> {
        let (name, pid) = (self.name.clone(), self.pid);
        let Some(End { status, outcome, bytes }) = self.wait(deadline) else {
            return Err(JoinError::TimedOut { name, pid });
        };
        let text =
            || bytes.as_ref().map_or_else(Clone::clone, |b| String::from_utf8_lossy(b).into());
        match (status, outcome) {
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Value | Outcome::File) => {
                let decoded = bytes.as_ref().map_err(Clone::clone).and_then(|bytes| {
                    crate::memory::decode(bytes).map_err(|error| error.to_string())
                });
                decoded.map_err(|message| JoinError::Result { name, pid, message })
            }
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Panicked)
            | (ExitStatus::Signal(libc::SIGABRT), Outcome::Words | Outcome::Panicked) => {
                Err(JoinError::Panicked { name, pid, message: text() })
            }
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::NotBegun) => {
                Err(JoinError::NotBegun { name, pid, message: text() })
            }
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Undelivered) => {
                Err(JoinError::Result { name, pid, message: text() })
            }
            // Without result: only a type like `()` is made of nothing.
            (ExitStatus::Code(0), _) if size_of::<R>() == 0 => {
                postcard::from_bytes(&[]).map_err(|_| JoinError::Exited { name, pid, code: 0 })
            }
            (ExitStatus::Code(code), _) => Err(JoinError::Exited { name, pid, code: *code }),
            (ExitStatus::Signal(signal), _) => {
                Err(JoinError::Killed { name, pid, signal: *signal })
            }
            (ExitStatus::Lost, _) => Err(JoinError::Lost { name, pid }),
        }
    }
}

impl<R> AsFd for Child<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> fmt::Debug for Child<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("pid", &self.pid)
            .field("exitcode", &self.exitcode())
            .field("daemon", &self.daemon)
            .finish()
    }
}

impl<R> Drop for Child<R> {
    fn drop(&mut self) {
        let ended = self.status_now().is_some();
        if !ended
            && matches!(self.source, Source::Fork { .. })
            && let Ok(pidfd) = self.pidfd.try_clone()
        {
            let orphan = Orphan { pidfd, slots: self.slots.clone(), slot: self.slot };
            ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
            return;
        }
        self.slots.give_back(self.slot, ended);
    }
}

/// A forked process without handle. We are its parent, so nobody else reaps it.
struct Orphan {
    pidfd: OwnedFd,
    slots: Arc<Slots>,
    slot: u32,
}

static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

/// Reaps forked processes that have ended and have no handle.
pub(super) fn sweep_orphans() {
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    orphans.retain(|orphan| match orphan.slots.records.slot(orphan.slot) {
        Some(slot) if reap_into(slot, &orphan.pidfd).is_none() => true,
        _ => {
            orphan.slots.give_back(orphan.slot, true);
            false
        }
    });
}

fn reap_into(slot: &Slot, pidfd: &OwnedFd) -> Option<ExitStatus> {
    let status = try_reap(pidfd)?;
    slot.record(status);
    slot.wake();
    Some(status)
}

pub(super) fn sleep_on(pidfd: &OwnedFd, deadline: Option<Instant>) {
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // Interrupted or not: the caller looks again.
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref());
}

/// Asks the kernel how a process ended that was not our child. It knows since Linux 6.15, once somebody
/// has reaped.
fn ask_kernel(pidfd: &OwnedFd) -> ExitStatus {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const PIDFD_GET_INFO: libc::c_ulong =
        (3 << 30) | ((size_of::<Info>() as libc::c_ulong) << 16) | (0xff << 8) | 11;
    // Who adopted it reaps it soon; its pidfd then hangs up.
    let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::empty())], Some(&soon));
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel writes at most as many bytes as the request's number says, the size of `Info`.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    if result != 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return ExitStatus::Lost;
    }
    match info.exit_code & 0x7f {
        0 => ExitStatus::Code(info.exit_code >> 8 & 0xff),
        signal => ExitStatus::Signal(signal),
    }
}
