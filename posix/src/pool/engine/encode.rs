//! Encoding objects straight into memory that is known to be there.
//!
//! ```text
//! integers of 16 bits and more, floats    as they lie in memory, the lowest byte first
//! lengths, and numbers of variants        seven bits a byte, the lowest first, as in postcard
//! texts, bytes, sequences, maps           their length, and what is in them
//! char                                    as a text; bool, u8, i8, and whether there is something: one byte
//! structs, tuples, arrays                 their parts, one behind the other
//! ```
//!
//! Both sides are of one build, and the bytes live for a moment: so they need not be few, they have to be quick. Half of what a
//! short task costs is this.

use std::fmt::{Display, Write};

use postcard::Error;
use serde::{Serialize, ser};

use super::bulk::as_numbers;
use super::wire::Out;

/// Encodes an object. On an error what was written so far is still there.
#[inline(always)]
pub(super) fn encode<T: Serialize + ?Sized>(object: &T, to: &mut impl Put) -> Result<(), Error> {
    object.serialize(Encoder { out: to })
}

/// How many bytes the encoding of an object has.
pub(super) fn size_of_encoded<T: Serialize + ?Sized>(object: &T) -> Result<u64, Error> {
    let mut count = Count(0);
    encode(object, &mut count)?;
    Ok(count.0)
}

/// The encoding of an object.
pub(super) fn to_vec<T: Serialize + ?Sized>(object: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode(object, &mut bytes)?;
    Ok(bytes)
}

/// Where bytes go. False: there is no room.
pub(super) trait Put {
    fn put(&mut self, bytes: &[u8]) -> bool;
    fn put_number(&mut self, number: u64) -> bool;
}

impl Put for Out<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> bool {
        Out::put(self, bytes)
    }

    #[inline(always)]
    fn put_number(&mut self, number: u64) -> bool {
        Out::put_number(self, number)
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> bool {
        self.extend_from_slice(bytes);
        true
    }

    fn put_number(&mut self, mut number: u64) -> bool {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
        true
    }
}

/// Counts them.
struct Count(u64);

impl Put for Count {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> bool {
        self.0 += bytes.len() as u64;
        true
    }

    #[inline(always)]
    fn put_number(&mut self, number: u64) -> bool {
        self.0 += u64::from((number | 1).ilog2() / 7 + 1);
        true
    }
}

struct Encoder<'o, P> {
    out: &'o mut P,
}

impl<P: Put> Encoder<'_, P> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.out.put(bytes) { Ok(()) } else { Err(Error::SerializeBufferFull) }
    }

    #[inline(always)]
    fn number(&mut self, number: u64) -> Result<(), Error> {
        if self.out.put_number(number) { Ok(()) } else { Err(Error::SerializeBufferFull) }
    }

    #[inline(always)]
    fn length(&mut self, length: usize) -> Result<(), Error> {
        self.number(length as u64)
    }

    #[inline(always)]
    fn text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length(bytes.len())?;
        self.put(bytes)
    }
}

/// Values that are written as they lie in memory.
macro_rules! plain {
    ($($name:ident $type:ty,)*) => {$(
        #[inline(always)]
        fn $name(mut self, value: $type) -> Result<(), Error> {
            self.put(&value.to_le_bytes())
        }
    )*};
}

impl<P: Put> ser::Serializer for Encoder<'_, P> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline(always)]
    fn serialize_bool(mut self, value: bool) -> Result<(), Error> {
        self.put(&[u8::from(value)])
    }

    plain! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64,
    }

    fn serialize_char(mut self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    #[inline(always)]
    fn serialize_str(mut self, value: &str) -> Result<(), Error> {
        self.text(value.as_bytes())
    }

    #[inline(always)]
    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), Error> {
        self.text(value)
    }

    #[inline(always)]
    fn serialize_none(mut self) -> Result<(), Error> {
        self.put(&[0])
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Error> {
        self.put(&[1])?;
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), Error> {
        self.number(index.into())
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.number(index.into())?;
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_seq(mut self, length: Option<usize>) -> Result<Self, Error> {
        self.length(length.ok_or(Error::SerializeSeqLengthUnknown)?)?;
        Ok(self)
    }

    #[inline(always)]
    fn collect_seq<I>(mut self, items: I) -> Result<(), Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        if let Some((count, bytes)) = as_numbers(&items) {
            self.length(count)?;
            return self.put(bytes);
        }
        let items = items.into_iter();
        let (least, most) = items.size_hint();
        let mut parts = self.serialize_seq(most.filter(|most| *most == least))?;
        items
            .into_iter()
            .try_for_each(|item| ser::SerializeSeq::serialize_element(&mut parts, &item))
    }

    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.number(index.into())?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_map(mut self, length: Option<usize>) -> Result<Self, Error> {
        self.length(length.ok_or(Error::SerializeSeqLengthUnknown)?)?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.number(index.into())?;
        Ok(self)
    }

    fn collect_str<T: Display + ?Sized>(mut self, value: &T) -> Result<(), Error> {
        let mut text = String::new();
        write!(text, "{value}").map_err(|_| Error::CollectStrError)?;
        self.text(text.as_bytes())
    }
}

/// All that have several parts write one behind the other.
macro_rules! parts {
    ($($trait:ident $part:ident ($($name:ty)?),)*) => {$(
        impl<P: Put> ser::$trait for Encoder<'_, P> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn $part<T: Serialize + ?Sized>(
                &mut self,
                $(_: $name,)?
                value: &T,
            ) -> Result<(), Error> {
                value.serialize(Encoder { out: self.out })
            }

            #[inline(always)]
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element (),
    SerializeTuple serialize_element (),
    SerializeTupleStruct serialize_field (),
    SerializeTupleVariant serialize_field (),
    SerializeStruct serialize_field (&'static str),
    SerializeStructVariant serialize_field (&'static str),
}

impl<P: Put> ser::SerializeMap for Encoder<'_, P> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(Encoder { out: self.out })
    }

    #[inline(always)]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Encoder { out: self.out })
    }

    #[inline(always)]
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
