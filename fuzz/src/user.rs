//! Somebody who uses all that a region offers, in any order.

use std::ops::Range;
use std::rc::Rc;

use arbitrary::Arbitrary;
use procession_core::queue::SlotQueue;
use procession_core::region::{Block, Kind, Membership, Object, Region};
use procession_core::sys::atomic::AtomicU64;

use crate::damage::Damage;
use crate::memory::Memory;

/// Something to do with a region. Small numbers choose among what there is.
#[derive(Arbitrary, Clone, Debug)]
pub enum Act {
    Object { kind: u8, bytes: u32 },
    Message { bytes: u32 },
    Share(u8),
    FreeObject(u8),
    Destroy(u8),
    Resolve { object: u8, bytes: u32 },
    ResolveAny { offset: u64, kind: u8, generation: u32, bytes: u64 },
    HandOver { block: u8, queue: u32, ticket: u64 },
    Queued { block: u8, queue: u32, ticket: u64 },
    TakeOver { block: u8, queue: u32, ticket: u64 },
    TakeOverAny { offset: u64, queue: u64, ticket: u64 },
    FreeMessage(u8),
    FreeAny { offset: u64, capacity: u64 },
    Look { offset: u64, count: u64 },
    Sweep,
    Visit(u8),
    Usage,
    Trim,
    Join,
    Bury(u8),
    Switch(u8),
    Attach { shorter: u32 },
    Damage(Damage),
}

/// Does it all, and holds what is had in hand to its promise: it lies in the region, and nobody else has it as long as
/// nothing was damaged.
pub fn act(
    memory: &Memory,
    region: Region<'static>,
    acts: &[Act],
    areas: &[Range<usize>],
    sound: bool,
) {
    let mut user = User {
        memory,
        region,
        areas,
        seats: vec![],
        seat: 0,
        objects: vec![],
        blocks: vec![],
        sound,
    };
    user.join();
    for act in acts.iter().take(200) {
        user.act(act);
    }
}

struct User<'a> {
    memory: &'a Memory,
    region: Region<'static>,
    areas: &'a [Range<usize>],
    /// The processes that this one plays.
    seats: Vec<Rc<Membership<'static>>>,
    seat: usize,
    objects: Vec<(Object, u64)>,
    blocks: Vec<Block>,
    /// Nothing was damaged yet.
    sound: bool,
}

