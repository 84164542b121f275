//! Values and arrays: every type, every wrong way to attach, overflow, threads, and the death of a holder.
#![cfg(not(loom))]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::Duration;

use procession_core::region::{CHUNK, Fixed, Membership, Options, PlaceError, Region};
use procession_core::sync::AcquireError;
use procession_core::sys::Deadline;
use procession_core::value::*;

/// The word of a lock whose holder is dead: in private memory nobody else lives.
const DEAD: u64 = 1 << 12 | 2;

fn check_type<T: CType>(codes: &[char], samples: &[T]) {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [u64::MAX; 20];
    let place = Place::in_memory(&mut memory);
    for code in codes {
        let code = TypeCode::from_char(*code).unwrap();
        assert_eq!(size_of::<T>(), code.size());
        assert!(code.is_like(T::CODE));
        assert_eq!(Value::<T>::bytes(), AnyValue::bytes_for(code));
        for &sample in samples {
            // The static form, locked and raw.
            let value = Value::create(place, sample).unwrap();
            assert_eq!(value.get_raw(), sample);
            value.set_raw(T::default());
            let mut guard = value.lock(me).unwrap();
            assert_eq!(guard.get(), T::default());
            guard.set(sample);
            assert_eq!(guard.update(|seen| seen), sample);
            assert!(matches!(value.try_lock(me), Err(AcquireError::WouldBlock)));
            let soon = Deadline::after(Duration::from_millis(1));
            assert!(matches!(value.lock_until(me, soon), Err(AcquireError::TimedOut)));
            drop(guard);
            assert_eq!(value.update_raw(|_| sample), sample);

            // The dynamic form, locked and raw.
            let any = AnyValue::create(place, code, T::default()).unwrap();
            assert_eq!(any.code(), code);
            any.set_raw(sample).unwrap();
            assert_eq!(any.get_raw(), sample.into());
            let mut guard = any.lock(me).unwrap();
            let seen = guard.get();
            guard.set(seen).unwrap();
            drop(guard);
            let seen = AnyValue::attach_to(place, code).unwrap().get_raw();
            assert_eq!(T::try_from(seen), Ok(sample));
            assert_eq!(Value::<T>::attach(place).unwrap().get_raw(), sample);
            assert_eq!(any.typed::<T>().unwrap().get_raw(), sample);
        }

        let array = Array::create_from(place, samples).unwrap();
        assert_eq!(array.len(), samples.len());
        assert!(array.raw().iter().eq(samples.iter().copied()));
        let any = AnyArray::attach(place).unwrap();
        assert!(any.raw().iter().eq(samples.iter().map(|&sample| sample.into())));

        let any = AnyArray::create(place, code, samples.len()).unwrap();
        assert_eq!(any.code(), code);
        assert!(any.raw().iter().all(|element| element == T::default().into()));
        let guard = any.lock(me).unwrap();
        for (index, &sample) in samples.iter().enumerate() {
            guard.set(index, sample).unwrap();
        }
        drop(guard);
        let array = Array::<T>::attach_to(place, samples.len()).unwrap();
        let guard = array.lock(me).unwrap();
        let mut out = vec![T::default(); samples.len()];
        guard.read_into(0, &mut out).unwrap();
        assert_eq!(out, samples);
        guard.fill(samples[0]);
        assert!(guard.iter().rev().all(|element| element == samples[0]));
    }
}

