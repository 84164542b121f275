//! An event that travels.

use std::fmt;
use std::time::Duration;

use procession_core::sync as core;
use procession_core::sys::Deadline;

use super::shared::{Shared, travels, waiters};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A flag that one process sets and others wait for, as `multiprocessing.Event`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same event. In memory it is 8 bytes.
///
/// - [`set`](Self::set) is one atomic step, and a system call only if somebody sleeps. It takes no lock and waits for nobody: a
///   signal handler may call it (with an event that the program has made before), and dead waiters are in nobody's way.
/// - A pulse, set and cleared at once, is seen by all who waited.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Event;
/// use std::time::Duration;
///
/// fn pilot(ready: Event) {
///     ready.set();
/// }
///
/// let ready = Event::new()?;
/// let pilot = Process::new(pilot, (ready.clone(),)).start()?;
/// assert!(ready.wait_timeout(Duration::from_secs(10)));
/// pilot.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Event {
    pub(super) shared: Shared<&'static core::Event>,
}

travels!(Event, EVENT, waits);

impl Event {
    /// A clear event.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Ok(Self { shared: Shared::new(arena, kind::EVENT)? })
    }

    /// Whether it is set. One load; who sees it set sees what was done before.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.shared.object.is_set()
    }

    /// Sets it and wakes all who wait. Safe in a signal handler.
    #[inline]
    pub fn set(&self) {
        self.shared.object.set(self.shared.me);
    }

    /// Clears it.
    #[inline]
    pub fn clear(&self) {
        self.shared.object.clear();
    }

    /// Waits until it is set, as long as it takes.
    #[inline]
    pub fn wait(&self) {
        self.shared.object.wait(self.shared.me);
    }

    /// [`wait`](Self::wait) for programs over tokio: waits without holding up the thread. Dropping the future stops waiting. A
    /// pulse may go unnoticed here: the event has to stay set. With the feature `async`.
    ///
    /// # Errors
    /// The system's, if there is no descriptor to wait with.
    ///
    /// ```
    /// use procession_posix::sync::Event;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let event = Event::new()?;
    /// let setter = event.clone();
    /// let thread = std::thread::spawn(move || setter.set());
    /// event.wait_async().await?;
    /// thread.join().unwrap();
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    #[cfg(feature = "async")]
    pub async fn wait_async(&self) -> std::io::Result<()> {
        if self.is_set() { Ok(()) } else { crate::ready::ready(self).await }
    }

    /// Waits for at most `timeout`; zero looks once. Whether it was set meanwhile, be it only for a moment.
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`. Whether it was set meanwhile, be it only for a moment.
    #[inline]
    pub fn wait_until(&self, deadline: Deadline) -> bool {
        self.shared.object.wait_until(self.shared.me, deadline)
    }
}

/// Whether it is set, and who sleeps for it since when: as of about now.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .field("waiters", &waiters(self.shared.object, self.shared.me))
            .finish()
    }
}
