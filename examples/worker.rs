//! A program with work that other programs start by its name, without being linked with it.
//!
//! By itself it is a small tool that counts prime numbers:
//!
//! ```text
//! cargo run --example worker -- 100 1000
//! ```
//!
//! A program that knows its path has processes executed from it, and names what they are to run:
//!
//! ```text
//! set_executable("target/debug/examples/worker");
//! let child = Process::named::<u64, _>("worker::primes_below", (100u64,)).start()?;
//! assert_eq!(child.join()?, 25);
//! ```
//!
//! Such a process never comes to this `main`. Queues, locks and all other handles travel to it and back, for it belongs
//! to the starter's tree. `tests/executables/worker.rs` is a program that does all of this.

use std::process::ExitCode;

use procession::prelude::*;
use procession::process::set_executable;
use procession::{Result, export_target};

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|arg| arg.parse().ok()).collect();
    match numbers.as_deref() {
        None | Some([]) => {
            eprintln!("usage: worker NUMBER...");
            ExitCode::FAILURE
        }
        Some(numbers) => {
            for &end in numbers {
                println!("{} primes below {end}", primes_below(end));
            }
            ExitCode::SUCCESS
        }
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

/// How many prime numbers are smaller than `end`.
fn primes_below(end: u64) -> u64 {
    (0..end).filter(|number| is_prime(*number)).count() as u64
}
export_target!(primes_below);

/// The first prime number is the one with number 1.
fn prime(number: u64) -> u64 {
    assert!(number > 0, "there is no prime before the first");
    (2..).filter(|number| is_prime(*number)).nth(number as usize - 1).unwrap_or_default()
}
export_target!(prime);

/// The text's number, if that is a prime.
fn checked(text: String) -> std::result::Result<u64, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if is_prime(number) { Ok(number) } else { Err(format!("{number} is no prime")) }
}
export_target!(checked);

/// Answers how many primes lie below each number, until the queue is closed; one process at a time. Returns how many
/// answers were given.
fn serve(ends: Queue<u64>, answers: Queue<(u64, u64)>, turn: Lock) -> Result<u64> {
    let mut served = 0;
    while let Ok(end) = ends.get() {
        let _turn = turn.acquire()?;
        answers.put(&(end, primes_below(end)))?;
        served += 1;
    }
    Ok(served)
}
export_target!(serve);

/// A queue with the first primes in it.
fn first_primes(count: u64) -> Result<Queue<u64>> {
    let queue = Queue::unbounded()?;
    for number in 1..=count {
        queue.put(&prime(number))?;
    }
    queue.close();
    Ok(queue)
}
export_target!(first_primes);

/// Offers a lock of its own, and keeps it until that is enough.
fn lend(offers: Queue<Lock>, enough: Event) -> Result<()> {
    let lock = Lock::new()?;
    let _held = lock.acquire()?;
    offers.put(&lock)?;
    enough.wait();
    Ok(())
}
export_target!(lend);

/// Lets yet another program's target work out a number, and says by which processes: this one's id and the other's
/// answer.
fn relay(program: String, target: String, number: u64) -> std::result::Result<(u32, u64), String> {
    set_executable(program);
    // A fork would be this program.
    let child = Process::named::<u64, _>(target, (number,)).method(StartMethod::Spawn).start();
    let answer = child.map_err(|error| error.to_string())?.join();
    Ok((std::process::id(), answer.map_err(|error| error.to_string())?))
}
export_target!(relay);
