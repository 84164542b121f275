//! Small serde objects through a queue, from one process to another.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::harness::{Duel, Plan, Row, duel};
use crate::peers::ipc;
use crate::peers::python::Python;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "queue.object",
            peer: "ipc-channel",
            target: 0.05,
            note: "two processes on both sides",
            run: object,
        },
        Row {
            name: "queue.python",
            peer: "multiprocessing.Queue",
            target: 0.02,
            note: "two processes on both sides; the peer moves a tuple of the same values",
            run: python,
        },
    ]
}

/// What travels: three numbers and a word on the heap.
#[derive(Serialize, Deserialize)]
pub struct Job {
    id: u64,
    priority: u8,
    weight: f64,
    path: String,
}

/// The i-th job.
pub fn job(i: u64) -> Job {
    Job {
        id: i,
        priority: (i & 7) as u8,
        weight: i as f64 * 0.5,
        path: "crates/walk/src/lib.rs".into(),
    }
}

/// A number that depends on each part of it.
pub fn weigh(job: &Job) -> u64 {
    job.id + u64::from(job.priority) + job.weight as u64 + job.path.len() as u64
}

fn object(plan: Plan) -> Result<Duel> {
    duel(plan, ipc::objects, ipc::objects)
}

fn python(plan: Plan) -> Result<Duel> {
    let mut python = Python::queue()?;
    duel(plan, ipc::objects, |ops| python.run(ops))
}
