//! How many instructions one takes to lock a `Mutex<u64>`, add one, and release it, counted by callgrind:
//!
//! ```text
//! cargo build --release -p procession-core --example mutex_instructions
//! for rounds in 1000 2000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*deposit*' \
//!         target/release/examples/mutex_instructions $rounds
//! done
//! ```
//!
//! A thousandth of the difference of the two counts is what a round takes. Two instructions of it are the loop's, and two hide
//! the mutex from the optimizer, as a mutex that comes from elsewhere is hidden.

use procession_core::region::{Member, Membership, Place};
use procession_core::sync::Mutex;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1000u64);
    let seat = Membership::private();
    let mut memory = [0u64; 3];
    let Ok(account) = Mutex::create(Place::in_memory(&mut memory), 0u64) else { return };
    deposit(account, seat.member(), 1);
    deposit(account, seat.member(), rounds);
    println!("{:?}", account.lock(seat.member()));
}

#[inline(never)]
fn deposit<'a>(account: Mutex<'a, u64>, me: Member<'a>, rounds: u64) {
    for _ in 0..rounds {
        match std::hint::black_box(&account).lock(me) {
            Ok(mut balance) => *balance += 1,
            Err(_) => return,
        }
    }
}
