//! The backend for memory of one process: private futexes.

use core::sync::atomic::AtomicU32;

use rustix::thread::futex;

use super::Deadline;

pub(super) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    if deadline == Deadline::NEVER {
        atomic_wait::wait(word, expected);
    } else {
        super::linux::sleep(word, expected, deadline, futex::Flags::PRIVATE);
    }
}

pub(super) fn futex_wake(word: &AtomicU32, most: u32) -> usize {
    // atomic-wait does not say whether it woke anybody, which the eventcount has to know.
    futex::wake(word, futex::Flags::PRIVATE, most.min(i32::MAX as u32)).unwrap_or(0)
}
