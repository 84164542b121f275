//! A flag that processes wait for.
//!
//! One word: `generation 31 | SET 1`, and an eventcount.
//!
//! ```text
//! (g, clear) → (g, set)        set: one atomic or; then wake all
//! (g, set)   → (g+1, clear)    clear: one compare-and-swap, which adds one
//! ```
//!
//! - A wait remembers the word and ends when the flag is set, or when the generation has moved: then it was set and
//!   cleared in between, and a pulse counts as seen. It is true for who began to wait before the pulse.
//! - `set` is one instruction, and a system call only if somebody sleeps: no loop, no lock, no allocation, no memory of
//!   the thread. A signal handler may call it, also while the same thread is anywhere in another call of this event.
//! - Nobody gets stuck: the flag is readable by all, and sleepers look again in slices. Who sets and dies before it has
//!   woken anybody has set. Nobody waits for those who are woken, so a dead waiter is in nobody's way.
//!
//! (A waiter that is stopped while the generation moves by exactly 2³¹ misses that. It does not miss the flag.)

use crate::region::Member;
use crate::sys::Deadline;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::spin::Pace;
use crate::wait::{Eventcount, Waitable};

const SET: u32 = 1;

/// A flag in shared memory that one sets and others wait for: 8 bytes, all zero when clear. As
/// `multiprocessing.Event`.
///
/// A process may die at any point of any call: the others go on.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::Event;
/// use procession_core::sys::Deadline;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let event = Event::new();
/// std::thread::scope(|threads| {
///     threads.spawn(|| event.set(me));
///     event.wait(me);
/// });
/// assert!(event.is_set());
/// event.clear();
/// assert!(!event.wait_until(me, Deadline::NOW));
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Event {
    word: AtomicU32,
    event: Eventcount,
}

const _: () = assert!(cfg!(loom) || size_of::<Event>() == 8);

#[cfg(not(loom))]
// SAFETY: a repr(C) pair of atomics for which all zero, and every other pattern, is valid; other processes may
// change it at any time, which atomics allow.
unsafe impl crate::region::Shareable for Event {}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl Event {
    /// A clear event.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// A clear event.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// Whether it is set. One load; who sees it set sees what was done before [`set`](Self::set).
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire meets the Release of `set`.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets it and wakes all who wait. Safe in a signal handler. One atomic step, and a system call only if somebody sleeps.
    #[inline]
    pub fn set(&self, me: Member<'_>) {
        // Release meets the Acquire of those who look. A flag that is set stays so: who set it may have died before it
        // woke anybody, so this wakes all the same.
        self.word.fetch_or(SET, Ordering::Release);
        self.event.notify_all(me);
    }

    /// Clears it. Who waits already and has not seen it set will still have seen it. One atomic step if it was set, else a load.
    #[inline]
    pub fn clear(&self) {
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        if word & SET != 0 {
            // AcqRel hands on what was done before `set` to who sees the next generation. Failure: the other has cleared it
            // meanwhile; if it was then set again, that came after this call's moment.
            let _ = self.word.compare_exchange(
                word,
                word.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Waits until it is set, as long as it takes. No system call while it is.
    #[inline]
    pub fn wait(&self, me: Member<'_>) {
        self.wait_until(me, Deadline::NEVER);
    }

    /// Waits until it is set or until `deadline`. Whether it was set meanwhile, be it only for a moment. A deadline that is
    /// past looks once.
    #[inline]
    pub fn wait_until(&self, me: Member<'_>, deadline: Deadline) -> bool {
        // Acquire, here and below, meets the Release of `set`.
        let word = self.word.load(Ordering::Acquire);
        word & SET != 0 || self.wait_for_change(me, word, deadline)
    }

    #[cold]
    fn wait_for_change(&self, me: Member<'_>, word: u32, deadline: Deadline) -> bool {
        // The word was clear: it changes by being set, and by nothing else.
        self.event
            .wait(me, deadline, Pace::Eager, |_| {
                (self.word.load(Ordering::Acquire) != word).then_some(())
            })
            .is_some()
    }
}

/// Ready while it is set: a pulse may go unnoticed here.
impl Waitable for Event {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        self.is_set()
    }

    fn sleepers(&self) -> &Eventcount {
        &self.event
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;

    #[test]
    fn a_pulse_is_seen_by_who_waits() {
        let seat = Membership::private();
        let me = seat.member();
        let event = Event::new();
        let word = event.word.load(Ordering::Relaxed);
        event.set(me);
        event.clear();
        assert!(event.wait_for_change(me, word, Deadline::NOW));
        assert!(!event.wait_until(me, Deadline::NOW), "it began after the pulse");
    }

    #[test]
    fn generations_wrap() {
        let seat = Membership::private();
        let me = seat.member();
        let event = Event { word: AtomicU32::new(u32::MAX), event: Eventcount::new() };
        assert!(event.is_set());
        event.clear();
        assert!(!event.is_set());
        event.clear();
        event.set(me);
        assert!(event.is_set());
    }
}
