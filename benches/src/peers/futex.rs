//! A bare futex: a word, a wake when it was written, a sleep until it is.

use std::sync::atomic::{AtomicU32, Ordering::*};

use rustix::thread::futex::{self, Flags};

use crate::shm::Zeroed;

/// A flag that one sets and another waits for.
#[repr(C, align(128))]
pub struct Flag(AtomicU32);

// SAFETY: it is an atomic.
unsafe impl Zeroed for Flag {}

impl Flag {
    /// Sets it, and wakes the one who sleeps.
    pub fn set(&self) {
        self.0.store(1, Release);
        // The only error is a bad address.
        futex::wake(&self.0, Flags::empty(), 1).ok();
    }

    /// Sleeps until it is set, and clears it.
    pub fn wait(&self) {
        while self.0.load(Acquire) == 0 {
            // Woken, changed meanwhile, or a signal: look again.
            futex::wait(&self.0, Flags::empty(), 0, None).ok();
        }
        self.0.store(0, Relaxed);
    }
}
