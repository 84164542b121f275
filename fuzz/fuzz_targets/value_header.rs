//! Raw bytes as a value or an array, of a type known or not.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::region::{Member, Membership};
use procession_core::sys::Deadline;
use procession_core::value::{
    AnyArray, AnyValue, Array, CType, Char, Place, Scalar, TypeCode, Value,
};

#[derive(Arbitrary, Debug)]
struct Input {
    words: Vec<u64>,
    /// How much of it is the place.
    bytes: u16,
    /// A description that could be: kind, code and length.
    what: Option<(bool, u8, u8)>,
    unlock: bool,
    length: u16,
    index: usize,
    value: u64,
}

fuzz_target!(|input: Input| {
    let mut words = input.words.clone();
    if let (Some((array, code, length)), [_, what, ..]) = (input.what, &mut words[..]) {
        let kind = if array { 0x6172u64 } else { 0x7661 };
        let code = TypeCode::ALL[usize::from(code) % TypeCode::ALL.len()] as u8;
        *what = kind << 48 | u64::from(code) << 40 | u64::from(length);
    }
    if let (true, [lock, ..]) = (input.unlock, &mut words[..]) {
        *lock = 0;
    }
    let place = Place::in_memory(&mut words).up_to(u64::from(input.bytes));
    let seat = Membership::private();
    let me = seat.member();
    typed::<Char>(place, me, &input);
    typed::<i8>(place, me, &input);
    typed::<u8>(place, me, &input);
    typed::<char>(place, me, &input);
    typed::<i16>(place, me, &input);
    typed::<u32>(place, me, &input);
    typed::<u64>(place, me, &input);
    typed::<f32>(place, me, &input);
    typed::<f64>(place, me, &input);
    any(place, me, &input);
    created(place, &input);
});

/// A lock that damaged bytes describe may be held by anybody: nobody waits for long.
fn soon() -> Deadline {
    Deadline::after(Duration::from_micros(50))
}

fn typed<'m, T: CType>(place: Place<'m>, me: Member<'m>, input: &Input) {
    if let Ok(value) = Value::<T>::attach(place) {
        value.set_raw(value.get_raw());
        value.update_raw(|_| T::default());
        let _ = format!("{value:?}");
        let _ = value.try_lock(me).map(|mut guard| guard.update(|value| value));
        let _ = value.lock_until(me, soon());
    }
    let _ = Array::<T>::attach_to(place, usize::from(input.length));
    if let Ok(array) = Array::<T>::attach(place) {
        let elements = array.raw();
        assert!(elements.len() * size_of::<T>() <= input.words.len() * 8);
        let all: Vec<T> = elements.iter().collect();
        let _ = elements.get(input.index).map(|value| elements.set(input.index, value));
        let _ = elements.write_from(input.index, &all);
        let mut some = vec![T::default(); usize::from(input.length)];
        let _ = elements.read_into(input.index, &mut some);
        let _ = array.lock_until(me, soon()).map(|guard| guard.fill(T::default()));
    }
}

fn any<'m>(place: Place<'m>, me: Member<'m>, input: &Input) {
    let scalar = Scalar::from(input.value);
    if let Ok(value) = AnyValue::attach(place) {
        let now = value.get_raw();
        assert!(value.set_raw(now).is_ok());
        let _ = value.set_raw(scalar);
        let _ = value.set_raw(f64::from_bits(input.value));
        let _ = format!("{value:?} {now}");
        let _ = (value.typed::<u16>(), value.typed::<f64>());
        let _ = value.lock_until(me, soon()).map(|mut guard| guard.set(scalar));
    }
    if let Ok(array) = AnyArray::attach(place) {
        let elements = array.raw();
        let last = elements.iter().next_back();
        if let Some(last) = last {
            assert!(elements.set(elements.len() - 1, last).is_ok());
        }
        let _ =
            (elements.get(input.index), elements.set(input.index, scalar), elements.fill(scalar));
        let _ = array.lock_until(me, soon()).map(|guard| guard.len());
    }
}

/// Whatever lay there, what is created is good.
fn created(place: Place<'_>, input: &Input) {
    let code = TypeCode::ALL[input.index % TypeCode::ALL.len()];
    if let Ok(array) = AnyArray::create(place, code, usize::from(input.length)) {
        assert!(array.raw().iter().all(|element| element == Scalar::zero(code)));
        assert!(!array.get_lock().locked());
        assert!(AnyArray::attach_to(place, code, Some(usize::from(input.length))).is_ok());
        assert!(AnyValue::attach(place).is_err());
    }
}
