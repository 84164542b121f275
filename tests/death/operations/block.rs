//! Blocks: what the dead had in hand is free again, and nothing is handed out twice.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::region::{Block, Kind, Object};

use super::ground::Ground;
use crate::engine::child::Child;
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

const KIND: Kind = Kind::new(5).expect("a kind");
/// A size of each sort: blocks of two classes, and a run of two chunks.
const SMALL: u64 = 2000;
const LARGE: u64 = 9000;
const RUN: u64 = 100_000;
/// How finely memory that is handed out is noted.
const GRAIN: u64 = 16;

/// A region whose blocks come and go.
struct Blocks {
    ground: Ground,
    /// For each piece of the region: how many living processes think that it is theirs.
    owners: &'static [AtomicU32],
    notes: &'static [AtomicU32],
    /// What the scene's process has made for the victim.
    object: Cell<Option<Object>>,
}

/// Notes: pieces handed out twice, objects that were not zero, objects shared and destroyed for sure.
const TWICE: usize = 0;
const DIRTY: usize = 1;
const SHARED: usize = 2;
const DESTROYED: usize = 3;

impl Blocks {
    fn new() -> &'static Blocks {
        let ground = Ground::new(8);
        let pieces = ground.region().size() / GRAIN;
        Box::leak(Box::new(Blocks {
            ground,
            owners: Memory::new(pieces as usize * 4).counters(),
            notes: Memory::new(4096).counters(),
            object: Cell::new(None),
        }))
    }

    /// Chunks of the usual sizes are there already.
    fn warm() -> &'static Blocks {
        let scene = Blocks::new();
        let me = scene.ground.me();
        for bytes in [SMALL, LARGE, RUN] {
            let block = scene.ground.region().allocate_message(me, bytes).expect("a block");
            scene.ground.region().free_message(me, block).expect("to free it");
        }
        scene
    }

    /// There is a shared object.
    fn with_object(bytes: u64) -> &'static Blocks {
        let scene = Blocks::new();
        scene.object.set(scene.share(bytes).ok());
        scene
    }

    /// Somebody has died with blocks of each sort in hand.
    fn after_a_death() -> &'static Blocks {
        let scene = Blocks::warm();
        let child = Child::start(|| {
            let me = scene.ground.me();
            for bytes in [SMALL, LARGE, RUN, RUN] {
                let block = scene.ground.region().allocate_message(me, bytes);
                let _ = block.map_err(|e| e.to_string())?;
            }
            Ok(Vec::new())
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        child.and_then(|child| child.finish(deadline)).expect("a child that dies");
        scene
    }

    fn allocate(&self, bytes: u64) -> Option<Block> {
        self.ground.region().allocate_message(self.ground.me(), bytes).ok()
    }

    fn free(&self, block: Option<Block>) {
        if let Some(block) = block {
            let _ = self.ground.region().free_message(self.ground.me(), block);
        }
    }

    /// Makes an object and shares it.
    fn share(&self, bytes: u64) -> Result<Object, String> {
        let me = self.ground.me();
        let region = self.ground.region();
        let object = region.allocate_object(me, KIND, bytes).map_err(|e| e.to_string())?;
        region.share(object).map_err(|e| e.to_string())?;
        self.notes[SHARED].fetch_add(1, SeqCst);
        Ok(object)
    }

    fn destroy(&self, object: Option<Object>) {
        if let Some(object) = object
            && self.ground.region().destroy(self.ground.me(), object).is_ok()
        {
            self.notes[DESTROYED].fetch_add(1, SeqCst);
        }
    }

    /// A living process has got this memory, or gives it back.
    fn note(&self, offset: u64, len: u64, mine: bool) {
        for owners in &self.owners[(offset / GRAIN) as usize..((offset + len) / GRAIN) as usize] {
            let before =
                if mine { owners.fetch_add(1, SeqCst) } else { owners.fetch_sub(1, SeqCst) };
            if before != u32::from(!mine) {
                self.notes[TWICE].fetch_add(1, SeqCst);
                return;
            }
        }
    }

    /// Takes blocks of each sort, uses them, gives them back.
    fn use_all(&self, rounds: u32) -> Result<(), String> {
        let me = self.ground.me();
        let region = self.ground.region();
        let mut blocks = Vec::new();
        for _ in 0..rounds {
            for bytes in [SMALL, LARGE] {
                let block = region.allocate_message(me, bytes).map_err(|e| e.to_string())?;
                self.note(block.offset, block.capacity, true);
                blocks.push(block);
            }
        }
        let block = region.allocate_message(me, RUN).map_err(|e| e.to_string())?;
        self.note(block.offset, block.capacity, true);
        blocks.push(block);
        let object = region.allocate_object(me, KIND, SMALL).map_err(|e| e.to_string())?;
        let room = region.resolve(object.offset, KIND, object.generation, SMALL);
        let room = room.map_err(|e| e.to_string())?;
        self.note(object.offset, room.capacity, true);
        // SAFETY: the object is this process's own, so nobody else writes there.
        let bytes = unsafe { std::slice::from_raw_parts(room.place.as_ptr(), SMALL as usize) };
        if bytes.iter().any(|&byte| byte != 0) {
            self.notes[DIRTY].fetch_add(1, SeqCst);
        }

        self.note(object.offset, room.capacity, false);
        region.free_object(me, object).map_err(|e| e.to_string())?;
        for block in blocks {
            let place = self.ground.bytes(block.offset, block.capacity);
            // SAFETY: the block is this process's own.
            unsafe { place.write_bytes(0xA5, block.capacity as usize) };
            self.note(block.offset, block.capacity, false);
            region.free_message(me, block).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Scene for Blocks {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    /// Without a sweep: what the dead have left must not be in the way.
    fn survive(&self, _: u32, _: Duration) -> Result<(), Trouble> {
        Ok(self.use_all(5)?)
    }

    /// Sweeps, and uses what that gave.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        let swept = self.ground.region().sweep(me, &|_, _| true);
        if swept.damaged > 0 {
            return Err(Trouble::Wrong(format!("the sweep found damage: {swept:?}")));
        }
        let block = self.ground.region().allocate_message(me, RUN).map_err(|e| e.to_string())?;
        self.ground.region().free_message(me, block).map_err(|e| Trouble::Wrong(e.to_string()))
    }

    fn audit(&self) -> Result<Audit, String> {
        let me = self.ground.me();
        let region = self.ground.region();
        region.sweep(me, &|_, _| true);
        let usage = region.usage();
        let noted = |index: usize| u64::from(self.notes[index].load(SeqCst));
        let objects = noted(SHARED) - noted(DESTROYED);
        // One that was shared or destroyed, but its maker died before it could say so, may be there or not.
        let shared = usage.shared.abs_diff(objects);
        let leaked = usage.owned + usage.queued + shared.saturating_sub(1);

        // Every chunk that is not in use for good can be had.
        let mut runs = 0;
        while region.allocate_message(me, RUN / 2).is_ok() {
            runs += 1;
        }
        let chunks = usage.chunks - usage.block_chunks - usage.run_chunks - runs;
        Ok(Audit {
            lost: (leaked + chunks) as u32,
            doubled: noted(TWICE) as u32,
            torn: (noted(DIRTY) + usage.damaged) as u32,
            stuck: 0,
        })
    }
}

/// The operations of this family. What is lost here is memory: none may be, for the dead's is free again.
pub fn operations() -> Vec<Operation> {
    use Blocks as B;
    vec![
        Operation::new("block.allocate", B::warm, B::enter, |s, ()| {
            let _ = s.allocate(SMALL);
        })
        .twice(0),
        Operation::new("block.allocate.carving", B::new, B::enter, |s, ()| {
            let _ = s.allocate(LARGE);
        })
        .twice(0),
        Operation::new("block.allocate.run", B::warm, B::enter, |s, ()| {
            let _ = s.allocate(RUN);
        })
        .twice(0),
        Operation::new(
            "block.free",
            B::warm,
            |s| {
                s.enter();
                s.allocate(SMALL)
            },
            |s, block| s.free(block),
        )
        .twice(0),
        Operation::new(
            "block.free.run",
            B::warm,
            |s| {
                s.enter();
                s.allocate(RUN)
            },
            |s, block| s.free(block),
        )
        .twice(0),
        Operation::new("block.share", B::new, B::enter, |s, ()| {
            let _ = s.share(LARGE);
        })
        .twice(0),
        Operation::new(
            "block.destroy",
            || B::with_object(LARGE),
            B::enter,
            |s, ()| {
                s.destroy(s.object.get());
            },
        )
        .twice(0),
        Operation::new(
            "block.destroy.run",
            || B::with_object(RUN),
            B::enter,
            |s, ()| {
                s.destroy(s.object.get());
            },
        )
        .twice(0),
        Operation::new("block.sweep", B::after_a_death, B::enter, |s, ()| {
            s.ground.region().sweep(s.ground.me(), &|_, _| true);
        })
        .twice(0),
        Operation::new("block.trim", B::warm, B::enter, |s, ()| {
            s.ground.region().trim(s.ground.me());
        })
        .twice(0),
    ]
}
