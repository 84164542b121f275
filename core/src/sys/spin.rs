//! Looking again for a while before sleeping, since a wake across processors costs tens of microseconds and a
//! cache line a fraction of one.
//!
//! The patience adapts: it grows while spinning finds what it waits for and shrinks while it does not. Now and then it
//! starts over, since what was in vain then may be worth while now. Where the process may run on one processor only,
//! it shrinks to next to nothing: mostly the others are on the same one, and nothing changes while it spins. (Not
//! always: each may be bound to a processor of its own. Then spinning succeeds, and the patience stays.)

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};

/// Looks at most: with the pause in between about 40 µs, the price of a wake across processors.
#[cfg(not(loom))]
const MOST: u32 = 2000;
/// Looks at first, and again now and then.
#[cfg(not(loom))]
const FIRST: u32 = 500;
/// Looks at least, where more than one processor is allowed.
#[cfg(not(loom))]
const LEAST: u32 = 64;
/// Looks at least, where only one is.
#[cfg(not(loom))]
const LEAST_ALONE: u32 = 4;
/// After how many waits it asks again which processors are allowed, and starts over.
#[cfg(not(loom))]
const REFRESH: u32 = 256;

/// The first pause of a polite spinner, in hints to the processor: some 130 ns, about what it takes a cache line to
/// move to another processor and back. Who looks sooner gets the line from a holder that is about to ask again, and
/// both wait for the line more than they work.
#[cfg(not(loom))]
const FIRST_PAUSE: u32 = 8;
/// The longest one: some two microseconds.
#[cfg(not(loom))]
const LONGEST_PAUSE: u32 = 128;

/// How often a spinner looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All the time, to see at once what another processor is about to publish.
    Eager,
    /// Less and less often: each look takes the cache line from the one who works with it. For locks, where the other
    /// gets the more done the less it is disturbed.
    Polite,
}

/// How patient the spinners of this process are; one for all of them.
#[derive(Debug)]
pub struct Patience {
    #[cfg(not(loom))]
    looks: AtomicU32,
    #[cfg(not(loom))]
    uses: AtomicU32,
    #[cfg(not(loom))]
    cpus: AtomicU32,
}

impl Patience {
    /// As patient as a newcomer.
    #[must_use]
    pub const fn new() -> Self {
        #[cfg(not(loom))]
        return Self {
            looks: AtomicU32::new(FIRST),
            uses: AtomicU32::new(0),
            cpus: AtomicU32::new(0),
        };
        #[cfg(loom)]
        return Self {};
    }

    /// Calls `look` until it finds something or the patience ends.
    #[inline]
    pub fn spin<R>(&self, pace: Pace, mut look: impl FnMut() -> Option<R>) -> Option<R> {
        #[cfg(loom)]
        {
            // Whoever spins has looked before, and looks again before it sleeps.
            let _ = (pace, &mut look);
            None
        }
        #[cfg(not(loom))]
        {
            // Relaxed throughout: these are estimates, and nothing is published by them.
            let uses = self.uses.fetch_add(1, Ordering::Relaxed);
            if uses.is_multiple_of(REFRESH) {
                self.cpus.store(super::linux::allowed_cpus(), Ordering::Relaxed);
                self.looks.fetch_max(FIRST, Ordering::Relaxed);
            }
            let looks = self.looks.load(Ordering::Relaxed);
            let mut turn = 0;
            let mut pause = match pace {
                Pace::Eager => 1,
                Pace::Polite => FIRST_PAUSE,
            };
            while turn < looks {
                if let Some(found) = look() {
                    if turn > looks / 2 {
                        let more = (looks + looks / 4).min(MOST);
                        self.looks.store(more, Ordering::Relaxed);
                    }
                    return Some(found);
                }
                for _ in 0..pause {
                    core::hint::spin_loop();
                }
                turn += pause;
                if pace == Pace::Polite {
                    // By half: whoever holds it for long is not waited for much longer than that.
                    pause = (pause + pause / 2).min(LONGEST_PAUSE);
                }
            }
            // Where only one processor is allowed, starting over would else cost more than sleeping does.
            let (least, less) = match self.cpus.load(Ordering::Relaxed) {
                0 | 1 => (LEAST_ALONE, looks.div_ceil(2)),
                _ => (LEAST, looks.div_ceil(8)),
            };
            self.looks.store((looks - less).max(least), Ordering::Relaxed);
            // One look at least, whatever the patience.
            look()
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether who has found nothing stays away for a while before it looks again: a word that all who wait at one place share.
///
/// Where things come so fast that the next one is there within a few looks, whoever looks at once takes the cache line
/// from the one who is just writing it, each time, and both wait for the line more than they work. So it stays away for
/// as long as several of them take to come, for as long as it then finds several.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Calm(#[cfg(not(loom))] AtomicU32);

/// What comes within so many looks comes fast: some 150 ns, less than an answer takes.
#[cfg(not(loom))]
const FEW_LOOKS: u32 = 6;
/// How many hints to the processor the first look is put off: some 400 ns.
#[cfg(not(loom))]
const PUT_OFF: u32 = 16;

impl Calm {
    /// Stays away if that is worth while, and says so.
    #[must_use]
    pub fn begin(&self) -> bool {
        #[cfg(not(loom))]
        if self.0.load(Ordering::Relaxed) != 0 {
            for _ in 0..PUT_OFF {
                core::hint::spin_loop();
            }
            return true;
        }
        false
    }

    /// The wait is over after so many looks. `stayed_away` is what [`begin`](Self::begin) said, and `more` whether the next
    /// thing is there as well.
    pub fn end(&self, stayed_away: bool, looks: u32, more: impl FnOnce() -> bool) {
        #[cfg(not(loom))]
        {
            let fast = if stayed_away { more() } else { looks <= FEW_LOOKS };
            if fast != stayed_away {
                self.0.store(u32::from(fast), Ordering::Relaxed);
            }
        }
        #[cfg(loom)]
        let _ = (stayed_away, looks, more);
    }
}
