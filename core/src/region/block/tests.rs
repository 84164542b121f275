//! Several memberships of one region stand for several processes; death is declared after something was left lying.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

use super::chunk::SHAPES;
use super::words::{CHECKING, Chunk, FREEING, PLAIN, Purpose, State, generation_of};
use super::*;
use crate::region::{Fixed, Membership, Memory, Options};
use crate::sys::atomic::AtomicU32;

/// Memory that keeps count of what was asked of it, and can run out.
#[derive(Default)]
struct Counted {
    committed: Mutex<Vec<(u64, u64)>>,
    released: Mutex<Vec<(u64, u64)>>,
    empty: AtomicBool,
}

impl Memory for Counted {
    fn commit(&self, offset: u64, bytes: u64) -> Result<(), MemoryFull> {
        if self.empty.load(Ordering::Relaxed) {
            return Err(MemoryFull { bytes, errno: 28 });
        }
        self.committed.lock().unwrap().push((offset, bytes));
        Ok(())
    }

    fn release(&self, offset: u64, bytes: u64) {
        self.released.lock().unwrap().push((offset, bytes));
    }
}

struct Bytes {
    base: NonNull<u8>,
    length: u64,
    memory: Counted,
}

impl Bytes {
    /// Room for so many chunks.
    fn new(chunks: u64) -> Self {
        let length = (chunks + 1) * CHUNK;
        let layout = Layout::from_size_align(length as usize, 4096).unwrap();
        // SAFETY: the layout has a size.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        Self { base, length, memory: Counted::default() }
    }

    fn region(&self) -> Region<'_> {
        let options = Options { participants: 300, ..Options::default() };
        // SAFETY: the memory is this test's own, zeroed, and lives as long as the region.
        unsafe { Region::create(self.base, self.length, options, &self.memory) }.unwrap()
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.length as usize, 4096).unwrap();
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), layout) }
    }
}

fn die(seat: &Membership<'_>) {
    let me = seat.member();
    me.participants().declare_dead(me.tag().unwrap());
}

fn fill(region: &Region<'_>, offset: u64, bytes: u64, with: u8) {
    let place = region.bytes(offset, bytes, 1).unwrap();
    // SAFETY: the caller owns the block, of at least so many bytes.
    unsafe { place.write_bytes(with, bytes as usize) };
}

fn holds(region: &Region<'_>, offset: u64, bytes: u64, what: u8) -> bool {
    let place = region.bytes(offset, bytes, 1).unwrap();
    // SAFETY: the caller owns the block, and nobody writes to it now.
    unsafe { core::slice::from_raw_parts(place.as_ptr(), bytes as usize) }
        .iter()
        .all(|&b| b == what)
}

fn nothing_passed(_: u64, _: u32) -> bool {
    false
}

const KIND: Kind = Kind::new(3).unwrap();
const OTHER: Kind = Kind::new(4).unwrap();
const QUEUE: u64 = 0x10000;

#[test]
fn every_size_is_given_out_and_taken_back() {
    let bytes = Bytes::new(40);
    let region = bytes.region();
    let seat = region.join().unwrap();
    let me = seat.member();
    for asked in
        [0, 1, 16, 17, 100, 128, 1000, 4096, 4353, 16384, 32640, 32641, 65536, 65537, 500_000]
    {
        let block = region.allocate_message(me, asked).unwrap();
        assert!(block.capacity >= asked.max(1), "{asked}");
        fill(&region, block.offset, block.capacity, 0xAA);
        assert_eq!(block.offset % block.capacity.min(128), 0);
        region.free_message(me, block).unwrap();
        assert_eq!(region.free_message(me, block).map_err(|_| ()), Err(()), "freed twice: {asked}");
        // What the message has left behind does not show in an object.
        let object = region.allocate_object(me, KIND, asked).unwrap();
        let room = region.resolve(object.offset, KIND, object.generation, asked).unwrap();
        assert!(holds(&region, object.offset, room.capacity, 0), "{asked}");
        fill(&region, object.offset, room.capacity, 0xBB);
        region.free_object(me, object).unwrap();
        let object = region.allocate_object(me, KIND, asked).unwrap();
        assert!(holds(&region, object.offset, room.capacity, 0), "{asked}");
        region.share(object).unwrap();
        region.destroy(me, object).unwrap();
    }
    let usage = region.usage();
    assert_eq!((usage.owned, usage.shared, usage.queued, usage.bytes), (0, 0, 0, 0));
    assert_eq!((usage.run_chunks, usage.damaged), (0, 0));
}

