//! Bytes copied into shared memory and out of it again, and nothing else: the least that it takes to move them from
//! the memory of one into that of another.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::Result;
use crate::harness::Timing;
use crate::rows::flow::{LARGE, check, flow, stamp};
use crate::shm::{Mapping, Shared, Zeroed};
use crate::two;

/// One thread copies each message in, and out at once.
pub fn in_and_out(ops: u64) -> Result<Timing> {
    let between = Mapping::new(LARGE)?;
    let finish = two::processes(vec![Box::new(|gate| {
        let (mut sent, mut received) = (vec![1; LARGE], vec![1; LARGE]);
        let mut one = |number| {
            stamp(&mut sent, number);
            // SAFETY: each has that many bytes, and nobody else has the mapping now.
            unsafe {
                copy(&sent, between.base().as_ptr());
                received.as_mut_ptr().copy_from_nonoverlapping(between.base().as_ptr(), LARGE);
            }
            check(black_box(&received), number)
        };
        one(0)?;
        gate.start();
        (0..ops).try_for_each(one)?;
        gate.stop();
        Ok(0)
    })])?;
    Ok(Timing { ops, took: finish.took })
}

/// How many messages fit between two processes: while one is copied in, the one before it is copied out.
const PLACES: usize = 2;

#[repr(C, align(128))]
struct Count(AtomicU64);

/// How many messages were copied in, and how many out.
#[repr(C)]
struct Counts {
    r#in: Count,
    out: Count,
}

// SAFETY: they are atomics.
unsafe impl Zeroed for Counts {}

/// One process copies in and another copies out, at once; who has to wait spins.
pub fn between_two(ops: u64) -> Result<Timing> {
    let between = Mapping::new(LARGE * PLACES)?;
    let counts = Shared::<Counts>::new()?;
    // SAFETY: there are so many places.
    let place =
        |number: u64| unsafe { between.base().as_ptr().add(number as usize % PLACES * LARGE) };
    let send = |number, message: &[u8]| {
        while counts.out.0.load(Acquire) + (PLACES as u64) <= number {
            spin_loop();
        }
        // SAFETY: the place was read out, and is the sender's until it counts it.
        unsafe { copy(message, place(number)) };
        counts.r#in.0.store(number + 1, Release);
        Ok(())
    };
    let receive = |number, room: &mut Vec<u8>| {
        while counts.r#in.0.load(Acquire) <= number {
            spin_loop();
        }
        // SAFETY: the place is the receiver's from the one count to the other; the room has been made.
        unsafe { room.as_mut_ptr().copy_from_nonoverlapping(place(number), room.len()) };
        counts.out.0.store(number + 1, Release);
        Ok(())
    };
    flow(ops, send, receive)
}

/// Copies a message to shared memory.
///
/// # Safety
/// There is room for it at `to`, and nobody else accesses that meanwhile.
unsafe fn copy(message: &[u8], to: *mut u8) {
    // SAFETY: by the caller.
    unsafe { to.copy_from_nonoverlapping(black_box(message.as_ptr()), message.len()) };
}
