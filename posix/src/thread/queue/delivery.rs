//! What a queue of threads lends: an object that is done, or goes back.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::state::Entry;
use super::stock::Stock;

/// An object in the hand of whoever took it, until it is [`done`](Self::done): the [`channel::Delivery`](crate::channel::Delivery) of
/// threads. Dropped before that, it goes back to the queue with one delivery more; or, if the queue delivers at most once and
/// counts what is unfinished, it is lost and counted as such.
///
/// From a queue that delivers at most once and counts nothing, it is done from the start.
#[must_use = "an object that is dropped before it is done goes back to the queue"]
pub struct Delivery<T> {
    object: ManuallyDrop<T>,
    key: i64,
    serial: u64,
    deliveries: u32,
    /// `None`: done.
    stock: Option<Arc<Stock<T>>>,
}

impl<T> Delivery<T> {
    /// `stock`: where it goes back to, or is counted as done; `None` if it is done already.
    pub(super) fn new(entry: Entry<T>, stock: Option<Arc<Stock<T>>>) -> Self {
        let Entry { key, serial, deliveries, object } = entry;
        let object = ManuallyDrop::new(object);
        Self { object, key, serial, deliveries: deliveries + 1, stock }
    }

    /// How often it was delivered, this time included: more than once if one who had taken it gave it back.
    #[must_use]
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// The priority with which it was put; 0 in queues without.
    #[must_use]
    pub fn priority(&self) -> i64 {
        self.key
    }

    /// Done with it: it is gone from the queue, and the caller's.
    pub fn done(self) -> T {
        // Its drop, which would take the object again, does not run.
        let mut this = ManuallyDrop::new(self);
        if let Some(stock) = this.stock.take() {
            stock.finish();
        }
        // SAFETY: the object is taken here, and nobody looks at it afterwards.
        unsafe { ManuallyDrop::take(&mut this.object) }
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        // SAFETY: the object is taken once: here, and not after `done`, which keeps this from running.
        let object = unsafe { ManuallyDrop::take(&mut self.object) };
        if let Some(stock) = self.stock.take() {
            let Self { key, serial, deliveries, .. } = *self;
            stock.give_up(Entry { key, serial, deliveries, object });
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> DerefMut for Delivery<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.object
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("object", &*self.object)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}
