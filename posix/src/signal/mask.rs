//! Blocking signals for a while.
//!
//! Guards may overlap and be dropped in any order, so each thread counts, for every signal, how many guards block it. The first finds
//! out whether it was blocked before, and the last unblocks it if it was not.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;

use super::{Signal, each, set};

#[derive(Clone, Copy)]
struct Held {
    guards: u32,
    was_blocked: bool,
}

thread_local! {
    static HELD: RefCell<[Held; 64]> =
        const { RefCell::new([Held { guards: 0, was_blocked: false }; 64]) };
}

/// While it lives, some signals do not reach the thread that made it. See [`block`].
#[derive(Debug)]
#[must_use = "dropping it lets the signals through again"]
pub struct Blocked {
    bits: u64,
    /// The mask is the thread's, so the guard stays in it.
    of_this_thread: PhantomData<*const ()>,
}

/// Keeps signals from reaching the calling thread until the guard is dropped. What comes meanwhile waits: for a thread that does not block
/// it, or else until then.
///
/// A signal to the process is taken by any of its threads, so a program with several blocks signals in all of them: threads begin
/// with the mask of the thread that makes them, and so do started processes with that of the thread that starts them.
///
/// Cost: a system call, and another when the guard is dropped.
///
/// # Errors
/// If SIGKILL or SIGSTOP is among them, which the kernel does not block.
///
/// ```
/// use procession_posix::signal::{Signal, block};
///
/// let quiet = block(&[Signal::INT, Signal::TERM])?;
/// // Ctrl-C waits
/// drop(quiet);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn block(signals: &[Signal]) -> io::Result<Blocked> {
    let bits = super::bits(signals, &[Signal::KILL, Signal::STOP], "blocked")?;
    // SAFETY: all zeroes are a valid set for the call to fill in.
    let mut old = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are valid; it changes the mask of this thread only.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set(bits), &mut old) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    HELD.with_borrow_mut(|held| {
        for signal in each(bits) {
            let held = &mut held[usize::from(signal.0 - 1)];
            if held.guards == 0 {
                // SAFETY: the call has filled in the set.
                held.was_blocked = unsafe { libc::sigismember(&old, signal.as_raw()) } == 1;
            }
            held.guards += 1;
        }
    });
    Ok(Blocked { bits, of_this_thread: PhantomData })
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let last = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            each(self.bits).fold(0, |last, signal| {
                let held = &mut held[usize::from(signal.0 - 1)];
                held.guards -= 1;
                let unblocked = held.guards == 0 && !held.was_blocked;
                if unblocked { last | signal.bit() } else { last }
            })
        });
        // A thread that has lost its count is about to end.
        let Ok(last) = last else { return };
        // SAFETY: the set is valid; it changes the mask of this thread only.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set(last), std::ptr::null_mut()) };
    }
}
