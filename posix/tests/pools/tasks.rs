//! Tasks of these tests, and what they wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use procession_posix::pool::TaskError;
use procession_posix::sync::{Event, Semaphore};

pub const LONG: Duration = Duration::from_secs(60);

pub fn square(x: u64) -> u64 {
    x * x
}

/// Returns when the gate is open, or after a long time.
pub fn pass(gate: Event, x: u64) -> u64 {
    assert!(gate.wait_timeout(LONG), "the gate was not opened");
    x
}

/// Says that it has begun, then as `pass`.
pub fn report_and_pass(begun: Semaphore, gate: Event, x: u64) -> u64 {
    begun.release().unwrap();
    pass(gate, x)
}

pub fn odd_ones_panic(x: u64) -> u64 {
    assert!(x.is_multiple_of(2), "{x} is odd");
    x
}

pub fn is_panic(error: &TaskError, words: &str) -> bool {
    matches!(error, TaskError::Panicked { message, .. } if message == words)
}

/// Opens a gate when the test ends, however it ends: no task is left waiting.
pub struct Opens(Event);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.set();
    }
}

pub fn gate() -> (Event, Opens) {
    let gate = Event::new().unwrap();
    (gate.clone(), Opens(gate))
}

/// Inputs that count how many of them were taken.
pub fn counted(up_to: u64) -> (impl Iterator<Item = u64>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    (
        (0..up_to).inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
        taken,
    )
}
