//! What a worker can be told to do: any target, again and again.
//!
//! For each type of a function and its arguments the compiler makes one [`Work`], a constant in the program, as it makes one
//! `Entry` for a process' target. What crosses is its distance from the program's base, and a number made of its name. The
//! worker believes nothing: the address must be aligned, lie inside the program, and carry the magic; its functions must be
//! code of the program; and the number must be that of its name. Then one call through it does a whole chunk.

use std::any::type_name;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bulk::size_of_number;
use super::decode::decode_or;
use super::desk::Desk;
use crate::process::{Target, image};

/// The constant that stands for one function and the type of its arguments.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Work {
    magic: u64,
    run: unsafe fn(&mut Desk<'_>),
    type_name: fn() -> &'static str,
}

const MAGIC: u64 = u64::from_le_bytes(*b"work\x01\xf7\xa5\x5a");

/// How a [`Work`] is named in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Its distance from the program's base.
    pub(super) offset: u32,
    /// Made of its type's name.
    pub(super) check: u16,
}

/// All about a function `F` that is called with `Args`.
pub(super) struct Job<F, Args>(std::marker::PhantomData<(F, Args)>);

impl<F, Args> Job<F, Args>
where
    F: Target<Args>,
    F::Output: Serialize,
    Args: DeserializeOwned,
{
    pub(super) const WORK: &'static Work =
        &Work { magic: MAGIC, run: run::<F, Args>, type_name: type_name::<Self> };
}

thread_local! {
    /// The work that this thread has named last: mostly it is the same again.
    static NAMED: Cell<(usize, Name)> = const { Cell::new((0, Name { offset: 0, check: 0 })) };
}

impl Work {
    /// How the worker finds it; `None` if it is not part of the program: of a library that was loaded later.
    #[inline]
    pub(super) fn name(&'static self) -> Option<Name> {
        let at = &raw const *self as usize;
        match NAMED.try_with(Cell::get) {
            Ok((known, name)) if known == at => Some(name),
            _ => self.find_name(at),
        }
    }

    #[cold]
    fn find_name(&'static self, at: usize) -> Option<Name> {
        let offset = u32::try_from(image().offset_of(at, size_of::<Work>())?).ok()?;
        let name = Name { offset, check: check((self.type_name)()) };
        let _ = NAMED.try_with(|named| named.set((at, name)));
        Some(name)
    }

    /// What is meant by a name, if there is such a thing in this program.
    pub(super) fn find(name: Name) -> Option<&'static Work> {
        let address = image().address_at(u64::from(name.offset), size_of::<Work>())?;
        if address % align_of::<Work>() != 0 {
            return None;
        }
        // SAFETY: the three words lie inside the loaded program and are aligned; read as plain numbers, any content is valid.
        let [magic, run, type_name] = unsafe { (address as *const [u64; 3]).read() };
        let is_code = |word| image().holds_code(word as usize);
        if magic != MAGIC || !is_code(run) || !is_code(type_name) {
            return None;
        }
        // SAFETY: the magic number says that the compiler put a `Work` here, and both functions are code of this program. It is a
        // constant, so the reference may live for ever.
        let work = unsafe { &*(address as *const Work) };
        (work.magic == MAGIC && check((work.type_name)()) == name.check).then_some(work)
    }

    /// Does what lies on the desk.
    pub(super) fn run(&self, desk: &mut Desk<'_>) {
        // SAFETY: a `Work` is named only by who was handed a value of its function's type.
        unsafe { (self.run)(desk) }
    }
}

const _: () = assert!(size_of::<Work>() == 24, "three words are read as one");

/// FNV-1a.
fn check(name: &str) -> u16 {
    let hash = name.bytes().fold(0x811C_9DC5_u32, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash ^ hash >> 16) as u16
}

/// Does all items of a chunk. A panic costs its own item.
///
/// # Safety
/// There has been a value of type `F`.
unsafe fn run<F, Args>(desk: &mut Desk<'_>)
where
    F: Target<Args>,
    F::Output: Serialize,
    Args: DeserializeOwned,
{
    let number = size_of_number::<Args>();
    loop {
        // Around all of them: around each would cost a call each.
        let all = catch_unwind(AssertUnwindSafe(|| {
            while let Some(bytes) = desk.next(number) {
                let args = match decode_or::<Args, _>(bytes, |error| error) {
                    Ok(args) => args,
                    Err(error) => {
                        desk.refuse(&error);
                        continue;
                    }
                };
                // SAFETY: by the caller.
                let result = unsafe { F::call(args) };
                desk.answer(&result);
            }
        }));
        match all {
            Ok(()) => return,
            Err(panic) => desk.panicked(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work<F: Target<Args>, Args: DeserializeOwned>(_: F) -> &'static Work {
        Job::<F, Args>::WORK
    }

    #[test]
    fn work_is_found_by_its_name_only() {
        let (double, triple) = (work(|x: u64| x * 2), work(|x: u64| x * 3));
        let name = double.name().unwrap();
        assert_eq!(double.name(), Some(name));
        assert_ne!(triple.name(), Some(name));
        assert!(std::ptr::eq(Work::find(name).unwrap(), double));
        assert!(Work::find(Name { check: name.check ^ 1, ..name }).is_none());
        assert!(Work::find(Name { offset: name.offset + 1, ..name }).is_none());
        assert!(Work::find(Name { offset: name.offset + 8, ..name }).is_none());
        assert!(Work::find(Name { offset: u32::MAX, ..name }).is_none());
    }
}
