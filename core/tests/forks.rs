//! Forks at odd moments, in shared memory: what a child has inherited is its parent's.
//!
//! The children of these tests touch memory and end; they allocate nothing, since other threads may hold locks.

use std::ptr::NonNull;
use std::time::Duration;

use procession_core::queue::{Order, Plan, Policy, Store};
use procession_core::region::{Fixed, Kind, Membership, Options, Place, Region};
use procession_core::sync::{Lock, OnceCell};
use procession_core::sys::Deadline;
use procession_core::wait::wait_any;

const SIZE: usize = 1 << 18;
const FIRST: u64 = 1 << 17;

fn shared() -> Region<'static> {
    // SAFETY: a new mapping at an address of the kernel's choice; it stays.
    let memory = unsafe {
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), SIZE, access, flags, -1, 0)
    };
    assert_ne!(memory, libc::MAP_FAILED);
    let base = NonNull::new(memory.cast::<u8>()).unwrap();
    // SAFETY: the memory is zero, stays mapped, and this test's own.
    unsafe { Region::create(base, SIZE as u64, Options::default(), &Fixed) }.unwrap()
}

/// A child that runs `body` and then ends, with 0 if it answers `true`.
fn fork(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child allocates nothing and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        end(i32::from(!body()));
    }
    assert!(pid > 0);
    pid
}

fn end(code: i32) -> ! {
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(code) }
}

fn finish(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    libc::WEXITSTATUS(status)
}

fn until(mut there: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(Duration::from_secs(20));
    while !there() {
        if deadline.is_past() {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn a_child_that_was_forked_while_a_value_is_made_does_not_replace_it() {
    let region = shared();
    let seat = region.join().unwrap();
    let cell = OnceCell::<u64>::create(Place::in_region(&region, FIRST).unwrap()).unwrap();
    let mut child = 0;
    let value = cell.get_or_try_init(seat.member(), soon(), || {
        // SAFETY: the child touches memory only, and leaves by `end` below.
        child = unsafe { libc::fork() };
        match child {
            0 => until(|| cell.get().is_some()).then_some(9).ok_or(()),
            _ => Ok(7),
        }
    });
    if child == 0 {
        end(i32::from(value != Ok(&7)));
    }
    assert_eq!(value, Ok(&7));
    assert_eq!(finish(child), 0);
    assert_eq!(cell.get(), Some(&7));
}

#[test]
fn a_child_that_was_forked_while_a_value_is_made_makes_it_if_its_parent_dies() {
    let region = shared();
    let seat = region.join().unwrap();
    let cell = OnceCell::<u64>::create(Place::in_region(&region, FIRST).unwrap()).unwrap();
    let parent = fork(|| {
        let value = cell.get_or_try_init(seat.member(), soon(), || {
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                0 => Ok::<_, ()>(9),
                _ => end(3),
            }
        });
        value == Ok(&9)
    });
    assert_eq!(finish(parent), 3);
    let value = cell.wait_until(seat.member(), soon());
    assert_eq!(value, Ok(&9));
}

#[test]
fn a_child_in_another_pid_namespace_takes_nobody_for_dead() {
    let region = shared();
    let seat: Membership<'_> = region.join().unwrap();
    let me = seat.member();
    let lock: &Lock = region.object(FIRST).unwrap();
    let guard = lock.acquire(me).unwrap();
    let child = fork(|| {
        // SAFETY: concerns children only, and touches no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            end(2);
        }
        let inner = fork(|| {
            // Not joined yet: nothing has been claimed.
            let soon = Deadline::after(Duration::from_millis(30));
            wait_any(me, soon, &[lock]).is_none() && lock.try_acquire(me).is_err()
        });
        finish(inner) == 0
    });
    match finish(child) {
        2 => println!("this process may not make a pid namespace: nothing to test"),
        code => assert_eq!(code, 0),
    }
    drop(guard);
}

#[test]
fn a_child_leaves_its_parents_turn_at_a_store_alone() {
    let region = shared();
    let seat = region.join().unwrap();
    let me = seat.member();
    let (kind, segments) = (Kind::new(1).unwrap(), Kind::new(2).unwrap());
    let plan = Plan { capacity: 10, order: Order::First, policy: Policy::AtLeastOnce };
    let place = region.allocate_object(me, kind, Store::<u64>::bytes_for(plan)).unwrap();
    let store = Store::<u64>::create(&region, place.offset, plan, segments, 0).unwrap();

    let mut putter = store.start_put(me, soon(), 0).unwrap();
    putter.write(1);
    let ticket = putter.ticket();
    // SAFETY: the child touches memory only, and leaves by `end`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = putter.publish().is_err() && putter.another(0).is_err();
        drop(putter);
        end(i32::from(!refused));
    }
    assert_eq!(finish(child), 0);
    assert_eq!((store.len(), putter.ticket()), (0, ticket), "the place is still claimed");
    putter.publish().unwrap();
    drop(putter);

    let mut taker = store.start_take(me, soon()).unwrap();
    // SAFETY: as above.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused =
            taker.settle(None).is_err() && taker.discard().is_err() && taker.another().is_err();
        drop(taker);
        end(i32::from(!refused));
    }
    assert_eq!(finish(child), 0);
    assert_eq!((store.len(), store.held()), (0, 1), "it is still in this one's hand");
    let lease = taker.settle(None).unwrap().unwrap();
    drop(taker);
    assert!(store.finish(me, lease));
    assert_eq!(store.unfinished(), 0);
}
