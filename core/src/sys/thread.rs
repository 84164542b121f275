//! Which thread of its process this is, for what belongs to a thread and not to the process as a whole.

use core::num::NonZeroU32;

/// A number that no other thread of this process has, 1 for the first that asks. A forked child goes on with its parent's
/// numbers; threads of different processes may have the same one.
///
/// (After 2³² threads the numbers come round.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thread(NonZeroU32);

impl Thread {
    /// The thread with this number, for who numbers threads by other means: a program without std, a model. `None`
    /// for 0, which is nobody's.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// The calling thread. A load; an atomic step the first time in each thread. Safe in a signal handler.
    ///
    /// ```
    /// use procession_core::sys::Thread;
    ///
    /// let here = Thread::current();
    /// assert_eq!(Thread::current(), here);
    /// assert_ne!(std::thread::spawn(Thread::current).join().unwrap(), here);
    /// ```
    #[cfg(all(feature = "std", not(loom)))]
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        std::thread_local! {
            /// 0: not asked yet. Without a destructor, so that it works as long as the thread does.
            static NUMBER: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
        }
        NUMBER.with(|number| match NonZeroU32::new(number.get()) {
            Some(known) => Self(known),
            None => {
                let new = Self::next();
                number.set(new.number());
                new
            }
        })
    }

    #[cfg(all(feature = "std", not(loom)))]
    #[cold]
    fn next() -> Self {
        use core::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        loop {
            // Relaxed: only that each number is given out once.
            if let Some(number) = NonZeroU32::new(NEXT.fetch_add(1, Ordering::Relaxed)) {
                return Self(number);
            }
        }
    }
}
