//! What is known of a started process, whoever asks: typed handles, untyped ones, and the list of children.
//!
//! The status of a process has one owner: its zygote, or for a forked process whoever of us holds the lock
//! `reaping`. What it was is written into the slot, and stays there. Everything that asks reads it there, so all
//! agree, and any number of threads may ask at the same time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::error::JoinError;
use super::fork::{Forked, try_reap};
use super::link::{Link, is_gone, sleep_on};
use super::starter::Started;
use super::status::{ExitStatus, Outcome, SLICE, Slot, Slots};
use super::words::Words;
use super::{children, news, oom, wire};
use crate::channel::luggage::recall;

/// A process that was started from here. It is kept alive by its handles, and until its end is known by the list of
/// children; then its slot is free again.
pub(super) struct Life {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) daemon: bool,
    pidfd: OwnedFd,
    slots: Arc<Slots>,
    pub(super) slot: u32,
    source: Source,
    end: OnceLock<End>,
    /// SIGKILL was sent from here.
    killed: AtomicBool,
    /// Nobody waits for it when this process ends.
    detached: AtomicBool,
    /// Whether its end was spoken of.
    told: AtomicBool,
    /// Whose child it is: a fork of that process finds this too.
    starter: u32,
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
    out_of_memory: bool,
    outcome: Outcome,
    bytes: Result<Vec<u8>, String>,
}

/// What a process that ended well left for whoever joins it.
pub(super) enum Left<'a> {
    /// Its target's encoded result.
    Result(&'a [u8]),
    /// It left by `exit(0)`.
    Nothing,
}

/// After a process is gone its zygote gets this long to say how, before a call that must not block gives up.
const GRACE: Duration = Duration::from_secs(1);

impl Life {
    pub(super) fn started(name: String, daemon: bool, slots: Arc<Slots>, new: Started) -> Self {
        let Started { pid, pidfd, slot, link } = new;
        Life::new(pid, name, daemon, pidfd, slots, slot, Source::Zygote(link))
    }

    pub(super) fn forked(
        name: String,
        daemon: bool,
        slots: Arc<Slots>,
        slot: u32,
        new: Forked,
    ) -> Self {
        let source = Source::Fork { reaping: Mutex::new(()), result: new.result };
        Life::new(new.pid, name, daemon, new.pidfd, slots, slot, source)
    }

    fn new(
        pid: u32,
        name: String,
        daemon: bool,
        pidfd: OwnedFd,
        slots: Arc<Slots>,
        slot: u32,
        source: Source,
    ) -> Self {
        let no = || AtomicBool::new(false);
        let (killed, detached, told) = (no(), no(), no());
        let (end, starter) = (OnceLock::new(), std::process::id());
        Life { pid, name, daemon, pidfd, slots, slot, source, end, killed, detached, told, starter }
    }

