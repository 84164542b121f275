//! Spinning at the head: how who waits for an item keeps out of the way of who brings it.

use bytemuck::Pod;

use super::{FULL, SlotQueue, Turn};
use crate::sys::atomic::Ordering;
use crate::sys::spin::Calm;

/// One who waits for an item, as long as it spins.
pub(super) struct Spinner<'q> {
    calm: &'q Calm,
    stayed_away: bool,
    looks: u32,
    watched: Option<(u64, u64)>,
}

impl<'q> Spinner<'q> {
    /// Stays away for a while first where items come so fast that it is worth while.
    pub(super) fn new<T: Pod>(queue: &SlotQueue<'q, T>) -> Self {
        let calm = &queue.parts.events.calm;
        Self { calm, stayed_away: calm.begin(), looks: 0, watched: None }
    }

    /// Whether to look closer. While the slot at the head stays as it is nothing can be taken, and looking at more would take
    /// cache lines from those who work.
    #[inline]
    pub(super) fn glance<T: Pod>(&mut self, queue: &SlotQueue<'_, T>) -> bool {
        self.looks = self.looks.saturating_add(1);
        // Relaxed throughout: only whether to look closer.
        if let Some((ticket, seen)) = self.watched
            && queue.slot(ticket).word.load(Ordering::Relaxed) == seen
        {
            return queue.is_shut();
        }
        let ticket = Turn(queue.parts.head.load(Ordering::Relaxed)).ticket();
        self.watched = Some((ticket, queue.slot(ticket).word.load(Ordering::Relaxed)));
        !queue.is_to_come(ticket)
    }

    /// It has what it waited for, or waits no more.
    pub(super) fn end<T: Pod>(self, queue: &SlotQueue<'_, T>) {
        let next = || queue.has_item(Turn(queue.parts.head.load(Ordering::Relaxed)).ticket());
        self.calm.end(self.stayed_away, self.looks, next);
    }
}

impl<T: Pod> SlotQueue<'_, T> {
    /// Whether the item of `ticket` is not there yet, as far as its slot says, and the queue has not been closed: nothing to
    /// look closer at before it is time to sleep. It would take the line of the tail from those who put.
    #[inline]
    pub(super) fn is_to_come(&self, ticket: u64) -> bool {
        // Relaxed: as above.
        let word = self.slot(ticket).word.load(Ordering::Relaxed);
        self.laps_ahead(word, ticket) == 0 && Self::state(word) < FULL && !self.is_shut()
    }

    /// The same of the first item. In a model, who waits looks at all at once: there is no spinning that this could spare anything.
    #[inline]
    pub(super) fn is_head_to_come(&self) -> bool {
        // Relaxed: as above.
        !cfg!(loom) && self.is_to_come(Turn(self.parts.head.load(Ordering::Relaxed)).ticket())
    }

    /// Whether the queue is said to be closed. That it is, the tail says; of a closer that died this may know nothing.
    #[inline]
    fn is_shut(&self) -> bool {
        self.parts.events.shut.load(Ordering::Relaxed) != 0
    }
}
