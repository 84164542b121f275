//! Decoding what [`encode`](super::encode) wrote.

use postcard::Error;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::bulk::{from_bytes, width_of};
use crate::memory::{DecodeError, explain_by};

/// Decodes an object, or says why not in the caller's own error: each conversion of a `Result` would move the object.
#[inline(always)]
pub(super) fn decode_or<'b, T: Deserialize<'b>, E>(
    bytes: &'b [u8],
    refused: impl FnOnce(DecodeError) -> E,
) -> Result<T, E> {
    match T::deserialize(&mut Decoder { bytes }) {
        Ok(object) => Ok(object),
        Err(error) => Err(refused(explain::<T>(bytes, error))),
    }
}

#[cold]
fn explain<'b, T: Deserialize<'b>>(bytes: &'b [u8], error: Error) -> DecodeError {
    explain_by(|| T::deserialize(&mut Decoder { bytes }).err(), error)
}

/// The bytes that are not yet decoded.
struct Decoder<'b> {
    bytes: &'b [u8],
}

impl<'b> Decoder<'b> {
    #[inline(always)]
    fn plain<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (front, rest) =
            self.bytes.split_first_chunk().ok_or(Error::DeserializeUnexpectedEnd)?;
        self.bytes = rest;
        Ok(*front)
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Error> {
        self.plain::<1>().map(|[byte]| byte)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<u64, Error> {
        let first = self.byte()?;
        if first < 0x80 { Ok(first.into()) } else { self.long_number(first) }
    }

    fn long_number(&mut self, first: u8) -> Result<u64, Error> {
        let mut number = u64::from(first & 0x7F);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(Error::DeserializeBadVarint);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::DeserializeBadVarint)
    }

    #[inline(always)]
    fn length(&mut self) -> Result<usize, Error> {
        usize::try_from(self.number()?).map_err(|_| Error::DeserializeUnexpectedEnd)
    }

    /// How many parts follow. Parts without bytes may be more than there are bytes, but not so many that they take for ever.
    #[inline(always)]
    fn parts(&mut self) -> Result<usize, Error> {
        const MOST_OF_NOTHING: usize = 1 << 24;
        let parts = self.length()?;
        if parts > self.bytes.len().max(MOST_OF_NOTHING) {
            return Err(Error::DeserializeUnexpectedEnd);
        }
        Ok(parts)
    }

    #[inline(always)]
    fn slice(&mut self) -> Result<&'b [u8], Error> {
        let length = self.length()?;
        let (front, rest) =
            self.bytes.split_at_checked(length).ok_or(Error::DeserializeUnexpectedEnd)?;
        self.bytes = rest;
        Ok(front)
    }

    #[inline(always)]
    fn text(&mut self) -> Result<&'b str, Error> {
        std::str::from_utf8(self.slice()?).map_err(|_| Error::DeserializeBadUtf8)
    }
}

/// Values that lie there as in memory.
macro_rules! plain {
    ($($name:ident $visit:ident $type:ty,)*) => {$(
        #[inline(always)]
        fn $name<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(<$type>::from_le_bytes(self.plain()?))
        }
    )*};
}

impl<'b> de::Deserializer<'b> for &mut Decoder<'b> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    /// What it is does not stand there.
    fn deserialize_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::WontImplement)
    }

    plain! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_u128 visit_u128 u128,
        deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64,
    }

    #[inline(always)]
    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(Error::DeserializeBadBool),
        }
    }

    fn deserialize_char<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut chars = self.text()?.chars();
        match (chars.next(), chars.next()) {
            (Some(only), None) => visitor.visit_char(only),
            _ => Err(Error::DeserializeBadChar),
        }
    }

    #[inline(always)]
    fn deserialize_str<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text()?)
    }

    #[inline(always)]
    fn deserialize_string<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline(always)]
    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.slice()?)
    }

    #[inline(always)]
    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline(always)]
    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Error::DeserializeBadOption),
        }
    }

    #[inline(always)]
    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_newtype_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    #[inline(always)]
    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.parts()?;
        if let Some(width) = width_of::<V::Value, V>() {
            let bytes = left.checked_mul(width).and_then(|all| self.bytes.split_at_checked(all));
            let (front, rest) = bytes.ok_or(Error::DeserializeUnexpectedEnd)?;
            self.bytes = rest;
            return from_bytes(front).ok_or(Error::DeserializeUnexpectedEnd);
        }
        visitor.visit_seq(Parts { decoder: self, left })
    }

    #[inline(always)]
    fn deserialize_tuple<V: Visitor<'b>>(self, left: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { decoder: self, left })
    }

    #[inline(always)]
    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(left, visitor)
    }

    #[inline(always)]
    fn deserialize_map<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.parts()?;
        visitor.visit_map(Parts { decoder: self, left })
    }

    #[inline(always)]
    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline(always)]
    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    /// The names of fields do not stand there.
    fn deserialize_identifier<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::WontImplement)
    }

    fn deserialize_ignored_any<V: Visitor<'b>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::WontImplement)
    }
}

/// The parts of a sequence or a map that are left.
struct Parts<'d, 'b> {
    decoder: &'d mut Decoder<'b>,
    left: usize,
}

impl<'b> de::SeqAccess<'b> for Parts<'_, 'b> {
    type Error = Error;

    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> de::MapAccess<'b> for Parts<'_, 'b> {
    type Error = Error;

