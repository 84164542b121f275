//! A program without std and without an allocator: a region in static memory, and in it a lock, a queue, a ring, a
//! value and an array. Exits with 0 if all do what they should, else says where not.
#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::time::Duration;

use procession_core::queue::{PopError, PushError, SlotQueue, SpscRing};
use procession_core::region::{CHUNK, Fixed, Options, Region};
use procession_core::sync::{AcquireError, Lock};
use procession_core::sys::Deadline;
use procession_core::value::{AnyArray, Array, Place, Scalar, TypeCode, Value};

const BYTES: usize = 256 * 1024;

#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: the region alone uses the memory, through atomics and under claims.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; BYTES]));

/// Where each object lies: behind the tables of a region with the usual number of rows.
const FIRST: u64 = 2 * CHUNK;
const LOCK: u64 = FIRST;
const VALUE: u64 = FIRST + 128;
const ARRAY: u64 = FIRST + 256;
const RING: u64 = FIRST + 4096;
const QUEUE: u64 = FIRST + 8192;

fn run() {
    let base = NonNull::new(MEMORY.0.get()).unwrap().cast();
    // SAFETY: zeroed static memory, which nobody else uses.
    let region = unsafe { Region::create(base, BYTES as u64, Options::default(), &Fixed) }.unwrap();
    // Without std a seat does not notice a fork; this program never forks.
    let seat = region.join().unwrap();
    let me = seat.member();

    let lock = region.object::<Lock>(LOCK).unwrap();
    let guard = lock.acquire(me).unwrap();
    let soon = Deadline::after(Duration::from_millis(5));
    assert!(matches!(lock.acquire_until(me, soon), Err(AcquireError::TimedOut)));
    drop(guard);
    assert!(lock.try_acquire(me).is_ok());

    let value = Value::create(Place::in_region(&region, VALUE).unwrap(), 41i32).unwrap();
    assert_eq!(value.lock(me).unwrap().update(|n| n + 1), 42);
    let place = Place::in_region(&region, ARRAY).unwrap();
    let array = Array::<f64>::create(place, 5).unwrap();
    array.lock(me).unwrap().write_from(3, &[0.25, 0.5]).unwrap();
    let any = AnyArray::attach_to(place, TypeCode::Double, Some(5)).unwrap();
    assert_eq!(any.raw().get(4), Ok(Scalar::F64(0.5)));

    let ring = SpscRing::<u64>::create(&region, RING, 4).unwrap();
    let producer = ring.producer(me).unwrap();
    let consumer = ring.consumer(me).unwrap();
    for item in 0..100 {
        producer.push(item).unwrap();
        assert_eq!(consumer.pop().unwrap(), item);
    }
    assert!(matches!(consumer.try_pop(), Err(PopError::Empty)));

    let queue = SlotQueue::<u64>::create(&region, QUEUE, 4).unwrap();
    for item in 0..4 {
        queue.push(me, item).unwrap();
    }
    assert!(matches!(queue.try_push(me, 4), Err(PushError::Full)));
    for item in 0..4 {
        assert_eq!(queue.pop(me).unwrap(), item);
    }
    let soon = Deadline::after(Duration::from_millis(5));
    assert!(matches!(queue.pop_until(me, soon), Err(PopError::TimedOut)));
}

// The C library, which starts this program and ends it.
#[link(name = "c")]
unsafe extern "C" {
    fn write(file: c_int, bytes: *const u8, count: usize) -> isize;
    fn _exit(code: c_int) -> !;
}

/// Called by the C library.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const u8) -> c_int {
    run();
    let _ = writeln!(Out, "all well");
    0
}

/// The terminal, or whatever stands for it.
struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is that many bytes.
        let written = unsafe { write(1, text.as_ptr(), text.len()) };
        if written == text.len() as isize { Ok(()) } else { Err(fmt::Error) }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Out, "{info}");
    // SAFETY: ends this process at once.
    unsafe { _exit(1) }
}

/// The precompiled core names it in its unwind tables. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
