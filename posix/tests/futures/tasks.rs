//! Tasks of these tests, and how long they wait.

use std::time::Duration;

use procession_posix::futures::{Executor, Future};
use procession_posix::sync::Event;

pub const LONG: Duration = Duration::from_secs(60);
pub const SHORT: Duration = Duration::from_millis(5);

pub fn square(x: u64) -> u64 {
    x * x
}

pub fn fail() -> u64 {
    panic!("this task fails")
}

pub fn picky(x: u64) -> u64 {
    assert!(x != 3, "not three");
    x
}

/// Says that it runs, and waits until it may go on.
pub fn gated(runs: Event, go: Event) -> u64 {
    runs.set();
    assert!(go.wait_timeout(LONG));
    1
}

pub fn nothing() {}

/// A task that runs until `go` is set.
pub struct Busy {
    pub future: Future<u64>,
    pub go: Event,
}

impl Busy {
    pub fn new(executor: &impl Executor) -> Self {
        let (runs, go) = (Event::new().unwrap(), Event::new().unwrap());
        let future = executor.submit(gated, (runs.clone(), go.clone())).unwrap();
        assert!(runs.wait_timeout(LONG));
        Busy { future, go }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.go.set();
    }
}
