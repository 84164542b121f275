//! crossbeam's `ArrayQueue` between threads that wait as crossbeam waits: spinning first, then yielding.

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::Backoff;

use crate::Result;
use crate::harness::Timing;
use crate::rows::{CAPACITY, compare, weigh};
use crate::two::{self, ThreadRunner};

/// `ops` numbers from so many producers to as many consumers.
pub fn many_to_many(pairs: u64, ops: u64) -> Result<Timing> {
    let queue = &ArrayQueue::<u64>::new(CAPACITY);
    let each = ops.div_ceil(pairs);
    let producers = (0..pairs).map(|p| -> ThreadRunner<'_> {
        Box::new(move |gate| {
            gate.start();
            for i in p * each..(p + 1) * each {
                let backoff = Backoff::new();
                while queue.push(i).is_err() {
                    backoff.snooze();
                }
            }
            gate.stop();
            Ok((p * each..(p + 1) * each).fold(0, |sum, i| sum.wrapping_add(weigh(i))))
        })
    });
    let consumers = (0..pairs).map(|_| -> ThreadRunner<'_> {
        Box::new(move |gate| {
            let mut sum = 0u64;
            gate.start();
            for _ in 0..each {
                let backoff = Backoff::new();
                let item = loop {
                    match queue.pop() {
                        Some(item) => break item,
                        None => backoff.snooze(),
                    }
                };
                sum = sum.wrapping_add(weigh(item));
            }
            gate.stop();
            Ok(sum)
        })
    });
    let finish = two::threads(producers.chain(consumers).collect())?;
    compare(&finish.values)?;
    Ok(Timing { ops: each * pairs, took: finish.took })
}
