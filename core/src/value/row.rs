//! Elements of one type that is known at run time.

use super::cell::{Cell, Cells};
use super::header::{ELEMENTS_AT, What};
use super::{CType, Place, Scalar, TypeCode, ValueError};
use crate::sys::atomic::Ordering;

#[derive(Clone, Copy)]
pub struct Row<'m> {
    pub code: TypeCode,
    cells: Cells<'m>,
}

impl<'m> Row<'m> {
    /// The elements of what lies there.
    pub fn at(place: Place<'m>, what: What) -> Result<Self, ValueError> {
        let cells = match what.code.size() {
            1 => Cells::One(place.objects(ELEMENTS_AT, what.length)?),
            2 => Cells::Two(place.objects(ELEMENTS_AT, what.length)?),
            4 => Cells::Four(place.objects(ELEMENTS_AT, what.length)?),
            _ => Cells::Eight(place.objects(ELEMENTS_AT, what.length)?),
        };
        Ok(Self { code: what.code, cells })
    }

    pub fn len(self) -> usize {
        match self.cells {
            Cells::One(cells) => cells.len(),
            Cells::Two(cells) => cells.len(),
            Cells::Four(cells) => cells.len(),
            Cells::Eight(cells) => cells.len(),
        }
    }

    /// A copy of the element. The caller has checked the index.
    pub fn load(self, index: usize) -> Scalar {
        // Acquire meets the Release in `store`.
        let order = Ordering::Acquire;
        let bits = match self.cells {
            Cells::One(cells) => cells[index].load(order).into(),
            Cells::Two(cells) => cells[index].load(order).into(),
            Cells::Four(cells) => cells[index].load(order).into(),
            Cells::Eight(cells) => cells[index].load(order),
        };
        Scalar::from_bits(self.code, bits)
    }

    /// Replaces the element. The caller has checked the index and the type.
    pub fn store(self, index: usize, value: Scalar) {
        debug_assert!(value.code().is_like(self.code));
        // Release meets the Acquire in `load`.
        let order = Ordering::Release;
        let bits = value.into_bits();
        match self.cells {
            Cells::One(cells) => cells[index].store(bits as u8, order),
            Cells::Two(cells) => cells[index].store(bits as u16, order),
            Cells::Four(cells) => cells[index].store(bits as u32, order),
            Cells::Eight(cells) => cells[index].store(bits, order),
        }
    }

    pub fn typed<T: CType>(self) -> Option<&'m [T::Cell]> {
        self.code.is_like(T::CODE).then(|| T::Cell::pick(self.cells)).flatten()
    }
}