#[test]
fn a_full_region_says_so_and_gives_everything_again() {
    for (asked, blocks_a_chunk) in
        [(16, u64::from(SHAPES[0].count)), (9000, 7), (32000, 2), (60000, 1)]
    {
        let bytes = Bytes::new(4);
        let region = bytes.region();
        let seat = region.join().unwrap();
        let me = seat.member();
        let chunks = region.geometry.chunks;
        for _ in 0..3 {
            let mut blocks = Vec::new();
            let error = loop {
                match region.allocate_message(me, asked) {
                    Ok(block) => blocks.push(block),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, AllocError::Full { asked, chunks });
            assert_eq!(blocks.len() as u64, chunks * blocks_a_chunk);
            let places: HashSet<u64> = blocks.iter().map(|block| block.offset).collect();
            assert_eq!(places.len(), blocks.len());
            for block in blocks.into_iter().rev() {
                region.free_message(me, block).unwrap();
            }
        }
    }
    let bytes = Bytes::new(4);
    let region = bytes.region();
    let seat = region.join().unwrap();
    let most = region.geometry.chunks * CHUNK;
    let whole = region.allocate_message(seat.member(), most).unwrap();
    assert_eq!(whole.capacity, most);
    for asked in [most + 1, u64::MAX] {
        let error = region.allocate_message(seat.member(), asked).unwrap_err();
        assert_eq!(error, AllocError::TooLarge { asked, most });
    }
}

#[test]
fn one_free_block_in_a_full_region_is_found() {
    let bytes = Bytes::new(3);
    let region = bytes.region();
    let (one, two) = (region.join().unwrap(), region.join().unwrap());
    let mut blocks = Vec::new();
    while let Ok(block) = region.allocate_message(one.member(), 64) {
        blocks.push(block);
    }
    for index in (0..blocks.len()).step_by(97) {
        region.free_message(one.member(), blocks[index]).unwrap();
        let again = region.allocate_message(two.member(), 64).unwrap();
        assert_eq!(again.offset, blocks[index].offset);
        // Also if the hint that there is one got lost.
        region.free_message(two.member(), again).unwrap();
        let chunk = (again.offset - region.geometry.chunks_at) / CHUNK;
        region.slice_at::<AtomicU32>(region.chunk_at(chunk), 1)[0].store(0, Ordering::Relaxed);
        let again = region.allocate_message(one.member(), 64).unwrap();
        assert_eq!(again.offset, blocks[index].offset);
    }
}

#[test]
fn no_memory_is_an_error_and_leaves_nothing_behind() {
    let bytes = Bytes::new(8);
    let region = bytes.region();
    let seat = region.join().unwrap();
    let me = seat.member();
    bytes.memory.empty.store(true, Ordering::Relaxed);
    for asked in [10, 100_000] {
        assert!(matches!(region.allocate_message(me, asked), Err(AllocError::Memory(_))));
    }
    bytes.memory.empty.store(false, Ordering::Relaxed);
    let block = region.allocate_message(me, 10).unwrap();
    // The table has its page now; chunks do not.
    bytes.memory.empty.store(true, Ordering::Relaxed);
    for asked in [100, 100_000] {
        assert!(matches!(region.allocate_object(me, KIND, asked), Err(AllocError::Memory(_))));
    }
    assert_eq!(region.usage().block_chunks, 1);
    region.free_message(me, block).unwrap();
    bytes.memory.empty.store(false, Ordering::Relaxed);
    let all = (region.geometry.chunks - 1) * CHUNK;
    let run = region.allocate_message(me, all).unwrap();
    region.free_message(me, run).unwrap();
}

#[test]
fn stale_and_wrong_handles_are_recognised() {
    let bytes = Bytes::new(8);
    let region = bytes.region();
    let (one, two) = (region.join().unwrap(), region.join().unwrap());
    for size in [40, 100_000] {
        let object = region.allocate_object(one.member(), KIND, size).unwrap();
        let Object { offset, generation, .. } = object;
        let room = region.resolve(offset, KIND, generation, size).unwrap();
        assert!(region.resolve(offset, OTHER, generation, size).is_err());
        assert_eq!(
            region.resolve(offset, OTHER, generation, size).unwrap_err(),
            HandleError::OtherKind { offset, asked: 4, found: 3 }
        );
        assert_eq!(
            region.resolve(offset, KIND, generation + 1, size).unwrap_err(),
            HandleError::Gone { offset, asked: generation + 1, found: generation }
        );
        assert_eq!(
            region.resolve(offset, KIND, generation, room.capacity + 1).unwrap_err(),
            HandleError::TooSmall { offset, capacity: room.capacity, asked: room.capacity + 1 }
        );
        for wrong in [0, 1, offset + 1, offset + 8, offset - 8, region.size(), u64::MAX] {
            assert_eq!(
                region.resolve(wrong, KIND, generation, 1).unwrap_err(),
                HandleError::NotABlock { offset: wrong }
            );
        }
        // Only its owner frees it; only what is shared is destroyed.
        let not_yours = Err(HandleError::NotYours { offset });
        assert_eq!(region.free_object(two.member(), object), not_yours);
        assert_eq!(region.destroy(one.member(), object), Err(HandleError::NotShared { offset }));
        region.share(object).unwrap();
        assert_eq!(region.free_object(one.member(), object), not_yours);
        assert_eq!(region.share(object), Ok(()));
        assert!(region.resolve(offset, KIND, generation, size).is_ok());
        region.destroy(one.member(), object).unwrap();
        assert!(region.destroy(two.member(), object).is_err());
        assert!(region.resolve(offset, KIND, generation, size).is_err());
        // The next one at the same place.
        let next = region.allocate_object(one.member(), KIND, size).unwrap();
        assert_eq!(next.offset, offset);
        assert_ne!(next.generation, generation);
        let found = next.generation;
        assert_eq!(
            region.resolve(offset, KIND, generation, size).unwrap_err(),
            HandleError::Gone { offset, asked: generation, found }
        );
        // A message's block is no object, and an object no message.
        let block = Block { offset, capacity: size };
        assert!(region.free_message(one.member(), block).is_err());
        assert!(region.hand_over(one.member(), block, QUEUE, 1).is_err());
    }
    let block = region.allocate_message(one.member(), 40).unwrap();
    assert!(region.resolve(block.offset, KIND, 0, 1).is_err());
}

#[test]
fn a_message_goes_through_a_slot() {
    let bytes = Bytes::new(8);
    let region = bytes.region();
    let (one, two) = (region.join().unwrap(), region.join().unwrap());
    for size in [40, 100_000] {
        let block = region.allocate_message(one.member(), size).unwrap();
        let offset = block.offset;
        assert!(region.hand_over(two.member(), block, QUEUE, 7).is_err());
        assert!(region.take_over(two.member(), offset, QUEUE, 7).is_err());
        assert_eq!(
            region.hand_over(one.member(), block, QUEUE + 8, 7),
            Err(HandleError::NotAQueue { queue: QUEUE + 8 })
        );
        let ticket = (1 << 40) + 7;
        region.hand_over(one.member(), block, QUEUE, ticket).unwrap();
        assert!(region.hand_over(one.member(), block, QUEUE, ticket).is_err());
        assert!(region.free_message(one.member(), block).is_err());
        for (o, q, t) in [(offset, QUEUE, 8), (offset, QUEUE + 128, 7), (offset + 16, QUEUE, 7)] {
            assert!(region.take_over(two.member(), o, q, t).is_err());
        }
        assert_eq!(region.queued(offset, QUEUE, ticket), Ok(block));
        assert_eq!(region.take_over(two.member(), offset, QUEUE, ticket), Ok(block));
        assert!(region.take_over(one.member(), offset, QUEUE, ticket).is_err());
        assert!(region.queued(offset, QUEUE, ticket).is_err());
        region.free_message(two.member(), block).unwrap();
    }
    assert_eq!(region.usage().bytes, 0);
}

#[test]
fn what_the_dead_had_in_hand_is_swept_and_what_they_had_given_away_is_not() {
    let bytes = Bytes::new(32);
    let region = bytes.region();
    let (one, two) = (region.join().unwrap(), region.join().unwrap());
    let me = one.member();
    for size in [40, 2000, 100_000] {
        let message = region.allocate_message(me, size).unwrap();
        let object = region.allocate_object(me, KIND, size).unwrap();
        let shared = region.allocate_object(me, KIND, size).unwrap();
        region.share(shared).unwrap();
        let queued = region.allocate_message(me, size).unwrap();
        region.hand_over(me, queued, QUEUE, size).unwrap();
        let _ = (message, object);
    }
    assert_eq!(region.sweep(two.member(), &nothing_passed), Swept::default());
    die(&one);
    let swept = region.sweep(two.member(), &nothing_passed);
    assert_eq!(swept, Swept { blocks: 6, chunks: 0, damaged: 0 });
    assert_eq!(region.sweep(two.member(), &nothing_passed), Swept::default());
    let usage = region.usage();
    assert_eq!((usage.owned, usage.shared, usage.queued), (0, 3, 3));
    // Passed: those of another queue, then one ticket, then all.
    assert_eq!(region.sweep(two.member(), &|queue, _| queue != QUEUE).blocks, 0);
    assert_eq!(
        region.sweep(two.member(), &|queue, ticket| (queue, ticket) == (QUEUE, 2000)).blocks,
        1
    );
    assert_eq!(region.sweep(two.member(), &|_, _| true).blocks, 2);
    assert_eq!(region.usage().queued, 0);
    // The living one's own stay.
    let mine = region.allocate_message(two.member(), 40).unwrap();
    assert_eq!(region.sweep(two.member(), &|_, _| true), Swept::default());
    region.free_message(two.member(), mine).unwrap();
}

#[test]
fn a_full_region_takes_back_what_the_dead_had() {
    for size in [100, 30_000, 60_000] {
        let bytes = Bytes::new(5);
        let region = bytes.region();
        let (one, two) = (region.join().unwrap(), region.join().unwrap());
        while region.allocate_message(one.member(), size).is_ok() {}
        assert!(region.allocate_message(two.member(), size).is_err());
        die(&one);
        let mut count = 0;
        while region.allocate_message(two.member(), size).is_ok() {
            count += 1;
        }
        assert!(count >= region.geometry.chunks);
    }
}

/// A process that had got so far with a run of three chunks in the first free ones when it died.
fn half_made(region: &Region<'_>, tag: Tag, step: usize) {
    let first = (0..).find(|&c| region.row(c).state.load(Ordering::Relaxed) & 7 == 0).unwrap();
    let states = |distance: u64| region.row(first + distance);
    let claims: Vec<_> =
        (0..3.min(step as u64)).map(|d| region.claim(tag, first + d).unwrap()).collect();
    if step > 3 {
        let generation = claims[0].generation;
        states(0).run.store(State::Own { tag, kind: 5 }.word(generation), Ordering::Relaxed);
        if step > 4 {
            states(0).state.store(Chunk::Head { chunks: 3 }.word(generation), Ordering::Relaxed);
        }
        for distance in 1..(step as u64).saturating_sub(4).min(3) {
            let tail = Chunk::Tail { distance }.word(claims[distance as usize].generation);
            states(distance).state.store(tail, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_was_half_made_is_free_again() {
    for step in 1..=7 {
        let bytes = Bytes::new(5);
        let region = bytes.region();
        let (one, two) = (region.join().unwrap(), region.join().unwrap());
        region.grow().unwrap();
        half_made(&region, one.member().tag().unwrap(), step);
        assert_eq!(region.sweep(two.member(), &nothing_passed), Swept::default());
        die(&one);
        let swept = region.sweep(two.member(), &nothing_passed);
        assert_eq!(swept.damaged, 0, "step {step}");
        assert!(swept.chunks + swept.blocks > 0, "step {step}");
        let most = region.geometry.chunks * CHUNK;
        assert!(region.allocate_message(two.member(), most).is_ok(), "step {step}");
    }
}

#[test]
fn what_was_half_freed_is_freed_by_the_next() {
    for freed in 0..=3 {
        for others_came in [false, true] {
            let bytes = Bytes::new(6);
            let region = bytes.region();
            let (one, two) = (region.join().unwrap(), region.join().unwrap());
            let tag = one.member().tag().unwrap();
            let run = region.allocate_object(one.member(), KIND, 3 * CHUNK).unwrap();
            let row = region.row(0);
            let freeing = State::Own { tag, kind: FREEING }.word(run.generation);
            row.run.store(freeing, Ordering::Relaxed);
            for distance in (1..3).take(freed).chain((freed == 3).then_some(0)) {
                let state = &region.row(distance).state;
                let generation = generation_of(state.load(Ordering::Relaxed));
                state.store(Chunk::Free { warm: true }.word(generation), Ordering::Relaxed);
            }
            die(&one);
            let mut others = Vec::new();
            if others_came {
                // What is free is used again before anybody looks.
                for _ in 0..region.geometry.chunks - 3 + freed as u64 {
                    let block = region.allocate_message(two.member(), CHUNK).unwrap();
                    fill(&region, block.offset, CHUNK, 0x77);
                    others.push(block);
                }
            }
            let swept = region.sweep(two.member(), &nothing_passed);
            assert_eq!(swept.blocks, u64::from(freed < 3), "{freed}");
            assert_eq!((swept.chunks, swept.damaged), (0, 0));
            if !others_came {
                // Nobody knows whether the dead had given the memory of the others back.
                assert_eq!(region.usage().warm_chunks, freed as u64);
            }
            for block in others {
                assert!(holds(&region, block.offset, CHUNK, 0x77));
                region.free_message(two.member(), block).unwrap();
            }
            let most = region.geometry.chunks * CHUNK;
            assert!(region.allocate_message(two.member(), most).is_ok(), "{freed}");
        }
    }
}

#[test]
fn a_sweeper_that_comes_late_leaves_a_new_run_alone() {
    let bytes = Bytes::new(6);
    let region = bytes.region();
    let (one, two, three) =
        (region.join().unwrap(), region.join().unwrap(), region.join().unwrap());
    let tag = one.member().tag().unwrap();
    let old = region.allocate_object(one.member(), KIND, 2 * CHUNK).unwrap();
    let head = region.row(0).state.load(Ordering::Relaxed);
    region.free_object(one.member(), old).unwrap();
    die(&one);
    // The row is free; the word is what the dead had left. A sweeper that saw the head before takes the word.
    let leftover = region.row(0).run.load(Ordering::Relaxed);
    assert_eq!(leftover, State::Own { tag, kind: FREEING }.word(old.generation));
    let late = three.member().tag().unwrap();
    region
        .row(0)
        .run
        .store(State::Own { tag: late, kind: FREEING }.word(old.generation), Ordering::Relaxed);
    assert!(!region.dismantle(0, 2, head, false));
    let new = region.allocate_object(two.member(), KIND, 2 * CHUNK).unwrap();
    assert_eq!(new.offset, old.offset);
    assert!(!region.dismantle(0, 2, head, false));
    assert_eq!(region.usage().run_chunks, 2);
    assert!(region.resolve(new.offset, KIND, new.generation, 2 * CHUNK).is_ok());
}

#[test]
fn a_message_that_came_back_under_the_same_number_is_not_swept() {
    let bytes = Bytes::new(6);
    let region = bytes.region();
    let (one, two, three) =
        (region.join().unwrap(), region.join().unwrap(), region.join().unwrap());
    for size in [40, 100_000] {
        let first = region.allocate_message(one.member(), size).unwrap();
        region.hand_over(one.member(), first, QUEUE, 5).unwrap();
        // Between the sweeper's question and its claim a consumer takes the block, and it comes back under the number
        // that it had: in a new queue at the same place.
        let asked = core::cell::Cell::new(0);
        let swept = region.sweep(three.member(), &|_, _| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                let block = region.take_over(one.member(), first.offset, QUEUE, 5).unwrap();
                region.free_message(one.member(), block).unwrap();
                let again = region.allocate_message(one.member(), size).unwrap();
                assert_eq!(again, first);
                region.hand_over(one.member(), again, QUEUE, 5).unwrap();
                return true;
            }
            false
        });
        assert_eq!((swept, asked.get()), (Swept::default(), if size == 40 { 2 } else { 1 }));
        // And if its consumer comes while the sweeper looks, the consumer has it.
        let asked = core::cell::Cell::new(0);
        let swept = region.sweep(three.member(), &|_, _| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 {
                let block = region.take_over(two.member(), first.offset, QUEUE, 5).unwrap();
                assert_eq!(block, first);
            }
            true
        });
        assert_eq!(swept, Swept::default());
        region.free_message(two.member(), first).unwrap();
    }
    // A sweeper that died while it looked.
    let block = region.allocate_message(one.member(), 40).unwrap();
    let place = region.locate(block.offset).unwrap();
    let checking = State::Own { tag: three.member().tag().unwrap(), kind: CHECKING }.word(0);
    place.word.store(checking, Ordering::Relaxed);
    die(&three);
    assert_eq!(region.sweep(two.member(), &nothing_passed).blocks, 1);
}

#[test]
fn memory_of_messages_goes_back_and_comes_again() {
    let bytes = Bytes::new(200);
    let region = bytes.region();
    let seat = region.join().unwrap();
    let me = seat.member();
    let kept = region.allocate_message(me, 1000).unwrap();
    let small = region.allocate_message(me, 100).unwrap();
    let object = region.allocate_object(me, KIND, 64).unwrap();
    let run = region.allocate_message(me, 3 * CHUNK).unwrap();
    region.free_message(me, small).unwrap();
    region.free_message(me, run).unwrap();
    assert_eq!(region.usage().warm_chunks, 3);
    assert!(bytes.memory.released.lock().unwrap().is_empty());
    let committed = bytes.memory.committed.lock().unwrap().len();
    // Warm chunks need no system call.
    let again = region.allocate_message(me, 2 * CHUNK).unwrap();
    assert_eq!(bytes.memory.committed.lock().unwrap().len(), committed);
    region.free_message(me, again).unwrap();

    let trimmed = region.trim(me);
    let released: Vec<_> = core::mem::take(&mut bytes.memory.released.lock().unwrap());
    assert_eq!(released.len(), 4);
    assert_eq!(trimmed, released.iter().map(|part| part.1).sum::<u64>());
    let chunk_of = |offset: u64| (offset - region.geometry.chunks_at) / CHUNK;
    for &(at, length) in &released {
        assert_eq!((at % 4096, length % 4096), (0, 0));
        let chunk = chunk_of(at);
        assert_eq!(chunk_of(at + length - 1), chunk);
        assert!(chunk != chunk_of(kept.offset) && chunk != chunk_of(object.offset));
        if chunk == chunk_of(small.offset) {
            // The words stay.
            assert!(at - region.chunk_at(chunk) >= SHAPES[3].start);
        }
    }
    assert_eq!(region.trim(me), 0);
    // Used again: the pages are made first.
    let committed = bytes.memory.committed.lock().unwrap().len();
    let one = region.allocate_message(me, 100).unwrap();
    let two = region.allocate_message(me, 100).unwrap();
    assert_eq!(
        bytes.memory.committed.lock().unwrap()[committed..],
        [(region.chunk_at(chunk_of(one.offset)), CHUNK)]
    );
    region.free_message(me, one).unwrap();
    region.free_message(me, two).unwrap();
    assert!(region.trim(me) > 0);
    bytes.memory.empty.store(true, Ordering::Relaxed);
    assert!(matches!(region.allocate_message(me, 100), Err(AllocError::Memory(_))));
    bytes.memory.empty.store(false, Ordering::Relaxed);
    let one = region.allocate_message(me, 100).unwrap();
    region.free_message(me, one).unwrap();
    // A long run goes back at once.
    let long = region.allocate_message(me, 100 * CHUNK).unwrap();
    bytes.memory.released.lock().unwrap().clear();
    region.free_message(me, long).unwrap();
    assert_eq!(*bytes.memory.released.lock().unwrap(), [(long.offset, 100 * CHUNK)]);
    assert_eq!(region.usage().warm_chunks, 0);
}

#[test]
fn objects_of_a_kind_are_found() {
    let bytes = Bytes::new(8);
    let region = bytes.region();
    let seat = region.join().unwrap();
    let me = seat.member();
    let mut made = HashSet::new();
    for size in [10, 10, 700, 100_000] {
        let object = region.allocate_object(me, KIND, size).unwrap();
        region.share(object).unwrap();
        let other = region.allocate_object(me, OTHER, size).unwrap();
        made.insert(object);
        let _ = other;
    }
    let own = region.allocate_object(me, KIND, 10).unwrap();
    made.insert(own);
    let mut seen = HashSet::new();
    region.for_each_object(KIND, &mut |object, capacity| {
        assert!(region.resolve(object.offset, KIND, object.generation, capacity).is_ok());
        assert!(seen.insert(object));
    });
    assert_eq!(seen, made);
}

#[test]
fn processes_that_never_joined_or_forked_free_nothing() {
    let bytes = Bytes::new(4);
    let region = bytes.region();
    let (one, stranger) = (region.join().unwrap(), Membership::prepare(region.setting()));
    let block = region.allocate_message(one.member(), 10).unwrap();
    let object = region.allocate_object(one.member(), KIND, 10).unwrap();
    assert!(region.free_message(stranger.member(), block).is_err());
    assert!(region.free_object(stranger.member(), object).is_err());
    assert_eq!(region.trim(stranger.member()), 0);
    assert_eq!(region.participants().attached(), 1);
    // But it sweeps what needs no name.
    die(&one);
    assert_eq!(region.sweep(stranger.member(), &|_, _| true).blocks, 2);
    assert!(stranger.member().current_tag().is_none());
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// What an attacker or an accident might leave: noise, or something that looks almost right.
    fn word(&mut self) -> u64 {
        let tag =
            Tag::from_bits((self.below(4) as u32 + 1) | ((self.below(3) as u32) << 12)).unwrap();
        let generation = self.below(3) as u32;
        match self.below(12) {
            0 => 0,
            1 => Chunk::Free { warm: true }.word(generation),
            2 => Chunk::Carving(tag).word(generation),
            3 => Chunk::Blocks { class: self.below(16) as usize, purpose: Purpose::Objects }
                .word(generation),
            4 => Chunk::Blocks { class: self.below(16) as usize, purpose: Purpose::Messages }
                .word(generation),
            5 => Chunk::Head { chunks: self.below(8) }.word(generation),
            6 => Chunk::Tail { distance: self.below(8) }.word(generation),
            7 => State::Own { tag, kind: self.below(64) as u8 }.word(generation),
            8 => State::Shared { kind: self.below(64) as u8 }.word(generation),
            9 => State::Queued { queue: QUEUE, ticket: self.below(3) as u32 }.word(0),
            _ => self.next(),
        }
    }
}

#[test]
fn garbage_is_survived() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for _ in 0..if cfg!(debug_assertions) { 60 } else { 600 } {
        let bytes = Bytes::new(12);
        let region = bytes.region();
        let (one, two) = (region.join().unwrap(), region.join().unwrap());
        let me = one.member();
        let mut blocks = Vec::new();
        for size in [16, 100, 5000, 100_000] {
            blocks.push(region.allocate_message(me, size).unwrap());
            let object = region.allocate_object(me, KIND, size).unwrap();
            if random.below(2) == 0 {
                region.share(object).unwrap();
            }
        }
        let _ = two.member().tag();
        let chunks = region.geometry.chunks;
        for round in 0..3 {
            for chunk in 0..chunks {
                if random.below(3) > 0 {
                    region.row(chunk).state.store(random.word(), Ordering::Relaxed);
                    region.row(chunk).run.store(random.word(), Ordering::Relaxed);
                }
                // The line of hints and the first words, and some anywhere.
                let words = region.slice_at::<AtomicU64>(region.chunk_at(chunk), CHUNK / 8);
                for index in 0..64 {
                    words[index].store(random.word(), Ordering::Relaxed);
                    words[random.below(2000) as usize].store(random.word(), Ordering::Relaxed);
                }
            }
            if round == 2 {
                region.header().chunks_ready.store(random.next(), Ordering::Relaxed);
                die(&two);
            }
            for _ in 0..40 {
                let offset = region.geometry.chunks_at + random.below(chunks * CHUNK / 16) * 16;
                let most = 1 << random.below(20);
                let size = random.below(most);
                let block = Block { offset, capacity: size };
                let generation = random.below(3) as u32;
                if let Ok(room) = region.resolve(offset, KIND, generation, size) {
                    assert!(room.capacity >= size);
                    assert!(region.bytes(offset, room.capacity, 1).is_ok());
                }
                let object = Object { offset, generation, kind: KIND };
                let _ = region.share(object);
                let _ = region.free_object(me, object);
                let _ = region.destroy(me, object);
                let _ = region.hand_over(me, block, QUEUE, random.below(3));
                if let Ok(taken) = region.take_over(me, offset, QUEUE, random.below(3)) {
                    assert!(region.bytes(offset, taken.capacity, 1).is_ok());
                }
                let _ = region.free_message(me, block);
                if let Ok(block) = region.allocate_message(me, size) {
                    assert!(block.capacity >= size);
                    fill(&region, block.offset, block.capacity, random.next() as u8);
                    blocks.push(block);
                }
                if let Ok(object) = region.allocate_object(me, KIND, size) {
                    let _ = region.resolve(object.offset, KIND, object.generation, size);
                }
            }
            for block in blocks.drain(..) {
                let _ = region.free_message(me, block);
            }
            let coin = random.next();
            let _ = region.sweep(me, &|_, ticket| coin >> (ticket % 64) & 1 == 0);
            let _ = region.trim(me);
            let _ = region.usage();
            region.for_each_object(KIND, &mut |object, capacity| {
                assert!(region.bytes(object.offset, capacity, 1).is_ok());
            });
        }
    }
}

/// Four processes allocate, hand over, take and free at random, write their mark into each block and find it again. One
/// after the other dies with blocks in its hand; others sweep. In the end nothing is lost.
#[test]
fn under_load_no_block_is_given_out_twice() {
    const SEATS: u64 = 4;
    let bytes = Bytes::new(64);
    let region = bytes.region();
    for life in 0..4u64 {
        let swept = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SEATS)
                .map(|number| {
                    let region = &region;
                    scope.spawn(move || churn(region, life * SEATS + number + 1))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        let _ = swept;
        let seat = region.join().unwrap();
        region.sweep(seat.member(), &|_, _| true);
        let usage = region.usage();
        assert_eq!((usage.owned, usage.queued, usage.damaged), (0, 0, 0), "{usage:?}");
        assert_eq!(usage.run_chunks, 0);
        die(&seat);
    }
}

fn churn(region: &Region<'_>, number: u64) -> u64 {
    const SIZES: [u64; 6] = [16, 60, 1000, 9000, 30_000, 150_000];
    let seat = region.join().unwrap();
    let me = seat.member();
    let mut random = Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut mine: Vec<(Block, u8)> = Vec::new();
    let mut objects: Vec<(Object, u64, u8)> = Vec::new();
    let mut swept = 0;
    // Tickets of its own, so that what it queues only itself can take.
    let queue = QUEUE + number * QUEUE_ALIGN;
    let steps = if cfg!(debug_assertions) { 6_000 } else { 60_000 };
    for step in 0..steps {
        let mark = random.next() as u8;
        match random.below(10) {
            0..4 if mine.len() < 60 => {
                let size = SIZES[random.below(SIZES.len() as u64) as usize];
                if let Ok(block) = region.allocate_message(me, size) {
                    fill(region, block.offset, block.capacity.min(2048), mark);
                    mine.push((block, mark));
                }
            }
            4 if objects.len() < 30 => {
                let size = SIZES[random.below(4) as usize];
                if let Ok(object) = region.allocate_object(me, KIND, size) {
                    assert!(holds(region, object.offset, size, 0), "not zeroed");
                    fill(region, object.offset, size, mark);
                    objects.push((object, size, mark));
                }
            }
            5 if !mine.is_empty() => {
                let (block, mark) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                region.hand_over(me, block, queue, step).unwrap();
                assert!(holds(region, block.offset, block.capacity.min(2048), mark));
                mine.push((region.take_over(me, block.offset, queue, step).unwrap(), mark));
            }
            6 if !objects.is_empty() => {
                let at = random.below(objects.len() as u64) as usize;
                let (object, size, mark) = objects.swap_remove(at);
                assert!(holds(region, object.offset, size, mark), "overwritten");
                if mark & 1 == 0 {
                    region.free_object(me, object).unwrap();
                } else {
                    region.share(object).unwrap();
                    region.destroy(me, object).unwrap();
                }
            }
            7 if step % 64 == 0 => {
                swept += region.sweep(me, &|_, _| false).blocks;
                region.trim(me);
            }
            _ if !mine.is_empty() => {
                let (block, mark) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                assert!(holds(region, block.offset, block.capacity.min(2048), mark), "overwritten");
                region.free_message(me, block).unwrap();
            }
            _ => {}
        }
    }
    for (block, mark) in mine.drain(..mine.len() / 2) {
        assert!(holds(region, block.offset, block.capacity.min(2048), mark));
        region.free_message(me, block).unwrap();
    }
    // The rest dies with it.
    let mut tickets = 0..;
    for (block, _) in mine.drain(mine.len() / 2..) {
        region.hand_over(me, block, queue, tickets.next().unwrap()).unwrap();
    }
    for (object, _, _) in objects.drain(..objects.len() / 2) {
        region.free_object(me, object).unwrap();
    }
    die(&seat);
    swept
}

#[test]
fn plain_and_kinds_do_not_meet() {
    assert!(Kind::new(PLAIN).is_none() && Kind::new(CHECKING).is_none());
    assert!(Kind::new(FREEING).is_none() && Kind::new(64).is_none() && Kind::new(255).is_none());
    assert_eq!(Kind::new(61).map(Kind::number), Some(61));
}

/// A region over a file, as two processes map it.
struct File {
    base: NonNull<u8>,
}

const FILE_LENGTH: u64 = 64 * CHUNK;

impl File {
    fn map(file: impl rustix::fd::AsFd) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            mmap(
                core::ptr::null_mut(),
                FILE_LENGTH as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        };
        Self { base: NonNull::new(base.unwrap()).unwrap().cast() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: mapped above with this length; the regions over it borrow it.
        unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), FILE_LENGTH as usize).unwrap() }
    }
}

