//! The time that a process has, kept by the kernel.
//!
//! A timer of the process itself sends it SIGKILL, so it holds whoever else dies or sleeps. The time is written into the
//! slot before the timer runs; whoever writes down that the process was ended by SIGKILL, at that time or later,
//! writes that it was the deadline. Both read the same clock.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::status::Slot;

/// Ends this process after `limit`, counted from now, which is also when its target begins.
pub(super) fn begin(slot: &Slot, limit: Duration) -> io::Result<()> {
    let end = monotonic().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    slot.expire_at(end);
    let second = 1_000_000_000;
    let mut timer = MaybeUninit::uninit();
    // SAFETY: all zeroes are a valid sigevent and a valid itimerspec, of which what matters is filled in. The first call
    // initialises the timer, or says that it did not; nothing else has it.
    unsafe {
        let mut event = std::mem::zeroed::<libc::sigevent>();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, timer.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut time = std::mem::zeroed::<libc::itimerspec>();
        // Beyond what the clock can express it never comes.
        time.it_value.tv_sec = libc::time_t::try_from(end / second).unwrap_or(libc::time_t::MAX);
        time.it_value.tv_nsec = (end % second) as libc::c_long;
        let timer = timer.assume_init();
        if libc::timer_settime(timer, libc::TIMER_ABSTIME, &time, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The time since the machine was started, in nanoseconds, as its processes agree on it.
pub(super) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
