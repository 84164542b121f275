//! A zygote as its starter sees it: asked for processes under a lock, heard, and let go.
//!
//! Nobody else can ask a zygote, or a spare of its: each talks over one end of a socket pair, which has no
//! name, and whose other end only the starter has (and forks of it that are made without this library). So
//! there are no credentials to check: those of a pair are its maker's, on both ends.

mod newborn;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags};

use super::child::Letter;
use super::error::StartError;
use super::starter::Request;
use super::state::{Changes, State, keep_seen};
use super::status::{Slot, Slots};
use super::stdio::{self, Places};
use super::warm::{Pool, Spare};
use super::wire;
use super::zygote::{Answer, EXECUTE, HEADER, Kind, LETTER_ENCLOSED, LONGEST_RECORD};

/// How long a zygote may take to report, and to answer. Both take a millisecond when all is well. A program that knows
/// nothing of us might run for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) enum Failure {
    /// The zygote is gone, and the process was not started.
    Gone,
    /// The spare is gone, and the process was not started.
    Cold,
    /// The process was withdrawn: this process has another state than expected.
    Changed(Box<State>),
    /// The process was withdrawn: this process is confined in another way than the zygote.
    Outdated,
    /// The process was not started.
    Error(StartError),
    /// The process will not begin, but may exist for a while.
    Unclear(StartError),
}

/// A living zygote, as its starter sees it.
pub(super) struct Link {
    slots: Arc<Slots>,
    socket: OwnedFd,
    pub(super) pid: u32,
    pidfd: OwnedFd,
    /// The program that it was executed from; None: this one.
    pub(super) executable: Option<Arc<Path>>,
    /// Whether entries lie in it where they lie here.
    same_build: bool,
    /// What its children get unless told otherwise.
    picture: State,
    /// How this process differed from the picture when it was last looked at.
    expected: Mutex<Changes>,
    pub(super) has_arena: bool,
    /// Whether it counts processes in another way: this process has moved its children to another PID namespace.
    foreign: bool,
    /// Whether this process could look into it when it was made.
    reachable: bool,
    /// Whether it is among the `RETIRED`.
    retired: AtomicBool,
    /// One question at a time.
    lane: Mutex<()>,
    /// Answers that are still to come, but nobody waits for them any more. For who holds the lane.
    late: AtomicU32,
    /// Its spares.
    pool: Mutex<Pool>,
}

impl Link {
    /// Whether this process lost the right to look into the zygote: it confined itself in a way that its state does
    /// not show, as by Landlock.
    fn is_out_of_reach(&self) -> bool {
        self.reachable && reach(self.pid) == Err(Errno::PERM)
    }

    /// Whether the zygote is gone. Its children's statuses that are not yet written never will be.
    pub(super) fn is_gone(&self) -> bool {
        is_gone(&self.pidfd)
    }

