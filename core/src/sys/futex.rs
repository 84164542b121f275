//! Sleeping on a word of memory until somebody wakes its sleepers.

use super::Deadline;
use super::atomic::AtomicU32;

/// Who may sleep on a word: the processes that share its memory, or the threads of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Scope {
    /// Memory that several processes map.
    Shared = 1,
    /// Memory of one process alone; the kernel finds its sleepers faster.
    Private = 2,
}

/// Sleeps while `word` holds `expected`, until woken or until `deadline`. Returns early for any reason or none:
/// the caller looks again. One system call.
pub fn wait(scope: Scope, word: &AtomicU32, expected: u32, deadline: Deadline) {
    #[cfg(loom)]
    {
        let _ = (scope, deadline);
        super::model::futex_wait(word, expected);
    }
    #[cfg(not(loom))]
    match scope {
        Scope::Shared => super::linux::futex_wait(word, expected, deadline),
        Scope::Private => super::private::futex_wait(word, expected, deadline),
    }
}

/// A word, who may sleep on it, and what is expected of it.
pub type Expected<'w> = (Scope, &'w AtomicU32, u32);

/// Sleeps while each word holds what is expected of it, until any is woken or until `deadline`; at most 128 words. `false`, at
/// once: this kernel cannot. One system call.
pub fn wait_any(words: &[Expected<'_>], deadline: Deadline) -> bool {
    #[cfg(loom)]
    {
        let _ = deadline;
        super::model::futex_wait_any(words)
    }
    #[cfg(not(loom))]
    super::linux::futex_wait_any(words, deadline)
}

/// Wakes at most `most` of those who sleep on `word`; says how many it woke. One system call.
pub fn wake(scope: Scope, word: &AtomicU32, most: u32) -> usize {
    #[cfg(loom)]
    {
        let _ = scope;
        super::model::futex_wake(word, most)
    }
    #[cfg(not(loom))]
    match scope {
        Scope::Shared => super::linux::futex_wake(word, most),
        Scope::Private => super::private::futex_wake(word, most),
    }
}
