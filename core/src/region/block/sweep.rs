//! Taking back what the dead have left, looking at everything, giving memory back.

use super::chunk::{Front, Home, Place, SHAPES};
use super::words::{CHECKING, Chunk, FREEING, PLAIN, Purpose, State, generation_of};
use super::{CLASS_SIZES, Kind, Object, Region};
use crate::region::header::{CHUNK, PAGE};
use crate::region::{Member, Tag, Verdict};
use crate::sys::atomic::{AtomicU64, Ordering};

/// What a sweep has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blocks and runs that are free again.
    pub blocks: u64,
    /// Chunks whose makers had died, free again.
    pub chunks: u64,
    /// Words that no process ever writes: something wrote over them. They stay as they are.
    pub damaged: u64,
}

/// What a region's memory is used for, counted at one time. While others allocate and free it is about right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Chunks of 64 KiB in the region.
    pub chunks: u64,
    /// Of these, cut into blocks.
    pub block_chunks: u64,
    /// Of these, part of large blocks.
    pub run_chunks: u64,
    /// Of these, free but with memory.
    pub warm_chunks: u64,
    /// Blocks and runs in the hand of one process, the dead included.
    pub owned: u64,
    /// Objects that are shared.
    pub shared: u64,
    /// Messages in queues.
    pub queued: u64,
    /// Bytes of all these, as they were rounded up.
    pub bytes: u64,
    /// Rows and words that no process ever writes.
    pub damaged: u64,
}

/// Who is dead, asked once for each process in a row of questions.
struct Verdicts<'r> {
    me: Member<'r>,
    alive: [Option<Tag>; 8],
    next: usize,
}

impl<'r> Verdicts<'r> {
    fn new(me: Member<'r>) -> Self {
        Self { me, alive: [None; 8], next: 0 }
    }

    fn of(&mut self, owner: Tag) -> Verdict {
        if self.alive.contains(&Some(owner)) {
            return Verdict::Alive;
        }
        let verdict = self.me.verdict(owner);
        if verdict == Verdict::Alive {
            self.alive[self.next % self.alive.len()] = Some(owner);
            self.next += 1;
        }
        verdict
    }
}

impl<'m> Region<'m> {
    /// Takes back what the dead have left: blocks in their hands, chunks they were making, runs they were making or
    /// freeing; and messages of which `passed` says that no slot names them any more.
    ///
    /// `passed` gets the place of a queue and the lowest 32 bits of a ticket, both as they stand in a word of shared
    /// memory and not trusted; it says whether the slot of that ticket was passed, whatever became of it, or whether
    /// no such queue exists. It is asked twice. First sweep the slots of all queues, then call this.
    ///
    /// Any process may call this at any time, also several at once. Costs a load for each block, and a system call
    /// for each process that owns one. A process that has not joined leaves runs and queued messages to others.
    pub fn sweep(&self, me: Member<'_>, passed: &dyn Fn(u64, u32) -> bool) -> Swept {
        let mut swept = Swept::default();
        let mut verdicts = Verdicts::new(me);
        for chunk in 0..self.rows_ready() {
            let row = self.row(chunk);
            // Acquire meets the Release of the carver.
            let state = row.state.load(Ordering::Acquire);
            match Chunk::read(state) {
                Chunk::Carving(owner) => match verdicts.of(owner) {
                    Verdict::Dead => {
                        let free = Chunk::Free { warm: false }.word(generation_of(state));
                        // Release after the Acquire of the verdict: what the dead had stored comes before.
                        let exchanged = row.state.compare_exchange(
                            state,
                            free,
                            Ordering::AcqRel,
                            Ordering::Relaxed,
                        );
                        swept.chunks += u64::from(exchanged.is_ok());
                    }
                    Verdict::Alive => {}
                    Verdict::Corrupt => swept.damaged += 1,
                },
                Chunk::Blocks { class, purpose } => {
                    for (index, word) in self.words(chunk, &SHAPES[class]).iter().enumerate() {
                        let home = Home::Blocks { class, purpose, index: index as u32 };
                        let place = Place { word, capacity: CLASS_SIZES[class], chunk, home };
                        self.sweep_block(me, &place, &mut verdicts, passed, &mut swept);
                    }
                }
                Chunk::Head { chunks } if chunks <= self.geometry.chunks - chunk => {
                    let home = Home::Run { chunks, head: state };
                    let place = Place { word: &row.run, capacity: chunks * CHUNK, chunk, home };
                    self.sweep_block(me, &place, &mut verdicts, passed, &mut swept);
                }
                Chunk::Free { .. } | Chunk::Tail { .. } => {}
                Chunk::Head { .. } | Chunk::Damaged => swept.damaged += 1,
            }
        }
        swept
    }

