//! The outside world: the only room that makes system calls or knows which machine it runs on.
//!
//! Three backends stand behind one set of names:
//!
//! | backend | memory | sleeping |
//! |---|---|---|
//! | `linux` | shared between processes | shared futexes |
//! | `private` | of one process | private futexes; `atomic-wait` where no deadline is set |
//! | `model` | loom's | a table inside the model, with deaths on demand |
//!
//! Which of the first two serves an object is decided by its region ([`Scope`]); the third replaces both when
//! the crate is built with `--cfg loom`.

pub mod atomic;
pub mod cell;
mod clock;
mod fence;
pub mod futex;
#[cfg(not(loom))]
mod linux;
#[cfg(not(loom))]
pub mod liveness;
#[cfg(loom)]
pub mod model;
#[cfg(not(loom))]
mod private;
pub mod spin;
mod thread;
pub(crate) mod trace;
pub(crate) mod words;

pub use clock::{Deadline, coarse_nanos, nanos};
pub use fence::{Fences, after_exchange, before_a_death, register_fences};
pub use futex::Scope;
pub use thread::Thread;

/// Has the processor begin to bring a cache line here to be written, so that who writes there soon need not wait for it. A hint:
/// nothing changes, whatever the address, and where the compiler knows no such instruction nothing is done.
///
/// ```
/// let words = [1u64; 8];
/// procession_core::sys::prefetch_to_write(&raw const words[0]);
/// assert_eq!(words, [1; 8]);
/// ```
#[inline(always)]
pub fn prefetch_to_write<T>(_at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    // SAFETY: the instruction reads and writes nothing, and never faults. Every processor of this kind knows it, or takes it for none.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) _at, options(nostack, preserves_flags, readonly));
    }
}

/// Keeps its content off the cache lines of its neighbours, the adjacent line that processors fetch along with
/// it included.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Padded<T>(pub T);

impl<T> core::ops::Deref for Padded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
