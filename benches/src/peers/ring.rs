//! `rtrb` between two threads that spin.

use std::hint::spin_loop;

use rtrb::RingBuffer;

use crate::Result;
use crate::harness::Timing;
use crate::rows::{BATCH, CAPACITY, Checksum, compare, fill};
use crate::two;

/// `ops` numbers, one by one.
pub fn one_by_one(ops: u64) -> Result<Timing> {
    let (mut producer, mut consumer) = RingBuffer::<u64>::new(CAPACITY);
    let finish = two::threads(vec![
        Box::new(move |gate| {
            gate.start();
            for i in 0..ops {
                while producer.push(i).is_err() {
                    spin_loop();
                }
            }
            gate.stop();
            Ok(Checksum::one_by_one(ops))
        }),
        Box::new(move |gate| {
            let mut sum = Checksum::default();
            gate.start();
            for _ in 0..ops {
                let item = loop {
                    match consumer.pop() {
                        Ok(item) => break item,
                        Err(_) => spin_loop(),
                    }
                };
                sum.add(item);
            }
            gate.stop();
            Ok(sum.value())
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops, took: finish.took })
}

/// `ops` numbers, in chunks: copied from a slice, read where they lie.
pub fn chunks(ops: u64) -> Result<Timing> {
    let (mut producer, mut consumer) = RingBuffer::<u64>::new(CAPACITY);
    let batches = ops.div_ceil(BATCH as u64);
    let finish = two::threads(vec![
        Box::new(move |gate| {
            let mut items = [0; BATCH];
            gate.start();
            for batch in 0..batches {
                fill(&mut items, batch);
                while producer.push_entire_slice(&items).is_err() {
                    spin_loop();
                }
            }
            gate.stop();
            Ok(Checksum::batches(batches))
        }),
        Box::new(move |gate| {
            let mut sum = Checksum::default();
            gate.start();
            for _ in 0..batches {
                let chunk = loop {
                    match consumer.read_chunk(BATCH) {
                        Ok(chunk) => break chunk,
                        Err(_) => spin_loop(),
                    }
                };
                let (first, second) = chunk.as_slices();
                sum.add_batch(&[first, second]);
                chunk.commit_all();
            }
            gate.stop();
            Ok(sum.value())
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops: batches * BATCH as u64, took: finish.took })
}
