//! Readiness as a descriptor: for poll, epoll, mio and tokio, which wait for descriptors and not for memory.
//!
//! A [`Readiness`] is an eventfd that becomes readable once an object is ready. One thread of the process sees that, for all of
//! them. It sleeps until any of the objects is ready, all at once, and ends when nobody has asked for a while.
//!
//! Nothing of this exists until somebody asks: whoever makes objects ready does not know of descriptors, and pays nothing
//! for them.

#[cfg(feature = "async")]
mod arrivals;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::slice;
use std::sync::Arc;

use crate::wait::{self, InMemory, Request};

#[cfg(feature = "async")]
pub use arrivals::Arrivals;
#[cfg(feature = "async")]
pub(crate) use arrivals::Supply;

/// A descriptor that becomes readable once an object is ready, and stays so.
///
/// Ready means the same as for [`wait`](crate::wait::wait): it is news, not possession. Try to take the object; if
/// another was faster, [`rearm`](Self::rearm) and wait again.
///
/// Costs an eventfd, which is gone when it is dropped, and a thread with the first one, which is gone soon after the last. A forked child's copy
/// is never ready by what happens later: it makes its own.
///
/// ```
/// use procession_posix::ready::Readiness;
/// use procession_posix::sync::Event;
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let event = Event::new()?;
/// let ready = Readiness::of(&event)?;
/// event.set();
/// let mut asked = [PollFd::new(&ready, PollFlags::IN)];
/// assert_eq!(poll(&mut asked, None).unwrap(), 1);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Debug)]
pub struct Readiness {
    request: Arc<Request>,
}

impl Readiness {
    /// The readiness of `object`, from now on.
    ///
    /// # Errors
    /// The system's, if there is no descriptor or no thread to be had.
    pub fn of<T: InMemory + ?Sized>(object: &T) -> io::Result<Self> {
        let descriptor = Arc::new(wait::descriptor()?);
        let request = Arc::new(Request::new(object.keep(), descriptor));
        wait::watch(slice::from_ref(&request))?;
        Ok(Self { request })
    }

    /// Makes it unreadable, until the object is ready again, or still.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn rearm(&self) -> io::Result<()> {
        let mut count = [0; 8];
        // Not readable: it was not ready yet, and is being watched.
        let _ = rustix::io::read(self.descriptor(), &mut count);
        wait::watch(slice::from_ref(&self.request))
    }

    fn descriptor(&self) -> &OwnedFd {
        self.request.descriptor()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        wait::forget(slice::from_ref(&self.request));
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor().as_raw_fd()
    }
}

/// Waits until `object` is ready, without holding up the thread: for any program over tokio.
///
/// Dropping the future stops waiting.
///
/// # Errors
/// As [`Readiness::of`].
///
/// # Panics
/// As all of tokio's descriptors do: outside of a runtime, or in one that was built without `enable_io`.
#[cfg(feature = "async")]
pub async fn ready<T: InMemory + ?Sized>(object: &T) -> io::Result<()> {
    let _ = register(Readiness::of(object)?)?.readable().await?;
    Ok(())
}

/// Has tokio watch it.
#[cfg(feature = "async")]
fn register(ready: Readiness) -> io::Result<tokio::io::unix::AsyncFd<Readiness>> {
    // SAFETY: a `Readiness` has one descriptor, always the same, which stays open as long as it lives.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(ready) }?)
}

/// Tries again whenever `object` is ready, until the try does not answer that it would have to wait.
#[cfg(feature = "async")]
pub(crate) async fn retry<R, E>(
    object: &(impl InMemory + ?Sized),
    mut attempt: impl FnMut() -> Result<R, E>,
    would_block: impl Fn(&E) -> bool,
) -> io::Result<Result<R, E>> {
    loop {
        match attempt() {
            Err(error) if would_block(&error) => ready(object).await?,
            answer => return Ok(answer),
        }
    }
}