    /// Asks for a process. Unless the state is `known`, the process is described as it should be if nothing
    /// has changed, and this one looks at its own state while the process is being made.
    pub(super) fn start(
        &self,
        slots: &Slots,
        slot: u32,
        spare: Option<Spare>,
        request: &Request,
        known: Option<Box<State>>,
    ) -> Result<(u32, OwnedFd), Failure> {
        if known.as_ref().is_some_and(|now| self.picture.confinement != now.confinement) {
            return Err(Failure::Outdated);
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = slots.records.slot(slot) else {
            return Err(Failure::Error(StartError::TooMany { limit: slots.records.count() }));
        };
        if spare.is_some() && !place.offer() {
            return Err(Failure::Cold);
        }
        if request.names.birth.daemon {
            place.make_daemon();
        }
        let is_known = known.is_some();
        if let Some(now) = known {
            *expected = self.picture.changes_to(&now);
            keep_seen(now);
            if !place.confirm() {
                return Err(Failure::Gone);
            }
        }
        let look = || {
            if is_known {
                return None;
            }
            let now = match State::capture() {
                Ok(now) => Box::new(now),
                Err(source) => {
                    let what = "read /proc/thread-self";
                    return Some(Failure::Error(StartError::Resource { what, source }));
                }
            };
            if self.picture.confinement != now.confinement || self.is_out_of_reach() {
                return Some(Failure::Outdated);
            }
            if self.picture.changes_to(&now) != *expected {
                return Some(Failure::Changed(now));
            }
            keep_seen(now);
            // It leaves if its guardian is gone, before anybody has told us.
            (!place.confirm()).then_some(Failure::Gone)
        };
        let mut changes = expected.clone();
        changes.override_by(request.overrides, || self.picture.environment());
        let letter = Letter {
            aim: request.target.aim(self.same_build).map_err(Failure::Error)?,
            birth: request.names.birth.clone(),
            method: request.names.method,
            changes,
        };
        let mut body = postcard::to_extend(&letter, Vec::with_capacity(1024 + request.args.len()))
            .map_err(|error| {
                Failure::Error(StartError::Arguments {
                    target: request.target.name.into(),
                    message: error.to_string(),
                })
            })?;
        body.extend_from_slice(request.args);
        let mut failure = None;
        let answered = self.exchange_start(slot, spare, request, &body, || {
            failure = look();
            if failure.is_some() {
                place.withdraw();
            }
        });
        if let (Ok(_), Some(failure)) = (&answered, failure) {
            return Err(match failure {
                Failure::Error(error) => Failure::Unclear(error),
                other => other,
            });
        }
        match answered {
            Ok((Answer::Done, pid, Some(pidfd))) if self.foreign => {
                Ok((numbers(&pidfd).map_or(pid, |(here, _)| here), pidfd))
            }
            Ok((Answer::Done, pid, Some(pidfd))) => Ok((pid, pidfd)),
            Ok((answer, value, _)) => {
                let source = io::Error::from_raw_os_error(value as i32);
                Err(match answer {
                    Answer::NoFork => Failure::Error(StartError::Fork(source)),
                    Answer::NoExec => Failure::Error(StartError::Execute(source)),
                    Answer::Unreadable => {
                        Failure::Error(StartError::Resource { what: "ask the zygote", source })
                    }
                    Answer::Done | Answer::NoPidfd | Answer::Spare => {
                        self.give_up(slots, slot);
                        let source = io::Error::from_raw_os_error(libc::EMFILE);
                        let what = "get a pidfd for the new process";
                        Failure::Unclear(StartError::Resource { what, source })
                    }
                })
            }
            // The socket has no other end: the zygote is gone, but perhaps it had forked by then.
            Err(Broken::Gone) => self.withdraw(slots, slot),
            Err(Broken::Cold) => Err(Failure::Cold),
            Err(Broken::Silent(error)) => {
                self.give_up(slots, slot);
                Err(Failure::Unclear(error))
            }
            Err(Broken::Error(error)) => Err(Failure::Error(error)),
        }
    }

    /// Makes sure that the process of this request never begins. Otherwise: it runs, or has run already; here it is.
    /// To be called when the zygote is gone.
    fn withdraw(&self, slots: &Slots, slot: u32) -> Result<(u32, OwnedFd), Failure> {
        let Some(pid) = slots.records.slot(slot).and_then(Slot::withdraw) else {
            return Err(Failure::Gone);
        };
        let pidfd = Pid::from_raw(pid as i32)
            // Its number means somebody else here. But the first of its namespace was the zygote, and all end with it.
            .filter(|_| !self.foreign)
            .ok_or(Errno::SRCH)
            .and_then(|process| rustix::process::pidfd_open(process, PidfdFlags::empty()));
        match pidfd {
            Ok(pidfd) => Ok((pid, wire::above_standard(pidfd))),
            // It is gone too: what says so of the one says so of the other.
            Err(Errno::SRCH) => match self.pidfd.try_clone() {
                Ok(pidfd) => Ok((pid, pidfd)),
                Err(error) => Err(Failure::Unclear(StartError::no_pidfd(error))),
            },
            Err(error) => Err(Failure::Unclear(StartError::no_pidfd(error))),
        }
    }

    /// Ends the process of this request, whether or not it has begun: the zygote knows it, we may not.
    fn give_up(&self, slots: &Slots, slot: u32) {
        if slots.records.slot(slot).and_then(Slot::withdraw).is_some() {
            // A zygote that is gone cannot: its answer would have said so.
            let _ = ask(&self.socket, Kind::Kill, slot, 0, &[], &[]);
        }
    }

    /// Sends the letter to the spare, or to the zygote, which then answers.
    fn exchange_start(
        &self,
        slot: u32,
        spare: Option<Spare>,
        request: &Request,
        body: &[u8],
        meanwhile: impl FnOnce(),
    ) -> Result<(Answer, u32, Option<OwnedFd>), Broken> {
        let Places { standard, directory } = request.places;
        let present;
        let cwd = match directory {
            Some(chosen) => chosen,
            None => {
                present = stdio::working_directory().map_err(Broken::Error)?;
                &present
            }
        };
        let mut flags = 0;
        if request.execute {
            flags |= EXECUTE;
        }
        let null;
        let mut fds = Vec::with_capacity(wire::MAX_FDS);
        for (chosen, own) in standard.iter().zip(stdio::own()) {
            fds.push(chosen.as_ref().map_or(own, AsFd::as_fd));
        }
        fds.push(cwd.as_fd());
        let enclosed;
        let mut inline = body;
        if request.execute || body.len() > LONGEST_RECORD {
            enclosed = enclose(body)?;
            fds.push(enclosed.as_fd());
            flags |= LETTER_ENCLOSED;
            inline = &[];
        }
        let socket = spare.as_ref().map_or(&self.socket, |spare| &spare.socket);
        let _lane = spare.is_none().then(|| self.lane());
        let mut sent = ask(socket, Kind::Start, slot, flags, inline, &fds);
        if matches!(sent, Err(Errno::BADF)) {
            // A process without standard streams: its children have /dev/null there.
            null = stdio::null().map_err(Broken::Error)?;
            for fd in &mut fds[..3] {
                if rustix::io::fcntl_getfd(*fd).is_err() {
                    *fd = null.as_fd();
                }
            }
            sent = ask(socket, Kind::Start, slot, flags, inline, &fds);
        }
        if matches!(sent, Err(Errno::MSGSIZE)) && flags & LETTER_ENCLOSED == 0 {
            // Somebody made socket buffers small on this machine.
            let enclosed = enclose(body)?;
            fds.insert(4, enclosed.as_fd());
            let flags = flags | LETTER_ENCLOSED;
            sent = ask(socket, Kind::Start, slot, flags, &[], &fds);
        }
        match sent {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                return Err(if spare.is_some() { Broken::Cold } else { Broken::Gone });
            }
            Err(error) => {
                let (what, source) = ("ask the zygote", error.into());
                return Err(Broken::Error(StartError::Resource { what, source }));
            }
        }
        meanwhile();
        match spare {
            Some(spare) => Ok((Answer::Done, spare.pid, Some(spare.pidfd))),
            None => self.answer(),
        }
    }