#[test]
fn every_code_holds_its_type() {
    check_type(&['c'], &[Char(b'a'), Char(0), Char(255)]);
    check_type(&['b'], &[-1i8, i8::MIN, i8::MAX]);
    check_type(&['B'], &[1u8, 0, u8::MAX]);
    check_type(&['u'], &['a', 'ß', '\u{10FFFF}', '\u{E000}']);
    check_type(&['h'], &[-1i16, i16::MIN, i16::MAX]);
    check_type(&['H'], &[1u16, 0, u16::MAX]);
    check_type(&['i'], &[-1i32, i32::MIN, i32::MAX]);
    check_type(&['I'], &[1u32, 0, u32::MAX]);
    check_type(&['l', 'q'], &[-1i64, i64::MIN, i64::MAX]);
    check_type(&['L', 'Q'], &[1u64, 0, u64::MAX]);
    check_type(&['f'], &[1.5f32, f32::MIN, f32::INFINITY, f32::EPSILON]);
    check_type(&['d'], &[1.5f64, f64::MIN, f64::INFINITY, f64::EPSILON]);
}

#[test]
fn every_other_code_is_refused_and_both_are_named() {
    fn attach<T: CType>(place: Place<'_>) -> Result<(), ValueError> {
        Value::<T>::attach(place).map(drop)
    }
    let mut memory = [0; 4];
    let place = Place::in_memory(&mut memory);
    for found in TypeCode::ALL {
        AnyValue::create(place, found, Scalar::zero(found)).unwrap();
        for asked in TypeCode::ALL {
            let typed = match asked {
                TypeCode::Char => attach::<Char>(place),
                TypeCode::SignedChar => attach::<i8>(place),
                TypeCode::UnsignedChar => attach::<u8>(place),
                TypeCode::Unicode => attach::<char>(place),
                TypeCode::Short => attach::<i16>(place),
                TypeCode::UnsignedShort => attach::<u16>(place),
                TypeCode::Int => attach::<i32>(place),
                TypeCode::UnsignedInt => attach::<u32>(place),
                TypeCode::Long | TypeCode::LongLong => attach::<i64>(place),
                TypeCode::UnsignedLong | TypeCode::UnsignedLongLong => attach::<u64>(place),
                TypeCode::Float => attach::<f32>(place),
                TypeCode::Double => attach::<f64>(place),
            };
            let any = AnyValue::attach_to(place, asked).map(drop);
            if found.is_like(asked) {
                assert_eq!((typed, any), (Ok(()), Ok(())));
                continue;
            }
            assert_eq!(typed, Err(ValueError::WrongCode { found, asked: asked.canonical() }));
            assert_eq!(any, Err(ValueError::WrongCode { found, asked }));
            let message = any.unwrap_err().to_string();
            for code in [found, asked] {
                assert!(message.contains(&code.to_string()), "{message}");
            }
        }
    }
}

#[test]
fn another_length_is_refused_and_both_are_named() {
    let mut memory = [0; 8];
    let place = Place::in_memory(&mut memory);
    Array::<i32>::create(place, 5).unwrap();
    for asked in [0, 4, 6, usize::MAX] {
        let expected = ValueError::WrongLength { found: 5, asked: asked as u64 };
        assert_eq!(Array::<i32>::attach_to(place, asked).unwrap_err(), expected);
        let any = AnyArray::attach_to(place, TypeCode::Int, Some(asked));
        assert_eq!(any.unwrap_err(), expected);
        assert!(expected.to_string().contains("has 5 elements"));
        assert!(expected.to_string().contains(&format!("{asked} were asked for")));
    }
    assert!(AnyArray::attach_to(place, TypeCode::Int, Some(5)).is_ok());
    // The type comes first: a length means nothing without it.
    assert!(matches!(Array::<u8>::attach_to(place, 6), Err(ValueError::WrongCode { .. })));
}

#[test]
fn a_value_is_no_array() {
    let mut memory = [0; 4];
    let place = Place::in_memory(&mut memory);
    Value::create(place, 1i32).unwrap();
    let error = Array::<i32>::attach(place).unwrap_err();
    assert_eq!(
        error.to_string(),
        "here lies a value, an array was asked for: attach to it as what it is"
    );
    Array::<i32>::create(place, 1).unwrap();
    assert!(matches!(AnyValue::attach(place), Err(ValueError::WrongKind { .. })));
}

