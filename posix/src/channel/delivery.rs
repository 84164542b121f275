//! An object that was got and is not done yet.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use procession_core::queue::Lease;

use super::stock::{Owner, Received};

/// An object in the hand of whoever took it, until it is [`done`](Self::done). Dropped before that, or if its process
/// is killed, it goes back to the queue with one delivery more; or, if the queue delivers at most once and counts what is
/// unfinished, it is lost and counted as such.
///
/// From a queue that delivers at most once and counts nothing, it is done from the start.
///
/// ```
/// use procession_posix::channel::{Queue, QueueOptions};
///
/// let orders: Queue<String> = QueueOptions::unbounded().at_least_once().create()?;
/// orders.put(&"tea".to_string())?;
///
/// let order = orders.take()?;
/// assert_eq!((order.as_str(), order.deliveries()), ("tea", 1));
/// drop(order); // not done: it goes back
///
/// let order = orders.take()?;
/// assert_eq!(order.deliveries(), 2);
/// assert_eq!(order.done(), "tea");
/// assert!(orders.empty());
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an object that is dropped before it is done goes back to the queue"]
pub struct Delivery<T> {
    object: T,
    key: i64,
    deliveries: u32,
    hand: Hand,
}

impl<T> Delivery<T> {
    pub(super) fn new(received: Received<T>) -> Self {
        let Received { object, key, deliveries, hand } = received;
        Self { object, key, deliveries, hand }
    }

    /// One that is done from the start.
    pub(super) fn of_done(object: T) -> Self {
        Self { object, key: 0, deliveries: 1, hand: Hand { lease: None } }
    }

    /// How often it was delivered, this time included: more than once if one who had taken it died, or gave it back. (Also if
    /// one was killed just before it would have taken it.)
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
        self.hand.done();
        self.object
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

/// The lease of an object. Dropped, the object is given up.
pub(super) struct Hand {
    /// `None`: done.
    lease: Option<(Arc<Owner>, Lease)>,
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lease = self.lease.as_ref().map(|(_, lease)| lease);
        f.debug_struct("Hand").field("lease", &lease).finish()
    }
}

impl Hand {
    pub(super) fn new(owner: &Arc<Owner>, lease: Option<Lease>) -> Self {
        Self { lease: lease.map(|lease| (Arc::clone(owner), lease)) }
    }

    /// Whether the object is still in this hand.
    pub(super) fn is_held(&self) -> bool {
        self.lease.as_ref().is_none_or(|(owner, lease)| owner.store.is_held(*lease))
    }

    /// The object is finished.
    pub(super) fn done(mut self) {
        if let Some((owner, lease)) = self.lease.take() {
            owner.finish(lease);
        }
    }

    /// The object stays unfinished, and nobody knows of this hand.
    pub(super) fn leave(mut self) {
        self.lease = None;
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if let Some((owner, lease)) = self.lease.take() {
            owner.give_up(lease);
        }
    }
}
