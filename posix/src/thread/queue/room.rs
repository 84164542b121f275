//! Waiting for room in a queue of threads.

use std::sync::Arc;

use procession_core::region::Member;
use procession_core::wait::{Eventcount, Waitable};

use super::stock::Stock;

/// What those who put wait for together with other objects: ready when a put would not wait.
pub struct QueueRoom<T> {
    stock: Arc<Stock<T>>,
}

impl<T> QueueRoom<T> {
    pub(in crate::thread) fn new(stock: &Arc<Stock<T>>) -> Self {
        Self { stock: Arc::clone(stock) }
    }
}

impl<T> Clone for QueueRoom<T> {
    fn clone(&self) -> Self {
        Self::new(&self.stock)
    }
}

impl<T> std::fmt::Debug for QueueRoom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QueueRoom").field(&self.stock).finish()
    }
}

impl<T> Waitable for QueueRoom<T> {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        let (len, closed) = (self.stock.len(), self.stock.is_closed());
        closed || self.stock.has_room(len)
    }

    fn sleepers(&self) -> &Eventcount {
        self.stock.room()
    }
}

impl<T: Send + 'static> crate::wait::sealed::Source for QueueRoom<T> {
    fn source(&self) -> &dyn Waitable {
        self
    }

    fn me(&self) -> Member<'static> {
        self.stock.me()
    }
}