    pub(super) fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.end.get().is_none() && !is_gone(&self.pidfd)
    }

    pub(super) fn exitcode(&self) -> Option<i32> {
        if self.is_alive() {
            return None;
        }
        self.wait(Some(Instant::now())).map(|end| end.status.exitcode())
    }

    /// Sends a signal; none if it is already gone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        if signal == Signal::KILL {
            // The kernel orders it before the end that is looked at later.
            self.killed.store(true, Ordering::Relaxed);
        }
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn detach(&self) {
        // Read at this process' own end; nothing goes along with it.
        self.detached.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Waits until the end is known or the deadline has passed: whether it is.
    pub(super) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        self.wait(deadline).is_some()
    }

    /// Waits until the process is gone and its end is known, or the deadline has passed.
    fn wait(&self, deadline: Option<Instant>) -> Option<&End> {
        let mut deadline = deadline;
        let mut grace = Some(GRACE);
        let mut gone = false;
        loop {
            if let Some(end) = self.end.get() {
                return Some(end);
            }
            if let Some(status) = self.status_now() {
                let end = self.end.get_or_init(|| self.make_end(status));
                children::remove(self);
                self.tell_end(&end.status);
                return Some(end);
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                if !is_gone(&self.pidfd) {
                    return None;
                }
                // It is gone: that was the question, and how it went will be known in a moment.
                deadline = Some(Instant::now() + grace.take()?);
            }
            // Others may be waiting for what went along with the arguments of one that has died over them.
            let more = recall();
            match self.source {
                Source::Zygote(_) if gone => self.place()?.sleep(deadline),
                // Its end wakes us and the zygote at the same time, and not one after the other.
                Source::Zygote(_) => {
                    let slice = Instant::now() + SLICE;
                    sleep_on(&self.pidfd, Some(deadline.map_or(slice, |at| at.min(slice))));
                    gone = is_gone(&self.pidfd);
                    if gone {
                        self.place()?.spin_until_buried();
                    }
                }
                Source::Fork { .. } => self.sleep_on_pidfd(deadline, more),
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
                    ExitStatus::Lost => self.status_of_an_orphan(slot),
                    known => known,
                })
            }
            // Only its parent can reap it, and will.
            Source::Fork { .. } if self.starter != std::process::id() => None,
            Source::Fork { reaping, .. } => {
                let _reaping = reaping.lock().unwrap_or_else(PoisonError::into_inner);
                slot.status().or_else(|| {
                    slot.record(match try_reap(&self.pidfd)? {
                        // Somebody else has, or this process ignores SIGCHLD.
                        ExitStatus::Lost => ask_kernel(&self.pidfd),
                        status => status,
                    });
                    slot.wake();
                    slot.status()
                })
            }
        }
    }

    /// How it ended, when its zygote had ended before.
    fn status_of_an_orphan(&self, slot: &Slot) -> ExitStatus {
        static REAPING: Mutex<()> = Mutex::new(());
        let reaping = REAPING.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot.last_known_status();
        if known != ExitStatus::Lost {
            return known;
        }
        // It is ours now if this process adopts orphans, as the first one of a container does.
        if let Some(status) = try_reap(&self.pidfd).filter(|status| *status != ExitStatus::Lost) {
            slot.record(status);
            return slot.last_known_status();
        }
        drop(reaping);
        ask_kernel(&self.pidfd)
    }

    /// Whether the process has ended and everything that is known of it is in its slot.
    pub(super) fn is_over(&self) -> bool {
        self.end.get().is_some() || self.status_now().is_some()
    }

    /// Says once how it ended.
    fn tell_end(&self, status: &ExitStatus) {
        // Relaxed: nothing goes along with it.
        if self.starter == std::process::id() && !self.told.swap(true, Ordering::Relaxed) {
            news::ended(&self.name, self.pid, status.exitcode());
        }
    }

    fn place(&self) -> Option<&Slot> {
        self.slots.records.slot(self.slot)
    }

    fn make_end(&self, status: ExitStatus) -> End {
        recall();
        let (outcome, bytes) = self.place().map_or((Outcome::None, Vec::new()), Slot::left);
        let bytes = match outcome {
            Outcome::File => self.fetch().map_err(|error| error.to_string()),
            Outcome::Words | Outcome::Panicked
                if Words::decode(&bytes).is_some_and(|words| words.cut) =>
            {
                // If they are lost, the first of them tell the most.
                Ok(self.fetch().ok().filter(|all| Words::decode(all).is_some()).unwrap_or(bytes))
            }
            _ => Ok(bytes),
        };
        let killed = status == ExitStatus::Signal(libc::SIGKILL);
        let by_another = killed && !self.killed.load(Ordering::Relaxed);
        End { status, out_of_memory: by_another && oom::has_killed(), outcome, bytes }
    }

    /// Gets what did not fit into the slot.
    fn fetch(&self) -> io::Result<Vec<u8>> {
        match &self.source {
            Source::Zygote(link) => link.take_result(self.slot),
            Source::Fork { result, .. } => wire::read_letter(result),
        }
    }

    /// `slices`: something else is to be looked after meanwhile.
    fn sleep_on_pidfd(&self, deadline: Option<Instant>, slices: bool) {
        /// A foreign process' end is written down by somebody who does not wake us.
        const SLICE: Duration = Duration::from_millis(100);
        if self.starter != std::process::id() && is_gone(&self.pidfd) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            return std::thread::sleep(left.map_or(SLICE, |left| left.min(SLICE)));
        }
        let slice = slices.then(|| Instant::now() + SLICE);
        sleep_on(&self.pidfd, slice.into_iter().chain(deadline).min());
    }

    /// Waits for the end, and tells what the process left.
    pub(super) fn join(&self, deadline: Option<Instant>) -> Result<Left<'_>, JoinError> {
        let (name, pid) = (self.name.clone(), self.pid);
        let Some(End { status, out_of_memory, outcome, bytes }) = self.wait(deadline) else {
            return Err(JoinError::TimedOut { name, pid });
        };
        let text =
            || bytes.as_ref().map_or_else(Clone::clone, |b| String::from_utf8_lossy(b).into());
        match (status, outcome) {
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Value | Outcome::File) => bytes
                .as_ref()
                .map(|bytes| Left::Result(bytes))
                .map_err(|message| self.undecoded(message.clone())),
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Panicked)
            | (ExitStatus::Signal(libc::SIGABRT), Outcome::Words | Outcome::Panicked) => {
                let words = bytes.as_ref().ok().and_then(|bytes| Words::decode(bytes));
                let Words { message, location, backtrace, .. } = words.unwrap_or_default();
                Err(JoinError::Panicked { name, pid, message, location, backtrace })
            }
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::NotBegun) => {
                Err(JoinError::NotBegun { name, pid, message: text() })
            }
            (ExitStatus::Code(_) | ExitStatus::Lost, Outcome::Undelivered) => {
                Err(self.undecoded(text()))
            }
            (ExitStatus::Code(0), _) => Ok(Left::Nothing),
            (ExitStatus::Code(code), _) => Err(JoinError::Exited { name, pid, code: *code }),
            (ExitStatus::Signal(signal), _) => {
                let (signal, out_of_memory) = (*signal, *out_of_memory);
                Err(JoinError::Killed { name, pid, signal, out_of_memory })
            }
            (ExitStatus::Expired, _) => Err(JoinError::DeadlinePassed { name, pid }),
            (ExitStatus::Lost, _) => Err(JoinError::Lost { name, pid }),
        }
    }

    /// Its result did not arrive.
    pub(super) fn undecoded(&self, message: String) -> JoinError {
        JoinError::Result { name: self.name.clone(), pid: self.pid, message }
    }

    /// As a handle of this kind shows itself.
    pub(super) fn show(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(kind)
            .field("name", &self.name)
            .field("pid", &self.pid)
            .field("exitcode", &self.exitcode())
            .field("daemon", &self.daemon)
            .finish()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let status = self.end.get().map(|end| end.status).or_else(|| self.status_now());
        if let Some(status) = &status {
            self.tell_end(status);
        }
        self.slots.give_back(self.slot, status.is_some());
    }
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
