//! Something that is done once, also if the first who tries dies over it.
//!
//! Two words of 32 bits: `word = AGAIN 1 | DONE 1 | runner's tag 30`, and an eventcount.
//!
//! ```text
//! not done       (AGAIN or not, nobody) → (same, me)    begin: one compare-and-swap
//! running        (any, me) → DONE alone                 the end: one store, then wake all
//! running        (any, me) → (AGAIN, nobody)            it failed or panicked: one store, then wake all
//! run by a dead  (any, dead) → (AGAIN, me)              recovery: one compare-and-swap from exactly that value
//! ```
//!
//! - DONE alone is the last value: whoever has read it with Acquire sees what was done, and pays one load.
//! - Nobody but the runner changes the word while it lives, so that its end needs no compare-and-swap. A child that it forks
//!   meanwhile is not the runner: it changes nothing, and waits for its parent's end.
//! - Who only waits for the end sleeps beside those who would do it: to wake one might wake nobody who goes on.
//! - AGAIN tells who runs next that there was a run which did not come to its end: it may find half of what that did.
//! - Nobody gets stuck: a sleeper looks again in slices, asks whether the runner is dead, and takes over. A runner that
//!   dies between its store and the wake has done it.

use core::convert::Infallible;
use core::fmt;

use super::error::WaitError;
use crate::region::{JoinError, Member, Tag, Verdict, Who};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, trace};
use crate::wait::{Eventcount, Waitable};

const AGAIN: u32 = 1 << 31;
const DONE: u32 = 1 << 30;
/// What a runner leaves behind when the word was not as it had written it.
const DAMAGED: u32 = DONE | AGAIN;

/// Why something was not done once. `E` is the error of the one who was to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError<E = Infallible> {
    /// Somebody is doing it, and the call was not to wait.
    #[error("somebody is doing it; wait for the end, or try again")]
    WouldBlock,
    /// Somebody was doing it until the deadline.
    #[error("somebody was still doing it when the deadline passed")]
    TimedOut,
    /// It has been done: another value is set.
    #[error("a value is set already, and stays")]
    AlreadySet,
    /// The function failed, in this call; the next call does it again.
    #[error("what was to be done once failed: {0}")]
    Failed(E),
    /// The words hold what they never hold: the memory was overwritten.
    #[error(
        "the object's memory is damaged (word {word:#010x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u32,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

impl<E> OnceError<E> {
    /// The same with another error of the function, made of this one.
    pub fn map_failed<F>(self, map: impl FnOnce(E) -> F) -> OnceError<F> {
        match self {
            Self::WouldBlock => OnceError::WouldBlock,
            Self::TimedOut => OnceError::TimedOut,
            Self::AlreadySet => OnceError::AlreadySet,
            Self::Failed(error) => OnceError::Failed(map(error)),
            Self::Corrupt { word } => OnceError::Corrupt { word },
            Self::Join(error) => OnceError::Join(error),
        }
    }
}

/// Something that is done once, by whichever process comes first: `std::sync::Once` in shared memory. 8 bytes, all zero as
/// long as nobody has begun.
///
/// All others wait until it has been done, and see what was done. A process that is killed while it does it
/// is replaced: one of those who call does it again, and is told so. A process that is merely stopped is waited for.
///
/// Cost: when it has been done, one load.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::Once;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let once = Once::new();
/// let mut count = 0;
/// for _ in 0..3 {
///     once.call(me, |_| count += 1)?;
/// }
/// assert_eq!(count, 1);
/// # Ok::<(), procession_core::sync::OnceError>(())
/// ```
#[repr(C)]
pub struct Once {
    word: AtomicU32,
    event: Eventcount,
}

const _: () = assert!(cfg!(loom) || size_of::<Once>() == 8);

#[cfg(not(loom))]
// SAFETY: a repr(C) pair of atomics for which all zero, and every other pattern, is valid; other processes may
// change it at any time, which atomics allow.
unsafe impl crate::region::Shareable for Once {}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        f.debug_struct("Once")
            .field("done", &(word == DONE))
            .field("running", &Tag::from_bits(word).is_some())
            .finish()
    }
}

/// What a call finds.
enum Turn {
    /// It has been done.
    Done,
    /// It is this call's turn; whether there was a run that did not come to its end.
    Mine(bool),
    /// The word is none.
    Damaged(u32),
}

