//! Values and arrays travel: through queues, and to another process.

use std::time::Duration;

use procession_core::sync::AcquireError;
use procession_posix::channel::Queue;
use procession_posix::value::{
    AnyArray, AnyValue, Array, Char, CreateError, Scalar, TypeCode, Value, ValueError,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as Message, SeqDeserializer};

/// Runs `work` in a forked child, waits for it, and gives its exit code; a child that hangs is killed.
fn in_a_child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls nothing that needs another thread's locks, and leaves by _exit.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: an alarm has no preconditions; it ends a child that would outlive its test.
            unsafe { libc::alarm(20) };
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: nothing of the parent's runs on the way out.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the child is this process's own, and nobody else waits for it.
            let waited = unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(waited, child);
            if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                -libc::WTERMSIG(status)
            }
        }
    }
}

/// Decodes `from` as a `T`, with the words of the error: postcard keeps none.
fn decode<T: DeserializeOwned>(from: &impl serde::Serialize) -> Result<T, String> {
    let bytes = postcard::to_stdvec(from).unwrap();
    let (arena, offset, kind, generation): (u64, u64, u8, u32) =
        postcard::from_bytes(&bytes).unwrap();
    let fields = [arena, offset, u64::from(kind), u64::from(generation)];
    let fields = SeqDeserializer::<_, Message>::new(fields.into_iter());
    T::deserialize(fields).map_err(|error| error.to_string())
}

#[test]
fn a_value_comes_out_of_a_queue_as_itself() {
    let value = Value::new(7i64).unwrap();
    let queue = Queue::bounded(2).unwrap();
    queue.put(&value).unwrap();
    let same: Value<i64> = queue.get().unwrap();
    same.set(8);
    assert_eq!(value.get(), 8);
    assert_eq!(value.update(|n| n * 2), 16);
    assert_eq!(same.get(), 16);
}

#[test]
fn an_array_comes_out_of_a_queue_as_itself() {
    let array = Array::from_slice(&['a', 'ß', '字']).unwrap();
    let queue = Queue::bounded(2).unwrap();
    queue.put(&(array.clone(), 1)).unwrap();
    let (same, one): (Array<char>, i32) = queue.get().unwrap();
    assert_eq!((same.len(), one), (3, 1));
    same.set(0, 'z').unwrap();
    assert_eq!(array.iter().collect::<String>(), "zß字");
    assert_eq!(array.iter().rev().len(), 3);
}

#[test]
fn a_large_array_takes_as_many_chunks_as_it_needs() {
    let array = Array::<u64>::new(100_000).unwrap();
    array.set(99_999, 1).unwrap();
    let same: Array<u64> = decode(&array).unwrap();
    assert_eq!(same.get(99_999), Ok(1));
    assert_eq!(same.iter().sum::<u64>(), 1);
}

#[test]
fn memory_that_is_used_again_is_zero() {
    let array = Array::<u8>::new(100).unwrap();
    array.fill(255);
    drop(array);
    assert_eq!(Array::<u8>::new(100).unwrap().to_vec(), [0; 100]);
}

#[test]
fn an_empty_array_is_one() {
    let array = Array::<f64>::new(0).unwrap();
    assert!(array.is_empty() && array.to_vec().is_empty());
    assert!(decode::<Array<f64>>(&array).unwrap().is_empty());
    assert_eq!(array.get(0), Err(ValueError::NoElement { index: 0, length: 0 }));
}

#[test]
fn each_way_to_be_something_else_is_an_error_that_names_both() {
    let value = Value::new(1i32).unwrap();
    let array = Array::<f32>::new(2).unwrap();
    let queue = Queue::<u8>::bounded(1).unwrap();
    for (error, parts) in [
        (decode::<Value<f64>>(&value).unwrap_err(), ["'i' (i32)", "'d' (f64)"]),
        (decode::<Array<u32>>(&array).unwrap_err(), ["'f' (f32)", "'I' (u32)"]),
        (decode::<Array<i32>>(&value).unwrap_err(), ["a Value", "an Array"]),
        (decode::<Value<f32>>(&array).unwrap_err(), ["an Array", "a Value"]),
        (decode::<Value<i32>>(&queue).unwrap_err(), ["a Queue", "a Value"]),
        (decode::<AnyArray>(&value).unwrap_err(), ["a Value", "an Array"]),
    ] {
        for part in parts {
            assert!(error.contains(part), "{error} does not say {part}");
        }
    }
}

