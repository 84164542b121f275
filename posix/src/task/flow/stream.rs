//! Results one by one, while others are still made.

use std::collections::VecDeque;
use std::sync::Arc;

use procession_core::sys::Deadline;

use super::feed::Feeder;
use super::gather::{Gather, Order};
use super::{Feed, Plan, cut_off, ended};
use crate::task::gate::Pass;
use crate::task::{Crew, Run, SubmitMany, TaskError};

/// A flow whose owner takes its results one by one.
pub struct Stream<'a, R> {
    feeder: Box<dyn Feed + 'a>,
    crew: Arc<dyn Crew>,
    gather: Arc<Gather<R>>,
    /// Results that are here already, in runs by their first index.
    here: VecDeque<(u64, Run<R>)>,
    handed_out: u64,
    over: bool,
}

impl<'a, R: Send + 'static> Stream<'a, R> {
    /// Begins: the first inputs are taken and handed over at once.
    pub fn new<C, F, I>(crew: Arc<C>, f: F, input: I, order: Order, plan: Plan, pass: Pass) -> Self
    where
        C: SubmitMany<F, I::Item, Output = R>,
        F: 'a,
        I: Iterator + 'a,
    {
        let gather = Arc::new(Gather::new(order, 0));
        let sink = gather.clone();
        let feeder = Feeder::new(crew.clone(), f, input, plan, pass, gather.clone(), sink);
        let mut feeder = Box::new(feeder);
        feeder.feed(0);
        Stream { feeder, crew, gather, here: VecDeque::new(), handed_out: 0, over: false }
    }

    /// The next result with the index of its input; `TimedOut` at the deadline, after which it can be asked again.
    pub fn next_until(&mut self, deadline: Deadline) -> Option<(u64, Result<R, TaskError>)> {
        loop {
            while let Some((index, run)) = self.here.front_mut() {
                if let Some(outcome) = run.next() {
                    let at = *index;
                    *index += 1;
                    self.handed_out += 1;
                    return Some((at, outcome.map_err(|error| *error)));
                }
                self.here.pop_front();
            }
            if self.over {
                return None;
            }
            self.feeder.feed(self.handed_out);
            self.gather.swap_ready(&mut self.here);
            if !self.here.is_empty() {
                continue;
            }
            let at = self.handed_out;
            if self.feeder.total() == Some(at) {
                self.over = true;
                return self.feeder.refused().map(|error| (at, Err(cut_off(error))));
            }
            let (gather, feeder) = (&self.gather, &self.feeder);
            let mut done = || gather.available() > at || feeder.wants(at);
            if !self.crew.help(None, deadline, &mut done) && self.gather.available() <= at {
                if deadline.is_past() {
                    return Some((at, Err(TaskError::TimedOut)));
                }
                self.over = true;
                self.feeder.stop();
                return Some((at, Err(ended(&*self.crew))));
            }
        }
    }

    /// How many results can still come at least and at most.
    pub fn size_hint(&self) -> (usize, Option<usize>) {
        match self.feeder.total() {
            _ if self.over => (0, Some(0)),
            Some(total) => {
                let left = usize::try_from(total - self.handed_out).unwrap_or(usize::MAX);
                // One more may say why not all was handed over.
                (left, left.checked_add(1))
            }
            None => (0, None),
        }
    }
}

impl<R> Drop for Stream<'_, R> {
    fn drop(&mut self) {
        self.feeder.stop();
        self.gather.cancel(&*self.crew, false);
    }
}
