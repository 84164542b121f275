//! How a process ended, and the page where that is told to the one that started it.
//!
//! Each started process has a *slot* in memory that its starter, the zygote and the process itself
//! share. The words of a slot and who moves them:
//!
//! ```text
//! claim:   OPEN → CONFIRMED (the starter) → RUNNING (the process, before it calls its target)
//!          OPEN → OFFERED (the starter, before it sends a letter to a spare) → CONFIRMED
//!          OPEN, OFFERED → AWAITED (the process, before it sleeps) → CONFIRMED
//!          OPEN → WITHDRAWN (a spare that leaves)
//!          all but RUNNING → WITHDRAWN (the starter; the zygote, when the starter died)
//! outcome: NONE → WORDS (the panic hook) → VALUE | FILE | PANICKED | .. (the process, at its end)
//! status:  0 → KNOWN | code (the zygote, before it reaps) → KNOWN | GONE | code (after it)
//! ```
//!
//! A starter asks for a process before it knows whether the process will be as it has to be, and confirms
//! while the process is being made. `claim` is one word, so a request that was withdrawn, or sent again
//! because a zygote died, never runs too. `outcome` is stored after the bytes that it speaks of. The starter sleeps on
//! `status`, and looks after each slice of sleep whether the zygote still lives; if not, nobody will
//! ever write it, and it takes the process' own end as the end. Nobody waits for the dead.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::futex;

use super::error::StartError;

/// How a process ended, as its parent process was told by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExitStatus {
    /// It called exit, or its target returned or panicked.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Its deadline ended it, by SIGKILL.
    Expired,
    /// Nobody knows any more.
    Lost,
}

/// What [`Child::exitcode`](super::Child::exitcode) says of a process whose status was lost.
pub(super) const LOST: i32 = 255;

impl ExitStatus {
    /// 0 or n for an exit, -n for signal n.
    pub(super) fn exitcode(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => -signal,
            ExitStatus::Expired => -libc::SIGKILL,
            ExitStatus::Lost => LOST,
        }
    }

    /// Reads what waitid gave.
    pub(super) fn from_wait(code: i32, status: i32) -> ExitStatus {
        if code == libc::CLD_EXITED { ExitStatus::Code(status) } else { ExitStatus::Signal(status) }
    }

    fn encode(self) -> u32 {
        match self {
            ExitStatus::Code(code) => code as u32 & 0xff,
            ExitStatus::Signal(signal) => SIGNAL | (signal as u32 & 0xff),
            ExitStatus::Expired => EXPIRED,
            ExitStatus::Lost => NOBODY_KNOWS,
        }
    }

    fn decode(word: u32) -> ExitStatus {
        let low = (word & 0xff) as i32;
        match word {
            _ if word & EXPIRED != 0 => ExitStatus::Expired,
            _ if word & NOBODY_KNOWS != 0 => ExitStatus::Lost,
            _ if word & SIGNAL != 0 => ExitStatus::Signal(low),
            _ => ExitStatus::Code(low),
        }
    }
}

const SIGNAL: u32 = 0x100;
const NOBODY_KNOWS: u32 = 0x200;
const EXPIRED: u32 = 0x400;
const KNOWN: u32 = 1 << 30;
const GONE: u32 = 1 << 31;

const OPEN: u32 = 0;
const AWAITED: u32 = 1;
const CONFIRMED: u32 = 2;
const RUNNING: u32 = 3;
const WITHDRAWN: u32 = 4;
const OFFERED: u32 = 5;
/// How long one spins before it sleeps for what takes no longer.
const SPIN: Duration = Duration::from_micros(50);
/// Nobody sleeps longer than this without looking whether who should wake it still lives.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// What a process left in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Outcome {
    /// Nothing: it ended before its target did.
    None = 0,
    /// The words of a panic, of whichever thread; the target has not ended.
    Words = 1,
    /// The encoded result.
    Value = 2,
    /// The encoded result lies in a memory file that was sent to the zygote.
    File = 3,
    /// The target panicked; the words of the panic.
    Panicked = 4,
    /// The target was not called; why.
    NotBegun = 5,
    /// The target returned, but its result could not be delivered; why.
    Undelivered = 6,
}

