//! Elements that travel together, of a type that is known at run time.

use std::fmt;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync::AcquireError;
use procession_core::sys::Deadline;
use procession_core::value as view;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    AnyArrayGuard, AnyElements, Array, CType, CreateError, Scalar, TypeCode, ValueError, handle,
};
use crate::memory::{Handle, HandleError, kind};

/// An [`Array`] of a type that the program learns when it runs: by the code that it is given, or from the handle.
///
/// It travels as the same handle: what was encoded as one is decoded as the other.
///
/// ```
/// use procession_posix::value::{AnyArray, Scalar, TypeCode};
///
/// let array = AnyArray::new(TypeCode::from_char('d')?, 5)?;
/// array.lock()?.set(1, 2.5)?;
/// assert_eq!((array.code(), array.len()), (TypeCode::Double, 5));
/// assert_eq!(array.get(1)?, Scalar::F64(2.5));
/// // A loop is better off with the type at hand.
/// assert_eq!(array.typed::<f64>()?.iter().sum::<f64>(), 2.5);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyArray {
    view: view::AnyArray<'static>,
    me: Member<'static>,
    handle: Handle,
}

impl fmt::Debug for AnyArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl AnyArray {
    /// An array of `length` zeros of this type.
    ///
    /// # Errors
    /// [`CreateError::Memory`] if there is no room for it; [`ValueError::TooLong`] if there never will be.
    pub fn new(code: TypeCode, length: usize) -> Result<Self, CreateError> {
        let bytes = view::AnyArray::bytes_for(code, length as u64)?;
        let handle = Handle::allocate(kind::ARRAY, bytes)?;
        let view = view::AnyArray::create(super::fresh(&handle, bytes)?, code, length)?;
        Ok(Self { view, me: handle.arena().member(), handle })
    }

    /// The code that it was made with.
    #[must_use]
    pub fn code(&self) -> TypeCode {
        self.view.code()
    }

    /// How many elements it has. That never changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// The same array, with its type known to the compiler.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`].
    pub fn typed<T: CType>(&self) -> Result<Array<T>, ValueError> {
        Ok(Array { view: self.view.typed()?, me: self.me, handle: self.handle.clone() })
    }

    /// Its elements, without the lock.
    #[must_use]
    pub fn raw(&self) -> AnyElements<'_> {
        self.view.raw()
    }

    /// A copy of the element, without the lock. One atomic load.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    pub fn get(&self, index: usize) -> Result<Scalar, ValueError> {
        self.raw().get(index)
    }

    /// Replaces the element, without the lock. One atomic store. A scalar of another type is stored if it stays the
    /// same number.
    ///
    /// # Errors
    /// [`ValueError::NoElement`], [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the element is as before.
    pub fn set(&self, index: usize, value: impl Into<Scalar>) -> Result<(), ValueError> {
        self.raw().set(index, value)
    }

    /// Sets all elements to `value`, without the lock.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the elements are as before.
    pub fn fill(&self, value: impl Into<Scalar>) -> Result<(), ValueError> {
        self.raw().fill(value)
    }

    /// Copies of all elements, without the lock.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Scalar> {
        self.raw().iter().collect()
    }
}

handle!(AnyArray, ARRAY, AnyArrayGuard<'_>);