    fn sweep_block(
        &self,
        me: Member<'_>,
        place: &Place<'_>,
        verdicts: &mut Verdicts<'_>,
        passed: &dyn Fn(u64, u32) -> bool,
        swept: &mut Swept,
    ) {
        // Relaxed: the verdict and the compare-and-swaps below bring what has to be visible.
        let word = place.word.load(Ordering::Relaxed);
        let run = matches!(place.home, Home::Run { .. });
        match State::read(word) {
            State::Free if !run => {}
            State::Shared { .. } => {}
            State::Own { tag: owner, .. } => match verdicts.of(owner) {
                Verdict::Dead => {
                    swept.blocks += u64::from(self.bury(me, place, word));
                }
                Verdict::Alive => {}
                Verdict::Corrupt => swept.damaged += 1,
            },
            State::Queued { queue, ticket }
                if place.may_hold_messages() && queue < self.geometry.size =>
            {
                let Some(tag) = me.current_tag() else { return };
                if passed(queue, ticket) {
                    let freed = self.check_and_free(me, tag, place, word, passed, (queue, ticket));
                    swept.blocks += u64::from(freed);
                }
            }
            // The word of a run is never free.
            State::Free | State::Queued { .. } | State::Damaged => swept.damaged += 1,
        }
    }

    /// Frees what a dead process had in hand.
    fn bury(&self, me: Member<'_>, place: &Place<'_>, word: u64) -> bool {
        match place.home {
            Home::Blocks { .. } => self.free_block(place, word),
            Home::Run { chunks, head } => {
                let Some(tag) = me.current_tag() else { return false };
                // Else the row was freed and used again between its two words: the next sweep's.
                if generation_of(word) != place.generation(word) {
                    return false;
                }
                let freeing = State::Own { tag, kind: FREEING }.word(place.generation(word));
                // AcqRel after the verdict: what the dead had stored comes before what follows. Its maker may have
                // died before it was whole, or its releaser when it was so no more.
                place
                    .word
                    .compare_exchange(word, freeing, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                    && self.dismantle(place.chunk, chunks, head, false)
            }
        }
    }

    /// Frees a message whose slot has passed: claims it, asks once more, and frees it or puts it back.
    fn check_and_free(
        &self,
        me: Member<'_>,
        tag: Tag,
        place: &Place<'_>,
        word: u64,
        passed: &dyn Fn(u64, u32) -> bool,
        slot: (u64, u32),
    ) -> bool {
        let checking = State::Own { tag, kind: CHECKING }.word(place.generation(word));
        // Acquire: whoever had put it under this number again comes before the second question.
        if place.word.compare_exchange(word, checking, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return false;
        }
        let still_there = match place.home {
            Home::Blocks { .. } => true,
            // Acquire: the row as it is now that nobody else may free it.
            Home::Run { head, .. } => self.row(place.chunk).state.load(Ordering::Acquire) == head,
        };
        if still_there && passed(slot.0, slot.1) {
            return self.give_back(me, tag, place, checking);
        }
        // Release: it goes back to whoever comes for it. Failure: it was here to take it.
        let _ = place.word.compare_exchange(checking, word, Ordering::AcqRel, Ordering::Relaxed);
        false
    }

    /// Visits every object of a kind: shared ones, and those still in the hand of a process. The dead ones' claims in
    /// them are what an upper layer sweeps. Objects that come or go meanwhile may be left out.
    pub fn for_each_object(&self, kind: Kind, visit: &mut dyn FnMut(Object, u64)) {
        self.each(&mut |place, offset| {
            // Acquire meets the Release of `share` and of the zeroing.
            let word = place.word.load(Ordering::Acquire);
            if let State::Own { kind: found, .. } | State::Shared { kind: found } =
                State::read(word)
                && found == kind.number()
            {
                let generation = generation_of(word);
                visit(Object { offset, generation, kind }, place.capacity);
            }
        });
    }

    /// Counts everything, for people. A load for each block.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage { chunks: self.geometry.chunks, ..Usage::default() };
        for chunk in 0..self.rows_ready() {
            match Chunk::read(self.row(chunk).state.load(Ordering::Relaxed)) {
                Chunk::Blocks { .. } => usage.block_chunks += 1,
                Chunk::Head { .. } | Chunk::Tail { .. } => usage.run_chunks += 1,
                Chunk::Free { warm: true } => usage.warm_chunks += 1,
                Chunk::Free { warm: false } | Chunk::Carving(_) => {}
                Chunk::Damaged => usage.damaged += 1,
            }
        }
        self.each(&mut |place, _| {
            let count = match State::read(place.word.load(Ordering::Relaxed)) {
                State::Free => return,
                State::Own { .. } => &mut usage.owned,
                State::Shared { .. } => &mut usage.shared,
                State::Queued { .. } => &mut usage.queued,
                State::Damaged => {
                    usage.damaged += 1;
                    return;
                }
            };
            *count += 1;
            usage.bytes += place.capacity;
        });
        usage
    }

