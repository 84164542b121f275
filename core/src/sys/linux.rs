//! The Linux backend: shared futexes, membarrier, the monotonic clock, the allowed processors.

use core::num::NonZeroU32;
use core::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, futex};
use rustix::time::{ClockId, Timespec};

use super::futex::Expected;
use super::{Deadline, Scope};

pub(super) fn nanos() -> u64 {
    to_nanos(rustix::time::clock_gettime(ClockId::Monotonic))
}

pub(super) fn coarse_nanos() -> u64 {
    to_nanos(rustix::time::clock_gettime(ClockId::MonotonicCoarse))
}

fn to_nanos(time: Timespec) -> u64 {
    // The monotonic clock starts at zero when the machine does: neither part is negative.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

pub(super) fn timespec(deadline: Deadline) -> Option<Timespec> {
    (deadline != Deadline::NEVER).then(|| Timespec {
        tv_sec: (deadline.as_nanos() / 1_000_000_000) as _,
        tv_nsec: (deadline.as_nanos() % 1_000_000_000) as _,
    })
}

pub(super) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    sleep(word, expected, deadline, futex::Flags::empty());
}

pub(super) fn futex_wake(word: &AtomicU32, most: u32) -> usize {
    // The only error is a bad address, which a reference excludes.
    futex::wake(word, futex::Flags::empty(), most.min(i32::MAX as u32)).unwrap_or(0)
}

/// The wait that takes a moment of the monotonic clock instead of a duration: a signal in between does not
/// prolong it.
pub(super) fn sleep(word: &AtomicU32, expected: u32, deadline: Deadline, flags: futex::Flags) {
    let until = timespec(deadline);
    match futex::wait_bitset(word, flags, expected, until.as_ref(), NonZeroU32::MAX) {
        // Woken, changed before, a signal, or the time is up: the caller looks again in each case.
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        // A filter denies the call: give the processor away for a while, so that looking again stays cheap.
        Err(_) => {
            let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            let _ = rustix::thread::nanosleep(&pause);
        }
    }
}

/// How many words one call can sleep on.
const MOST_WORDS: usize = 128;

pub(super) fn futex_wait_any(words: &[Expected<'_>], deadline: Deadline) -> bool {
    let mut waits = [const { futex::Wait::new() }; MOST_WORDS];
    let words = &words[..words.len().min(MOST_WORDS)];
    for (wait, (scope, word, expected)) in waits.iter_mut().zip(words) {
        let flags = match scope {
            Scope::Shared => futex::WaitFlags::empty(),
            Scope::Private => futex::WaitFlags::PRIVATE,
        };
        wait.val = u64::from(*expected);
        wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        wait.flags = futex::WaitFlags::SIZE_U32 | flags;
    }
    let until = timespec(deadline);
    let none = futex::WaitvFlags::empty();
    match futex::waitv(&waits[..words.len()], none, until.as_ref(), ClockId::Monotonic) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => true,
        Err(_) => false,
    }
}

pub(super) fn membarrier() -> bool {
    rustix::thread::membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}

pub(super) fn register_membarrier() -> bool {
    rustix::thread::membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

pub(super) fn allowed_cpus() -> u32 {
    // Refused: assume several; spinning is bounded anyway.
    rustix::thread::sched_getaffinity(None).map_or(2, |set| set.count())
}