impl User<'_> {
    fn join(&mut self) {
        if self.seats.len() < 5
            && let Ok(seat) = self.region.join()
        {
            self.seats.push(Rc::new(seat));
        }
    }

    /// Memory in hand is used: all of it.
    fn fill(&self, offset: u64, bytes: u64) {
        let place =
            self.region.bytes(offset, bytes, 1).expect("what is handed out lies in the region");
        // SAFETY: it lies in the region, and nobody else is at work.
        unsafe { place.write_bytes(0xA5, bytes as usize) };
    }

    fn act(&mut self, act: &Act) {
        let Some(seat) = self.seats.get(self.seat % self.seats.len().max(1)) else { return };
        let seat = Rc::clone(seat);
        let me = seat.member();
        let region = self.region;
        let object =
            |index: u8| self.objects.get(usize::from(index) % self.objects.len().max(1)).copied();
        let block =
            |index: u8| self.blocks.get(usize::from(index) % self.blocks.len().max(1)).copied();
        let queue = |queue: u32| u64::from(queue) % self.memory.len() as u64 & !127;
        let kind = |kind: u8| Kind::new(kind % 3 + 1).expect("a kind");
        match *act {
            Act::Object { kind: number, bytes } => {
                let bytes = u64::from(bytes) % (self.memory.len() as u64 * 2);
                if let Ok(made) = region.allocate_object(me, kind(number), bytes) {
                    self.fill(made.offset, bytes);
                    self.objects.push((made, bytes));
                    self.check();
                }
            }
            Act::Message { bytes } => {
                let bytes = u64::from(bytes) % (self.memory.len() as u64 * 2);
                if let Ok(made) = region.allocate_message(me, bytes) {
                    assert!(made.capacity >= bytes);
                    self.fill(made.offset, made.capacity);
                    self.blocks.push(made);
                    self.check();
                }
            }
            Act::Share(index) => {
                if let Some((object, _)) = object(index) {
                    let shared = region.share(object);
                    assert!(shared.is_ok() || !self.sound);
                }
            }
            Act::FreeObject(index) => {
                if let Some((object, _)) = object(index)
                    && region.free_object(me, object).is_ok()
                {
                    self.objects.retain(|(other, _)| *other != object);
                }
            }
            Act::Destroy(index) => {
                if let Some((object, _)) = object(index)
                    && region.destroy(me, object).is_ok()
                {
                    self.objects.retain(|(other, _)| *other != object);
                }
            }
            Act::Resolve { object: index, bytes } => {
                if let Some((object, had)) = object(index) {
                    let bytes = u64::from(bytes);
                    let room = region.resolve(object.offset, object.kind, object.generation, bytes);
                    assert!(room.is_ok() || bytes > had || !self.sound);
                    if let Ok(room) = room {
                        self.fill(object.offset, room.capacity);
                    }
                }
            }
            Act::ResolveAny { offset, kind: number, generation, bytes } => {
                if let Ok(room) = region.resolve(offset, kind(number), generation, bytes) {
                    self.fill(offset, room.capacity);
                }
            }
            Act::HandOver { block: index, queue: at, ticket } => {
                if let Some(block) = block(index) {
                    let _ = region.hand_over(me, block, queue(at), ticket);
                }
            }
            Act::Queued { block: index, queue: at, ticket } => {
                if let Some(block) = block(index)
                    && let Ok(found) = region.queued(block.offset, queue(at), ticket)
                {
                    self.fill(found.offset, found.capacity);
                }
            }
            Act::TakeOver { block: index, queue: at, ticket } => {
                if let Some(block) = block(index)
                    && let Ok(taken) = region.take_over(me, block.offset, queue(at), ticket)
                {
                    self.fill(taken.offset, taken.capacity);
                }
            }
            Act::TakeOverAny { offset, queue, ticket } => {
                if let Ok(taken) = region.take_over(me, offset, queue, ticket) {
                    self.fill(taken.offset, taken.capacity);
                }
            }
            Act::FreeMessage(index) => {
                if let Some(block) = block(index)
                    && region.free_message(me, block).is_ok()
                {
                    self.blocks.retain(|other| *other != block);
                }
            }
            Act::FreeAny { offset, capacity } => {
                if region.free_message(me, Block { offset, capacity }).is_ok() {
                    self.blocks.retain(|other| other.offset != offset);
                }
            }
            Act::Look { offset, count } => {
                let _ = region.bytes(offset, count, 1);
                let _ = region.object::<AtomicU64>(offset);
                if let Ok(words) = region.objects::<AtomicU64>(offset, count) {
                    assert!(words.len() as u64 == count && words.len() * 8 <= self.memory.len());
                }
            }
            Act::Sweep => {
                region.sweep(me, &|queue, ticket| {
                    SlotQueue::<u64>::attach(&region, queue)
                        .is_ok_and(|queue| queue.has_passed(ticket))
                });
                // What the dead had in hand and what no slot names is gone.
                self.objects.retain(|(object, _)| {
                    region.resolve(object.offset, object.kind, object.generation, 0).is_ok()
                });
                self.blocks.clear();
            }
            Act::Visit(number) => region.for_each_object(kind(number), &mut |object, capacity| {
                let found = region.resolve(object.offset, object.kind, object.generation, capacity);
                assert!(found.is_ok() || !self.sound);
            }),
            Act::Usage => {
                let usage = region.usage();
                assert!(usage.damaged == 0 || !self.sound);
            }
            Act::Trim => {
                region.trim(me);
            }
            Act::Join => self.join(),
            Act::Bury(index) => {
                if let Some(seat) = self.seats.get(usize::from(index) % self.seats.len())
                    && let Some(tag) = seat.member().current_tag()
                {
                    region.participants().declare_dead(tag);
                    self.seats.remove(usize::from(index) % self.seats.len());
                    // What was its own may be another's by now.
                    self.blocks.clear();
                    self.objects.clear();
                }
            }
            Act::Switch(seat) => self.seat = usize::from(seat),
            Act::Attach { shorter } => {
                if let Ok(again) = self
                    .memory
                    .attach((self.memory.len() as u64).saturating_sub(u64::from(shorter)))
                {
                    self.region = again;
                    self.seats.clear();
                    self.join();
                    self.objects.clear();
                    self.blocks.clear();
                }
            }
            Act::Damage(ref damage) => {
                damage.apply(self.memory, self.areas);
                self.sound = false;
            }
        }
    }

    /// What is in hand does not overlap.
    fn check(&self) {
        if !self.sound {
            return;
        }
        let objects = self.objects.iter().map(|(object, bytes)| (object.offset, (*bytes).max(1)));
        let blocks = self.blocks.iter().map(|block| (block.offset, block.capacity));
        let mut all: Vec<(u64, u64)> = objects.chain(blocks).collect();
        all.sort_unstable();
        for pair in all.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "two have the same memory: {pair:x?}");
        }
    }
}
