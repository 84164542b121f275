//! Waiting for any of several objects of different types.

use std::time::Duration;

use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::wait as core;

/// What can be waited for together with other objects. Only this crate's handles are; what being ready means, each says:
///
/// | object | ready when |
/// |---|---|
/// | [`Lock`](super::Lock), [`Mutex`](super::Mutex) | it is free, or its holder is dead |
/// | [`RLock`](super::RLock) | the same, or the calling thread holds it |
/// | [`Event`](super::Event) | it is set |
/// | [`Semaphore`](super::Semaphore), [`BoundedSemaphore`](super::BoundedSemaphore) | a unit is free, or the holder of one is dead |
/// | [`Latch`](super::Latch) | it is open, or broken |
/// | [`RwLock`](super::RwLock), [`RwData`](super::RwData) | a reader would be let in, or the writer that keeps it out is dead |
/// | [`Once`](super::Once), [`OnceCell`](super::OnceCell) | it has been done; the value is set |
pub trait Waitable: sealed::Source {}

impl<T: sealed::Source> Waitable for T {}

pub(crate) mod sealed {
    use super::{Member, core};

    /// Where a handle's object is, and who looks at it.
    pub trait Source {
        fn source(&self) -> &dyn core::Waitable;
        fn me(&self) -> Member<'static>;
    }
}

/// Waits until one of these objects is ready, as long as it takes. Which one, by its place; of several, the first that is free, before
/// those whose holders are dead. `None` at
/// once if there are none.
///
/// Being ready is news, not possession: nothing is taken. Try to take it (`try_acquire`, ...), and wait again if another was
/// faster.
///
/// Cost: no system call while one is ready or becomes so soon; a sleep costs a few, however many objects there are (up to
/// 128, on Linux 5.16 or later; otherwise it looks every millisecond).
///
/// ```
/// use procession_posix::sync::{Event, Lock, wait_any, wait_any_timeout};
/// use std::time::Duration;
///
/// let (stop, turn) = (Event::new()?, Lock::new()?);
/// let guard = turn.acquire()?;
/// assert_eq!(wait_any_timeout(&[&stop, &turn], Duration::from_millis(5)), None);
/// std::thread::scope(|threads| {
///     threads.spawn(|| stop.set());
///     assert_eq!(wait_any(&[&stop, &turn]), Some(0));
/// });
/// drop(guard);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub fn wait_any(objects: &[&dyn Waitable]) -> Option<usize> {
    wait_any_until(objects, Deadline::NEVER)
}

/// The same for at most `timeout`; zero looks once. `None` if none was ready until then.
pub fn wait_any_timeout(objects: &[&dyn Waitable], timeout: Duration) -> Option<usize> {
    wait_any_until(objects, Deadline::after(timeout))
}

/// The same until `deadline`.
pub fn wait_any_until(objects: &[&dyn Waitable], deadline: Deadline) -> Option<usize> {
    let me = objects.first()?.me();
    let sources: Vec<&dyn core::Waitable> = objects.iter().map(|object| object.source()).collect();
    core::wait_any(me, deadline, &sources)
}