const FILE_VARIABLE: &str = "PROCESSION_TEST_REGION";

/// Kills its child however the test ends.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_killed_anywhere_leaves_nothing_behind() {
    use rustix::fd::AsRawFd;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let fd = memfd_create("blocks", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, FILE_LENGTH).unwrap();
    let file = File::map(&fd);
    let options = Options { participants: 300, ..Options::default() };
    // SAFETY: the mapping is fresh, zero, this test's own, and outlives the region.
    let region = unsafe { Region::create(file.base, FILE_LENGTH, options, &Fixed) }.unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let progress = region.allocate_object(me, OTHER, 4).unwrap();
    region.share(progress).unwrap();
    let steps: &AtomicU32 = region.object(progress.offset).unwrap();
    let mut random = Random(0x5EED_5EED_1234_5677);
    let mut found = 0;
    for round in 0..40 {
        steps.store(0, Ordering::Relaxed);
        let path = std::format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        let mut child = Child(
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "region::block::tests::a_child_works_until_it_is_killed"])
                .env(FILE_VARIABLE, std::format!("{path}:{}:{round}", progress.offset))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap(),
        );
        let enough = 1 + random.below(3000) as u32;
        let late = crate::sys::Deadline::after(core::time::Duration::from_secs(20));
        while steps.load(Ordering::Relaxed) < enough {
            assert!(!late.is_past(), "the child does not work");
            assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        // Some instructions more.
        for _ in 0..random.below(2000) {
            core::hint::spin_loop();
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // What it had freed before it died is in use again when the sweep comes.
        let mine: Vec<_> =
            (0..20).map(|i| region.allocate_message(me, 1 << (i % 18)).unwrap()).collect();
        for block in &mine {
            fill(&region, block.offset, block.capacity, 0x55);
        }
        let swept = region.sweep(me, &|_, _| true);
        found += swept.blocks + swept.chunks;
        assert_eq!(swept.damaged, 0);
        // What is shared outlives its maker: the next layer's to end.
        let mut left = Vec::new();
        region.for_each_object(KIND, &mut |object, _| left.push(object));
        for object in left {
            region.destroy(me, object).unwrap();
        }
        for block in mine {
            assert!(holds(&region, block.offset, block.capacity, 0x55));
            region.free_message(me, block).unwrap();
        }
        let usage = region.usage();
        assert_eq!((usage.owned, usage.shared, usage.queued), (0, 1, 0), "{usage:?}");
        assert_eq!((usage.run_chunks, usage.damaged), (0, 0), "{usage:?}");
    }
    assert!(found > 0, "no child was killed with anything in its hand");
    let free = region.geometry.chunks - region.usage().block_chunks;
    let mut runs = 0;
    while region.allocate_message(me, CHUNK).is_ok() {
        runs += 1;
    }
    assert_eq!(runs, free, "chunks were lost");
}

