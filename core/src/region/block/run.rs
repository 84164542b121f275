//! Runs: large blocks of whole chunks side by side.

use super::chunk::Claim;
use super::words::{Chunk, PLAIN, State, generation_of};
use super::{AllocError, Region};
use crate::region::header::CHUNK;
use crate::region::{Member, Tag};
use crate::sys::atomic::Ordering;

/// A run of at most so many chunks keeps its memory when it is freed, for the next one; that of a longer one goes
/// back to the system at once, which costs little beside filling it.
const WARM: u64 = 64;
/// How often others may be faster before a search gives up.
const RACES: u32 = 4096;
/// How often a search comes back because others were in the middle of something.
const LOOKS: u32 = 64;

/// A run that was just made.
pub(super) struct Run {
    pub offset: u64,
    pub generation: u32,
    pub capacity: u64,
}

impl Region<'_> {
    /// Takes the first free chunks that hold `bytes` bytes. A run of an object is zeroed.
    pub(super) fn make_run(&self, me: Member<'_>, kind: u8, bytes: u64) -> Result<Run, AllocError> {
        let chunks = bytes.div_ceil(CHUNK).max(1);
        let most = self.geometry.chunks * CHUNK;
        if chunks > self.geometry.chunks {
            return Err(AllocError::TooLarge { asked: bytes, most });
        }
        let tag = me.tag()?;
        let mut swept = false;
        let mut looks = 0;
        loop {
            let mut busy = false;
            let short = match self.claim_run(tag, chunks, &mut busy) {
                Ok(Some((first, warm))) => match self.build(tag, kind, first, chunks, warm) {
                    Err(error @ AllocError::Memory(_)) => error,
                    done => return done,
                },
                Ok(None) => AllocError::Full { asked: bytes, chunks: self.geometry.chunks },
                Err(error) => error,
            };
            if !swept {
                // The last resort: what the dead have left.
                swept = true;
                self.sweep(me, &|_, _| false);
            } else if busy && looks < LOOKS {
                looks += 1;
                core::hint::spin_loop();
            } else {
                return Err(short);
            }
        }
    }

    /// Claims so many free chunks side by side. The first of them, and whether all are warm. `busy`: somebody else
    /// was carving.
    fn claim_run(
        &self,
        tag: Tag,
        chunks: u64,
        busy: &mut bool,
    ) -> Result<Option<(u64, bool)>, AllocError> {
        let mut races = 0;
        let (mut first, mut chunk) = (0, 0);
        while first + chunks <= self.geometry.chunks {
            if chunk >= self.rows_ready() {
                self.grow()?;
                if chunk >= self.rows_ready() {
                    // The count of rows moves backwards: damaged.
                    return Ok(None);
                }
            }
            match Chunk::read(self.row(chunk).state.load(Ordering::Relaxed)) {
                Chunk::Free { .. } => chunk += 1,
                other => {
                    *busy |= matches!(other, Chunk::Carving(_));
                    chunk += 1;
                    first = chunk;
                }
            }
            if chunk - first < chunks {
                continue;
            }
            match self.claim_all(tag, first, chunks) {
                Ok(warm) => return Ok(Some((first, warm))),
                Err(taken) => {
                    *busy = true;
                    races += 1;
                    if races > RACES {
                        return Ok(None);
                    }
                    chunk = taken + 1;
                    first = chunk;
                }
            }
        }
        Ok(None)
    }

    /// FREE → CARVING(me) for each, or for none: then which one was not free.
    fn claim_all(&self, tag: Tag, first: u64, chunks: u64) -> Result<bool, u64> {
        let mut warm = true;
        for chunk in first..first + chunks {
            match self.claim(tag, chunk) {
                Some(claim) => warm &= claim.warm,
                None => {
                    self.unclaim_all(tag, first, chunk);
                    return Err(chunk);
                }
            }
        }
        Ok(warm)
    }

    /// CARVING(me) → FREE for each. They count as cold, which is always safe.
    fn unclaim_all(&self, tag: Tag, first: u64, end: u64) {
        for chunk in first..end {
            if let Some(word) = self.claimed(tag, chunk) {
                let generation = generation_of(word);
                self.unclaim(chunk, &Claim { word, generation, warm: false });
            }
        }
    }

    /// The row's word, if it says CARVING(me). The caller claimed it; anything else was written over it.
    fn claimed(&self, tag: Tag, chunk: u64) -> Option<u64> {
        let word = self.row(chunk).state.load(Ordering::Relaxed);
        (Chunk::read(word) == Chunk::Carving(tag)).then_some(word)
    }

    /// Makes a run of claimed chunks.
    fn build(
        &self,
        tag: Tag,
        kind: u8,
        first: u64,
        chunks: u64,
        warm: bool,
    ) -> Result<Run, AllocError> {
        let offset = self.chunk_at(first);
        let capacity = chunks * CHUNK;
        if !warm && let Err(error) = self.memory.commit(offset, capacity) {
            self.unclaim_all(tag, first, first + chunks);
            return Err(error.into());
        }
        let corrupt = |chunk| AllocError::Corrupt { offset: self.chunk_at(chunk) };
        let Some(claim) = self.claimed(tag, first) else { return Err(corrupt(first)) };
        if kind != PLAIN {
            // SAFETY: these chunks lie in the region, are committed, and are this process's own by their rows.
            unsafe { self.pointer(offset).write_bytes(0, capacity as usize) };
        }
        let generation = generation_of(claim);
        let row = self.row(first);
        // A plain store: nobody else touches the word of a row that is no head, but a sweeper that took it for one
        // a moment ago, and then looks at the row again.
        row.run.store(State::Own { tag, kind }.word(generation), Ordering::Relaxed);
        let head = Chunk::Head { chunks }.word(generation);
        // Release: who sees HEAD sees the run's word, and the zeros.
        row.state
            .compare_exchange(claim, head, Ordering::Release, Ordering::Relaxed)
            .map_err(|_| corrupt(first))?;
        for distance in 1..chunks {
            let chunk = first + distance;
            let Some(claim) = self.claimed(tag, chunk) else { return Err(corrupt(chunk)) };
            let tail = Chunk::Tail { distance }.word(generation_of(claim));
            // Relaxed: a tail says nothing that its head does not.
            self.row(chunk)
                .state
                .compare_exchange(claim, tail, Ordering::Relaxed, Ordering::Relaxed)
                .map_err(|_| corrupt(chunk))?;
        }
        Ok(Run { offset, generation, capacity })
    }

    /// Gives the chunks of a run back. Its word says OWN(me, FREEING) by this caller's doing; `head` is what its row
    /// said before that. `whole`: it was complete, so that all its chunks are still its own. `false`: the word was
    /// left over in a row that was freed meanwhile.
    pub(super) fn dismantle(&self, first: u64, chunks: u64, head: u64, whole: bool) -> bool {
        let row = self.row(first);
        // Acquire: the row as it was when, or after, the word was claimed. A newer head has another generation.
        if row.state.load(Ordering::Acquire) != head {
            return false;
        }
        if whole && chunks > WARM {
            self.memory.release(self.chunk_at(first), chunks * CHUNK);
        }
        let warm = whole && chunks <= WARM;
        let end = (first + chunks).min(self.rows_ready());
        for chunk in first + 1..end {
            let row = self.row(chunk);
            let word = row.state.load(Ordering::Relaxed);
            if Chunk::read(word) == (Chunk::Tail { distance: chunk - first }) {
                let free = Chunk::Free { warm }.word(generation_of(word));
                // Release meets the Acquire of the next claimer. Failure cannot be, short of damage.
                let _ =
                    row.state.compare_exchange(word, free, Ordering::Release, Ordering::Relaxed);
            }
        }
        let free = Chunk::Free { warm }.word(generation_of(head));
        // Release: as above. The head last: as long as it stands, the run is known.
        row.state.compare_exchange(head, free, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}
