//! Histories: what was called and answered when, and whether a queue can have done that.
//!
//! A history is in order if each call can be thought of as done at one moment between its begin and its end, so that the
//! model, which does them one after the other, gives the same answers. A call whose process died has no end: it may have been
//! done at any moment after its begin, or not at all.

use std::collections::HashSet;

use crate::model::{Model, Op, Patience, Reply};

/// As many calls can be put in order.
pub const MOST: usize = 128;

/// A call of a process.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which process.
    pub actor: usize,
    /// What it asked for.
    pub op: Op,
    /// The moment of its begin.
    pub begin: u64,
    /// That of its end, and the answer; none if its process died in it.
    pub end: Option<(u64, Reply)>,
    /// Whether it is the next step of what the call before it has begun.
    pub goes_on: bool,
}

impl Call {
    /// What many objects are asked for in is done one by one: others may come in between.
    pub fn steps(self) -> Vec<Call> {
        let (actor, begin, end) = (self.actor, self.begin, self.end.as_ref().map(|end| end.0));
        let step = |op, reply| (op, end.zip(reply));
        let put = |number, bytes| Op::Put { number, bytes, wait: Patience::Some };
        let get = Op::Get { wait: Patience::Some };
        let steps: Vec<_> = match (self.op.clone(), self.end.map(|end| end.1)) {
            // Fewer than all: there was no room for the next.
            (Op::PutMany { number, count, bytes, .. }, Some(Reply::Put(done))) => (0..count)
                .take(done as usize + 1)
                .map(|at| (at, if at < done { Reply::Done } else { Reply::TimedOut }))
                .map(|(at, reply)| step(put(number + at, bytes), Some(reply)))
                .collect(),
            (Op::PutMany { number, count, bytes, .. }, None) => {
                (0..count).map(|at| step(put(number + at, bytes), None)).collect()
            }
            (Op::PutMany { number, bytes, wait, .. }, reply) => {
                vec![step(Op::Put { number, bytes, wait }, reply)]
            }
            (Op::GetMany { most, .. }, Some(Reply::GotMany(numbers))) => {
                let none = (numbers.len() < most).then_some(Reply::Nothing);
                let all = numbers.into_iter().map(Reply::Got).chain(none);
                all.map(|reply| step(get.clone(), Some(reply))).collect()
            }
            (Op::GetMany { most, .. }, None) => vec![step(get, None); most],
            (Op::GetMany { wait, .. }, reply) => vec![step(Op::Get { wait }, reply)],
            (op, reply) => vec![step(op, reply)],
        };
        let steps = steps.into_iter().enumerate();
        steps.map(|(at, (op, end))| Call { actor, op, begin, end, goes_on: at > 0 }).collect()
    }

    fn ends(&self) -> u64 {
        self.end.as_ref().map_or(u64::MAX, |(end, _)| *end)
    }
}

/// Whether some order of these calls is one that the model can have gone through.
pub fn is_in_order(model: &Model, calls: &[Call]) -> bool {
    assert!(calls.len() <= MOST, "as many as there are bits");
    let mut order: Vec<&Call> = calls.iter().collect();
    order.sort_by_key(|call| call.begin);
    search(model, &order, 0, &mut HashSet::new())
}

/// `done`: a bit for each call that has had its moment. `seen`: where nothing was found.
fn search(model: &Model, calls: &[&Call], done: u128, seen: &mut HashSet<(u128, Model)>) -> bool {
    let open = || calls.iter().enumerate().filter(|(at, _)| done >> at & 1 == 0);
    if open().all(|(_, call)| call.end.is_none()) {
        return true;
    }
    if !seen.insert((done, model.clone())) {
        return false;
    }
    // A call that began after another's end comes after it.
    let first_end = open().map(|(_, call)| call.ends()).min().unwrap_or(u64::MAX);
    let in_turn = |at: usize, call: &Call| !call.goes_on || done >> (at - 1) & 1 == 1;
    let next = open().take_while(|(_, call)| call.begin < first_end);
    next.filter(|(at, call)| in_turn(*at, call)).any(|(at, call)| {
        let reply = call.end.as_ref().map(|(_, reply)| reply);
        model
            .after(call.actor, &call.op, reply)
            .iter()
            .any(|next| search(next, calls, done | 1 << at, seen))
    })
}

/// A history as people read it.
pub fn show(calls: &[Call]) -> String {
    let mut order: Vec<&Call> = calls.iter().collect();
    order.sort_by_key(|call| call.begin);
    let line = |call: &&Call| {
        let Call { actor, op, begin, end, .. } = call;
        let end = match end {
            Some((end, reply)) => format!("{reply:?} at {end}"),
            None => "died".into(),
        };
        format!("{begin:>4}: process {actor}: {op:?} → {end}\n")
    };
    order.iter().map(line).collect()
}
