//! The memory of a ring: cache lines, each with a word that says how far it is filled.
//!
//! Word and items share a line, so that a reader gets both with one transfer: that transfer is the price of a message
//! between processors. Small items share a line with each other; an item larger than a line takes several.

use core::marker::PhantomData;

use bytemuck::Pod;

use crate::sys::atomic::AtomicU64;

/// The lines of a ring of items of type `T`.
pub(super) struct Lines<'r, T> {
    #[cfg(not(loom))]
    base: core::ptr::NonNull<u8>,
    #[cfg(not(loom))]
    count: usize,
    #[cfg(loom)]
    lines: &'r [Line<T>],
    lives: PhantomData<(&'r AtomicU64, T)>,
}

impl<T> Clone for Lines<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lines<'_, T> {}

// SAFETY: the lines are shared memory; whoever reads or writes items holds the role that excludes others, and plain data
// has no tie to a thread.
#[cfg(not(loom))]
unsafe impl<T: Pod> Send for Lines<'_, T> {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl<T: Pod> Sync for Lines<'_, T> {}

#[cfg(not(loom))]
impl<'r, T: Pod> Lines<'r, T> {
    const SIZE: usize = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
    /// Where the first item of a line lies: behind the word.
    const ITEMS_AT: usize = if align_of::<T>() > 8 { align_of::<T>() } else { 8 };
    /// How many items share a line.
    pub const PER_LINE: usize =
        if Self::SIZE > 64 - Self::ITEMS_AT { 1 } else { (64 - Self::ITEMS_AT) / Self::SIZE };
    const STRIDE: usize = (Self::ITEMS_AT + Self::PER_LINE * Self::SIZE).next_multiple_of(64);
    const ALIGNED: () =
        assert!(align_of::<T>() < 64, "an item of a ring is aligned to less than 64");

    /// How many lines hold `capacity` items, and one that is just being used again.
    pub const fn count_for(capacity: u64) -> u64 {
        capacity.div_ceil(Self::PER_LINE as u64) + 1
    }

    /// How many bytes they take.
    pub const fn bytes_for(capacity: u64) -> u64 {
        Self::count_for(capacity) * Self::STRIDE as u64
    }

    /// The lines that lie at `offset`.
    pub fn find(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
    ) -> Result<Self, crate::region::RegionError> {
        const { Self::ALIGNED };
        let base = region.bytes(offset, Self::bytes_for(capacity), 64)?;
        Ok(Self { base, count: Self::count_for(capacity) as usize, lives: PhantomData })
    }

    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    #[inline]
    fn at(&self, line: usize) -> core::ptr::NonNull<u8> {
        debug_assert!(line < self.count);
        // SAFETY: callers name lines below `count`, all of which were checked to lie in the region.
        unsafe { self.base.add(line * Self::STRIDE) }
    }

    /// The word of a line below `count`.
    #[inline]
    pub fn word(&self, line: usize) -> &'r AtomicU64 {
        // SAFETY: a line starts with its word, at a multiple of 64, mapped for 'r.
        unsafe { self.at(line).cast().as_ref() }
    }

    /// Copies items to the places of `line` from `place` on.
    ///
    /// # Safety
    /// `line` is below `count`, the items fit into the line, and the places are this process's to write.
    #[inline]
    pub unsafe fn write(&self, line: usize, place: usize, items: &[T]) {
        debug_assert!(place + items.len() <= Self::PER_LINE);
        // SAFETY: by the caller the places lie in the line, and nobody else touches them.
        unsafe {
            let to = self.at(line).add(Self::ITEMS_AT).cast::<T>().as_ptr().add(place);
            to.copy_from_nonoverlapping(items.as_ptr(), items.len());
        }
    }

    /// Copies the items of `line` from `place` on.
    ///
    /// # Safety
    /// `line` is below `count`, so many items fit into the line, and nobody living writes to them.
    #[inline]
    pub unsafe fn read(&self, line: usize, place: usize, room: &mut [T]) {
        debug_assert!(place + room.len() <= Self::PER_LINE);
        // SAFETY: by the caller; any bytes are a value of plain data.
        unsafe {
            let from = self.at(line).add(Self::ITEMS_AT).cast::<T>().as_ptr().add(place);
            from.copy_to_nonoverlapping(room.as_mut_ptr(), room.len());
        }
    }
}

/// A line of the model: two items share it.
#[cfg(loom)]
#[derive(Debug)]
pub(super) struct Line<T> {
    word: AtomicU64,
    items: [crate::sys::cell::ItemCell<T>; 2],
}

#[cfg(loom)]
impl<'r, T: Pod> Lines<'r, T> {
    pub const PER_LINE: usize = 2;

    /// Lines for `capacity` items.
    pub fn fresh(capacity: u64) -> std::vec::Vec<Line<T>> {
        use crate::sys::cell::ItemCell;
        let line =
            |_| Line { word: AtomicU64::new(0), items: [ItemCell::empty(), ItemCell::empty()] };
        (0..capacity.div_ceil(2) + 1).map(line).collect()
    }

    pub fn over(lines: &'r [Line<T>]) -> Self {
        Self { lines, lives: PhantomData }
    }

    pub fn count(&self) -> usize {
        self.lines.len()
    }

    pub fn word(&self, line: usize) -> &'r AtomicU64 {
        &self.lines[line].word
    }

    /// # Safety
    /// As in the real one; loom checks it.
    pub unsafe fn write(&self, line: usize, place: usize, items: &[T]) {
        for (cell, item) in self.lines[line].items[place..].iter().zip(items) {
            // SAFETY: by the caller.
            unsafe { cell.write(*item) };
        }
    }

    /// # Safety
    /// As in the real one; loom checks it.
    pub unsafe fn read(&self, line: usize, place: usize, room: &mut [T]) {
        for (cell, item) in self.lines[line].items[place..].iter().zip(room) {
            // SAFETY: by the caller.
            *item = unsafe { cell.read() };
        }
    }
}
