//! An eventfd that becomes readable when something in memory is ready: how a thread sleeps on both memory and descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::sealed::Memory;
use super::watcher::{self, Request};

/// Rings once any of several objects is ready. Dropping it ends the watch.
pub(super) struct Alarm {
    requests: Vec<Arc<Request>>,
    descriptor: Arc<OwnedFd>,
}

impl Alarm {
    /// The system's error if there is no descriptor or no thread to be had.
    pub(super) fn set<'m>(objects: impl Iterator<Item = &'m dyn Memory>) -> io::Result<Self> {
        let descriptor = Arc::new(watcher::descriptor()?);
        let request =
            |object: &dyn Memory| Arc::new(Request::new(object.keep(), Arc::clone(&descriptor)));
        let alarm = Self { requests: objects.map(request).collect(), descriptor };
        watcher::watch(&alarm.requests)?;
        Ok(alarm)
    }

    /// Whether it has rung for the object at this place.
    pub(super) fn rang_for(&self, index: usize) -> bool {
        self.requests[index].was_told()
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        watcher::forget(&self.requests);
    }
}
