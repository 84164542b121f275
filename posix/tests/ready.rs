//! Readiness as a descriptor: nobody is forgotten, and nothing stays behind.
//!
//! One test, for it counts the threads and descriptors of its process. It always has threads, so no process is forked from it.

use std::time::{Duration, Instant};

use procession_posix::process::{Process, StartMethod, keep_warm, set_start_method, start_method};
use procession_posix::ready::Readiness;
use procession_posix::sync::{Event, Lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const LONG: Duration = Duration::from_secs(60);

fn is_readable(ready: &Readiness, wait: bool) -> bool {
    let long = Timespec { tv_sec: if wait { 20 } else { 0 }, tv_nsec: 0 };
    poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&long)).unwrap() == 1
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn die_with(lock: Lock) {
    std::mem::forget(lock.acquire().unwrap());
    std::process::abort();
}

fn set(event: Event) {
    event.set();
}

#[test]
fn readiness_comes_and_leaves_nothing_behind() {
    if start_method() == StartMethod::Fork {
        set_start_method(StartMethod::Zygote);
    }
    // Processes kept ready have descriptors, too.
    keep_warm(0).unwrap();
    let (event, lock) = (Event::new().unwrap(), Lock::new().unwrap());
    // The arena and the starter of processes have their descriptors from here on.
    Process::new(set, (Event::new().unwrap(),)).start().unwrap().join().unwrap();
    let before = (count("task"), count("fd"));

    {
        let ready = Readiness::of(&event).unwrap();
        let guard = lock.acquire().unwrap();
        let turn = Readiness::of(&lock).unwrap();
        assert!(!is_readable(&ready, false) && !is_readable(&turn, false));
        let setter = Process::new(set, (event.clone(),)).start().unwrap();
        assert!(is_readable(&ready, true));
        setter.join().unwrap();
        assert!(!is_readable(&turn, false));
        // Still set, so ready at once; then cleared and not.
        ready.rearm().unwrap();
        assert!(is_readable(&ready, true));
        event.clear();
        ready.rearm().unwrap();
        assert!(!is_readable(&ready, false));
        drop(guard);
        assert!(is_readable(&turn, true));
    }

    // A holder's death is readiness, too.
    let victim = Process::new(die_with, (lock.clone(),)).start().unwrap();
    assert!(victim.join().is_err());
    drop(victim);
    let turn = Readiness::of(&lock).unwrap();
    assert!(is_readable(&turn, true));
    drop(turn);
    lock.acquire().unwrap_err().into_guard().unwrap().mark_consistent();

    // More than the kernel lets a thread sleep on at a time.
    let many: Vec<Event> = (0..200).map(|_| Event::new().unwrap()).collect();
    let ready: Vec<Readiness> = many.iter().map(|event| Readiness::of(event).unwrap()).collect();
    many[199].set();
    assert!(is_readable(&ready[199], true));
    assert!(ready[..199].iter().all(|ready| !is_readable(ready, false)));
    drop(ready);

    eventually("thread and descriptors are gone", || (count("task"), count("fd")) == before);
}
