//! Objects as a stream, for programs over tokio.
//!
//! ```text
//! poll   try to get one: there is one, or none will come any more: done
//!        nothing to be had: pending, until the descriptor says that there may be; then from the start
//! ```
//!
//! Nothing is in the stream's hand between two polls, so dropping it loses nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::unix::AsyncFd;

use super::Readiness;

/// Where objects come from one after the other. Only types of this crate are such a supply.
pub trait Supply {
    type Object;

    /// The next, `Some(None)` if none will come any more; nothing if that would mean waiting.
    fn next(&self) -> Option<Option<crate::Result<Self::Object>>>;

    /// What tells that there may be one.
    fn readiness(&self) -> io::Result<Readiness>;
}

/// Gets one object after the other without holding up the thread, until none will come any more: a [`Stream`]. Made by `stream` of what
/// carries objects, with the feature `async`.
///
/// What cannot be got is an error in its turn, as with the iterator of the same type. Dropping the stream loses nothing.
///
/// Takes a descriptor when it has to wait for the first time, until it is dropped.
///
/// # Panics
/// Where it has to wait, as all of tokio's descriptors do: outside of a runtime, or in one that was built without `enable_io`.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Arrivals<S> {
    source: S,
    descriptor: Option<AsyncFd<Readiness>>,
}

impl<S: Supply> Arrivals<S> {
    pub(crate) fn of(source: S) -> Self {
        Self { source, descriptor: None }
    }

    /// Until the source may have become ready since an attempt that found nothing.
    fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let descriptor = match &mut self.descriptor {
            Some(descriptor) => descriptor,
            none => none.insert(super::register(self.source.readiness()?)?),
        };
        let mut told = ready!(descriptor.poll_read_ready(context))?;
        // First this: what it tells from now on is not cleared.
        told.get_inner().rearm()?;
        told.clear_ready();
        Poll::Ready(Ok(()))
    }
}

impl<S: Supply + Unpin> Stream for Arrivals<S> {
    type Item = crate::Result<S::Object>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(next) = this.source.next() {
                return Poll::Ready(next);
            }
            if let Err(error) = ready!(this.poll_news(context)) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }
}
