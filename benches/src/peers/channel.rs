//! crossbeam-channel's bounded channel between threads that sleep when they have to wait.

use crossbeam_channel::bounded;

use crate::Result;
use crate::harness::Timing;
use crate::rows::{CAPACITY, compare, weigh};
use crate::two::{self, ThreadRunner};

/// `ops` numbers from so many producers to as many consumers.
pub fn many_to_many(pairs: u64, ops: u64) -> Result<Timing> {
    let (sender, receiver) = &bounded::<u64>(CAPACITY);
    let each = ops.div_ceil(pairs);
    let producers = (0..pairs).map(|p| -> ThreadRunner<'_> {
        Box::new(move |gate| {
            gate.start();
            for i in p * each..(p + 1) * each {
                sender.send(i)?;
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
                sum = sum.wrapping_add(weigh(receiver.recv()?));
            }
            gate.stop();
            Ok(sum)
        })
    });
    let finish = two::threads(producers.chain(consumers).collect())?;
    compare(&finish.values)?;
    Ok(Timing { ops: each * pairs, took: finish.took })
}
