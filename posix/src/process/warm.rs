//! Warm children: processes that exist before anybody asks for them.
//!
//! A fork takes as long as everything else of a start together. So the zygote keeps some processes
//! ready, the *spares*: forked, and asleep until a letter comes. A start that finds one sends it what
//! it would have sent to the zygote, the same record with the same descriptors, over a socket that
//! only these two have. The zygote has no part in that, and makes another spare in the background.
//!
//! ```text
//! the starter    takes a slot of the records, asks the zygote for a spare, does not wait  PENDING
//! the zygote     forks the spare; writes down that this process has that slot; announces it with
//!                its pidfd and the other end of its socket                                READY
//! the starter    looks whether the spare lives; moves the slot's claim from OPEN to OFFERED;
//!                sends the letter                                                         GIVEN
//! the spare      lives the life of any started process, from its letter on
//! ```
//!
//! One word decides whether the spare gets work. The starter moves the claim from OPEN to OFFERED before it
//! sends the letter; a spare that wants to leave moves it from OPEN to WITHDRAWN. So no letter
//! goes to one that has left, and none leaves to which a letter is on its way. From OFFERED on the claim moves as
//! that of every process (see the records): the starter confirms it, the process makes it RUNNING
//! by one compare-and-swap, whoever gives up makes it WITHDRAWN. A spare that got its letter while the
//! state of its starter changed never begins.
//!
//! Only one thread at a time takes a spare, under the lock of all starts, and what it has taken is given
//! to nobody else. Everything that a process is told comes with the letter: streams, working
//! directory, environment, limits, mask. A spare holds nothing of its starter's, so a pipe that the starter
//! closes is closed.
//!
//! What each death does, at whatever instruction:
//!
//! - *The spare, before its letter*: the starter sees that by its pidfd, its claim, or its socket without another
//!   end, and takes the next one, or asks the zygote for a process as if there were no spares.
//!   The zygote buries it into its slot, which is then free again.
//! - *The spare, after its letter*: it was started and was killed, like any other process.
//! - *The zygote*: its spares see that by the socket for large results, which ends in it, and leave. Those that
//!   were offered a letter go on without it, as all that it started. A slot that it was asked to fill is
//!   taken back when a new zygote is made.
//! - *The starter*: its ends of the sockets close, and a spare that hears of that leaves. Should a fork of
//!   the starter hold them too, the zygote, which watches the starter, ends whatever has not begun.
//!
//! Nobody waits for a spare: it is ready, or the start goes the other way. A spare that cannot be made
//! (no memory, too many processes) is announced as none, and nobody is told.
//!
//! Signals: a spare is ended by whatever would end or stop a process that handles nothing, so it cannot
//! be born with a signal that was sent before it had a life. From the moment when the letter
//! is there all signals wait until it has the mask of its starter: `ppoll` opens the mask only
//! while there is nothing to read.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::StartError;
use super::link::is_gone;
use super::starter::Starter;
use super::status::{Slot, Slots};

/// Nobody has chosen how many.
const BY_USE: usize = usize::MAX;
/// More would cost more descriptors than many have, and their announcements more room than a socket has.
const MOST: usize = 128;

static WANTED: AtomicUsize = AtomicUsize::new(BY_USE);

/// Keeps `count` processes ready in the background, at most 128: a start that finds one need not wait for
/// a fork.
///
/// Without this call two are kept ready from the second start on. More are useful where several are
/// started in quick succession. `keep_warm(0)` ends those that are there. The choice holds for the
/// calling process, not for those that it starts, and for [`StartMethod::Zygote`] only.
///
/// A started process cannot tell the difference: it has the state of its starter at the start, not of
/// when it was made ready.
///
/// Each costs a sleeping process, some 200 KiB of memory, and two descriptors in the calling one. Nothing of
/// it outlives the calling process. What cannot be made (too many processes, no descriptors) is
/// missing without an error: starts then take as long as without it, and where a start fails for want of what
/// these processes hold, they make room for it and none are made again. One that is killed is
/// replaced after the next start.
///
/// [`StartMethod::Zygote`]: super::StartMethod::Zygote
///
/// # Errors
/// The helper process that makes them could not be made, see [`StartError`].
///
/// ```
/// use procession_posix::process::{Process, keep_warm};
///
/// keep_warm(4)?;
/// let children: Vec<_> =
///     (0..4u32).map(|n| Process::new(|n: u32| n * n, (n,)).start()).collect::<Result<_, _>>()?;
/// let squares: Vec<u32> = children.iter().map(|child| child.join()).collect::<Result<_, _>>()?;
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn keep_warm(count: usize) -> Result<(), StartError> {
    // Read by whoever starts next; nothing else hangs on it.
    WANTED.store(count.min(MOST), Ordering::Relaxed);
    Starter::get()?.warm_up()
}

