//! Something done once, by a handle that travels.

use std::fmt;
use std::time::Duration;

use procession_core::sync as core;
use procession_core::sys::Deadline;

use super::shared::{Shared, travels, waiters};
use super::{OnceError, WaitError, Who};
use crate::memory::{Arena, MemoryError, arena, kind};

/// Something that is done once, by whichever process comes first: `std::sync::Once` between processes.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same. In memory it is 8 bytes.
///
/// All others wait until it has been done, and see what was done. If a process is killed over it, one of those who call
/// does it again, within some milliseconds, and is told so. When it has been done, a call costs one load.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Once;
/// use procession_posix::value::Value;
///
/// fn work(once: Once, made: Value<u32>) -> procession_posix::Result<u32> {
///     once.call(|_| _ = made.update(|count| count + 1))?;
///     Ok(made.get())
/// }
///
/// let (once, made) = (Once::new()?, Value::new(0u32)?);
/// let args = || (once.clone(), made.clone());
/// let children: Vec<_> =
///     (0..3).map(|_| Process::new(work, args()).start()).collect::<Result<_, _>>()?;
/// for child in children {
///     assert_eq!(child.join()??, 1);
/// }
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Once {
    shared: Shared<&'static core::Once>,
}

travels!(Once, ONCE, waits);

impl Once {
    /// Not done.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Ok(Self { shared: Shared::new(arena, kind::ONCE)? })
    }

    /// Whether it has been done; if so, the caller sees what was done. One load.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.object.is_done()
    }

    /// Does it if nobody has, or waits as long as it takes until somebody has. Whether it was this call that did it.
    ///
    /// `function` hears whether there was a run before that did not come to its end, because its process died or because
    /// it failed: then it may find half of what that did. A function that panics has not done it: the next call does. One that
    /// calls the same `Once` waits for itself.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    #[inline]
    pub fn call(&self, function: impl FnOnce(bool)) -> Result<bool, OnceError> {
        self.shared.object.call(self.shared.me, function)
    }

    /// The same, if nobody is doing it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody is; otherwise as [`call`](Self::call).
    #[inline]
    pub fn try_call(&self, function: impl FnOnce(bool)) -> Result<bool, OnceError> {
        self.shared.object.try_call(self.shared.me, function)
    }

    /// The same, and waits for another's run for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`call`](Self::call).
    #[inline]
    pub fn call_timeout(
        &self,
        timeout: Duration,
        function: impl FnOnce(bool),
    ) -> Result<bool, OnceError> {
        self.call_until(Deadline::after(timeout), function)
    }

    /// The same, and waits for another's run until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`call`](Self::call).
    #[inline]
    pub fn call_until(
        &self,
        deadline: Deadline,
        function: impl FnOnce(bool),
    ) -> Result<bool, OnceError> {
        self.shared.object.call_until(self.shared.me, deadline, function)
    }

    /// The same with a function that can fail: then it has not been done, and the next call does it.
    ///
    /// # Errors
    /// `Failed` with the function's error, if this call ran it; otherwise as [`call_until`](Self::call_until).
    #[inline]
    pub fn call_with<E>(
        &self,
        deadline: Deadline,
        function: impl FnOnce(bool) -> Result<(), E>,
    ) -> Result<bool, OnceError<E>> {
        self.shared.object.call_with(self.shared.me, deadline, function)
    }

    /// Waits, as long as it takes, until somebody has done it. This call does not, not even when the one that was at it dies:
    /// somebody has to call.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_until(Deadline::NEVER)
    }

    /// The same for at most `timeout`; zero looks once.
    ///
    /// # Errors
    /// `TimedOut`; `Corrupt`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; `Corrupt`.
    pub fn wait_until(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.shared.object.wait_until(self.shared.me, deadline)
    }

    /// Which process is doing it now, or died over it; `None` if nobody is. Some loads.
    #[must_use]
    pub fn runner(&self) -> Option<Who> {
        self.shared.object.runner(self.shared.me)
    }
}

/// Whether it has been done, or who is at it, and who sleeps for it since when: as of about now.
impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("done", &self.is_done())
            .field("runner", &self.runner())
            .field("waiters", &waiters(self.shared.object, self.shared.me))
            .finish()
    }
}