#[test]
fn memory_without_an_object_is_refused() {
    for word in [0, 1, u64::MAX, u64::from_le_bytes(*b"wordcoun")] {
        let mut memory = [word; 4];
        let place = Place::in_memory(&mut memory);
        let nothing = ValueError::Nothing { word };
        assert_eq!(Value::<u8>::attach(place).unwrap_err(), nothing);
        assert_eq!(Array::<u8>::attach(place).unwrap_err(), nothing);
        assert_eq!(AnyValue::attach(place).unwrap_err(), nothing);
        assert_eq!(AnyArray::attach(place).unwrap_err(), nothing);
    }
}

#[test]
fn a_short_place_is_refused_and_stays_as_it_was() {
    let mut memory = [7u64; 4];
    let place = Place::in_memory(&mut memory);
    for bytes in 0..24 {
        let place = place.up_to(bytes);
        let error = ValueError::from(PlaceError::TooSmall { needed: 24, given: bytes });
        assert_eq!(Value::create(place, 1.5).unwrap_err(), error);
        assert_eq!(Array::create_from(place, &[1u16; 4]).unwrap_err(), error);
        assert_eq!(AnyArray::create(place, TypeCode::Int, 2).unwrap_err(), error);
    }
    assert_eq!(memory, [7; 4]);

    let place = Place::in_memory(&mut memory);
    Array::create_from(place, &[1u16; 4]).unwrap();
    assert_eq!(
        Array::<u16>::attach(place.up_to(23)).unwrap_err(),
        ValueError::from(PlaceError::TooSmall { needed: 24, given: 23 })
    );
    assert!(Array::<u16>::attach(place.up_to(24)).is_ok());
}

#[test]
fn no_length_overflows() {
    let mut memory = [0; 4];
    let place = Place::in_memory(&mut memory);
    for length in [LONGEST + 1, u64::MAX / 8, u64::MAX] {
        let too_long = ValueError::TooLong { length };
        assert_eq!(Array::<f64>::bytes_for(length), Err(too_long.clone()));
        assert_eq!(AnyArray::bytes_for(TypeCode::Char, length), Err(too_long.clone()));
        assert_eq!(Array::<f64>::create(place, length as usize).unwrap_err(), too_long);
    }
    assert_eq!(Array::<f64>::bytes_for(LONGEST), Ok(16 + 8 * LONGEST));
    let longest = Array::<f64>::create(place, LONGEST as usize);
    assert!(matches!(longest, Err(ValueError::Place(_))));
}

#[test]
fn an_index_beyond_the_end_is_named_with_the_length() {
    let mut memory = [0; 4];
    let array = Array::<i32>::create(Place::in_memory(&mut memory), 3).unwrap();
    let elements = array.raw();
    let beyond = ValueError::NoElement { index: 3, length: 3 };
    assert_eq!(elements.get(3), Err(beyond.clone()));
    assert_eq!(elements.set(3, 1), Err(beyond.clone()));
    assert_eq!(elements.update(3, |x| x), Err(beyond.clone()));
    assert_eq!(beyond.to_string(), "there is no element 3: the array has 3, counted from 0");
    assert!(elements.get(usize::MAX).is_err());
    for (start, count) in [(0, 4), (3, 1), (4, 0), (usize::MAX, 1)] {
        let beyond = ValueError::BeyondEnd { start, count, length: 3 };
        assert_eq!(elements.read_into(start, &mut vec![0; count]), Err(beyond.clone()));
        assert_eq!(elements.write_from(start, &vec![0; count]), Err(beyond));
    }
    assert_eq!(elements.write_from(3, &[]), Ok(()));
    assert!(elements.iter().eq([0; 3]));
}

#[test]
fn an_empty_array_is_one() {
    let mut memory = [0; 2];
    let place = Place::in_memory(&mut memory);
    assert!(Array::<f64>::create(place, 0).unwrap().is_empty());
    let array = Array::<f64>::attach_to(place, 0).unwrap();
    assert_eq!(array.raw().iter().next(), None);
    assert!(array.raw().get(0).is_err());
}