impl Outcome {
    fn decode(word: u32) -> Outcome {
        use Outcome::*;
        [Words, Value, File, Panicked, NotBegun, Undelivered]
            .into_iter()
            .find(|outcome| *outcome as u32 == word)
            .unwrap_or(None)
    }
}

/// The bytes that fit into a slot.
pub(super) const SLOT_BYTES: usize = 960;

/// The place of one process in the shared page.
#[repr(C, align(64))]
pub(super) struct Slot {
    status: AtomicU32,
    claim: AtomicU32,
    pid: AtomicU32,
    outcome: AtomicU32,
    len: AtomicU32,
    daemon: AtomicU32,
    /// When the process is to be killed, in nanoseconds of the monotonic clock; 0: never.
    deadline: AtomicU64,
    bytes: UnsafeCell<[u8; SLOT_BYTES]>,
}

// SAFETY: all words are atomic; `bytes` are written by the process of this slot only, under its own
// lock, and read by the starter only after that process is gone.
unsafe impl Sync for Slot {}

const SLOT: usize = 1024;
const _: () = assert!(size_of::<Slot>() == SLOT);

impl Slot {
    /// Makes the slot ready for a new process. Nobody else knows the slot now.
    fn clear(&self) {
        let Slot { status, claim, pid, outcome, len, daemon, deadline, bytes: _ } = self;
        for word in [status, claim, pid, outcome, len, daemon] {
            word.store(0, Ordering::Relaxed);
        }
        deadline.store(0, Ordering::Relaxed);
    }

    /// The process says when it will be killed, before that can happen.
    pub(super) fn expire_at(&self, time: u64) {
        // Met by the load of whoever writes down its end, which the kernel has told of that.
        self.deadline.store(time, Ordering::Release);
    }

    /// The starter says that its own death is to end the process, before it asks for it.
    pub(super) fn make_daemon(&self) {
        // Met by the zygote's load, after the starter's death.
        self.daemon.store(1, Ordering::Release);
    }

    /// Whether the starter's death is to end the process.
    pub(super) fn is_daemon(&self) -> bool {
        self.daemon.load(Ordering::Acquire) != 0
    }

