//! The asymmetric fence: whoever notifies pays nothing, whoever wants to sleep pays for both.
//!
//! A notifier publishes and then looks whether anybody waits; a sleeper says that it waits and then looks whether
//! anything was published. At least one of them must see the other, which needs a full fence between the two
//! steps on both sides. `membarrier(GLOBAL_EXPEDITED)`, called by the sleeper, makes every processor that runs a
//! registered process execute such a fence, wherever it is: if the notifier was before its look, it will see the
//! sleeper; if it was past it, its publication is visible to the sleeper. The notifier needs a compiler fence only.
//!
//! It interrupts every processor that runs a registered process, isolated ones included. A region can be made
//! without it ([`Fences::Full`]): then both sides execute a processor's fence.

#[cfg(not(loom))]
use super::atomic::compiler_fence;
use super::atomic::{Ordering, fence};

/// How notifier and sleeper see each other; a property of the region, the same for all who attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fences {
    /// The sleeper calls `membarrier`; every process that attaches registers for it.
    Asymmetric = 1,
    /// Both sides execute a full fence: no system call, some nanoseconds more on each notification.
    Full = 2,
}

impl Fences {
    /// The notifier's half, between its publication and its look at the waiters bit.
    #[inline]
    pub fn light(self) {
        #[cfg(not(loom))]
        match self {
            Self::Asymmetric => compiler_fence(Ordering::SeqCst),
            Self::Full => full(),
        }
        // loom knows no membarrier: both sides fence there.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
    }

    /// The sleeper's half, between its announcement and its second look. `false`: the kernel refused (a seccomp
    /// filter came after the region was made), and the sleeper has to look again after a short while.
    #[must_use]
    pub fn heavy(self) -> bool {
        // Meets the fence of `light`.
        fence(Ordering::SeqCst);
        #[cfg(not(loom))]
        return self == Self::Full || super::linux::membarrier();
        #[cfg(loom)]
        return true;
    }
}

/// Meets the fence of `heavy`: of a publication and an announcement one is seen by the other side. A call of its own, so that
/// the common way runs straight on.
#[cfg(not(loom))]
#[cold]
fn full() {
    fence(Ordering::SeqCst);
}

/// A full fence right behind a successful read-modify-write: what follows is not read before that is written. Nothing
/// on x86-64, where such an instruction is a full fence itself.
///
/// For two sides that each write a word of their own and then read the other's.
#[inline]
pub fn after_exchange() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// Whoever finds this process dead finds what was stored before this, if anything that is stored after it. A process is killed
/// between two instructions, so only the compiler has to keep the order: it may move plain stores over a relaxed one.
#[inline]
pub fn before_a_death() {
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
}

/// Makes this process one of those that a sleeper's barrier reaches. Children inherit it over fork, exec drops it.
/// `false`: the kernel has no such call or a filter denies it. One system call; 1 µs while the process has one
/// thread, up to milliseconds with several, so it is done once, at attaching.
#[must_use]
pub fn register_fences() -> bool {
    #[cfg(not(loom))]
    return super::linux::register_membarrier();
    #[cfg(loom)]
    return true;
}
