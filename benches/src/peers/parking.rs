//! `parking_lot`'s RwLock, read by one thread.

use std::hint::black_box;
use std::time::Instant;

use parking_lot::RwLock;

use crate::Result;
use crate::harness::Timing;
use crate::rows::counted;

/// `ops` times: take it for reading, read, give it back; one thread.
pub fn read(ops: u64) -> Result<Timing> {
    let lock = RwLock::new(1u64);
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..ops {
        sum += *black_box(&lock).read();
    }
    let took = start.elapsed();
    counted(sum, ops)?;
    Ok(Timing { ops, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads() -> Result<()> {
        assert_eq!(read(100)?.ops, 100);
        Ok(())
    }
}
