//! A slot queue whose items are not known to whoever looks at it: enough to sweep it.

use super::{Head, KIND, LAP_BITS, Slot, SlotQueue, TICKET_BITS};
use crate::queue::{PushError, QueueError};
use crate::region::{Member, Region};

/// A [`SlotQueue`] of items that are not known, and aligned to 8 bytes at most: it can be swept, and asked what has passed.
///
/// Its places are seen as rows of words, of which only the first is ever looked at.
#[derive(Clone, Copy, Debug)]
pub struct AnySlotQueue<'r>(SlotQueue<'r, ()>);

impl<'r> AnySlotQueue<'r> {
    /// Finds the queue that lies at `offset`, in `room` bytes.
    ///
    /// # Errors
    /// [`QueueError::Other`] if none is there; `Damaged` if it does not fit into its room; `Region`.
    pub fn attach(region: &Region<'r>, offset: u64, room: u64) -> Result<Self, QueueError> {
        let parts = region.object::<Head>(offset)?;
        let (capacity, item) = parts.shape.read_any(KIND)?;
        let slots = capacity.next_power_of_two();
        let stride = 1 + u64::from(item).div_ceil(8);
        let words = slots.saturating_mul(stride);
        let bytes = words
            .saturating_mul(size_of::<Slot<()>>() as u64)
            .saturating_add(size_of::<Head>() as u64);
        if bytes > room {
            return Err(QueueError::Damaged { capacity });
        }
        let words = region.objects::<Slot<()>>(offset + size_of::<Head>() as u64, words)?;
        let log2 = slots.trailing_zeros();
        let lap_mask = (1 << (TICKET_BITS - log2).min(LAP_BITS)) - 1;
        let stride = stride as usize;
        Ok(Self(SlotQueue { parts, slots: words, capacity, log2, lap_mask, stride }))
    }

    /// As [`SlotQueue::sweep`].
    ///
    /// # Errors
    /// [`PushError::Corrupt`] if the memory is damaged.
    pub fn sweep(&self, me: Member<'_>) -> Result<(), PushError> {
        self.0.sweep(me)
    }

    /// As [`SlotQueue::has_passed`].
    #[must_use]
    pub fn has_passed(&self, ticket: u32) -> bool {
        self.0.has_passed(ticket)
    }
}
