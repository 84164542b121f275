//! Histories: what was called and answered when, and whether a queue can have done that.
//!
//! A history is in order if each call can be thought of as done at one moment between its begin and its end, so that the
//! model, which does them one after the other, gives the same answers. A call whose process died has no end: it may have been
//! done at any moment after its begin, or not at all.

use std::collections::HashSet;

use crate::model::{Model, Op, Reply};

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
}

impl Call {
    fn ends(&self) -> u64 {
        self.end.as_ref().map_or(u64::MAX, |(end, _)| *end)
    }
}

/// Whether some order of these calls is one that the model can have gone through.
pub fn is_in_order(model: &Model, calls: &[Call]) -> bool {
    assert!(calls.len() <= 128, "as many as there are bits");
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
    open().take_while(|(_, call)| call.begin < first_end).any(|(at, call)| {
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
        let Call { actor, op, begin, end } = call;
        let end = match end {
            Some((end, reply)) => format!("{reply:?} at {end}"),
            None => "died".into(),
        };
        format!("{begin:>4}: process {actor}: {op:?} → {end}\n")
    };
    order.iter().map(line).collect()
}
