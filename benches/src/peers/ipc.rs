//! ipc-channel between two processes.

use ipc_channel::ipc;

use crate::Result;
use crate::harness::Timing;
use crate::rows::compare;
use crate::rows::queue::{Job, job, weigh};
use crate::two;

/// `ops` objects, from one process to another.
pub fn objects(ops: u64) -> Result<Timing> {
    let (sender, receiver) = ipc::channel::<Job>()?;
    let finish = two::processes(vec![
        Box::new(move |gate| {
            let mut sum = 0u64;
            gate.start();
            for i in 0..ops {
                let job = job(i);
                sum = sum.wrapping_add(weigh(&job));
                sender.send(job)?;
            }
            gate.stop();
            Ok(sum)
        }),
        Box::new(move |gate| {
            let mut sum = 0u64;
            gate.start();
            for _ in 0..ops {
                sum = sum.wrapping_add(weigh(&receiver.recv()?));
            }
            gate.stop();
            Ok(sum)
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops, took: finish.took })
}
