//! A number that two processes raise, each time under its lock.

use procession::{Value, memory};

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::settle;
use crate::peers::python::Python;
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "counter.python",
        peer: "multiprocessing.Value",
        target: 0.1,
        note: "two processes on both sides; the peer's time is mostly its interpreter's",
        run: python,
    }]
}

fn python(plan: Plan) -> Result<Duel> {
    let mut python = Python::counter()?;
    duel(plan, ours, |ops| python.run(ops))
}

fn ours(ops: u64) -> Result<Timing> {
    let value = Value::new(0u64)?;
    let each = ops.div_ceil(2);
    let runner = || -> two::Runner<'_> {
        Box::new(|gate| {
            settle(memory::arena()?.member())?;
            gate.start();
            for _ in 0..each {
                value.lock().map_err(|error| error.to_string())?.update(|count| count + 1);
            }
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes(vec![runner(), runner()])?;
    counted(value.get(), each * 2)?;
    Ok(Timing { ops: each * 2, took: finish.took })
}
