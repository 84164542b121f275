//! Chunks of blocks: how they are laid out, made, searched.

use super::hints::Hints;
use super::words::{Chunk, FREEING, PLAIN, Purpose, State, generation_of, next};
use super::{AllocError, CLASS_SIZES, CLASSES, Taken};
use crate::region::header::{CHUNK, CHUNK_WORDS, PAGE};
use crate::region::{Member, Region, Shareable, Tag};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use core::ptr::NonNull;

/// Room in front of a chunk's words for its hints: a line of its own.
const FRONT: u64 = 128;
/// How many words are searched before the chunk's hint is asked.
const NEAR: u32 = 16;
/// How often a search of the whole table may lose what it found to others.
const ROUNDS: u32 = 4096;
/// How often a search comes back to see whether a chunk that somebody is carving is done.
const LOOKS: u32 = 64;
/// Rows of the chunk table on a page.
const ROWS_A_PAGE: u64 = PAGE / (CHUNK_WORDS * size_of::<u64>() as u64);

/// Where the blocks of a class lie in their chunk.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub size: u64,
    pub count: u32,
    /// Of the first block, from the start of the chunk.
    pub start: u64,
    /// 2^32 divided by the size, rounded up: dividing by it is exact for what is less than a chunk.
    reciprocal: u64,
}

impl Shape {
    const fn new(size: u64) -> Self {
        let align = if size < 128 { size } else { 128 };
        let mut count = (CHUNK - FRONT) / (size + size_of::<u64>() as u64);
        loop {
            let start = (FRONT + count * size_of::<u64>() as u64).next_multiple_of(align);
            if start + count * size <= CHUNK {
                let reciprocal = (1u64 << 32).div_ceil(size);
                return Self { size, count: count as u32, start, reciprocal };
            }
            count -= 1;
        }
    }

    /// Which block starts so many bytes behind the chunk's start.
    #[inline]
    fn index_of(&self, within: u64) -> Option<u32> {
        let behind = within.checked_sub(self.start)?;
        let index = (behind * self.reciprocal) >> 32;
        (index * self.size == behind && index < u64::from(self.count)).then_some(index as u32)
    }

    #[inline]
    pub fn offset_of(&self, index: u32) -> u64 {
        self.start + u64::from(index) * self.size
    }
}

pub(super) static SHAPES: [Shape; CLASSES] = {
    let mut shapes = [Shape::new(16); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        shapes[class] = Shape::new(CLASS_SIZES[class]);
        class += 1;
    }
    shapes
};

/// A row of the chunk table.
#[repr(C)]
pub(super) struct Row {
    /// What the chunk is.
    pub state: AtomicU64,
    /// The word of a run that starts here; else nothing.
    pub run: AtomicU64,
}

const _: () = assert!(size_of::<Row>() as u64 == CHUNK_WORDS * size_of::<u64>() as u64);

// SAFETY: a repr(C) pair of atomics; every pattern is valid, all zero is new.
unsafe impl Shareable for Row {}

/// The line in front of a chunk's words. Nothing is decided by it but where to look, and THIN.
#[repr(C)]
pub(super) struct Front {
    /// 0: no block is free, as far as is known. SOME: search. Else 1 + a block that was freed.
    free_at: AtomicU32,
    /// Whether the pages of the blocks have to be made before they are used. Set by whoever has claimed all the
    /// blocks, cleared by whoever has claimed one and made the pages.
    pub thin: AtomicU32,
}

const SOME: u32 = u32::MAX;

// SAFETY: a repr(C) pair of atomics; every pattern is valid.
unsafe impl Shareable for Front {}

impl Front {
    /// After a block was freed. Written only if the hint is used up, so that freeing seldom takes this line from
    /// others.
    #[inline]
    pub fn note_free(&self, index: u32) {
        // Relaxed: a hint. One that gets lost here is found when the region is searched for the last time.
        let now = self.free_at.load(Ordering::Relaxed);
        if now == 0 || now == SOME {
            self.free_at.store(index + 1, Ordering::Relaxed);
        }
    }
}

/// Where a block lies and what it belongs to.
pub(super) struct Place<'m> {
    pub word: &'m AtomicU64,
    pub capacity: u64,
    pub chunk: u64,
    pub home: Home,
}