#[test]
fn numbers_are_converted_only_if_they_stay_the_same() {
    let convert = |scalar: Scalar, code: char| scalar.convert(TypeCode::from_char(code).unwrap());
    // Whole numbers at each limit.
    for (code, least, most) in [
        ('b', i128::from(i8::MIN), i128::from(i8::MAX)),
        ('B', 0, i128::from(u8::MAX)),
        ('h', i128::from(i16::MIN), i128::from(i16::MAX)),
        ('H', 0, i128::from(u16::MAX)),
        ('i', i128::from(i32::MIN), i128::from(i32::MAX)),
        ('I', 0, i128::from(u32::MAX)),
        ('l', i128::from(i64::MIN), i128::from(i64::MAX)),
        ('L', 0, i128::from(u64::MAX)),
    ] {
        for number in [least - 1, least, 0, 1, most, most + 1] {
            let expected = (least..=most).contains(&number);
            if let Ok(number) = i64::try_from(number) {
                assert_eq!(convert(Scalar::I64(number), code).is_ok(), expected, "{number} {code}");
            }
            if let Ok(number) = u64::try_from(number) {
                assert_eq!(convert(Scalar::U64(number), code).is_ok(), expected, "{number} {code}");
            }
        }
    }
    // Numbers with a fraction.
    assert_eq!(convert(Scalar::F64(2.0), 'i'), Ok(Scalar::I32(2)));
    assert!(convert(Scalar::F64(2.5), 'i').is_err());
    assert!(convert(Scalar::F64(f64::NAN), 'i').is_err());
    assert!(convert(Scalar::F64(f64::INFINITY), 'Q').is_err());
    assert!(convert(Scalar::F64(18_446_744_073_709_551_616.0), 'Q').is_err());
    assert_eq!(convert(Scalar::U64(1 << 53), 'd'), Ok(Scalar::F64(9_007_199_254_740_992.0)));
    assert!(convert(Scalar::U64((1 << 53) + 1), 'd').is_err());
    assert!(convert(Scalar::U64(u64::MAX), 'd').is_err());
    assert!(convert(Scalar::I32((1 << 24) + 1), 'f').is_err());
    assert_eq!(convert(Scalar::F32(0.1), 'd'), Ok(Scalar::F64(f64::from(0.1f32))));
    assert!(convert(Scalar::F64(0.1), 'f').is_err());
    assert!(convert(Scalar::F64(1e300), 'f').is_err());
    assert!(matches!(convert(Scalar::F64(f64::NAN), 'f'), Ok(Scalar::F32(nan)) if nan.is_nan()));
    // Characters are no numbers, and no other characters.
    for (scalar, code) in [
        (Scalar::Unicode('a'), 'c'),
        (Scalar::Unicode('a'), 'I'),
        (Scalar::Char(Char(b'a')), 'u'),
        (Scalar::Char(Char(b'a')), 'B'),
        (Scalar::U8(97), 'c'),
        (Scalar::U32(97), 'u'),
    ] {
        let answer = convert(scalar, code);
        assert!(matches!(answer, Err(ValueError::OtherType { .. })), "{scalar} {code}");
    }
}

#[test]
fn a_refused_scalar_changes_nothing() {
    let seat = Membership::private();
    let mut memory = [0; 4];
    let place = Place::in_memory(&mut memory);
    assert!(AnyValue::create(place, TypeCode::Int, 1u64 << 40).is_err());
    assert!(AnyValue::attach(place).is_err());
    let value = AnyValue::create(place, TypeCode::Int, 7).unwrap();
    assert!(value.set_raw(1u64 << 40).is_err());
    assert!(value.lock(seat.member()).unwrap().set(0.5).is_err());
    assert_eq!(value.get_raw(), Scalar::I32(7));
    let array = AnyArray::create(place, TypeCode::Int, 2).unwrap();
    assert!(array.raw().fill('x').is_err());
    assert!(array.raw().set(0, u32::MAX).is_err());
    assert!(array.raw().iter().all(|element| element == Scalar::I32(0)));
}