/// Whether none are wanted.
pub(super) fn is_unwanted() -> bool {
    WANTED.load(Ordering::Relaxed) == 0
}

/// A process that waits for its letter.
pub(super) struct Spare {
    pub(super) slot: u32,
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// Where it waits.
    pub(super) socket: OwnedFd,
}

/// The spares of one zygote, as its starter knows them.
#[derive(Default)]
pub(super) struct Pool {
    ready: VecDeque<Spare>,
    /// Slots that the zygote was asked to fill.
    pending: Vec<u32>,
    starts: u32,
    /// There was not enough for spares and for a start.
    frugal: bool,
}

impl Pool {
    /// Takes a living spare.
    pub(super) fn take(&mut self, slots: &Slots) -> Option<Spare> {
        while let Some(spare) = self.ready.pop_front() {
            if !is_gone(&spare.pidfd) {
                return Some(spare);
            }
            slots.give_back(spare.slot, false);
        }
        None
    }

    /// Forgets those that have ended, and ends those that are too many.
    pub(super) fn sweep(&mut self, slots: &Slots) {
        self.ready.retain(|spare| {
            let gone = is_gone(&spare.pidfd);
            if gone {
                slots.give_back(spare.slot, false);
            }
            !gone
        });
        while self.ready.len() > self.wanted()
            && let Some(spare) = self.ready.pop_back()
        {
            end(spare, slots, true);
        }
    }

    /// Whether there is none, but the zygote may have announced some.
    pub(super) fn expects(&self) -> bool {
        self.ready.is_empty() && !self.pending.is_empty()
    }

    /// Whether the zygote has yet to announce some.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The zygote has announced a spare; pid 0: that there is none.
    pub(super) fn announced(&mut self, slot: u32, pid: u32, fds: Vec<OwnedFd>, slots: &Slots) {
        let Some(at) = self.pending.iter().position(|pending| *pending == slot) else { return };
        self.pending.swap_remove(at);
        match <[OwnedFd; 2]>::try_from(fds) {
            Ok([pidfd, socket]) => self.ready.push_back(Spare { slot, pid, pidfd, socket }),
            // This process has no room for its descriptors. It sees its socket close, and leaves.
            Err(_) => slots.give_back(slot, pid == 0),
        }
    }

    /// Counts a start.
    pub(super) fn started(&mut self) {
        self.starts = self.starts.saturating_add(1);
    }

    fn wanted(&self) -> usize {
        match WANTED.load(Ordering::Relaxed) {
            _ if self.frugal => 0,
            BY_USE if self.starts < 2 => 0,
            BY_USE => 2,
            chosen => chosen,
        }
    }

    /// How many spares should be asked for.
    pub(super) fn missing(&self) -> usize {
        self.wanted().saturating_sub(self.ready.len() + self.pending.len())
    }

    /// The zygote will be asked to fill these slots.
    pub(super) fn expect(&mut self, slots: &[u32]) {
        self.pending.extend(slots);
    }

    /// The zygote was not asked after all.
    pub(super) fn forget(&mut self, unasked: &[u32], slots: &Slots) {
        self.pending.retain(|slot| !unasked.contains(slot));
        for slot in unasked {
            slots.give_back(*slot, true);
        }
    }

    /// From now on no spare is asked for.
    pub(super) fn be_frugal(&mut self) {
        self.frugal = true;
    }

    pub(super) fn ready_slots(&self) -> Vec<u32> {
        self.ready.iter().map(|spare| spare.slot).collect()
    }

    /// Ends all spares. `zygote_lives`: it will bury them. Else their pidfds are given back, since this process
    /// may be the one that adopts them.
    pub(super) fn dismiss(&mut self, slots: &Slots, zygote_lives: bool) -> Vec<OwnedFd> {
        for slot in self.pending.drain(..) {
            slots.give_back(slot, !zygote_lives);
        }
        let ended = self.ready.drain(..).map(|spare| end(spare, slots, zygote_lives));
        ended.filter(|_| !zygote_lives).collect()
    }
}