    /// The process waits until it may begin. `false`: its starter gave up on it, and it must leave.
    pub(super) fn begin(&self, guardian_lives: impl Fn() -> bool) -> bool {
        self.pid.store(std::process::id(), Ordering::Relaxed);
        let step = |from, to| {
            self.claim.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        self.spin();
        loop {
            match self.claim.load(Ordering::Acquire) {
                CONFIRMED if step(CONFIRMED, RUNNING) => return true,
                claim @ (OPEN | OFFERED) => {
                    step(claim, AWAITED);
                }
                // Whoever would withdraw may be gone, and the zygote, which would notice, too.
                AWAITED if !guardian_lives() => {
                    step(AWAITED, WITHDRAWN);
                }
                AWAITED => nap(&self.claim, AWAITED, SLICE),
                CONFIRMED => {}
                _ => return false,
            }
        }
    }

    /// The starter looks at its own state meanwhile, which takes less than to fall asleep and be woken, if
    /// it has another CPU.
    fn spin(&self) {
        spin_while(|| matches!(self.claim.load(Ordering::Acquire), OPEN | OFFERED));
    }

    /// The process is gone, and the zygote has been woken to write that down and to reap it.
    pub(super) fn spin_until_buried(&self) {
        spin_while(|| self.status().is_none());
    }

    /// The starter is about to send the spare its letter. `false`: the spare has left.
    pub(super) fn offer(&self) -> bool {
        self.claim.compare_exchange(OPEN, OFFERED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The spare wants to leave. `false`: a letter is on its way.
    pub(super) fn decline(&self) -> bool {
        self.claim.compare_exchange(OPEN, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The starter says that the process may begin. `false`: it has left, since its guardian is gone.
    pub(super) fn confirm(&self) -> bool {
        let confirmed = self.claim.fetch_update(Ordering::AcqRel, Ordering::Acquire, |claim| {
            matches!(claim, OPEN | OFFERED | AWAITED).then_some(CONFIRMED)
        });
        if confirmed == Ok(AWAITED) {
            rouse(&self.claim);
        }
        confirmed.is_ok()
    }

    /// The zygote says that the starter will not confirm any more. `true`: the process never begins.
    pub(super) fn abandon(&self) -> bool {
        let abandoned = self.claim.fetch_update(Ordering::AcqRel, Ordering::Acquire, |claim| {
            matches!(claim, OPEN | OFFERED | AWAITED).then_some(WITHDRAWN)
        });
        if abandoned == Ok(AWAITED) {
            rouse(&self.claim);
        }
        abandoned.is_ok()
    }

    /// The starter gives up. `Some(pid)`: too late, the process runs.
    pub(super) fn withdraw(&self) -> Option<u32> {
        let withdrawn = self.claim.fetch_update(Ordering::AcqRel, Ordering::Acquire, |claim| {
            (claim != RUNNING).then_some(WITHDRAWN)
        });
        if withdrawn == Ok(AWAITED) {
            rouse(&self.claim);
        }
        withdrawn.is_err().then(|| self.pid.load(Ordering::Relaxed))
    }

    /// The process leaves bytes, as many as fit; only one of its threads at a time.
    ///
    /// # Safety
    /// The caller is the process of this slot, and no other thread of it is in this call.
    pub(super) unsafe fn leave(&self, outcome: Outcome, bytes: &[u8]) {
        let len = bytes.len().min(SLOT_BYTES);
        // SAFETY: `len` bytes fit, and nobody else touches them now, as the caller promised.
        unsafe { self.bytes.get().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), len) };
        self.len.store(len as u32, Ordering::Relaxed);
        self.outcome.store(outcome as u32, Ordering::Release);
    }

    /// What kind of thing the process left until now.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::decode(self.outcome.load(Ordering::Acquire))
    }

    /// What the process left. To be called when it is gone.
    pub(super) fn left(&self) -> (Outcome, Vec<u8>) {
        let outcome = Outcome::decode(self.outcome.load(Ordering::Acquire));
        if outcome == Outcome::None {
            return (outcome, Vec::new());
        }
        let len = (self.len.load(Ordering::Relaxed) as usize).min(SLOT_BYTES);
        let mut bytes = vec![0; len];
        // SAFETY: `len` bytes lie in the slot; the only writer is gone.
        unsafe { self.bytes.get().cast::<u8>().copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        (outcome, bytes)
    }

    /// Its parent writes down how the process ended, before it reaps.
    pub(super) fn record(&self, status: ExitStatus) {
        let deadline = self.deadline.load(Ordering::Acquire);
        let killed = status == ExitStatus::Signal(libc::SIGKILL);
        let expired = killed && deadline != 0 && super::deadline::monotonic() >= deadline;
        let status = if expired { ExitStatus::Expired } else { status };
        self.status.store(KNOWN | status.encode(), Ordering::Release);
    }

    /// The zygote has reaped: whoever waits may go on.
    pub(super) fn wake(&self) {
        self.status.fetch_or(GONE, Ordering::Release);
        rouse(&self.status);
    }

    /// How the process ended, if the zygote is done with it.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        let word = self.status.load(Ordering::Acquire);
        (word & GONE != 0).then(|| ExitStatus::decode(word))
    }

    /// How the process ended, when the zygote may have died halfway.
    pub(super) fn last_known_status(&self) -> ExitStatus {
        let word = self.status.load(Ordering::Acquire);
        if word & KNOWN != 0 { ExitStatus::decode(word) } else { ExitStatus::Lost }
    }

    /// Sleeps until the status may have come, at most a slice long.
    pub(super) fn sleep(&self, deadline: Option<Instant>) {
        let word = self.status.load(Ordering::Acquire);
        if word & GONE != 0 {
            return;
        }
        let left = deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
        nap(&self.status, word, left.min(SLICE));
    }
}

/// Looks again and again for a moment, if there is another CPU on which somebody may change what is looked at.
fn spin_while(undecided: impl Fn() -> bool) {
    if undecided() && rustix::thread::sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1) {
        let until = Instant::now() + SPIN;
        while undecided() && Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

/// Sleeps while `word` is `value`, at most `time`.
fn nap(word: &AtomicU32, value: u32, time: Duration) {
    let Ok(time) = futex::Timespec::try_from(time) else { return };
    // Woken, changed, interrupted, timed out: the caller looks again in every case.
    let _ = futex::wait(word, futex::Flags::empty(), value, Some(&time));
}

/// Wakes all who sleep on `word`.
fn rouse(word: &AtomicU32) {
    // A failure would be healed by the sleeper's slice.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// The shared memory of a zygote, its starter and their children: an array of slots.
pub(super) struct Records {
    map: memmap2::MmapRaw,
    fd: OwnedFd,
}

/// As many processes can run, or wait to be joined, per starting process. Untouched slots cost nothing.
const SLOTS: u32 = 1 << 16;

impl Records {
    /// New records; the file is sparse, and dies with its last process.
    pub(super) fn create() -> Result<Records, StartError> {
        let resource = |what| move |source: io::Error| StartError::Resource { what, source };
        use rustix::fs::{MemfdFlags, SealFlags};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("procession-records", flags)
            .map(super::wire::above_standard)
            .map_err(|error| resource("create a memory file")(error.into()))?;
        // A file beyond RLIMIT_FSIZE is a signal that kills: reserve less there.
        let size = (SLOTS as u64 * SLOT as u64).min(super::state::file_size_limit());
        rustix::fs::ftruncate(&fd, size - size % SLOT as u64)
            .map_err(|error| resource("size a memory file")(error.into()))?;
        // Any child could make it shorter, and whoever looks into it then would be killed by that.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|error| resource("seal a memory file")(error.into()))?;
        Records::attach(fd).map_err(resource("map a memory file"))
    }

    /// Maps the records behind `fd`.
    pub(super) fn attach(fd: OwnedFd) -> io::Result<Records> {
        let size = rustix::fs::fstat(&fd)?.st_size as usize;
        let map = memmap2::MmapOptions::new().len(size - size % SLOT).map_raw(&fd)?;
        // Only a hint: without it a core dump is larger.
        let _ = map.advise(memmap2::Advice::DontDump);
        Ok(Records { map, fd })
    }

    /// How many slots there are.
    pub(super) fn count(&self) -> u32 {
        (self.map.len() / SLOT) as u32
    }

    /// The slot with this number.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        if index >= self.count() {
            return None;
        }
        // SAFETY: the slot lies inside the mapping, which lives as long as `self`; the file is
        // sealed, so nobody makes it shorter; any bytes are valid for its words.
        Some(unsafe { &*self.map.as_mut_ptr().add(index as usize * SLOT).cast::<Slot>() })
    }

    fn allocate_pages(&self, from: u32, slots: u32) -> rustix::io::Result<()> {
        let (at, len) = (from as u64 * SLOT as u64, slots as u64 * SLOT as u64);
        rustix::fs::fallocate(&self.fd, rustix::fs::FallocateFlags::empty(), at, len)
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The starter's side of [`Records`]: which slots are in use.
pub(super) struct Slots {
    pub(super) records: Records,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Slots below this number have been used.
    fresh: u32,
    /// Slots below this number have their pages.
    ready: u32,
    free: Vec<u32>,
    /// Nobody has a handle any more, but the process may still run.
    detached: VecDeque<u32>,
}

impl Slots {
    pub(super) fn create() -> Result<Slots, StartError> {
        Ok(Slots { records: Records::create()?, book: Mutex::default() })
    }

    /// Takes a slot for a new process.
    pub(super) fn take(&self) -> Result<u32, StartError> {
        /// Pages are allocated for this many at once.
        const CHUNK: u32 = 64;
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // A few looks at each start keep up with what is detached.
        for _ in 0..2 {
            let Some(slot) = book.detached.pop_front() else { break };
            if self.records.slot(slot).is_some_and(|slot| slot.status().is_some()) {
                book.free.push(slot);
            } else {
                book.detached.push_back(slot);
            }
        }
        let too_many = StartError::TooMany { limit: self.records.count() };
        let index = match book.free.pop() {
            Some(index) => index,
            None if book.fresh < self.records.count() => {
                if book.fresh == book.ready {
                    // Allocated before use: a full machine is an error here, not a signal later.
                    let more = CHUNK.min(self.records.count() - book.ready);
                    self.records.allocate_pages(book.ready, more).map_err(|error| {
                        StartError::Resource { what: "allocate memory", source: error.into() }
                    })?;
                    book.ready += more;
                }
                book.fresh += 1;
                book.fresh - 1
            }
            None => return Err(too_many),
        };
        match self.records.slot(index) {
            Some(slot) => slot.clear(),
            None => return Err(too_many),
        }
        Ok(index)
    }

    /// Gives a slot back; if its process may still run, as soon as that has ended.
    pub(super) fn give_back(&self, index: u32, ended: bool) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if ended { book.free.push(index) } else { book.detached.push_back(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_word() {
        for status in [
            ExitStatus::Code(0),
            ExitStatus::Code(255),
            ExitStatus::Signal(9),
            ExitStatus::Signal(64),
            ExitStatus::Expired,
            ExitStatus::Lost,
        ] {
            assert_eq!(ExitStatus::decode(KNOWN | GONE | status.encode()), status);
        }
    }

    #[test]
    fn a_slot_is_given_out_again_only_after_the_end_of_its_process() {
        let slots = Slots::create().unwrap();
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        slots.give_back(first, false);
        assert!(![first, second].contains(&slots.take().unwrap()));
        let slot = slots.records.slot(first).unwrap();
        slot.record(ExitStatus::Signal(9));
        assert_eq!(slot.status(), None);
        assert_eq!(slot.last_known_status(), ExitStatus::Signal(9));
        slot.wake();
        assert_eq!(slot.status(), Some(ExitStatus::Signal(9)));
        assert_eq!(slots.take().unwrap(), first);
        assert_eq!(slot.status(), None);
    }

    #[test]
    fn a_withdrawn_process_does_not_begin_and_a_running_one_is_not_withdrawn() {
        let slots = Slots::create().unwrap();
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        let (a, b) = (slots.records.slot(a).unwrap(), slots.records.slot(b).unwrap());
        assert_eq!(a.withdraw(), None);
        assert!(!a.begin(|| true));
        b.confirm();
        assert!(b.begin(|| true));
        assert_eq!(b.withdraw(), Some(std::process::id()));
        std::thread::scope(|scope| {
            let c = slots.records.slot(slots.take().unwrap()).unwrap();
            let waiting = scope.spawn(|| c.begin(|| true));
            c.confirm();
            assert!(waiting.join().unwrap());
            let d = slots.records.slot(slots.take().unwrap()).unwrap();
            let waiting = scope.spawn(|| d.begin(|| true));
            assert_eq!(d.withdraw(), None);
            assert!(!waiting.join().unwrap());
        });
        let e = slots.records.slot(slots.take().unwrap()).unwrap();
        assert!(!e.begin(|| false), "nobody is left who could confirm");
        assert!(!e.confirm(), "it has left");
        assert_eq!(e.withdraw(), None);
    }

    #[test]
    fn nobody_makes_the_records_shorter() {
        let slots = Slots::create().unwrap();
        assert_eq!(rustix::fs::ftruncate(&slots.records.fd, 0), Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn a_spare_leaves_or_gets_a_letter_and_never_both() {
        let slots = Slots::create().unwrap();
        let new = || slots.records.slot(slots.take().unwrap()).unwrap();
        let left = new();
        assert!(left.decline());
        assert!(!left.offer() && !left.decline() && !left.begin(|| true));
        let busy = new();
        assert!(busy.offer());
        assert!(!busy.decline() && !busy.offer());
        busy.confirm();
        assert!(!busy.abandon() && busy.begin(|| true));
        // Its starter died before it had confirmed.
        let abandoned = new();
        assert!(abandoned.offer() && abandoned.abandon());
        assert!(!abandoned.begin(|| true));
        // Its starter has another state by now, and the spare asks while that is found out.
        let changed = new();
        assert!(changed.offer());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| changed.begin(|| true));
            assert_eq!(changed.withdraw(), None);
            assert!(!waiting.join().unwrap());
        });
        for _ in 0..1000 {
            let raced = new();
            let (offered, declined) = std::thread::scope(|scope| {
                let offered = scope.spawn(|| raced.offer());
                (raced.decline(), offered.join().unwrap())
            });
            assert_ne!(offered, declined);
        }
    }

    #[test]
    fn what_is_left_is_cut_to_the_slot() {
        let slots = Slots::create().unwrap();
        let slot = slots.records.slot(slots.take().unwrap()).unwrap();
        assert_eq!(slot.left(), (Outcome::None, Vec::new()));
        // SAFETY: this test plays the only process and thread of the slot.
        unsafe { slot.leave(Outcome::Panicked, &[7; 2 * SLOT_BYTES]) };
        assert_eq!(slot.left(), (Outcome::Panicked, vec![7; SLOT_BYTES]));
    }
}
