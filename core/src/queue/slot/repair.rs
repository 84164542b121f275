//! Repair: whose claim is in the way, and how the places of a dead one are freed.

use bytemuck::Pod;

use super::{Blocked, FREE, FULL, READING, Short, SlotQueue, TICKET_MASK, Turn, WRITING, ahead};
#[cfg(not(loom))]
use super::{LAP_BITS, LAP_SHIFT};
use crate::queue::PushError;
use crate::region::{Member, Verdict};
use crate::sys::atomic::Ordering;

/// A claim that is not finished: whose it is, and its last ticket.
struct Unfinished {
    owner: Short,
    last: u64,
}

impl<T: Pod> SlotQueue<'_, T> {
    /// Somebody's claim at `ticket` is in the way. If its owner is dead, frees what that has not finished of it, from `ticket`
    /// on; whether anything changed.
    ///
    /// `Err`: the memory is damaged.
    #[cold]
    pub(super) fn unblock(&self, me: Member<'_>, ticket: u64) -> Result<bool, Blocked> {
        self.free_dead(me, ticket, &|| true).map(|(freed, _)| freed != 0)
    }

    /// The same; how many slots were freed, and how many tickets from this one on need no other look. Nothing is done if the queue is
    /// not `there` any more after it was read.
    fn free_dead(
        &self,
        me: Member<'_>,
        ticket: u64,
        there: &dyn Fn() -> bool,
    ) -> Result<(u64, u64), Blocked> {
        let ticket = ticket & TICKET_MASK;
        // Acquire: as in `has_item`.
        let word = self.slot(ticket).word.load(Ordering::Acquire);
        if self.laps_ahead(word, ticket) != 0 {
            return Ok((0, 1));
        }
        let unfinished = match Self::state(word) {
            WRITING | READING => Some(Unfinished { owner: Short::from_bits(word), last: ticket }),
            unclaimed => self.owner_of_unmarked(ticket, unclaimed),
        };
        let Some(Unfinished { owner, last }) = unfinished else { return Ok((0, 1)) };
        let span = ahead(last, ticket) + 1;
        match me.verdict_short(owner) {
            _ if !there() => Ok((0, span)),
            Verdict::Alive => Ok((0, span)),
            Verdict::Corrupt => Err(Blocked::Corrupt),
            Verdict::Dead => {
                let unclaimed = Self::state(word) & FULL;
                let freed = (0..span)
                    .filter(|step| {
                        self.free_one(ticket.wrapping_add(*step) & TICKET_MASK, unclaimed, owner)
                    })
                    .count() as u64;
                if freed != 0 {
                    if unclaimed == FULL {
                        // Relaxed: a count for people to read.
                        self.parts.events.lost.fetch_add(freed, Ordering::Relaxed);
                    }
                    self.notify_both(me);
                }
                Ok((freed, span))
            }
        }
    }

    /// Frees the slot of a ticket that a dead process has claimed and not finished; whether it was still to be done.
    fn free_one(&self, ticket: u64, unclaimed: u64, owner: Short) -> bool {
        let slot = self.slot(ticket);
        // Relaxed: the compare-and-swap confirms it.
        let word = slot.word.load(Ordering::Relaxed);
        let left = word == self.word(ticket, unclaimed, Short::NOBODY)
            || word == self.word(ticket, unclaimed + 1, owner);
        // AcqRel: after the verdict, which made all stores of the dead visible; for whoever uses the slot next. Failure: the
        // slot was published before its owner died, marked just now, or freed by somebody else.
        left && slot
            .word
            .compare_exchange(word, self.passed(ticket), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Who has claimed this ticket, whose slot bears no mark? All tickets up to the last of that claim are the same one's, and
    /// bear none either. `None`: nobody, or it cannot be told now.
    fn owner_of_unmarked(&self, ticket: u64, unclaimed: u64) -> Option<Unfinished> {
        let word = if unclaimed == FREE { &self.parts.tail } else { &self.parts.head };
        // Before the scan: claims made later must not be taken for this one's.
        let turn = Turn(word.load(Ordering::Acquire));
        let claimed = ahead(turn.ticket(), ticket);
        if claimed == 0 || claimed > 1 << self.log2 {
            return None;
        }
        for step in 0..claimed {
            let behind = ticket.wrapping_add(step) & TICKET_MASK;
            let seen = self.slot(behind).word.load(Ordering::Acquire);
            if seen == self.word(behind, unclaimed, Short::NOBODY) {
                continue;
            }
            let marked = self.laps_ahead(seen, behind) == 0 && Self::state(seen) == unclaimed + 1;
            return marked.then(|| Unfinished { owner: Short::from_bits(seen), last: behind });
        }
        // Nothing is marked up to the last claim: that one covers this ticket, for each earlier one was made to show
        // before the next was made.
        let last = turn.ticket().wrapping_sub(1) & TICKET_MASK;
        (!turn.owner().is_nobody()).then(|| Unfinished { owner: turn.owner(), last })
    }

    /// Frees every place that a dead process has claimed, so that nothing in this queue names it any more. For
    /// queues that nobody uses: whoever uses one repairs what is in its way.
    ///
    /// # Errors
    /// [`PushError::Corrupt`] if the memory is damaged.
    pub fn sweep(&self, me: Member<'_>) -> Result<(), PushError> {
        self.sweep_while(me, &|| true)
    }

    /// The same for a queue that may be destroyed meanwhile, and its place used for anything: `there` says whether it still lies here.
    /// It is asked after what is here was read and before that is changed, and each change is from exactly what was read. So a queue
    /// in the place of another must begin with other tickets.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub fn sweep_while(&self, me: Member<'_>, there: &dyn Fn() -> bool) -> Result<(), PushError> {
        let turns =
            [&self.parts.tail, &self.parts.head].map(|word| Turn(word.load(Ordering::Acquire)));
        if !there() {
            return Ok(());
        }
        for (turn, unclaimed) in turns.into_iter().zip([FREE, FULL]) {
            self.help(turn, unclaimed);
        }
        let slots = 1u64 << self.log2;
        let tail = Turn(self.parts.tail.load(Ordering::Acquire)).ticket();
        let mut back = 2 * slots;
        while back > 0 {
            // Items that nobody has claimed are left alone: no owner is found for them.
            let ticket = tail.wrapping_sub(back) & TICKET_MASK;
            let (_, span) = self.free_dead(me, ticket, there).map_err(|_| PushError::Corrupt)?;
            back = back.saturating_sub(span);
        }
        Ok(())
    }

    /// How many items were lost: each was in the hand of a process that died while it took it out. Counts up for ever.
    ///
    /// Counted by whoever finds the dead in its way; if that dies in the same instant, its find is not counted.
    #[must_use]
    pub fn lost(&self) -> u64 {
        // Relaxed: a count for people to read.
        self.parts.events.lost.load(Ordering::Relaxed)
    }

    /// Whether `ticket`'s turn is over: taken and given back, or given up. Compared modulo 2³².
    #[cfg(not(loom))]
    #[must_use]
    pub fn has_passed(&self, ticket: u32) -> bool {
        let slot = self.slot(u64::from(ticket));
        let word = slot.word.load(Ordering::Acquire);
        let laps = 32u32.saturating_sub(self.log2).min(LAP_BITS);
        let mask = (1u64 << laps).wrapping_sub(1) & self.lap_mask;
        (word >> LAP_SHIFT) & mask != (u64::from(ticket) >> self.log2) & mask
    }
}