/// Not a test by itself: what the children of the one above do.
#[test]
fn a_child_works_until_it_is_killed() {
    let Some(where_) = std::env::var_os(FILE_VARIABLE) else { return };
    let where_ = where_.into_string().unwrap();
    let mut parts = where_.split(':');
    let path = parts.next().unwrap();
    let progress: u64 = parts.next().unwrap().parse().unwrap();
    let seed: u64 = parts.next().unwrap().parse().unwrap();
    let file = rustix::fs::open(path, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
    let file = File::map(&file);
    // SAFETY: mapped for as long as the region is used, and changed by this library alone.
    let region = unsafe { Region::attach(file.base, FILE_LENGTH, &Fixed) }.unwrap();
    let steps: &AtomicU32 = region.object(progress).unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let mut random = Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut mine = std::collections::VecDeque::new();
    // Should the parent be killed too, this ends by itself.
    let late = crate::sys::Deadline::after(core::time::Duration::from_secs(30));
    for ticket in 0.. {
        let size = random.below(1 << (4 + ticket % 15));
        let block = region.allocate_message(me, size).unwrap();
        mine.push_back(block);
        let object = region.allocate_object(me, KIND, size).unwrap();
        if ticket % 2 == 0 {
            region.share(object).unwrap();
            region.destroy(me, object).unwrap();
        } else {
            region.free_object(me, object).unwrap();
        }
        let block = mine[random.below(mine.len() as u64) as usize];
        region.hand_over(me, block, QUEUE, ticket).unwrap();
        let _ = region.take_over(me, block.offset, QUEUE, ticket).unwrap();
        if mine.len() > 8 {
            region.free_message(me, mine.pop_front().unwrap()).unwrap();
        }
        if ticket % 16 == 0 {
            region.trim(me);
        }
        steps.fetch_add(1, Ordering::Relaxed);
        if late.is_past() {
            break;
        }
    }
}