#[test]
fn bits_that_are_no_character_read_as_the_replacement() {
    let mut memory = [0; 3];
    Value::create(Place::in_memory(&mut memory), 'x').unwrap();
    for bits in [0xD800u32, 0x11_0000, u32::MAX] {
        memory[2] = u64::from_ne_bytes([bits.to_ne_bytes(); 2].concat().try_into().unwrap());
        let place = Place::in_memory(&mut memory);
        assert_eq!(Value::<char>::attach(place).unwrap().get_raw(), '\u{FFFD}');
        assert_eq!(AnyValue::attach(place).unwrap().get_raw(), Scalar::Unicode('\u{FFFD}'));
    }
}

#[test]
fn byte_strings_end_at_the_first_nul() {
    let seat = Membership::private();
    let mut memory = [0; 3];
    let array = Array::<Char>::create(Place::in_memory(&mut memory), 5).unwrap();
    let text = array.lock(seat.member()).unwrap();
    assert_eq!(text.value().count(), 0);
    text.set_value(b"hello").unwrap();
    assert_eq!(text.value().collect::<Vec<_>>(), b"hello");
    text.set_value(b"").unwrap();
    assert_eq!(text.value().count(), 0);
    assert_eq!(text.raw().collect::<Vec<_>>(), b"\0ello");
    let beyond = ValueError::BeyondEnd { start: 0, count: 6, length: 5 };
    assert_eq!(text.set_value(b"hello!"), Err(beyond));
}

#[test]
fn what_is_created_anew_is_new() {
    let seat = Membership::private();
    let mut memory = [0; 4];
    let place = Place::in_memory(&mut memory);
    let array = Array::create_from(place, &[1u8; 16]).unwrap();
    // A lock that is held, as the dead leave it.
    let _held = ManuallyDrop::new(array.lock(seat.member()).unwrap());
    let array = Array::<u16>::create(place, 8).unwrap();
    assert!(array.try_lock(seat.member()).is_ok());
    assert!(array.raw().iter().all(|element| element == 0));
}

#[test]
fn threads_lose_no_increment() {
    const EACH: u32 = 2000;
    let seat = Membership::private();
    let mut memory = [0; 8];
    let (value, array) = memory.split_at_mut(3);
    let value = Value::create(Place::in_memory(value), 0u32).unwrap();
    let array = Array::<i64>::create(Place::in_memory(array), 3).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..EACH {
                    value.lock(seat.member()).unwrap().update(|n| n + 1);
                    let guard = array.lock(seat.member()).unwrap();
                    guard.set(0, guard.get(0).unwrap() + 1).unwrap();
                    guard.set(1, guard.get(1).unwrap() - 1).unwrap();
                    assert_eq!(guard.get(0).unwrap() + guard.get(1).unwrap(), 0);
                    drop(guard);
                    array.raw().update(2, |n| n + 1).unwrap();
                }
            });
        }
    });
    assert_eq!(value.get_raw(), 3 * EACH);
    let all = i64::from(3 * EACH);
    assert!(array.raw().iter().eq([all, -all, all]));
}

#[test]
fn no_reader_sees_half_an_element() {
    let mut memory = [0; 7];
    let (array, stop) = memory.split_at_mut(4);
    let array = Array::create_from(Place::in_memory(array), &[0u64; 2]).unwrap();
    let stop = Value::create(Place::in_memory(stop), 0u8).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let late = Deadline::after(Duration::from_secs(10));
            while stop.get_raw() == 0 && !late.is_past() {
                array.raw().write_from(0, &[u64::MAX; 2]).unwrap();
                array.raw().fill(0);
            }
        });
        let mut seen = [1; 2];
        let whole = (0..20_000).all(|_| {
            array.raw().read_into(0, &mut seen).unwrap();
            seen.iter().all(|word| *word == 0 || *word == u64::MAX)
        });
        stop.set_raw(1);
        assert!(whole, "{seen:x?}");
    });
}

