//! Plain data that one process writes while others read it: they may find a mixture, and a word beside it tells.

#[cfg(not(loom))]
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use bytemuck::Pod;

use super::atomic::{AtomicU64, Ordering};

/// The value and what fills it up to whole words.
#[repr(C, align(8))]
struct Rounded<T>(MaybeUninit<T>);

/// One copy, as words that others may write meanwhile.
#[cfg(not(loom))]
#[repr(transparent)]
pub struct Words<T>(UnsafeCell<Rounded<T>>);

#[cfg(not(loom))]
// SAFETY: every access is one to the atomics that `words` gives; plain data has no tie to a thread.
unsafe impl<T: Pod> Sync for Words<T> {}
#[cfg(not(loom))]
// SAFETY: plain data has no tie to a thread.
unsafe impl<T: Pod> Send for Words<T> {}

/// The same for the model, whose atomics have another size.
#[cfg(loom)]
pub struct Words<T>(std::boxed::Box<[AtomicU64]>, core::marker::PhantomData<T>);

impl<T: Pod> Words<T> {
    /// How many there are.
    const COUNT: usize = size_of::<Rounded<T>>() / 8;

    #[cfg(not(loom))]
    pub fn new(value: T) -> Self {
        let mut rounded = MaybeUninit::<Rounded<T>>::zeroed();
        // SAFETY: the value lies at the start. The whole was zeroed, and a `Rounded` may hold anything.
        let rounded = unsafe {
            rounded.as_mut_ptr().cast::<T>().write(value);
            rounded.assume_init()
        };
        Self(UnsafeCell::new(rounded))
    }

    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        let words = (0..Self::COUNT).map(|_| AtomicU64::new(0)).collect();
        let words = Self(words, core::marker::PhantomData);
        words.store(value);
        words
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        #[cfg(loom)]
        return &self.0;
        // SAFETY: a `Rounded` is so many words, aligned as such; all accesses to it are atomic ones.
        #[cfg(not(loom))]
        unsafe {
            core::slice::from_raw_parts(self.0.get().cast(), Self::COUNT)
        }
    }

    /// Copies it out: perhaps a mixture, which for plain data is a value too.
    #[inline]
    pub fn load(&self) -> T {
        let mut copy = MaybeUninit::<Rounded<T>>::uninit();
        let to = copy.as_mut_ptr().cast::<u64>();
        for (i, word) in self.words().iter().enumerate() {
            // Relaxed: the fences around order it.
            // SAFETY: within the copy, which is as many words.
            unsafe { to.add(i).write(word.load(Ordering::Relaxed)) };
        }
        // SAFETY: all its bytes were written, and any bytes are a value of plain data.
        unsafe { copy.as_ptr().cast::<T>().read() }
    }

    /// Copies `value` in.
    #[inline]
    pub fn store(&self, value: T) {
        let mut copy = MaybeUninit::<Rounded<T>>::zeroed();
        // SAFETY: the value lies at the start.
        unsafe { copy.as_mut_ptr().cast::<T>().write(value) };
        let from = copy.as_ptr().cast::<u64>();
        for (i, word) in self.words().iter().enumerate() {
            // Relaxed: the fence before and the Release behind order it.
            // SAFETY: within the copy, which is as many words; plain data has no bytes without a value, and what fills it
            // up was zeroed.
            word.store(unsafe { from.add(i).read() }, Ordering::Relaxed);
        }
    }
}
