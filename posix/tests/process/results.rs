//! What comes back from a process, and how its end is told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use procession_posix::process::{JoinError, Process, StartError, StartMethod};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Bound, LONG};
use crate::{add, wait_for_ever};

under_each_method! {
    arguments_and_results_cross
    large_arguments_and_results_cross
    a_panic_is_told_with_its_message
    exits_and_signals_have_their_codes
    the_sentinel_tells_the_end
    a_result_that_does_not_decode_is_an_error
    any_thread_may_wait
}

fn arguments_and_results_cross(method: StartMethod) {
    let child = Bound(Process::new(add, (2, 3)).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 5);
    assert_eq!(child.join().unwrap(), 5, "joining twice gives the same");
    assert_eq!(child.exitcode(), Some(0));
    assert!(!child.is_alive());

    let none = Bound(Process::new(|| (), ()).method(method).start().unwrap());
    none.join_timeout(LONG).unwrap();
    let eight =
        |a: u8, b: i64, c: String, d: Vec<u8>, e: bool, f: f64, g: (u8, u8), h: Option<u8>| {
            (h, g, f, e, d, c, b, a)
        };
    let args = (1, -2, "drei".to_string(), vec![4], true, 6.5, (7, 7), Some(8));
    let child = Bound(Process::new(eight, args).method(method).start().unwrap());
    let back = (Some(8), (7, 7), 6.5, true, vec![4], "drei".to_string(), -2, 1);
    assert_eq!(child.join_timeout(LONG).unwrap(), back);
}

fn large_arguments_and_results_cross(method: StartMethod) {
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    for size in [900, 961, 4096, 127 << 10, 129 << 10, 300 << 10, 5 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let child = Process::new(reverse, (bytes.clone(),)).method(method).start().unwrap();
        let child = Bound(child);
        assert_eq!(child.join_timeout(LONG).unwrap(), reverse(bytes), "{size} bytes");
    }
}

fn a_panic_is_told_with_its_message(method: StartMethod) {
    fn fail(what: String) {
        panic!("no {what} today");
    }
    let child = Process::new(fail, ("bread".to_string(),)).method(method).start().unwrap();
    let child = Bound(child);
    match child.join_timeout(LONG) {
        Err(JoinError::Panicked { message, location, .. }) => {
            assert_eq!(message, "no bread today");
            assert!(location.unwrap().contains("results.rs:"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(child.exitcode(), Some(101));

    let again = || -> () { std::panic::resume_unwind(Box::new("carried on")) };
    let child = Bound(Process::new(again, ()).method(method).start().unwrap());
    match child.join_timeout(LONG) {
        Err(JoinError::Panicked { message, .. }) => assert_eq!(message, "carried on"),
        other => panic!("{other:?}"),
    }

    // A panic while panicking aborts; the words are there all the same.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("twice");
        }
    }
    let twice = || {
        let _bomb = Bomb;
        panic!("once");
    };
    let child = Bound(Process::new(twice, ()).method(method).start().unwrap());
    let end: Result<(), _> = child.join_timeout(LONG);
    assert!(matches!(end, Err(JoinError::Panicked { .. })), "{end:?}");
    assert_eq!(child.exitcode(), Some(-6));

    // Another thread's panic is not the target's.
    let side = || {
        let _ = std::thread::spawn(|| panic!("aside")).join();
        7
    };
    let child = Bound(Process::new(side, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 7);
}

fn exits_and_signals_have_their_codes(method: StartMethod) {
    for code in [1, 3, 255] {
        let leave = |code: i32| -> u8 { std::process::exit(code) };
        let child = Bound(Process::new(leave, (code,)).method(method).start().unwrap());
        let result = child.join_timeout(LONG);
        assert!(
            matches!(&result, Err(JoinError::Exited { code: c, .. }) if *c == code),
            "{result:?}"
        );
        assert_eq!(child.exitcode(), Some(code));
    }
    // Leaving with 0 is a success where there is nothing to hand out, and none where there is.
    let leave = || -> () { std::process::exit(0) };
    let child = Bound(Process::new(leave, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG), Ok(()));
    let leave = || -> u8 { std::process::exit(0) };
    let child = Bound(Process::new(leave, ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Exited { code: 0, .. })));

    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    assert!(child.is_alive());
    assert_eq!(child.exitcode(), None);
    assert!(matches!(child.join_timeout(Duration::ZERO), Err(JoinError::TimedOut { .. })));
    let before = Instant::now();
    let result = child.join_timeout(Duration::from_millis(30));
    assert!(matches!(result, Err(JoinError::TimedOut { .. })));
    assert!(before.elapsed() >= Duration::from_millis(30));
    child.terminate().unwrap();
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 15, .. })));
    assert_eq!(child.exitcode(), Some(-15));
    child.terminate().unwrap();
    child.kill().unwrap();

    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    child.kill().unwrap();
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 9, .. })));
    assert_eq!(child.exitcode(), Some(-9));
}

fn readable_within(fd: impl AsFd, time: Duration) -> bool {
    let time = Timespec::try_from(time).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).unwrap() == 1
}

fn the_sentinel_tells_the_end(method: StartMethod) {
    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    assert!(!readable_within(child.sentinel(), Duration::from_millis(20)));
    child.kill().unwrap();
    assert!(readable_within(child.sentinel(), LONG));
    assert!(!child.is_alive());
    assert_eq!(child.exitcode(), Some(-9), "known as soon as the sentinel says so");
}

/// Encodes as a number, and never decodes.
#[derive(serde::Serialize, Debug)]
struct OneWay(u8);

impl<'de> serde::Deserialize<'de> for OneWay {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("one way only"))
    }
}

/// Never encodes.
#[derive(serde::Deserialize, Debug)]
struct Stuck;

impl serde::Serialize for Stuck {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("stuck"))
    }
}

fn a_result_that_does_not_decode_is_an_error(method: StartMethod) {
    let child = Bound(Process::new(|| OneWay(1), ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Result { .. })));
    let child = Bound(Process::new(|| Stuck, ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Result { .. })));
    let child = Process::new(|_: OneWay| (), (OneWay(1),)).method(method).start().unwrap();
    let child = Bound(child);
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::NotBegun { .. })));
    assert_eq!(child.exitcode(), Some(126));
    let error = Process::new(|_: Stuck| (), (Stuck,)).method(method).start().unwrap_err();
    assert!(matches!(error, StartError::Arguments { .. }), "{error}");
}

fn any_thread_may_wait(method: StartMethod) {
    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    std::thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..8).map(|_| scope.spawn(|| child.join_timeout(LONG).unwrap_err())).collect();
        child.terminate().unwrap();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), JoinError::Killed { signal: 15, .. }));
        }
    });
}