fn wait_for(turn: Value<'_, i8>, number: i8) {
    let late = Deadline::after(Duration::from_secs(10));
    while turn.get_raw() != number {
        assert!(!late.is_past(), "the turn never came to {number}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_done_before_a_raw_write_is_seen_by_its_reader() {
    let mut memory = [0; 6];
    let (data, turn) = memory.split_at_mut(3);
    let data = Value::create(Place::in_memory(data), 0i32).unwrap();
    let turn = Value::create(Place::in_memory(turn), 0i8).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 1..=100 {
                data.set_raw(i32::from(round));
                turn.set_raw(round);
                wait_for(turn, -round);
            }
        });
        let mut right = true;
        for round in 1..=100 {
            wait_for(turn, round);
            right &= data.get_raw() == i32::from(round);
            turn.set_raw(-round);
        }
        assert!(right);
    });
}

#[test]
fn a_lock_left_by_the_dead_says_so_until_it_is_mended() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; 3];
    Value::create(Place::in_memory(&mut memory), 5i32).unwrap();
    memory[0] = DEAD.to_le();
    let place = Place::in_memory(&mut memory);
    let value = Value::<i32>::attach(place).unwrap();
    let Err(AcquireError::OwnerDied(died)) = value.lock(me) else { panic!("nobody died") };
    let mut guard = died.into_guard();
    assert!(guard.owner_died());
    assert_eq!(guard.get(), 5);
    guard.mark_consistent();
    drop(guard);
    assert!(!AnyValue::attach(place).unwrap().lock(me).unwrap().owner_died());
    assert!(!value.get_lock().locked());
}

#[test]
fn a_lock_that_was_overwritten_is_an_error() {
    let seat = Membership::private();
    let mut memory = [0; 3];
    Value::create(Place::in_memory(&mut memory), 5i32).unwrap();
    memory[0] = 1u64.to_le() << 30;
    let value = Value::<i32>::attach(Place::in_memory(&mut memory)).unwrap();
    assert!(matches!(value.lock(seat.member()), Err(AcquireError::Corrupt { .. })));
    assert_eq!(value.get_raw(), 5);
}

/// A region in memory that a forked child shares.
struct Shared(NonNull<u8>);

impl Shared {
    const BYTES: usize = 1 << 18;