#[test]
fn a_handle_of_what_was_is_an_error() {
    let value = Value::new(1i32).unwrap();
    let bytes = postcard::to_stdvec(&value).unwrap();
    let (arena, offset, kind, generation): (u64, u64, u8, u32) =
        postcard::from_bytes(&bytes).unwrap();
    for (fields, part) in [
        ((arena ^ 1, offset, kind, generation), "another process tree"),
        ((arena, offset, kind, generation + 1), "is gone"),
        ((arena, offset + 1, kind, generation), "no block starts"),
        ((arena, u64::MAX, kind, generation), "no block starts"),
    ] {
        let fields = [fields.0, fields.1, u64::from(fields.2), u64::from(fields.3)];
        let fields = SeqDeserializer::<_, Message>::new(fields.into_iter());
        let error = Value::<i32>::deserialize(fields).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_dynamic_travels_as_what_is_static_and_back() {
    let value = AnyValue::new(TypeCode::Long, 5u8).unwrap();
    let queue = Queue::bounded(4).unwrap();
    queue.put(&value).unwrap();
    let same: AnyValue = queue.get().unwrap();
    assert_eq!(same.get(), Scalar::I64(5));
    let typed: Value<i64> = decode(&value).unwrap();
    typed.set(6);
    assert_eq!(value.get(), Scalar::I64(6));
    value.lock().unwrap().set(7).unwrap();
    assert_eq!(value.typed::<i64>().unwrap().get(), 7);
    assert!(matches!(value.typed::<u8>(), Err(ValueError::WrongCode { .. })));

    let array = AnyArray::new(TypeCode::Char, 3).unwrap();
    array.typed::<Char>().unwrap().raw().set_value(b"abc").unwrap();
    assert_eq!(array.to_vec().len(), 3);
    assert_eq!(array.get(2).unwrap(), Scalar::Char(Char(b'c')));
    array.fill(Char(b'x')).unwrap();
    array.lock().unwrap().set(0, Char(b'y')).unwrap();
    let typed: Array<Char> = decode(&array).unwrap();
    assert_eq!(typed.raw().raw().collect::<Vec<u8>>(), b"yxx");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let error = AnyValue::new(TypeCode::Int, 1u64 << 40).unwrap_err();
    assert!(matches!(error, CreateError::Value(ValueError::DoesNotFit { .. })));
    let error = Array::<u8>::new(usize::MAX).unwrap_err();
    assert!(matches!(error, CreateError::Value(ValueError::TooLong { .. })));
    let error = procession_posix::Error::from(Array::<u8>::new(1 << 39).unwrap_err());
    assert!(matches!(error, procession_posix::Error::Memory(_)), "{error}");
}

#[test]
fn each_way_to_lock() {
    let value = Value::new(0u8).unwrap();
    let held = value.lock().unwrap();
    assert!(matches!(value.try_lock(), Err(AcquireError::WouldBlock)));
    let soon = Duration::from_millis(2);
    assert!(matches!(value.lock_timeout(soon), Err(AcquireError::TimedOut)));
    let soon = procession_posix::sync::Deadline::after(soon);
    assert!(matches!(value.lock_until(soon), Err(AcquireError::TimedOut)));
    drop(held);
    let mut guard = value.try_lock().unwrap();
    guard.set(1);
    assert_eq!(guard.update(|n| n + 1), 2);
    assert!(!guard.owner_died());
}

#[test]
fn a_child_counts_along() {
    let counter = Value::new(0u64).unwrap();
    let squares = Array::<u64>::new(100).unwrap();
    let (theirs, theirs_too) = (counter.clone(), squares.clone());
    // What a child decodes is the parent's too.
    let bytes = postcard::to_stdvec(&counter).unwrap();
    let code = in_a_child(move || {
        for index in 0..100 {
            theirs.lock().unwrap().update(|n| n + 1);
            theirs_too.set(index as usize, index * index).unwrap();
        }
        let decoded: Value<u64> = postcard::from_bytes(&bytes).unwrap();
        i32::from(decoded.get() != 100)
    });
    assert_eq!(code, 0);
    assert_eq!(counter.get(), 100);
    assert!(squares.iter().eq((0..100).map(|n| n * n)));
}

#[test]
fn a_holder_that_dies_is_reported_until_somebody_mends() {
    let balance = Array::from_slice(&[50i64, 50]).unwrap();
    let theirs = balance.clone();
    let code = in_a_child(move || {
        let accounts = theirs.lock().unwrap();
        accounts.update(0, |n| n - 10).unwrap();
        // SAFETY: plain.
        unsafe { libc::raise(libc::SIGKILL) }
    });
    assert_eq!(code, -libc::SIGKILL);

    let wait = Duration::from_secs(10);
    let died = match balance.lock_timeout(wait) {
        Err(AcquireError::OwnerDied(died)) => died,
        other => panic!("{other:?}"),
    };
    let mut accounts = died.into_guard();
    assert!(accounts.owner_died());
    // Half of it was done.
    assert_eq!(accounts.iter().collect::<Vec<_>>(), [40, 50]);
    accounts.set(1, 60).unwrap();
    accounts.mark_consistent();
    drop(accounts);
    assert!(balance.lock_timeout(wait).is_ok());
    assert_eq!(balance.to_vec(), [40, 60]);
}