fn end(spare: Spare, slots: &Slots, zygote_lives: bool) -> OwnedFd {
    // Where this is refused, since it has rights that we gave up, it sees its socket close.
    let _ = rustix::process::pidfd_send_signal(&spare.pidfd, rustix::process::Signal::KILL);
    slots.give_back(spare.slot, !zygote_lives);
    spare.pidfd
}

/// What signals do to a spare. Looked up once, by the zygote.
pub(super) struct Manners {
    /// Closed also while a spare sleeps: a handler of the program, which its zygote was forked with, is
    /// not for a spare.
    blocked: libc::sigset_t,
    /// Their default is to stop the process, or to dump its memory; a spare ends instead.
    ending: Vec<libc::c_int>,
}

impl Manners {
    pub(super) fn look_up() -> Manners {
        // SAFETY: the set is initialised before signals are added; the kernel writes a whole action.
        unsafe {
            let mut blocked = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&mut blocked);
            let mut ending = Vec::new();
            for signal in 1..=64 {
                let mut action = std::mem::zeroed::<libc::sigaction>();
                if libc::sigaction(signal, std::ptr::null(), &mut action) != 0 {
                    continue;
                }
                match (action.sa_sigaction, signal) {
                    (libc::SIG_IGN, _) => {}
                    (
                        libc::SIG_DFL,
                        libc::SIGQUIT | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU,
                    ) => ending.push(signal),
                    (libc::SIG_DFL, _) => {}
                    _ => {
                        libc::sigaddset(&mut blocked, signal);
                    }
                }
            }
            Manners { blocked, ending }
        }
    }
}

/// The memory that a fork has written so far, and so will its children: ranges of whole pages.
pub(super) struct Written(Vec<(usize, usize)>);

impl Written {
    /// Looks at this process. Where it cannot, children copy these pages one by one when they need them.
    pub(super) fn look_up() -> Written {
        const PAGE: usize = 4096;
        let mut ranges = Vec::new();
        for line in std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(range), Some("rw-p")) = (words.next(), words.next()) else { continue };
            let Some((start, end)) = range.split_once('-') else { continue };
            let address = |digits| usize::from_str_radix(digits, 16);
            let (Ok(start), Ok(end)) = (address(start), address(end)) else { continue };
            let mut resident = vec![0u8; (end - start).div_ceil(PAGE)];
            // SAFETY: the range is mapped, and there is one byte for each of its pages.
            if unsafe { libc::mincore(start as _, end - start, resident.as_mut_ptr()) } != 0 {
                continue;
            }
            let pages = resident.iter().enumerate().filter(|(_, page)| **page & 1 != 0);
            for at in pages.map(|(page, _)| start + page * PAGE) {
                match ranges.last_mut() {
                    Some((_, end)) if *end == at => *end += PAGE,
                    _ => ranges.push((at, at + PAGE)),
                }
            }
        }
        Written(ranges)
    }

    /// Has the kernel copy these pages for this process now. A refusal costs nothing but time.
    pub(super) fn copy(&self) {
        for (start, end) in &self.0 {
            // SAFETY: changes no content; where nothing is mapped any more it is refused.
            unsafe { libc::madvise(*start as _, end - start, libc::MADV_POPULATE_WRITE) };
        }
        // A page that tells the time is nobody's copy.
        let _ = std::time::Instant::now();
    }
}

/// Sleeps in a spare until its letter is there. `false`: none will come. `zygote`: a socket that ends there.
pub(super) fn await_letter(
    slot: &Slot,
    socket: &OwnedFd,
    zygote: &OwnedFd,
    manners: &Manners,
) -> bool {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: ends the process; allowed in a handler.
        unsafe { libc::_exit(0) }
    }
    let set_all = |action: libc::sighandler_t| {
        for signal in &manners.ending {
            // SAFETY: the action is the default or makes only a call that is allowed in a handler.
            unsafe { libc::signal(*signal, action) };
        }
    };
    set_all(end as *const () as libc::sighandler_t);
    let watch = |fd: &OwnedFd, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let mut fds = [watch(socket, libc::POLLIN), watch(zygote, 0)];
    let ready = loop {
        // SAFETY: the kernel reads and writes two descriptors' events, and reads the set.
        match unsafe { libc::ppoll(fds.as_mut_ptr(), 2, std::ptr::null(), &manners.blocked) } {
            -1 if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => break false,
            _ if fds[0].revents != 0 => break true,
            _ if slot.decline() => break false,
            // A letter is on its way; the descriptor is left out from now on.
            _ => fds[1].fd = -1,
        }
    };
    set_all(libc::SIG_DFL);
    ready
}