    fn new() -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), Self::BYTES, rights, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self(NonNull::new(base.cast()).unwrap())
    }

    fn region(&self) -> Region<'_> {
        // SAFETY: zeroed memory that lives as long as `self`, used by nobody else.
        unsafe { Region::create(self.0, Self::BYTES as u64, Options::default(), &Fixed) }.unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; views borrow from `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::BYTES) };
    }
}

#[test]
fn a_process_that_dies_with_the_lock_leaves_whole_elements_and_the_news() {
    let shared = Shared::new();
    let region = shared.region();
    let seat = region.join().unwrap();
    let me = seat.member();
    let place = Place::in_region(&region, 2 * CHUNK).unwrap();
    let array = Array::create_from(place, &[-1i32; 4]).unwrap();

    // SAFETY: the child calls nothing that needs another thread of the parent, and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1);
    if child == 0 {
        let done = Array::<i32>::attach(place).is_ok_and(|array| {
            array.lock_until(me, Deadline::after(Duration::from_secs(5))).is_ok_and(|guard| {
                let done = guard.write_from(0, &[1, 2]).is_ok();
                let _held = ManuallyDrop::new(guard);
                done
            })
        });
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is a local.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child could not lock and write");

    let soon = Deadline::after(Duration::from_secs(10));
    let Err(AcquireError::OwnerDied(died)) = array.lock_until(me, soon) else {
        panic!("the death went unnoticed")
    };
    let mut guard = died.into_guard();
    assert!(guard.iter().eq([1, 2, -1, -1]));
    guard.write_from(2, &[3, 4]).unwrap();
    guard.mark_consistent();
    drop(guard);
    assert!(array.lock_until(me, soon).is_ok());
}

mod raw_bytes {
    use procession_core::value::Value as SharedValue;
    use proptest::prelude::*;

    use super::{
        AcquireError, AnyArray, AnyValue, Array, CType, Char, LONGEST, Membership, Place, Scalar,
        TypeCode,
    };

    fn use_typed<T: CType>(place: Place<'_>, length: usize) {
        let seat = Membership::private();
        if let Ok(value) = SharedValue::<T>::attach(place) {
            value.update_raw(|_| T::default());
            if let Ok(guard) = value.try_lock(seat.member()).or_else(AcquireError::into_guard) {
                let _ = guard.get();
            }
        }
        let _ = Array::<T>::attach_to(place, length);
        if let Ok(array) = Array::<T>::attach(place) {
            assert!((array.len() as u64) < place.bytes());
            assert_eq!(array.raw().iter().count(), array.len());
            array.raw().fill(T::default());
            let _ = array.raw().get(length);
            let _ = array.try_lock(seat.member());
        }
    }

    /// Tries everything on whatever lies there. What comes out does not matter, as long as something does.
    fn use_all(place: Place<'_>, length: usize) {
        let seat = Membership::private();
        if let Ok(value) = AnyValue::attach(place) {
            value.set_raw(value.get_raw()).unwrap();
            let _ = value.try_lock(seat.member());
        }
        if let Ok(array) = AnyArray::attach(place) {
            assert_eq!(array.raw().iter().count(), array.len());
            let _ = array.raw().set(length, 1);
            let _ = array.try_lock(seat.member());
        }
        use_typed::<Char>(place, length);
        use_typed::<i8>(place, length);
        use_typed::<u8>(place, length);
        use_typed::<char>(place, length);
        use_typed::<i16>(place, length);
        use_typed::<u16>(place, length);
        use_typed::<i32>(place, length);
        use_typed::<u32>(place, length);
        use_typed::<i64>(place, length);
        use_typed::<u64>(place, length);
        use_typed::<f32>(place, length);
        use_typed::<f64>(place, length);
    }

    /// A description of an object: any word, or one that is nearly right.
    fn what() -> impl Strategy<Value = u64> {
        let kind = prop_oneof![Just(0x7661u64), Just(0x6172), any::<u16>().prop_map(u64::from)];
        let code = prop_oneof![
            prop::sample::select(&TypeCode::ALL[..]).prop_map(|code| code as u64),
            any::<u8>().prop_map(u64::from)
        ];
        let length = prop_oneof![0u64..40, LONGEST - 2..=LONGEST, any::<u64>()];
        prop_oneof![
            any::<u64>(),
            (kind, code, length)
                .prop_map(|(kind, code, length)| kind << 48 | code << 40 | length & LONGEST)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn never_panic(
            mut memory in prop::collection::vec(any::<u64>(), 0..8),
            what in what(),
            bytes in 0u64..64,
            length: usize,
        ) {
            if let Some(word) = memory.get_mut(1) {
                *word = what;
            }
            use_all(Place::in_memory(&mut memory).up_to(bytes), length);
        }

        #[test]
        fn a_number_comes_back_from_where_it_fits(whole: i64, float: f64) {
            for scalar in [Scalar::from(whole), Scalar::from(float)] {
                for code in TypeCode::ALL {
                    if let Ok(other) = scalar.convert(code) {
                        prop_assert!(other.code().is_like(code));
                        prop_assert_eq!(other.convert(scalar.code()), Ok(scalar));
                    }
                }
            }
        }
    }
}