#[derive(Clone, Copy)]
pub(super) enum Home {
    /// A chunk of blocks.
    Blocks { class: usize, purpose: Purpose, index: u32 },
    /// A run; `head` is the state of its first chunk.
    Run { chunks: u64, head: u64 },
}

impl Place<'_> {
    /// The generation of what lies here, whose word is `word`.
    #[inline]
    pub fn generation(&self, word: u64) -> u32 {
        match self.home {
            // The word of a queued message has none, nor has anybody a handle of it.
            Home::Blocks { purpose: Purpose::Messages, .. } => 0,
            Home::Blocks { .. } => generation_of(word),
            Home::Run { head, .. } => generation_of(head),
        }
    }

    #[inline]
    pub fn may_hold_messages(&self) -> bool {
        !matches!(self.home, Home::Blocks { purpose: Purpose::Objects, .. })
    }
}

impl<'m> Region<'m> {
    /// How many rows of the chunk table may be touched.
    #[inline]
    pub(super) fn rows_ready(&self) -> u64 {
        // Acquire meets the Release of `grow`: the rows are there.
        self.header().chunks_ready.load(Ordering::Acquire).min(self.geometry.chunks)
    }

    /// The row of a chunk; `chunk` is less than some [`rows_ready`](Self::rows_ready).
    #[inline]
    pub(super) fn row(&self, chunk: u64) -> &'m Row {
        debug_assert!(chunk < self.geometry.chunks);
        let at = self.geometry.chunk_table_at + chunk * size_of::<Row>() as u64;
        &self.slice_at::<Row>(at, 1)[0]
    }

    #[inline]
    pub(super) fn chunk_at(&self, chunk: u64) -> u64 {
        self.geometry.chunks_at + chunk * CHUNK
    }

    /// A pointer to an offset in the chunks that was checked.
    #[inline]
    pub(super) fn pointer(&self, offset: u64) -> NonNull<u8> {
        debug_assert!(offset < self.geometry.size);
        // SAFETY: callers pass offsets of blocks, which lie within the mapping.
        unsafe { self.base().add(offset as usize) }
    }

    /// The hints in front of a chunk that is, or was a moment ago, a chunk of blocks.
    #[inline]
    pub(super) fn front(&self, chunk: u64) -> &'m Front {
        &self.slice_at::<Front>(self.chunk_at(chunk), 1)[0]
    }

    /// The words of such a chunk.
    #[inline]
    pub(super) fn words(&self, chunk: u64, shape: &Shape) -> &'m [AtomicU64] {
        self.slice_at(self.chunk_at(chunk) + FRONT, u64::from(shape.count))
    }

    /// The block or run that starts at `offset`, which anybody may have made up.
    #[inline]
    pub(super) fn locate(&self, offset: u64) -> Option<Place<'m>> {
        let behind = offset.checked_sub(self.geometry.chunks_at)?;
        let (chunk, within) = (behind / CHUNK, behind % CHUNK);
        if chunk >= self.rows_ready() {
            return None;
        }
        let row = self.row(chunk);
        // Acquire meets the Release of the carver: the words are laid out.
        let state = row.state.load(Ordering::Acquire);
        match Chunk::read(state) {
            Chunk::Blocks { class, purpose } => {
                let shape = &SHAPES[class];
                let index = shape.index_of(within)?;
                let home = Home::Blocks { class, purpose, index };
                let word = &self.words(chunk, shape)[index as usize];
                Some(Place { word, capacity: shape.size, chunk, home })
            }
            Chunk::Head { chunks } if within == 0 && chunks <= self.geometry.chunks - chunk => {
                let home = Home::Run { chunks, head: state };
                Some(Place { word: &row.run, capacity: chunks * CHUNK, chunk, home })
            }
            _ => None,
        }
    }

    /// Takes a free block of a class. The word says OWN(me, PLAIN).
    #[inline]
    pub(super) fn take(
        &self,
        me: Member<'_>,
        tag: Tag,
        class: usize,
        purpose: Purpose,
        asked: u64,
    ) -> Result<Taken<'m>, AllocError> {
        if let Some((chunk, from)) = me.hints().get(class, purpose, tag)
            && chunk < self.rows_ready()
            // Acquire meets the Release of the carver.
            && Chunk::read(self.row(chunk).state.load(Ordering::Acquire))
                == (Chunk::Blocks { class, purpose })
            && let Some(index) = self.take_near(tag, chunk, class, from)
        {
            return self.taken(me.hints(), tag, chunk, class, purpose, index);
        }
        self.take_anywhere(me, tag, class, purpose, asked)
    }

    /// Does what has to be done with a block that was just claimed.
    #[inline]
    fn taken(
        &self,
        hints: &Hints,
        tag: Tag,
        chunk: u64,
        class: usize,
        purpose: Purpose,
        index: (u32, u32),
    ) -> Result<Taken<'m>, AllocError> {
        let (index, generation) = index;
        let shape = &SHAPES[class];
        hints.set(class, purpose, tag, chunk, index + 1);
        let word = &self.words(chunk, shape)[index as usize];
        let front = self.front(chunk);
        // Relaxed: whoever set it freed this block afterwards, and the claim acquired that.
        if front.thin.load(Ordering::Relaxed) != 0 {
            self.thicken(chunk, front).inspect_err(|_| {
                let own = State::Own { tag, kind: PLAIN }.word(generation);
                let free = State::Free.word(generation);
                let _ = word.compare_exchange(own, free, Ordering::Release, Ordering::Relaxed);
            })?;
        }
        Ok(Taken { word, offset: self.chunk_at(chunk) + shape.offset_of(index), generation })
    }

    /// Makes the pages of a thin chunk, while holding one of its blocks: so nobody can thin it meanwhile.
    #[cold]
    fn thicken(&self, chunk: u64, front: &Front) -> Result<(), AllocError> {
        self.memory.commit(self.chunk_at(chunk), CHUNK)?;
        // Release: who reads zero has the pages.
        front.thin.store(0, Ordering::Release);
        Ok(())
    }

    /// One try at one block. The claim and its generation.
    #[inline]
    fn try_block(tag: Tag, word: &AtomicU64) -> Option<u32> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let now = word.load(Ordering::Relaxed);
        if !State::is_free(now) {
            return None;
        }
        let generation = generation_of(now);
        let own = State::Own { tag, kind: PLAIN }.word(generation);
        // Acquire meets the Release of whoever freed it: its last user is done.
        word.compare_exchange(now, own, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(generation)
    }

    /// A block not far from where this process took one last. Index and generation.
    #[inline]
    fn take_near(&self, tag: Tag, chunk: u64, class: usize, from: u32) -> Option<(u32, u32)> {
        let shape = &SHAPES[class];
        let words = self.words(chunk, shape);
        let mut index = from;
        for _ in 0..NEAR.min(shape.count) {
            if index >= shape.count {
                index = 0;
            }
            if let Some(generation) = Self::try_block(tag, &words[index as usize]) {
                return Some((index, generation));
            }
            index += 1;
        }
        None
    }

    /// A block anywhere in a chunk. `thorough`: whatever its hint says.
    fn take_in(&self, tag: Tag, chunk: u64, class: usize, thorough: bool) -> Option<(u32, u32)> {
        let shape = &SHAPES[class];
        let words = self.words(chunk, shape);
        let front = self.front(chunk);
        let hint = front.free_at.load(Ordering::Relaxed);
        if hint == 0 && !thorough {
            return None;
        }
        if hint != 0 && hint != SOME && hint <= shape.count {
            front.free_at.store(SOME, Ordering::Relaxed);
            let index = hint - 1;
            if let Some(generation) = Self::try_block(tag, &words[index as usize]) {
                return Some((index, generation));
            }
        }
        // "None" first, then the search: a block that is freed behind the search sets the hint again.
        front.free_at.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Processes that come to a chunk together start at different lines of its words.
        let from = ((tag.index().wrapping_mul(0x9E37_79B1) >> 8) % shape.count) & !7;
        for step in 0..shape.count {
            let index = (from + step) % shape.count;
            if let Some(generation) = Self::try_block(tag, &words[index as usize]) {
                // There may be more.
                front.free_at.store(SOME, Ordering::Relaxed);
                return Some((index, generation));
            }
        }
        None
    }

    /// Searches the table for a chunk of this class with a free block, else makes one.
    #[cold]
    fn take_anywhere(
        &self,
        me: Member<'_>,
        tag: Tag,
        class: usize,
        purpose: Purpose,
        asked: u64,
    ) -> Result<Taken<'m>, AllocError> {
        let mut thorough = false;
        let mut looks = 0;
        for _ in 0..ROUNDS {
            let ready = self.rows_ready();
            let first =
                me.hints().get(class, purpose, tag).map_or(0, |(chunk, _)| chunk.min(ready));
            let mut vacant = None;
            let mut carving = false;
            for chunk in (first..ready).chain(0..first) {
                // Acquire meets the Release of the carver.
                match Chunk::read(self.row(chunk).state.load(Ordering::Acquire)) {
                    Chunk::Blocks { class: c, purpose: p } if (c, p) == (class, purpose) => {
                        if let Some(index) = self.take_in(tag, chunk, class, thorough) {
                            return self.taken(me.hints(), tag, chunk, class, purpose, index);
                        }
                    }
                    Chunk::Free { .. } => {
                        vacant = Some(vacant.map_or(chunk, |other: u64| other.min(chunk)));
                    }
                    Chunk::Carving(_) => carving = true,
                    _ => {}
                }
            }
            let short = match vacant {
                Some(chunk) => match self.carve(tag, chunk, class, purpose) {
                    Ok(true) => {
                        if let Some(index) = self.take_near(tag, chunk, class, 0) {
                            return self.taken(me.hints(), tag, chunk, class, purpose, index);
                        }
                        continue;
                    }
                    // Somebody else was faster: look again.
                    Ok(false) => continue,
                    Err(error) => error,
                },
                None if ready < self.geometry.chunks => match self.grow() {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                None => AllocError::Full { asked, chunks: self.geometry.chunks },
            };
            if !thorough {
                // The last resort: what the dead have left, and blocks whose hints got lost.
                thorough = true;
                self.sweep(me, &|_, _| false);
            } else if carving && looks < LOOKS {
                // Somebody is about to have blocks; or is stopped, then this is full for now.
                looks += 1;
                core::hint::spin_loop();
            } else {
                return Err(short);
            }
        }
        Err(AllocError::Full { asked, chunks: self.geometry.chunks })
    }

    /// Makes a free chunk one of blocks. `false`: somebody else took it.
    fn carve(
        &self,
        tag: Tag,
        chunk: u64,
        class: usize,
        purpose: Purpose,
    ) -> Result<bool, AllocError> {
        let Some(claim) = self.claim(tag, chunk) else { return Ok(false) };
        let at = self.chunk_at(chunk);
        if !claim.warm
            && let Err(error) = self.memory.commit(at, CHUNK)
        {
            self.unclaim(chunk, &claim);
            return Err(error.into());
        }
        let shape = &SHAPES[class];
        // The memory may hold anything from its last use.
        for word in self.words(chunk, shape) {
            word.store(0, Ordering::Relaxed);
        }
        let front = self.front(chunk);
        front.free_at.store(SOME, Ordering::Relaxed);
        front.thin.store(0, Ordering::Relaxed);
        let blocks = Chunk::Blocks { class, purpose }.word(claim.generation);
        // Release: who sees BLOCKS sees the words laid out.
        let row = self.row(chunk);
        match row.state.compare_exchange(claim.word, blocks, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(true),
            Err(_) => Err(AllocError::Corrupt { offset: at }),
        }
    }

    /// FREE → CARVING(me).
    pub(super) fn claim(&self, tag: Tag, chunk: u64) -> Option<Claim> {
        let row = self.row(chunk);
        let now = row.state.load(Ordering::Relaxed);
        let Chunk::Free { warm } = Chunk::read(now) else { return None };
        let generation = next(generation_of(now));
        let word = Chunk::Carving(tag).word(generation);
        // Acquire meets the Release of whoever freed it: its last user is done.
        row.state.compare_exchange(now, word, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Claim { word, generation, warm })
    }

    /// CARVING(me) → FREE.
    pub(super) fn unclaim(&self, chunk: u64, claim: &Claim) {
        let free = Chunk::Free { warm: claim.warm }.word(claim.generation);
        // Release meets the Acquire of the next claimer. Failure: somebody wrote over it; not this process's to mend.
        let _ = self.row(chunk).state.compare_exchange(
            claim.word,
            free,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Has the next page of the chunk table made. Doing it twice is fine.
    pub(super) fn grow(&self) -> Result<(), AllocError> {
        let raw = self.header().chunks_ready.load(Ordering::Acquire);
        let page = raw / ROWS_A_PAGE;
        if raw >= self.geometry.chunks {
            return Ok(());
        }
        self.memory.commit(self.geometry.chunk_table_at + page * PAGE, PAGE)?;
        let more = (page + 1) * ROWS_A_PAGE;
        // Release: who sees the count may touch the rows. Failure: somebody else has moved it.
        let _ = self.header().chunks_ready.compare_exchange(
            raw,
            more,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        Ok(())
    }

    /// The same for what is no run, whoever had it.
    #[inline]
    pub(super) fn free_block(&self, place: &Place<'_>, word: u64) -> bool {
        let Home::Blocks { purpose, index, .. } = place.home else { return false };
        let free = State::Free.word(match purpose {
            Purpose::Objects => next(generation_of(word)),
            Purpose::Messages => 0,
        });
        // Release meets the Acquire of the next owner; Acquire: what a dead owner had stored comes before.
        let freed =
            place.word.compare_exchange(word, free, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if freed {
            self.front(place.chunk).note_free(index);
        }
        freed
    }

    /// Makes a block free, from exactly `word`, which says that it is the caller's to free. `false`: its word says something else by now.
    #[inline]
    pub(super) fn give_back(&self, me: Member<'_>, tag: Tag, place: &Place<'_>, word: u64) -> bool {
        let generation = place.generation(word);
        match place.home {
            Home::Blocks { class, purpose, index } => {
                let freed = self.free_block(place, word);
                if freed {
                    me.hints().freed(class, purpose, tag, place.chunk, index);
                }
                freed
            }
            Home::Run { chunks, head } => {
                // Else the row was freed and used again between its two words.
                if generation_of(word) != generation {
                    return false;
                }
                let freeing = State::Own { tag, kind: FREEING }.word(generation);
                // AcqRel: what the last owner did comes before the chunks are free.
                let exchanged =
                    place.word.compare_exchange(word, freeing, Ordering::AcqRel, Ordering::Relaxed);
                if exchanged.is_err() {
                    return false;
                }
                self.dismantle(place.chunk, chunks, head, true)
            }
        }
    }
}

/// A chunk that this process is making something of.
pub(super) struct Claim {
    /// Its row, as it stands now.
    pub word: u64,
    pub generation: u32,
    /// Whether its memory is there already.
    pub warm: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_side_by_side_in_their_chunk() {
        for (class, shape) in SHAPES.iter().enumerate() {
            assert_eq!(shape.size, CLASS_SIZES[class]);
            assert!(shape.start >= FRONT + u64::from(shape.count) * 8);
            assert!(shape.offset_of(shape.count) <= CHUNK, "class {class}");
            assert!(shape.offset_of(shape.count) + shape.size + 8 > CHUNK - 128, "class {class}");
            for within in 0..CHUNK {
                let index = shape.index_of(within);
                let expected = within
                    .checked_sub(shape.start)
                    .filter(|behind| behind % shape.size == 0)
                    .map(|behind| behind / shape.size)
                    .filter(|&index| index < u64::from(shape.count));
                assert_eq!(index.map(u64::from), expected, "class {class} at {within}");
            }
            let align = shape.size.min(128);
            assert_eq!((shape.start % align, shape.size % align), (0, 0));
        }
    }

    #[test]
    fn each_size_goes_to_the_smallest_class_that_holds_it() {
        for bytes in 0..=CHUNK {
            let expected = CLASS_SIZES.iter().position(|&size| bytes <= size);
            assert_eq!(super::super::class_for(bytes), expected, "{bytes}");
        }
    }
}