    /// Visits every block and every run, with its offset.
    fn each(&self, visit: &mut dyn FnMut(&Place<'m>, u64)) {
        for chunk in 0..self.rows_ready() {
            let row = self.row(chunk);
            let at = self.chunk_at(chunk);
            let state = row.state.load(Ordering::Acquire);
            match Chunk::read(state) {
                Chunk::Blocks { class, purpose } => {
                    let shape = &SHAPES[class];
                    for (index, word) in (0..shape.count).zip(self.words(chunk, shape)) {
                        let home = Home::Blocks { class, purpose, index };
                        let place = Place { word, capacity: shape.size, chunk, home };
                        visit(&place, at + shape.offset_of(index));
                    }
                }
                Chunk::Head { chunks } if chunks <= self.geometry.chunks - chunk => {
                    let home = Home::Run { chunks, head: state };
                    visit(&Place { word: &row.run, capacity: chunks * CHUNK, chunk, home }, at);
                }
                _ => {}
            }
        }
    }

    /// Gives memory back to the system that only messages had used: that of free chunks, and of chunks without a
    /// message in them. It comes back by itself when it is needed. Returns how many bytes were given back.
    ///
    /// For a process that has nothing better to do. Two system calls a chunk at most; while it looks at a chunk
    /// others find no free block there. If the process dies halfway, a sweep frees what it had in hand.
    pub fn trim(&self, me: Member<'_>) -> u64 {
        let Some(tag) = me.current_tag() else { return 0 };
        let mut bytes = 0;
        for chunk in 0..self.rows_ready() {
            match Chunk::read(self.row(chunk).state.load(Ordering::Acquire)) {
                Chunk::Free { warm: true } => {
                    if let Some(mut claim) = self.claim(tag, chunk) {
                        self.memory.release(self.chunk_at(chunk), CHUNK);
                        claim.warm = false;
                        self.unclaim(chunk, &claim);
                        bytes += CHUNK;
                    }
                }
                Chunk::Blocks { class, purpose: Purpose::Messages } => {
                    bytes += self.thin(tag, chunk, class);
                }
                _ => {}
            }
        }
        bytes
    }

    /// Gives back the pages of a chunk whose blocks are all free.
    fn thin(&self, tag: Tag, chunk: u64, class: usize) -> u64 {
        let shape = &SHAPES[class];
        let words = self.words(chunk, shape);
        let front: &Front = self.front(chunk);
        let all_free = |words: &[AtomicU64]| {
            words.iter().all(|word| State::is_free(word.load(Ordering::Relaxed)))
        };
        if front.thin.load(Ordering::Relaxed) != 0 || !all_free(words) {
            return 0;
        }
        let free = State::Free.word(0);
        let own = State::Own { tag, kind: PLAIN }.word(0);
        // Acquire meets the Release of the last users.
        let mine = words
            .iter()
            .take_while(|word| {
                word.compare_exchange(free, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
            })
            .count();
        let mut bytes = 0;
        if mine == words.len() {
            // The first pages hold the words, and perhaps some of the blocks.
            let kept = shape.start.next_multiple_of(PAGE);
            // Relaxed: the Release below brings it to whoever takes a block.
            front.thin.store(1, Ordering::Relaxed);
            self.memory.release(self.chunk_at(chunk) + kept, CHUNK - kept);
            bytes = CHUNK - kept;
        }
        for word in &words[..mine] {
            // Release: who takes the block sees THIN. Failure: somebody wrote over it; not this process's to mend.
            let _ = word.compare_exchange(own, free, Ordering::Release, Ordering::Relaxed);
        }
        bytes
    }
}
