//! What is taken next, and what is held: lists through the cells, and a heap that lies across them.
//!
//! The heap's place `i` stands in cell `i`, so that it grows with the cells; its entries are numbers of cells, the least in
//! front. All of this follows from the cells' words, and is made anew from them by [`rebuild`](Store::rebuild).

use bytemuck::Pod;

use super::cells::Cell;
use super::{Damaged, NONE, Order, Store};

/// What a heap is ordered by.
type Rank = (i64, u64);

impl<T: Pod> Store<'_, T> {
    /// Enters what was put last; so many waited before.
    pub(super) fn enter(&self, number: u32, full: u32) -> Result<(), Damaged> {
        match self.plan.order {
            Order::First => self.push_back(number),
            Order::Last => self.push_front(number),
            Order::Least => self.push_heap(number, full, Self::by_key),
        }
    }

    /// Enters what came back; so many waited before.
    pub(super) fn reenter(&self, number: u32, full: u32) -> Result<(), Damaged> {
        match self.plan.order {
            Order::First => self.insert(number, full),
            Order::Last => self.push_front(number),
            Order::Least => self.push_heap(number, full, Self::by_key),
        }
    }

    /// The next to be taken; so many wait.
    pub(super) fn next(&self, full: u32) -> Result<Option<u32>, Damaged> {
        Ok(match self.plan.order {
            _ if full == 0 => None,
            Order::Least => Some(self.cell(0)?.heap.get()),
            Order::First | Order::Last => Some(self.parts.index.front.get()),
        })
    }

    /// Takes the next one out; so many wait, one at least.
    pub(super) fn remove_next(&self, full: u32) -> Result<(), Damaged> {
        match self.plan.order {
            Order::First | Order::Last => self.pop_front().map(|_| ()),
            Order::Least => self.pop_heap(full, Self::by_key).map(|_| ()),
        }
    }

    fn push_back(&self, number: u32) -> Result<(), Damaged> {
        let index = &self.parts.index;
        self.cell(number)?.next.set(NONE);
        match index.back.get() {
            NONE => index.front.set(number),
            back => self.cell(back)?.next.set(number),
        }
        index.back.set(number);
        Ok(())
    }

    fn push_front(&self, number: u32) -> Result<(), Damaged> {
        let index = &self.parts.index;
        let front = index.front.get();
        self.cell(number)?.next.set(front);
        if front == NONE {
            index.back.set(number);
        }
        index.front.set(number);
        Ok(())
    }

    fn pop_front(&self) -> Result<u32, Damaged> {
        let index = &self.parts.index;
        let front = index.front.get();
        let next = self.cell(front)?.next.get();
        index.front.set(next);
        if next == NONE {
            index.back.set(NONE);
        }
        Ok(front)
    }

    /// Puts it in front of all that were put later: behind others that came back, mostly.
    fn insert(&self, number: u32, full: u32) -> Result<(), Damaged> {
        let cell = self.cell(number)?;
        let (mut before, mut behind) = (NONE, self.parts.index.front.get());
        for _ in 0..full {
            let other = self.cell(behind)?;
            if other.number.get() >= cell.number.get() {
                break;
            }
            (before, behind) = (behind, other.next.get());
        }
        match before {
            NONE => self.push_front(number),
            _ if behind == NONE => self.push_back(number),
            _ => {
                cell.next.set(behind);
                self.cell(before)?.next.set(number);
                Ok(())
            }
        }
    }

    fn by_key(cell: &Cell<T>) -> Rank {
        (cell.key.get() as i64, cell.number.get())
    }

    fn by_number(cell: &Cell<T>) -> Rank {
        (0, cell.number.get())
    }

    fn heap(&self, place: u32) -> Result<(u32, &Cell<T>), Damaged> {
        let number = self.cell(place)?.heap.get();
        Ok((number, self.cell(number)?))
    }

    fn push_heap(&self, number: u32, size: u32, rank: fn(&Cell<T>) -> Rank) -> Result<(), Damaged> {
        let own = rank(self.cell(number)?);
        let mut place = size;
        while place > 0 {
            let above = (place - 1) / 2;
            let (other, cell) = self.heap(above)?;
            if rank(cell) <= own {
                break;
            }
            self.cell(place)?.heap.set(other);
            place = above;
        }
        self.cell(place)?.heap.set(number);
        Ok(())
    }

    fn pop_heap(&self, size: u32, rank: fn(&Cell<T>) -> Rank) -> Result<u32, Damaged> {
        let (first, _) = self.heap(0)?;
        let size = size.checked_sub(1).ok_or(Damaged)?;
        let (number, cell) = self.heap(size)?;
        let own = rank(cell);
        let mut place = 0;
        loop {
            let mut below = 2 * u64::from(place) + 1;
            if below >= u64::from(size) {
                break;
            }
            if below + 1 < u64::from(size)
                && rank(self.heap(below as u32 + 1)?.1) < rank(self.heap(below as u32)?.1)
            {
                below += 1;
            }
            let (other, cell) = self.heap(below as u32)?;
            if own <= rank(cell) {
                break;
            }
            self.cell(place)?.heap.set(other);
            place = below as u32;
        }
        self.cell(place)?.heap.set(number);
        Ok(first)
    }

    /// Enters what was taken last into the list of what is held.
    pub(super) fn hold(&self, number: u32) -> Result<(), Damaged> {
        let index = &self.parts.index;
        let newest = index.newest.get();
        let cell = self.cell(number)?;
        cell.next.set(NONE);
        cell.previous.set(newest);
        match newest {
            NONE => index.oldest.set(number),
            newest => self.cell(newest)?.next.set(number),
        }
        index.newest.set(number);
        Ok(())
    }

    /// Takes it off that list.
    pub(super) fn let_go(&self, number: u32) -> Result<(), Damaged> {
        let index = &self.parts.index;
        let cell = self.cell(number)?;
        let (before, behind) = (cell.previous.get(), cell.next.get());
        match before {
            NONE => index.oldest.set(behind),
            before => self.cell(before)?.next.set(behind),
        }
        match behind {
            NONE => index.newest.set(before),
            behind => self.cell(behind)?.previous.set(before),
        }
        Ok(())
    }

    /// Makes the lists and the heap anew of the cells that `full` and `held` tell: so many of each, and in which order they were put.
    pub(super) fn reindex(
        &self,
        full: impl Fn(&Cell<T>) -> bool,
        held: impl Fn(&Cell<T>) -> bool,
    ) -> Result<(u32, u32), Damaged> {
        let index = &self.parts.index;
        for end in [&index.front, &index.back, &index.oldest, &index.newest] {
            end.set(NONE);
        }
        // The heap's room serves to sort, first the one and then the other.
        let holding = self.collect(held, Self::by_number)?;
        for size in (1..=holding).rev() {
            self.hold(self.pop_heap(size, Self::by_number)?)?;
        }
        if self.plan.order == Order::Least {
            return Ok((self.collect(full, Self::by_key)?, holding));
        }
        let waiting = self.collect(full, Self::by_number)?;
        for (entered, size) in (0..).zip((1..=waiting).rev()) {
            self.enter(self.pop_heap(size, Self::by_number)?, entered)?;
        }
        Ok((waiting, holding))
    }

    /// Makes a heap of these cells; how many they are.
    fn collect(
        &self,
        wanted: impl Fn(&Cell<T>) -> bool,
        rank: fn(&Cell<T>) -> Rank,
    ) -> Result<u32, Damaged> {
        let mut size = 0;
        self.each(|number, cell| {
            if wanted(cell) {
                self.push_heap(number, size, rank)?;
                size += 1;
            }
            Ok(())
        })?;
        Ok(size)
    }
}
