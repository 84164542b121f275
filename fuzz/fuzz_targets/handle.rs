//! Bytes as an encoded handle, or as whatever a message of a queue could be; and messages of a queue that were written
//! over.
#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_posix::channel::Queue;
use procession_posix::log::Record;
use procession_posix::memory::{Config, arena, configure};
use procession_posix::sync::Lock;
use procession_posix::value::{AnyArray, AnyValue, Array, Char, TypeCode, Value};

#[derive(Arbitrary, Debug)]
struct Input {
    /// Which of the good handles the bytes start from, if any.
    from: Option<u8>,
    flips: Vec<(u8, u8)>,
    bytes: Vec<u8>,
    /// Which type it is taken for.
    to: u8,
    /// What is done to the memory of all objects before.
    damage: Vec<(u16, u64)>,
}

/// One of each, made once; what they hold at first, to be put back after each run.
struct Objects {
    numbers: Queue<Vec<u8>>,
    encoded: Vec<Vec<u8>>,
    /// Of the arena: where the objects lie.
    start: usize,
    snapshot: Vec<u64>,
}

const USED: usize = 1 << 20;

// SAFETY: only the one thread that fuzzes uses it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
struct Shared(RefCell<Objects>);

static OBJECTS: LazyLock<Shared> = LazyLock::new(|| {
    let mut config = Config::new();
    config.reserve = Some(USED as u64);
    config.participants = Some(7);
    configure(config).expect("the first to configure");
    let lock = Lock::new().expect("room");
    let value = Value::new(1i32).expect("room");
    let array = Array::from_slice(&[1.0f64, 2.0]).expect("room");
    let text = AnyArray::new(TypeCode::Char, 9).expect("room");
    let numbers = Queue::<Vec<u8>>::bounded(4).expect("room");
    let locks = Queue::<Lock>::bounded(3).expect("room");
    let queues = Queue::<Queue<Vec<u8>>>::bounded(2).expect("room");
    locks.put(&lock).expect("room");
    queues.put(&numbers).expect("room");
    numbers.put(&vec![1; 10]).expect("room");
    numbers.put(&vec![2; 1000]).expect("room");
    let encoded = vec![
        postcard::to_stdvec(&lock),
        postcard::to_stdvec(&value),
        postcard::to_stdvec(&array),
        postcard::to_stdvec(&text),
        postcard::to_stdvec(&numbers),
        postcard::to_stdvec(&locks),
        postcard::to_stdvec(&queues),
    ];
    let encoded = encoded.into_iter().collect::<Result<_, _>>().expect("all are encoded");
    let start = arena().expect("an arena").region().base().as_ptr() as usize;
    let mut objects = Objects { numbers, encoded, start, snapshot: vec![] };
    objects.snapshot = (0..USED / 8).map(|index| objects.word(index).load(RELAXED)).collect();
    Shared(RefCell::new(objects))
});

use std::sync::atomic::AtomicU64;
const RELAXED: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

impl Objects {
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < USED / 8);
        // SAFETY: the arena is mapped until the end, has that many bytes, and any bytes are an atomic.
        unsafe { &*((self.start + index * 8) as *const AtomicU64) }
    }

    /// As the objects were at first. In one go: a loop would be watched by the fuzzer at each step.
    fn restore(&self) {
        assert_eq!(self.snapshot.len(), USED / 8);
        // SAFETY: the arena is mapped until the end and has that many bytes; no other thread is at work on it.
        unsafe {
            self.snapshot.as_ptr().copy_to_nonoverlapping(self.start as *mut u64, USED / 8);
        }
    }
}

fuzz_target!(|input: Input| {
    let objects = OBJECTS.0.borrow();
    let mut bytes = match input.from {
        Some(from) => objects.encoded[usize::from(from) % objects.encoded.len()].clone(),
        None => vec![],
    };
    bytes.extend(&input.bytes);
    for (at, with) in &input.flips {
        if let Some(byte) = bytes.get_mut(usize::from(*at)) {
            *byte ^= with;
        }
    }
    for (at, value) in &input.damage {
        // The objects lie in the first chunks, behind 64 KiB of header and tables, which have targets of their own.
        objects.word(65536 / 8 + usize::from(*at)).store(*value, RELAXED);
    }
    take(&bytes, input.to);
    let queue = &objects.numbers;
    let _ = (queue.qsize(), queue.empty(), queue.full(), queue.is_closed());
    for _ in 0..3 {
        let _ = queue.get_nowait();
    }
    let _ = queue.put_nowait(&input.bytes);
    let _ = queue.put_nowait(&vec![3; 2000]);
    let _ = queue.get_nowait();
    let _ = arena().map(|arena| arena.sweep());
    objects.restore();
});

/// Takes the bytes for an object of some type, and uses what comes of it.
fn take(bytes: &[u8], to: u8) {
    match to % 11 {
        0 => {
            if let Ok(lock) = postcard::from_bytes::<Lock>(bytes) {
                let _ = (lock.try_acquire(), lock.locked());
            }
        }
        1 => {
            if let Ok(value) = postcard::from_bytes::<Value<i32>>(bytes) {
                value.set(value.get());
                let _ = value.try_lock();
            }
        }
        2 => {
            if let Ok(value) = postcard::from_bytes::<AnyValue>(bytes) {
                let _ = (value.get(), value.set(1), value.try_lock());
            }
        }
        3 => {
            if let Ok(array) = postcard::from_bytes::<Array<f64>>(bytes) {
                array.fill(array.iter().sum());
                let _ = array.try_lock();
            }
        }
        4 => {
            if let Ok(array) = postcard::from_bytes::<AnyArray>(bytes) {
                let _ = (array.to_vec(), array.fill(1), array.set(0, 1));
            }
        }
        5 => drop(postcard::from_bytes::<Array<Char>>(bytes)),
        6 => {
            if let Ok(queue) = postcard::from_bytes::<Queue<Vec<u8>>>(bytes) {
                let _ = (queue.get_nowait(), queue.put_nowait(&vec![1; 200]), queue.qsize());
                queue.close();
            }
        }
        7 => {
            if let Ok(locks) = postcard::from_bytes::<Queue<Lock>>(bytes) {
                let _ = locks.get_nowait();
            }
        }
        8 => {
            if let Ok(queues) = postcard::from_bytes::<Queue<Queue<Vec<u8>>>>(bytes)
                && let Ok(queue) = queues.get_nowait()
            {
                let _ = queue.get_nowait();
            }
        }
        9 => {
            // What another process has logged.
            if let Ok(record) = postcard::from_bytes::<Record>(bytes) {
                assert!(!record.to_string().is_empty());
                let again = postcard::to_stdvec(&record).expect("it was encoded before");
                let same = postcard::from_bytes::<Record>(&again).expect("a record");
                assert_eq!(postcard::to_stdvec(&same), Ok(again));
            }
        }
        _ => drop(postcard::from_bytes::<Vec<(Lock, Option<Value<u8>>)>>(bytes)),
    }
}