impl Once {
    /// Not done.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// Not done.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// Whether it has been done; if so, the caller sees what was done. A load.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        // Acquire meets the Release at the end of the run.
        self.word.load(Ordering::Acquire) == DONE
    }

    /// Does it if nobody has, or waits as long as it takes until somebody has. Whether it was this call that did it.
    ///
    /// `function` hears whether there was a run before that did not come to its end, because its process died or because
    /// it failed: then it may find half of what that did.
    ///
    /// A function that panics has not done it: the next call does. One that calls the same `Once` waits for itself.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    #[inline]
    pub fn call(&self, me: Member<'_>, function: impl FnOnce(bool)) -> Result<bool, OnceError> {
        self.call_until(me, Deadline::NEVER, function)
    }

    /// The same, if nobody is doing it, or its doer is dead (asked at most once a millisecond).
    ///
    /// # Errors
    /// [`OnceError::WouldBlock`] if somebody is doing it; `Corrupt`; `Join`.
    #[inline]
    pub fn try_call(&self, me: Member<'_>, function: impl FnOnce(bool)) -> Result<bool, OnceError> {
        match self.call_until(me, Deadline::NOW, function) {
            Err(OnceError::TimedOut) => Err(OnceError::WouldBlock),
            answer => answer,
        }
    }

    /// The same, and waits for another's run until `deadline`. Its own run is not interrupted.
    ///
    /// # Errors
    /// [`OnceError::TimedOut`]; `Corrupt`; `Join`.
    #[inline]
    pub fn call_until(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        function: impl FnOnce(bool),
    ) -> Result<bool, OnceError> {
        self.call_with(me, deadline, |again| {
            function(again);
            Ok(())
        })
    }

    /// The same with a function that can fail: then it has not been done, and the next call does it.
    ///
    /// # Errors
    /// [`OnceError::Failed`] with the function's error, if this call ran it; otherwise as [`call_until`](Self::call_until).
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::sync::{Once, OnceError};
    /// use procession_core::sys::Deadline;
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let once = Once::new();
    /// let answer = once.call_with(me, Deadline::NEVER, |_| Err("no network"));
    /// assert_eq!(answer, Err(OnceError::Failed("no network")));
    /// let answer = once.call_with(me, Deadline::NEVER, |again| if again { Ok(()) } else { Err("?") });
    /// assert_eq!(answer, Ok(true));
    /// ```
    #[inline]
    pub fn call_with<E>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        function: impl FnOnce(bool) -> Result<(), E>,
    ) -> Result<bool, OnceError<E>> {
        self.make(me, deadline, function, drop)
    }

    /// The same in two steps: only the one whose run counts calls `keep` with what it has made, and not a child that was forked
    /// in `make`.
    #[inline]
    pub(super) fn make<V, E>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        make: impl FnOnce(bool) -> Result<V, E>,
        keep: impl FnOnce(V),
    ) -> Result<bool, OnceError<E>> {
        if self.is_done() {
            return Ok(false);
        }
        self.run(me, deadline, make, keep)
    }

    #[cold]
    fn run<V, E>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        make: impl FnOnce(bool) -> Result<V, E>,
        keep: impl FnOnce(V),
    ) -> Result<bool, OnceError<E>> {
        let mut work = Work::ToDo(make);
        loop {
            let tag = me.tag()?;
            let again = match self.turn(me, tag, deadline) {
                Some(Turn::Done) => return Ok(false),
                Some(Turn::Mine(again)) => again,
                Some(Turn::Damaged(word)) => return Err(OnceError::Corrupt { word }),
                None => return Err(OnceError::TimedOut),
            };
            let running = Running { once: self, me, tag };
            let made = match work {
                Work::ToDo(make) => make(again).map_err(OnceError::Failed)?,
                Work::Made(made) => made,
            };
            if me.is(tag) {
                keep(made);
                core::mem::forget(running);
                let end = self.finish(me, tag);
                return end.map(|()| true).map_err(|word| OnceError::Corrupt { word });
            }
            // A child that was forked in the function. Its parent is the one that does it; should that die, this child has
            // done it all the same, since it went on from there.
            core::mem::forget(running);
            work = Work::Made(made);
        }
    }

    fn turn(&self, me: Member<'_>, tag: Tag, deadline: Deadline) -> Option<Turn> {
        self.event.wait(me, deadline, Pace::Polite, |ask| self.attempt(me, tag, ask))
    }

    /// One try. `None`: somebody living is doing it.
    fn attempt(&self, me: Member<'_>, tag: Tag, ask: bool) -> Option<Turn> {
        // Acquire meets the Release at the end of a run.
        let word = self.word.load(Ordering::Acquire);
        let runner = Tag::from_bits(word);
        let again = match runner {
            None if word == DONE => return Some(Turn::Done),
            _ if is_damaged(word) => return Some(Turn::Damaged(word)),
            None => word & AGAIN != 0,
            Some(runner) if ask => match me.verdict(runner) {
                Verdict::Alive => return None,
                Verdict::Dead => true,
                Verdict::Corrupt => return Some(Turn::Damaged(word)),
            },
            Some(_) => return None,
        };
        let mine = if again { AGAIN | tag.bits() } else { tag.bits() };
        // Acquire meets the Release of a run that failed; of a dead runner everything is visible with its verdict.
        self.word.compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).ok()?;
        if let Some(dead) = runner {
            trace::recovered("Once", me, dead);
        }
        Some(Turn::Mine(again))
    }

    /// It has been done.
    fn finish(&self, me: Member<'_>, tag: Tag) -> Result<(), u32> {
        // Relaxed: nobody but the runner changes the word.
        let word = self.word.load(Ordering::Relaxed);
        let new = if word & !AGAIN == tag.bits() { DONE } else { DAMAGED };
        // Release meets the Acquire of those who come to see it done.
        self.word.store(new, Ordering::Release);
        self.event.notify_all(me);
        if new == DONE { Ok(()) } else { Err(word) }
    }

    /// Waits, as long as it takes, until somebody has done it. Somebody has to: this call does not, not even when the one that was
    /// at it dies.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn wait(&self, me: Member<'_>) -> Result<(), WaitError> {
        self.wait_until(me, Deadline::NEVER)
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; `Corrupt`.
    pub fn wait_until(&self, me: Member<'_>, deadline: Deadline) -> Result<(), WaitError> {
        let done = self.event.wait(me, deadline, Pace::Polite, |_| {
            match self.word.load(Ordering::Acquire) {
                DONE => Some(Ok(())),
                word if is_damaged(word) => Some(Err(WaitError::Corrupt { word: word.into() })),
                _ => None,
            }
        });
        done.unwrap_or(Err(WaitError::TimedOut))
    }

    /// Who is doing it now, the dead included; `None` if nobody is. Some loads.
    #[must_use]
    pub fn runner(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(Tag::from_bits(self.word.load(Ordering::Relaxed))?)
    }

    /// Where those who wait for it sleep.
    #[must_use]
    pub fn event(&self) -> &Eventcount {
        &self.event
    }
}

