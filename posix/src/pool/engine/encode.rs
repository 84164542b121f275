//! Encoding objects straight into memory that is known to be there.
//!
//! The bytes are postcard's, and postcard decodes them. Its own encoder is made for any sink and puts a number together before it
//! hands it on; here a number goes where it belongs byte by byte, which takes a fifth of the time. Half of what a short task costs is
//! this.

use std::fmt::{Display, Write};

use postcard::Error;
use serde::{Serialize, ser};

use super::wire::Out;

/// Encodes an object. On an error what was written so far is still there.
#[inline(always)]
pub(super) fn encode<T: Serialize + ?Sized>(object: &T, out: &mut Out<'_>) -> Result<(), Error> {
    object.serialize(Encoder { out })
}

/// Writes to a part of memory.
pub(super) struct Encoder<'o, 'm> {
    out: &'o mut Out<'m>,
}

impl Encoder<'_, '_> {
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

    fn wide(&mut self, mut number: u128) -> Result<(), Error> {
        while number >= 0x80 {
            self.put(&[number as u8 | 0x80])?;
            number >>= 7;
        }
        self.put(&[number as u8])
    }
}

/// What is signed with its sign in the lowest bit.
#[inline(always)]
fn folded(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

impl<'o, 'm> ser::Serializer for Encoder<'o, 'm> {
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

    #[inline(always)]
    fn serialize_i8(mut self, value: i8) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    #[inline(always)]
    fn serialize_i16(mut self, value: i16) -> Result<(), Error> {
        self.number(folded(value.into()))
    }

    #[inline(always)]
    fn serialize_i32(mut self, value: i32) -> Result<(), Error> {
        self.number(folded(value.into()))
    }

    #[inline(always)]
    fn serialize_i64(mut self, value: i64) -> Result<(), Error> {
        self.number(folded(value))
    }

    fn serialize_i128(mut self, value: i128) -> Result<(), Error> {
        self.wide(((value << 1) ^ (value >> 127)) as u128)
    }

    #[inline(always)]
    fn serialize_u8(mut self, value: u8) -> Result<(), Error> {
        self.put(&[value])
    }

    #[inline(always)]
    fn serialize_u16(mut self, value: u16) -> Result<(), Error> {
        self.number(value.into())
    }

    #[inline(always)]
    fn serialize_u32(mut self, value: u32) -> Result<(), Error> {
        self.number(value.into())
    }

    #[inline(always)]
    fn serialize_u64(mut self, value: u64) -> Result<(), Error> {
        self.number(value)
    }

    fn serialize_u128(mut self, value: u128) -> Result<(), Error> {
        self.wide(value)
    }

    #[inline(always)]
    fn serialize_f32(mut self, value: f32) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    #[inline(always)]
    fn serialize_f64(mut self, value: f64) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
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
        impl ser::$trait for Encoder<'_, '_> {
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

impl ser::SerializeMap for Encoder<'_, '_> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::ptr::NonNull;

    use super::*;

    fn same<T: Serialize + ?Sized>(object: &T) {
        let expected = postcard::to_stdvec(object).unwrap();
        // All lengths: nothing is written behind the end, and what does not fit is an error.
        for room in 0..expected.len() + 12 {
            let mut bytes = vec![0xEE_u8; room + 16];
            // SAFETY: the vector is not touched while it is written to.
            let mut out = unsafe { Out::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), room) };
            let encoded = encode(object, &mut out);
            let written = room - out.left();
            assert!(bytes[room..].iter().all(|&byte| byte == 0xEE), "written behind the end");
            if room < expected.len() {
                assert_eq!(encoded, Err(Error::SerializeBufferFull));
            } else {
                assert_eq!((encoded, &bytes[..written]), (Ok(()), &expected[..]));
            }
        }
    }

    #[derive(Serialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(i16, char),
        Struct { text: String, map: BTreeMap<u8, Vec<i64>> },
    }

    #[derive(Serialize)]
    struct All {
        numbers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128),
        floats: (f32, f64),
        flags: [bool; 3],
        maybe: (Option<u32>, Option<()>, ()),
        shapes: Vec<Shape>,
        wrapped: Wrapped,
    }

    #[derive(Serialize)]
    struct Wrapped(Box<str>);

    #[test]
    fn the_bytes_are_postcards() {
        for shift in 0..128 {
            let wide = u128::MAX >> shift;
            same(&All {
                numbers: (
                    wide as u8,
                    wide as u16,
                    wide as u32,
                    wide as u64,
                    wide,
                    -(wide as i8 >> 1),
                    -(wide as i16 >> 1),
                    (wide as i32).wrapping_neg(),
                    (wide as i64).wrapping_neg(),
                    (wide as i128).wrapping_neg(),
                ),
                floats: (shift as f32 / 3.0, -1e300),
                flags: [true, false, true],
                maybe: (Some(7), None, ()),
                shapes: vec![
                    Shape::Unit,
                    Shape::New(200),
                    Shape::Tuple(-5, 'ü'),
                    Shape::Struct {
                        text: "x".repeat(shift),
                        map: BTreeMap::from([(1, vec![i64::MIN, i64::MAX]), (2, vec![])]),
                    },
                ],
                wrapped: Wrapped("é".into()),
            });
        }
        same(&IpAddr::from([127, 0, 0, 1]));
    }
}
