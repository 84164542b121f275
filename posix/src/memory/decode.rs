//! Decoding what came from another process.
//!
//! postcard keeps no words of whoever refuses a value: it says "custom error". So why a handle was refused is left here,
//! with the thread that decodes, and picked up when the decoder has failed.

use std::cell::Cell;

use serde::Deserialize;

use super::HandleError;

thread_local! {
    static REFUSED: Cell<Option<HandleError>> = const { Cell::new(None) };
}

/// Why bytes from another process are no object of a type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A handle among them cannot be used.
    #[error("{0}")]
    Handle(HandleError),
    /// They are not the encoding of such an object.
    #[error("{0}")]
    Bytes(postcard::Error),
}

/// Refuses a handle: the decoder's error, which may know nothing of the reason.
pub(crate) fn refuse<E: serde::de::Error>(reason: impl Into<HandleError>) -> E {
    let reason = reason.into();
    let error = E::custom(&reason);
    // A thread that is just ending keeps no reason.
    let _ = REFUSED.try_with(|refused| refused.set(Some(reason)));
    error
}

/// Decodes an object, and all the handles in it.
#[inline]
pub(crate) fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, DecodeError> {
    decode_or(bytes, |error| error)
}

/// Decodes an object, or says why not in the caller's own error: each conversion of a `Result` would move the object.
#[inline(always)]
pub(crate) fn decode_or<'b, T: Deserialize<'b>, E>(
    bytes: &'b [u8],
    refused: impl FnOnce(DecodeError) -> E,
) -> Result<T, E> {
    match T::deserialize(&mut postcard::Deserializer::from_bytes(bytes)) {
        Ok(object) => Ok(object),
        Err(error) => Err(refused(explain::<T>(bytes, error))),
    }
}

/// Decodes once more, to see which handle is refused: a reason that was left before may be of another object, whose
/// type went on without its handle.
#[cold]
fn explain<'b, T: Deserialize<'b>>(bytes: &'b [u8], error: postcard::Error) -> DecodeError {
    explain_by(|| postcard::from_bytes::<T>(bytes).err(), error)
}

/// The same for another decoder, whose error `again` says.
pub(crate) fn explain_by(
    again: impl FnOnce() -> Option<postcard::Error>,
    error: postcard::Error,
) -> DecodeError {
    let take = || REFUSED.try_with(Cell::take).ok().flatten();
    take();
    match (again(), take()) {
        (Some(postcard::Error::SerdeDeCustom), Some(reason)) => DecodeError::Handle(reason),
        _ => DecodeError::Bytes(error),
    }
}