impl Waitable for Once {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        self.is_done()
    }

    fn sleepers(&self) -> &Eventcount {
        &self.event
    }
}

/// Whether no `Once` ever holds this word.
fn is_damaged(word: u32) -> bool {
    match Tag::from_bits(word) {
        Some(_) => word & DONE != 0,
        None => word & !AGAIN != 0 && word != DONE,
    }
}

/// What a call that may get its turn twice has to do.
enum Work<F, V> {
    ToDo(F),
    /// Nothing more: it is a child whose parent was at it.
    Made(V),
}

/// Somebody is at it. Dropping this says that it was not done.
struct Running<'a> {
    once: &'a Once,
    me: Member<'a>,
    tag: Tag,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.me.is(self.tag) {
            // Inherited over fork: the parent goes on with it.
            return;
        }
        // Relaxed: nobody but the runner changes the word.
        let word = self.once.word.load(Ordering::Relaxed);
        let new = if word & !AGAIN == self.tag.bits() { AGAIN } else { DAMAGED };
        // Release meets the Acquire of who does it next, and finds what this one did of it.
        self.once.word.store(new, Ordering::Release);
        // All: the one that is woken might only wait for the end, and sleep again.
        self.once.event.notify_all(self.me);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::time::Duration;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::region::Membership;
    use crate::wait::wait_any;

    fn late() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn many_call_and_one_does_it() {
        let seat = Membership::private();
        let me = seat.member();
        for _ in 0..50 {
            let (once, count, doers) = (Once::new(), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let did = once.call_until(me, late(), |again| {
                            assert!(!again);
                            thread::yield_now();
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                        doers.fetch_add(usize::from(did.unwrap()), Ordering::Relaxed);
                        assert_eq!(count.load(Ordering::Relaxed), 1);
                    });
                }
            });
            assert!(once.is_done());
            assert_eq!(doers.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn who_waits_hears_of_the_end() {
        let seat = Membership::private();
        let me = seat.member();
        let once = Once::new();
        assert_eq!(once.wait_until(me, Deadline::NOW), Err(WaitError::TimedOut));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| once.wait_until(me, late()));
            let any = scope.spawn(|| wait_any(me, late(), &[&once]));
            once.call(me, |_| {
                assert_eq!(once.runner(me).unwrap().pid, std::process::id());
                assert_eq!(once.try_call(me, |_| ()), Err(OnceError::WouldBlock));
                let soon = Deadline::after(Duration::from_millis(5));
                assert_eq!(once.call_until(me, soon, |_| ()), Err(OnceError::TimedOut));
                assert!(!once.is_done());
            })
            .unwrap();
            assert_eq!(waiter.join().unwrap(), Ok(()));
            assert_eq!(any.join().unwrap(), Some(0));
        });
        assert!(once.runner(me).is_none());
        assert_eq!(once.try_call(me, |_| unreachable!()), Ok(false));
    }

    #[test]
    fn what_fails_or_panics_is_done_again() {
        let seat = Membership::private();
        let me = seat.member();
        let once = Once::new();
        let failed = once.call_with(me, Deadline::NEVER, |again| {
            assert!(!again);
            Err::<(), _>(7)
        });
        assert_eq!(failed, Err(OnceError::Failed(7)));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            once.call(me, |again| {
                assert!(again);
                panic!("in the middle");
            })
        }));
        assert!(panicked.is_err() && !once.is_done());
        thread::scope(|scope| {
            let next = once.call_with(me, Deadline::NEVER, |_| {
                let other = scope.spawn(|| once.call_until(me, late(), |again| assert!(again)));
                let deadline = late();
                while !once.event.is_awaited() {
                    assert!(!deadline.is_past());
                    thread::yield_now();
                }
                Err::<(), _>(other)
            });
            let Err(OnceError::Failed(other)) = next else { panic!("{once:?}") };
            assert_eq!(other.join().unwrap(), Ok(true));
        });
        assert!(once.is_done());
    }

    #[test]
    fn a_dead_runner_is_replaced() {
        let seat = Membership::private();
        let me = seat.member();
        // In private memory any tag but the own is that of a parent from before a fork.
        let once = Once { word: AtomicU32::new(1 << 12 | 2), event: Eventcount::new() };
        assert!(!once.is_done());
        assert_eq!(once.call(me, |again| assert!(again)), Ok(true));
        assert_eq!(once.word.load(Ordering::Relaxed), DONE);
    }

    #[test]
    fn garbage_is_an_error_and_stays_one() {
        let seat = Membership::private();
        let me = seat.member();
        for word in [DAMAGED, 5 << 12, AGAIN | 5 << 12, DONE | 1 << 12 | 2, DAMAGED | 3] {
            let once = Once { word: AtomicU32::new(word), event: Eventcount::new() };
            assert_eq!(once.call(me, |_| ()), Err(OnceError::Corrupt { word }), "{word:#x}");
            assert!(!once.is_done());
            assert_eq!(once.wait_until(me, late()), Err(WaitError::Corrupt { word: word.into() }));
        }
        // A runner that finds damage reports it, and so do those who come later.
        for fails in [false, true] {
            let once = Once::new();
            let answer = once.call_with(me, Deadline::NEVER, |_| {
                once.word.store(12345, Ordering::Relaxed);
                if fails { Err(()) } else { Ok(()) }
            });
            let expected =
                if fails { OnceError::Failed(()) } else { OnceError::Corrupt { word: 12345 } };
            assert_eq!(answer, Err(expected));
            assert_eq!(once.call(me, |_| ()), Err(OnceError::Corrupt { word: DAMAGED }));
        }
    }
}
