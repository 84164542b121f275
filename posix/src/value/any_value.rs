//! One element that travels, of a type that is known at run time.

use std::fmt;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync::AcquireError;
use procession_core::sys::Deadline;
use procession_core::value as view;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AnyValueGuard, CType, CreateError, Scalar, TypeCode, Value, ValueError, handle};
use crate::memory::{Handle, HandleError, kind};

/// A [`Value`] of a type that the program learns when it runs: by the code that it is given, or from the handle.
///
/// It travels as the same handle: what was encoded as one is decoded as the other.
///
/// ```
/// use procession_posix::value::{AnyValue, Scalar, TypeCode, ValueError};
///
/// let value = AnyValue::new(TypeCode::from_char('h')?, 300)?;
/// assert_eq!((value.code(), value.get()), (TypeCode::Short, Scalar::I16(300)));
/// // Nothing is wrapped: what does not fit is an error, and the value stays.
/// assert!(matches!(value.set(40_000), Err(ValueError::DoesNotFit { .. })));
/// value.lock()?.set(-1)?;
/// assert_eq!(value.typed::<i16>()?.get(), -1);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyValue {
    view: view::AnyValue<'static>,
    me: Member<'static>,
    handle: Handle,
}

impl fmt::Debug for AnyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl AnyValue {
    /// A value of this type. `initial` may be of another type if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; [`CreateError::Memory`] if there is no shared memory to be had.
    pub fn new(code: TypeCode, initial: impl Into<Scalar>) -> Result<Self, CreateError> {
        let initial = initial.into().convert(code)?;
        let bytes = view::AnyValue::bytes_for(code);
        let handle = Handle::allocate(kind::VALUE, bytes)?;
        let view = view::AnyValue::create(super::fresh(&handle, bytes)?, code, initial)?;
        Ok(Self { view, me: handle.arena().member(), handle })
    }

    /// The code that it was made with.
    #[must_use]
    pub fn code(&self) -> TypeCode {
        self.view.code()
    }

    /// The same value, with its type known to the compiler.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`].
    pub fn typed<T: CType>(&self) -> Result<Value<T>, ValueError> {
        Ok(Value { view: self.view.typed()?, me: self.me, handle: self.handle.clone() })
    }

    /// A copy of the element, without the lock. One atomic load.
    #[must_use]
    pub fn get(&self) -> Scalar {
        self.view.get_raw()
    }

    /// Replaces the element, without the lock. One atomic store. A scalar of another type is stored if it stays the
    /// same number.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the element is as before.
    pub fn set(&self, value: impl Into<Scalar>) -> Result<(), ValueError> {
        self.view.set_raw(value)
    }
}

handle!(AnyValue, VALUE, AnyValueGuard<'_>);
