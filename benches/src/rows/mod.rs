//! The rows, one file for each family, and what several of them share.

use crate::Result;
use crate::harness::Row;

pub mod barrier;
pub mod broadcast;
pub mod condition;
pub mod counter;
pub mod event;
pub mod flow;
pub mod lock;
pub mod mpmc;
pub mod pipe;
pub mod pool;
pub mod queue;
pub mod rlock;
pub mod rtt;
pub mod rwlock;
pub mod semaphore;
pub mod seqlock;
pub mod spsc;
pub mod start;
pub mod turns;
pub mod wait;
pub mod zerocopy;

/// How many items each ring and queue of numbers holds, ours and the peer's.
pub const CAPACITY: usize = 1024;

/// How many numbers one batch has.
pub const BATCH: usize = 256;

/// All rows, in the order of the table.
pub fn all() -> Vec<Row> {
    let families = [
        lock::rows(),
        wait::rows(),
        rlock::rows(),
        semaphore::rows(),
        event::rows(),
        condition::rows(),
        barrier::rows(),
        rwlock::rows(),
        seqlock::rows(),
        counter::rows(),
        spsc::rows(),
        mpmc::rows(),
        rtt::rows(),
        pipe::rows(),
        queue::rows(),
        zerocopy::rows(),
        broadcast::rows(),
        start::rows(),
        pool::rows(),
    ];
    families.into_iter().flatten().collect()
}

/// Tells a lost, doubled, torn or displaced number from none, for two cycles a number.
#[derive(Clone, Copy, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// The checksum of the numbers below `count`, one by one.
    pub fn one_by_one(count: u64) -> u64 {
        let mut sum = Self::default();
        (0..count).for_each(|number| sum.add(number));
        sum.0
    }

    /// The checksum of so many batches.
    pub fn batches(count: u64) -> u64 {
        let (mut sum, mut items) = (Self::default(), [0; BATCH]);
        for batch in 0..count {
            fill(&mut items, batch);
            sum.add_batch(&[&items]);
        }
        sum.0
    }

    /// Takes in the next number.
    pub fn add(&mut self, number: u64) {
        self.0 = self.0.rotate_left(1) ^ number;
    }

    /// Takes in the next batch: the sum of its numbers, which costs a fraction of a cycle each, so that a batch
    /// measures the ring and not the checksum.
    pub fn add_batch(&mut self, parts: &[&[u64]]) {
        let numbers = parts.iter().flat_map(|part| part.iter());
        self.add(numbers.fold(0, |sum, &number| sum.wrapping_add(number)));
    }

    /// The checksum of all that was taken in.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// That the sum over the senders, who come first, is that over as many receivers.
pub fn compare(values: &[u64]) -> Result<()> {
    let sum = |values: &[u64]| values.iter().fold(0u64, |sum, &value| sum.wrapping_add(value));
    let (sent, received) = values.split_at(values.len() / 2);
    if sum(sent) == sum(received) {
        Ok(())
    } else {
        Err("what arrived is not what was sent".into())
    }
}

/// That nothing that was counted is missing.
pub fn counted(count: u64, ops: u64) -> Result<()> {
    if count == ops { Ok(()) } else { Err(format!("counted {count} instead of {ops}").into()) }
}

/// What a number adds to a sum over numbers whose order is nobody's promise.
pub fn weigh(number: u64) -> u64 {
    number.wrapping_mul(number | 1)
}

/// The numbers of the batch with this index.
pub fn fill(items: &mut [u64; BATCH], batch: u64) {
    let first = batch * BATCH as u64;
    for (i, item) in items.iter_mut().enumerate() {
        *item = first + i as u64;
    }
}
