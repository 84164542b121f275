//! Whether what a target returned is an error, as far as its type says so.
//!
//! There is no way to ask a type whether it is a `Result`. But its `Deserialize` says what it expects before it reads
//! anything, and only a `Result` expects an enum of that name with the variants `Ok` and `Err`. Encoding once more
//! would tell too, but it is not without effect: handles depart when they are encoded.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// Whether a value of this type, of which this is the encoding, is the `Err` of a `Result`.
pub(crate) fn is_err<R: DeserializeOwned>(encoded: &[u8]) -> bool {
    // The second variant is encoded as 1.
    encoded.first() == Some(&1) && matches!(R::deserialize(Probe), Err(Answer { is_result: true }))
}

/// Has nothing to read, and says what was expected.
struct Probe;

#[derive(Debug)]
struct Answer {
    is_result: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Answer {}

impl Error for Answer {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Answer { is_result: false }
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer { is_result: false })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer { is_result: name == "Result" && *variants == ["Ok", "Err"] })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Answer> {
        // It is encoded as what it holds.
        visitor.visit_newtype_struct(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails<R: serde::Serialize + DeserializeOwned>(value: R) -> bool {
        is_err::<R>(&postcard::to_stdvec(&value).unwrap())
    }

    #[test]
    fn only_the_err_of_a_result_is_an_error() {
        #[derive(serde::Serialize, serde::Deserialize)]
        enum Other {
            Ok(u8),
            Err(u8),
        }
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Wrapped(Result<u8, String>);
        assert!(fails::<Result<u8, String>>(Err("no".into())));
        assert!(fails::<crate::Result<()>>(Err(crate::Error::Elsewhere("no".into()))));
        assert!(fails(Wrapped(Err("no".into()))));
        assert!(!fails(Wrapped(Ok(1))));
        assert!(!fails::<Result<u8, String>>(Ok(1)));
        assert!(!fails::<Option<Result<u8, String>>>(Some(Err("no".into()))));
        assert!(!fails(Some(1)));
        assert!(!fails(true));
        assert!(!fails(()));
        assert!(!fails(Other::Ok(1)) && !fails(Other::Err(1)));
        assert!(!fails(vec![1u8]));
    }
}
