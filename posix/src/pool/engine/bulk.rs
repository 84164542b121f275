//! Sequences of numbers, in one piece.
//!
//! A `Vec<u8>`, or of other numbers, is to serde a sequence of elements, one call for each. As numbers lie in a message as they lie in
//! memory, all of them are one copy: a megabyte in a fifth of the time.
//!
//! Which type it is the compiler knows, but generic code may not ask for types that borrow. So the question is asked as the crate
//! `typeid` does, for the type without its lifetimes. The answer is used for types without lifetimes only, and for references to
//! such that are used on the spot.

use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use bytemuck::Pod;

/// The id of a type, whatever its lifetimes are.
#[inline(always)]
fn id_of<T: ?Sized>() -> TypeId {
    trait Named {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Named for PhantomData<T> {
        #[inline(always)]
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let of = PhantomData::<T>;
    let named: &dyn Named = &of;
    // SAFETY: only the lifetime bound of the trait object changes, which nothing at run time knows; the call returns a plain
    // number and keeps nothing.
    let named = unsafe { std::mem::transmute::<&dyn Named, &(dyn Named + 'static)>(named) };
    named.id()
}

/// The types whose elements lie in a message as in memory.
macro_rules! numbers {
    ($do:ident) => {
        $do!(u8);
        $do!(u16);
        $do!(u32);
        $do!(u64);
        $do!(i8);
        $do!(i16);
        $do!(i32);
        $do!(i64);
        $do!(f32);
        $do!(f64);
    };
}

/// How many bytes the encoding of each object of this type has, if it is a number, or one alone in a tuple. Nothing goes along with such.
#[inline(always)]
pub(super) fn size_of_number<T>() -> Option<usize> {
    let id = id_of::<T>();
    macro_rules! try_as {
        ($number:ty) => {
            if id == id_of::<$number>() || id == id_of::<($number,)>() {
                return Some(size_of::<$number>());
            }
        };
    }
    numbers!(try_as);
    None
}

/// If `items` is a vector or a slice of numbers: how many they are, and their bytes.
#[inline(always)]
pub(super) fn as_numbers<I>(items: &I) -> Option<(usize, &[u8])> {
    if cfg!(target_endian = "big") || size_of::<I>() > size_of::<&[u8]>() {
        return None;
    }
    let id = id_of::<I>();
    macro_rules! try_as {
        ($number:ty) => {
            if id == id_of::<&Vec<$number>>() {
                // SAFETY: but for its lifetime `I` is this type, and the result lives no longer than `items`.
                let numbers = unsafe { &**std::ptr::from_ref(items).cast::<&Vec<$number>>() };
                return Some((numbers.len(), bytemuck::cast_slice(numbers)));
            }
            if id == id_of::<&[$number]>() {
                // SAFETY: as above.
                let numbers = unsafe { *std::ptr::from_ref(items).cast::<&[$number]>() };
                return Some((numbers.len(), bytemuck::cast_slice(numbers)));
            }
        };
    }
    numbers!(try_as);
    None
}

/// If `T` is a vector of numbers, and `V` is serde's own visitor for such: how many bytes each of them has.
#[inline(always)]
pub(super) fn width_of<T, V>() -> Option<usize> {
    if cfg!(target_endian = "big") || size_of::<T>() != size_of::<Vec<u8>>() {
        return None;
    }
    let id = id_of::<T>();
    macro_rules! try_as {
        ($number:ty) => {
            if id == id_of::<Vec<$number>>() {
                return is_serdes_own::<V>().then_some(size_of::<$number>());
            }
        };
    }
    numbers!(try_as);
    None
}

/// Another visitor may make something else of what it sees.
fn is_serdes_own<V>() -> bool {
    let name = std::any::type_name::<V>();
    (name.starts_with("serde_core::") || name.starts_with("serde::"))
        && name.contains("::VecVisitor<")
}

/// The vector of these bytes, if `T` is a vector of numbers. Bytes that are left over are left out.
#[inline(always)]
pub(super) fn from_bytes<T>(bytes: &[u8]) -> Option<T> {
    let id = id_of::<T>();
    macro_rules! try_as {
        ($number:ty) => {
            if id == id_of::<Vec<$number>>() {
                let numbers = ManuallyDrop::new(copied::<$number>(bytes)?);
                // SAFETY: `T` is this type, which has no lifetime; the vector moves, for nobody drops it here.
                return Some(unsafe { std::ptr::from_ref(&numbers).cast::<T>().read() });
            }
        };
    }
    numbers!(try_as);
    None
}

fn copied<N: Pod>(bytes: &[u8]) -> Option<Vec<N>> {
    let count = bytes.len() / size_of::<N>();
    let mut numbers = Vec::<N>::new();
    numbers.try_reserve_exact(count).ok()?;
    // SAFETY: there is room for so many; their bytes are any, and need not lie at a multiple of anything.
    unsafe {
        let to = numbers.as_mut_ptr().cast::<u8>();
        to.copy_from_nonoverlapping(bytes.as_ptr(), count * size_of::<N>());
        numbers.set_len(count);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_numbers() {
        let (bytes, words, text) = (vec![1u8, 2], [3u16, 4], vec!['x']);
        assert_eq!(as_numbers(&&bytes), Some((2, &[1, 2][..])));
        assert_eq!(as_numbers(&&words[..]), Some((2, &[3, 0, 4, 0][..])));
        assert!(as_numbers(&&text).is_none() && as_numbers(&bytes).is_none());
        assert!(as_numbers(&&[true][..]).is_none());
        assert_eq!(from_bytes::<Vec<u16>>(&[3, 0, 4, 0, 9]), Some(vec![3, 4]));
        assert_eq!(from_bytes::<Vec<char>>(&[3, 0, 4, 0]), None);
        assert_eq!(from_bytes::<Box<[u8]>>(&[3]), None);
        assert_eq!(width_of::<Vec<f64>, ()>(), None, "an unknown visitor");
        assert_eq!((size_of_number::<u16>(), size_of_number::<(f64,)>()), (Some(2), Some(8)));
        assert_eq!((size_of_number::<(u8, u8)>(), size_of_number::<&u64>()), (None, None));
    }
}