    fn lane(&self) -> MutexGuard<'_, ()> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to the question that this thread has asked.
    fn answer(&self) -> Result<(Answer, u32, Option<OwnedFd>), Broken> {
        loop {
            return match self.hear(RecvFlags::empty()) {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => continue,
                Err(Errno::CONNRESET) => Err(Broken::Gone),
                Err(error) => {
                    // It may come yet, and would be taken for the answer to the next question.
                    self.late.fetch_add(1, Ordering::Relaxed);
                    Err(Broken::Silent(match error {
                        Errno::AGAIN => {
                            StartError::NoAnswer { pid: self.pid, seconds: PATIENCE.as_secs() }
                        }
                        error => StartError::Resource {
                            what: "hear from the zygote",
                            source: error.into(),
                        },
                    }))
                }
            };
        }
    }

    /// Hears an answer, or what is none: the announcement of a spare, an answer that comes too late. The caller
    /// holds the lane.
    fn hear(&self, flags: RecvFlags) -> Result<Option<(Answer, u32, Option<OwnedFd>)>, Errno> {
        let mut words = [0; 12];
        let record = wire::receive_within(&self.socket, &mut words, flags, PATIENCE)?;
        let late = self.late.load(Ordering::Relaxed);
        let [answer, value, slot] = [0, 4, 8]
            .map(|at| u32::from_ne_bytes(words[at..at + 4].try_into().unwrap_or_default()));
        match record.len {
            8 if late > 0 => {
                self.late.store(late - 1, Ordering::Relaxed);
                Ok(None)
            }
            8 => {
                let answer = Answer::decode(answer).unwrap_or(Answer::Unreadable);
                Ok(Some((answer, value, record.fds.into_iter().next())))
            }
            12 => {
                self.pool().announced(slot, value, record.fds, &self.slots);
                Ok(None)
            }
            _ => Err(Errno::CONNRESET),
        }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_spare(&self) -> Option<Spare> {
        if self.pool().expects() {
            self.hear_of_spares();
        }
        self.pool().take(&self.slots)
    }

    fn hear_of_spares(&self) {
        // Another thread that has the lane hears the announcements too.
        if let Ok(_lane) = self.lane.try_lock() {
            while let Ok(None) = self.hear(RecvFlags::DONTWAIT) {}
        }
    }

    /// Asks for the spares that are missing. Whatever fails leaves it at fewer.
    pub(super) fn ask_for_spares(&self) {
        // Now, while the new process is busy: the next start finds them.
        if self.pool().is_pending() {
            self.hear_of_spares();
        }
        let missing = self.pool().missing();
        let filled: Vec<u32> = (0..missing).map_while(|_| self.slots.take().ok()).collect();
        if filled.is_empty() {
            return;
        }
        self.pool().expect(&filled);
        let words = [Kind::Warm as u32, 0, 0, 0].into_iter().chain(filled.iter().copied());
        let words: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        if wire::try_send(&self.socket, &[IoSlice::new(&words)], &[]).is_err() {
            self.pool().forget(&filled, &self.slots);
        }
    }

    /// Ends the spares, those too that the zygote is about to announce.
    pub(super) fn end_spares(&self) {
        let _lane = self.lane();
        while self.pool().is_pending() && matches!(self.hear(RecvFlags::empty()), Ok(None)) {}
        let orphans = self.pool().dismiss(&self.slots, !self.is_gone());
        RETIRED.lock().unwrap_or_else(PoisonError::into_inner).extend(orphans);
    }

    /// Ends the spares, since what they hold is missing elsewhere, and asks for no more. `false`: there were none.
    pub(super) fn spend_spares(&self) -> bool {
        let ended = self.pool().ready_slots();
        self.pool().be_frugal();
        self.end_spares();
        let deadline = Instant::now() + Duration::from_secs(1);
        for slot in ended.iter().filter_map(|slot| self.slots.records.slot(*slot)) {
            // What they hold is free when they have been reaped.
            while slot.status().is_none() && !self.is_gone() && Instant::now() < deadline {
                slot.sleep(Some(deadline));
            }
        }
        !ended.is_empty()
    }

    /// Ends the spares, and gives the zygote no more requests.
    pub(super) fn dismiss(&self) {
        self.end_spares();
        self.retire();
    }

    /// Fetches the large result of the process that had this slot.
    pub(super) fn take_result(&self, slot: u32) -> io::Result<Vec<u8>> {
        let _lane = self.lane();
        ask(&self.socket, Kind::Take, slot, 0, &[], &[])?;
        match self.answer() {
            Ok((Answer::Done, _, Some(file))) => wire::read_letter(file),
            Ok(_) => Err(io::Error::other("the zygote had no free descriptor to keep it")),
            Err(Broken::Silent(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::other("it was lost with the zygote")),
        }
    }

    /// Has the zygote reaped when it ends. It gets no more requests.
    pub(super) fn retire(&self) {
        if self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Ok(pidfd) = self.pidfd.try_clone() {
            RETIRED.lock().unwrap_or_else(PoisonError::into_inner).push(pidfd);
        }
    }
}

enum Broken {
    Gone,
    Cold,
    /// The question was asked, and may be answered yet.
    Silent(StartError),
    Error(StartError),
}

fn ask(
    socket: &OwnedFd,
    kind: Kind,
    slot: u32,
    flags: u32,
    body: &[u8],
    fds: &[BorrowedFd],
) -> Result<(), Errno> {
    let words = [kind as u32, slot, flags, 0].map(u32::to_ne_bytes).concat();
    debug_assert_eq!(words.len(), HEADER);
    wire::send(socket, &[IoSlice::new(&words), IoSlice::new(body)], fds)
}

fn enclose(body: &[u8]) -> Result<OwnedFd, Broken> {
    wire::letter(body).map_err(|source| {
        Broken::Error(StartError::Resource {
            what: "make a memory file for the arguments (memfd_create)",
            source,
        })
    })
}

/// Whether the calling thread may look into this process.
fn reach(pid: u32) -> Result<(), Errno> {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: compares two processes, and touches no memory.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), pid, KCMP_VM, 0, 0) };
    if order >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().raw_os_error().map_or(Errno::PERM, Errno::from_raw_os_error))
}

/// The number of the process behind a pidfd, as this process counts, and whether it lives in a namespace below.
fn numbers(pidfd: &OwnedFd) -> Option<(u32, bool)> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut numbers = line.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next().is_some()))
}

/// Whether the process behind a pidfd has ended.
pub(super) fn is_gone(pidfd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(ready) => return ready > 0,
        }
    }
}

/// Sleeps until the process behind a pidfd has ended, at most until the deadline. May return early.
pub(super) fn sleep_on(pidfd: &OwnedFd, deadline: Option<Instant>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // Interrupted or not: the caller looks again.
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref());
}

/// Zygotes that nobody talks to any more, and spares that a dead one left, of which we may be the heir. They end by
/// themselves.
static RETIRED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

impl Drop for Link {
    fn drop(&mut self) {
        self.retire();
        sweep_zygotes();
    }
}

/// Reaps the zygotes that have ended.
pub(super) fn sweep_zygotes() {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    RETIRED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        // An error says that it is not ours, or not any more.
        .retain(|pidfd| matches!(waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(None)));
}