    #[inline(always)]
    fn next_key_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline(always)]
    fn next_value_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> de::EnumAccess<'b> for &mut Decoder<'b> {
    type Error = Error;
    type Variant = Self;

    #[inline(always)]
    fn variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let index = u32::try_from(self.number()?).map_err(|_| Error::DeserializeBadEnum)?;
        Ok((seed.deserialize(index.into_deserializer())?, self))
    }
}

impl<'b> de::VariantAccess<'b> for &mut Decoder<'b> {
    type Error = Error;

    #[inline(always)]
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn newtype_variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    #[inline(always)]
    fn tuple_variant<V: Visitor<'b>>(self, left: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, left, visitor)
    }

    #[inline(always)]
    fn struct_variant<V: Visitor<'b>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::net::IpAddr;
    use std::ptr::NonNull;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::pool::engine::encode::{encode, size_of_encoded, to_vec};
    use crate::pool::engine::wire::Out;

    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        decode_or(bytes, |error| error.to_string())
    }

    fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(object: &T) {
        let whole = to_vec(object).unwrap();
        assert_eq!(size_of_encoded(object), Ok(whole.len() as u64));
        assert_eq!(read::<T>(&whole).as_ref(), Ok(object));
        for room in 0..whole.len() + 12 {
            let mut bytes = vec![0xEE_u8; room + 16];
            // SAFETY: the vector is not touched while it is written to.
            let mut out = unsafe { Out::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), room) };
            let encoded = encode(object, &mut out);
            let written = room - out.left();
            assert!(bytes[room..].iter().all(|&byte| byte == 0xEE), "written behind the end");
            if room < whole.len() {
                assert_eq!(encoded, Err(Error::SerializeBufferFull));
                // What was cut is no object, or another one; it is no crash.
                let _ = read::<T>(&whole[..room]);
            } else {
                assert_eq!((encoded, &bytes[..written]), (Ok(()), &whole[..]));
            }
        }
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(i16, char),
        Struct { text: String, map: BTreeMap<u8, Vec<i64>> },
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct All {
        numbers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128),
        floats: (f32, f64),
        flags: [bool; 3],
        maybe: (Option<u32>, Option<()>, ()),
        shapes: Vec<Shape>,
        wrapped: Wrapped,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Wrapped(Box<str>);

    #[test]
    fn what_is_encoded_comes_back() {
        for shift in (0..128).chain([200, 20_000]) {
            let wide = u128::MAX.checked_shr(shift).unwrap_or(0);
            let all = All {
                numbers: (
                    wide as u8,
                    wide as u16,
                    wide as u32,
                    wide as u64,
                    wide,
                    (wide as i8).wrapping_neg(),
                    (wide as i16).wrapping_neg(),
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
                        text: "x".repeat(shift as usize),
                        map: BTreeMap::from([(1, vec![i64::MIN, i64::MAX]), (2, vec![])]),
                    },
                ],
                wrapped: Wrapped("é".into()),
            };
            if shift < 1000 {
                same(&all);
            } else {
                assert_eq!(read::<All>(&to_vec(&all).unwrap()), Ok(all));
            }
        }
        same(&IpAddr::from([127, 0, 0, 1]));
        same(&(vec![1u8, 2, 3], vec![-1i16, 7], vec![0.5f64], vec![u64::MAX], Vec::<i32>::new()));
        same(&vec![vec![1u32, 2], vec![], vec![3]]);
    }

    #[test]
    fn numbers_lie_there_as_single_ones_do() {
        let (numbers, single) = (vec![1u16, 300, 7], [1u16, 300, 7].map(Some));
        let mut expected = vec![3];
        single.iter().for_each(|number| expected.extend(&to_vec(number).unwrap()[1..]));
        assert_eq!(to_vec(&numbers).unwrap(), expected);
        assert_eq!(to_vec(&numbers[..]).unwrap(), expected);
        assert_eq!(read::<std::collections::VecDeque<u16>>(&expected), Ok(numbers.clone().into()));
        assert_eq!(read::<Vec<u16>>(&expected), Ok(numbers));
        assert!(is_one_piece::<Vec<u16>>() && is_one_piece::<Vec<f32>>());
        assert!(!is_one_piece::<Vec<char>>());
    }

    /// Whether serde's own visitor is known for what it is: its name may change with a release.
    fn is_one_piece<'b, T: Deserialize<'b>>() -> bool {
        struct Probe<'p>(&'p mut bool);
        impl<'de> de::Deserializer<'de> for Probe<'_> {
            type Error = Error;
            fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
                *self.0 = width_of::<V::Value, V>().is_some();
                Err(Error::WontImplement)
            }
            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
                option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
                identifier ignored_any
            }
        }
        let mut known = false;
        let _ = T::deserialize(Probe(&mut known));
        known
    }

    #[test]
    fn other_bytes_are_errors() {
        assert!(read::<bool>(&[2]).is_err());
        assert!(read::<Option<u8>>(&[7, 7]).is_err());
        assert!(read::<char>(&[2, b'a', b'b']).is_err());
        assert!(read::<String>(&[1, 0xFF]).is_err());
        assert!(read::<Vec<u64>>(&[0xFF; 10]).is_err());
        assert!(read::<Vec<u8>>(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).is_err());
        assert!(read::<Vec<()>>(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).is_err());
        assert_eq!(read::<Vec<()>>(&[100]), Ok(vec![(); 100]));
        assert!(read::<Shape>(&[4]).is_err());
        assert!(read::<Shape>(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
    }
}
