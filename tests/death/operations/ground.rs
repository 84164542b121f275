//! The ground that core's scenes stand on: a region in memory that the forked processes share.

use std::ptr::NonNull;
use std::time::Duration;

use procession_core::region::{Fixed, Member, Membership, Options, Region, Shareable};
use procession_core::sys::Deadline;
use procession_core::sys::spin::Pace;
use procession_core::wait::Eventcount;

use crate::engine::memory::Memory;
use crate::engine::operation::Span;

/// Bytes of the region.
const LEN: usize = 1 << 20;

/// A region, with the process that set the scene as its first participant.
pub struct Ground {
    memory: Memory,
    region: Region<'static>,
    seat: &'static Membership<'static>,
}

impl Ground {
    /// A region with room for so many processes.
    pub fn new(participants: u32) -> Ground {
        let memory = Memory::new(LEN);
        let base = NonNull::new(memory.start()).expect("a mapping");
        let options = Options { participants, id: 1, ..Options::default() };
        // SAFETY: the memory is fresh, zeroed, never unmapped, and nobody else knows it yet.
        let region = unsafe { Region::create(base, LEN as u64, options, &Fixed) };
        let region = region.expect("a region");
        let seat = region.join().expect("a seat for the first process");
        let seat = Box::leak(Box::new(seat));
        Ground { memory, region, seat }
    }

    /// Attaches to the region anew, as a process does that knows nothing of it.
    pub fn attach(&self) -> Result<Membership<'static>, String> {
        let base = NonNull::new(self.memory.start()).expect("a mapping");
        // SAFETY: the memory is never unmapped, and changed by the library alone.
        let region = unsafe { Region::attach(base, LEN as u64, &Fixed) };
        let region = region.map_err(|e| format!("attaching: {e}"))?;
        region.join().map_err(|e| format!("joining: {e}"))
    }

    /// Who the calling process is. A forked child joins at its first claim, or here.
    pub fn me(&self) -> Member<'static> {
        let me = self.seat.member();
        me.tag().expect("a seat for a forked process");
        me
    }

    /// Gets ready to be stepped.
    pub fn enter(&self) {
        get_ready(self.me());
    }

    /// Where in this process a piece of the region lies.
    pub fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        self.region.bytes(offset, len, 1).expect("a place in the region").as_ptr()
    }

    /// The object at this place in the last 64 KiB of the region.
    pub fn object<T: Shareable>(&self, place: u64) -> &'static T {
        self.region.object(self.place(place)).expect("an object in the region")
    }

    /// The offset of this place in the last 64 KiB of the region.
    pub fn place(&self, place: u64) -> u64 {
        LEN as u64 - 0x10000 + place
    }

    /// The region.
    pub fn region(&self) -> &Region<'static> {
        &self.region
    }

    /// The region's memory.
    pub fn span(&self) -> Span {
        self.memory.span()
    }
}

/// Gets a process ready to be stepped: it joins, looks at the clock, which takes long the first time,
/// and waits in vain so often that it spins no more, for that would take seconds when stepped.
pub fn get_ready(me: Member<'_>) {
    me.tag().expect("a seat for a forked process");
    let nobody_comes = Eventcount::new();
    for _ in 0..50 {
        // Not past, else nobody spins; and over when the spinning is.
        let soon = Deadline::after(Duration::from_micros(20));
        nobody_comes.wait(me, soon, Pace::Eager, |_| None::<()>);
    }
}
