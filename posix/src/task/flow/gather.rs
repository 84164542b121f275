//! Where the results of a flow meet again.
//!
//! Chunks are delivered in any order. In `Completed` their results are for whoever comes next. In `Ordered` and `All` those are that
//! continue the row (`next`); what is early waits under its index until its turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::task::{Crew, Outcome, Results, Run, TaskError, TaskId, quietly};

/// Room for results is made in advance up to so many bytes.
const MOST_IN_ADVANCE: usize = 256 << 20;

/// In which order a flow hands out its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As their inputs came.
    Ordered,
    /// As they are there.
    Completed,
    /// All at the end, as their inputs came.
    All,
}

/// The results of one flow.
pub struct Gather<R> {
    inner: Mutex<Gathered<R>>,
    order: Order,
    /// How many results were delivered.
    delivered: AtomicU64,
    /// How many of them can be handed out.
    available: AtomicU64,
    /// Picoseconds that one call took lately; 0: unknown.
    pace: AtomicU64,
    /// The most calls that were measured together.
    measured: AtomicU64,
}

struct Gathered<R> {
    /// The index that continues the row.
    next: u64,
    /// Runs that can be handed out, by their first index.
    ready: VecDeque<(u64, Run<R>)>,
    all: Vec<R>,
    /// In `All`: the first error, after which nothing is kept.
    failed: Option<Box<TaskError>>,
    early: BTreeMap<u64, Run<R>>,
    /// Results that nobody wants. They are dropped without the lock, since how is a user's affair.
    waste: Vec<Run<R>>,
    /// The chunks that are not over, in the order of their indexes.
    open: VecDeque<Open>,
    /// Results of chunks that are not among them yet, by their index and number.
    ahead: Vec<(u64, u64)>,
}

struct Open {
    first: u64,
    count: u64,
    /// Results that are still to come.
    left: u64,
    task: TaskId,
}

impl Open {
    fn has(&self, index: u64) -> bool {
        (self.first..self.first + self.count).contains(&index)
    }
}

impl<R> Gather<R> {
    /// In `All` there is room for so many results in advance, if they are not too many.
    pub(super) fn new(order: Order, expected: usize) -> Self {
        let mut all = Vec::new();
        if order == Order::All {
            // Failure: then it grows as they come.
            let _ = all.try_reserve_exact(expected.min(MOST_IN_ADVANCE / size_of::<R>().max(1)));
        }
        let gathered = Gathered {
            next: 0,
            ready: VecDeque::new(),
            all,
            failed: None,
            early: BTreeMap::new(),
            waste: Vec::new(),
            open: VecDeque::new(),
            ahead: Vec::new(),
        };
        Gather {
            inner: Mutex::new(gathered),
            order,
            delivered: AtomicU64::new(0),
            available: AtomicU64::new(0),
            pace: AtomicU64::new(0),
            measured: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    // Acquire in both: meets the release in `take_in`. Who sees the number finds the results under the lock anyway.

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    pub(super) fn available(&self) -> u64 {
        self.available.load(Ordering::Acquire)
    }

    /// How many calls there are in so many nanoseconds of a worker. `None` if nothing was measured.
    pub(super) fn calls_in(&self, nanos: u64) -> Option<u64> {
        // Relaxed: a guess from an older number is as good.
        let pace = self.pace.load(Ordering::Relaxed);
        (pace != 0).then(|| (nanos.saturating_mul(1000) / pace).max(1))
    }

    /// The most calls that were measured together.
    pub(super) fn measured(&self) -> u64 {
        // Relaxed: as above.
        self.measured.load(Ordering::Relaxed)
    }

    /// Picoseconds that one call took lately; 0: unknown.
    pub(super) fn pace(&self) -> u64 {
        // Relaxed: as above.
        self.pace.load(Ordering::Relaxed)
    }

    /// Takes this for what one call takes, until something else is measured.
    pub(super) fn presume(&self, pace: u64) {
        // Relaxed: as above.
        self.pace.store(pace, Ordering::Relaxed);
        self.measured.store(u64::MAX, Ordering::Relaxed);
    }

    fn measure(&self, calls: u64, nanos: u64) {
        if nanos == 0 || calls == 0 {
            return;
        }
        // Relaxed: the numbers stand for themselves; one measurement that two threads overwrite is no loss.
        let now = (nanos.saturating_mul(1000) / calls).max(1);
        let before = self.pace.load(Ordering::Relaxed);
        let pace = if before == 0 { now } else { before / 2 + now / 2 };
        self.pace.store(pace.max(1), Ordering::Relaxed);
        if calls > self.measured.load(Ordering::Relaxed) {
            self.measured.store(calls, Ordering::Relaxed);
        }
    }

    /// A chunk was handed over. Its results may be here already.
    pub(super) fn opened(&self, first: u64, count: u64, task: TaskId) {
        self.lock().opened(first, count, task);
    }

    /// As `opened`, for chunks of one call each.
    pub(super) fn opened_singles(&self, first: u64, tasks: &[TaskId]) {
        let mut inner = self.lock();
        for (first, task) in (first..).zip(tasks) {
            inner.opened(first, 1, *task);
        }
    }

    /// Takes results in. How many are delivered by now.
    pub(super) fn take_in(&self, first: u64, results: &mut Results<'_, R>) -> u64 {
        let count = results.len() as u64;
        self.measure(count, results.nanos());
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.over(first, count);
        if self.order == Order::All && count == 1 && first == inner.next && inner.early.is_empty() {
            if let Some(result) = results.next() {
                inner.next += 1;
                inner.keep(result.map_err(|error| of_item(error, first)));
            }
        } else if self.order == Order::Completed {
            inner.ready.push_back((first, of_items(results.take(), first)));
        } else if first != inner.next {
            inner.early.insert(first, of_items(results.take(), first));
        } else {
            inner.append(self.order, count, of_items(results.take(), first));
            while let Some(entry) = inner.early.first_entry()
                && *entry.key() == inner.next
            {
                let early = entry.remove();
                inner.append(self.order, early.len() as u64, early);
            }
        }
        // Only written under the lock. Release: meets the acquires above.
        let delivered = self.delivered.load(Ordering::Relaxed) + count;
        let available = if self.order == Order::Completed { delivered } else { inner.next };
        self.available.store(available, Ordering::Release);
        self.delivered.store(delivered, Ordering::Release);
        let waste = std::mem::take(&mut inner.waste);
        drop(guard);
        // One by one: each may panic.
        waste.into_iter().flatten().for_each(|result| quietly(|| drop(result)));
        delivered
    }

    /// Exchanges what is ready for an empty list.
    pub(super) fn swap_ready(&self, with: &mut VecDeque<(u64, Run<R>)>) {
        std::mem::swap(&mut self.lock().ready, with);
    }

    /// Everything, or the first error.
    pub(super) fn take_all(&self) -> Outcome<Vec<R>> {
        let mut inner = self.lock();
        match inner.failed.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut inner.all)),
        }
    }

    /// The chunks that were handed over and are not over.
    pub(super) fn open(&self) -> Vec<TaskId> {
        self.lock().open.iter().map(|open| open.task).collect()
    }

    /// Cancels what nobody has begun, with `abort` also the rest.
    pub(super) fn cancel(&self, crew: &dyn Crew, abort: bool) {
        for task in self.open() {
            if abort {
                crew.abort(task);
            } else {
                crew.withdraw(task);
            }
        }
    }
}

/// An error says of which item it is, not of which chunk.
#[cold]
fn of_item(mut error: Box<TaskError>, index: u64) -> Box<TaskError> {
    error.is_of_item(index);
    error
}

/// The same for results from this index on.
#[inline]
fn of_items<R>(mut run: Run<R>, first: u64) -> Run<R> {
    match &mut run {
        Run::One(result) => {
            if let Err(error) = result {
                error.is_of_item(first);
            }
        }
        Run::Values(_) => {}
        Run::Many(results) => {
            for (index, result) in (first..).zip(results.as_mut_slice()) {
                if let Err(error) = result {
                    error.is_of_item(index);
                }
            }
        }
    }
    run
}

impl<R> Gathered<R> {
    fn opened(&mut self, first: u64, count: u64, task: TaskId) {
        let mut open = Open { first, count, left: count, task };
        if !self.ahead.is_empty() {
            self.ahead.retain(|(index, results)| {
                let its = open.has(*index);
                open.left -= if its { *results } else { 0 };
                !its
            });
        }
        if open.left > 0 {
            self.open.push_back(open);
        }
    }

    /// So many results of a chunk are here.
    fn over(&mut self, first: u64, count: u64) {
        // Mostly it is the oldest.
        if let Some(oldest) = self.open.front_mut()
            && oldest.has(first)
        {
            oldest.left -= count;
            if oldest.left == 0 {
                self.open.pop_front();
            }
            return;
        }
        let behind = self.open.partition_point(|open| open.first <= first);
        match behind.checked_sub(1).filter(|at| self.open[*at].has(first)) {
            Some(at) => {
                self.open[at].left -= count;
                if self.open[at].left == 0 {
                    self.open.remove(at);
                }
            }
            None => self.ahead.push((first, count)),
        }
    }

    /// Continues the row.
    #[inline]
    fn append(&mut self, order: Order, count: u64, run: Run<R>) {
        let first = self.next;
        self.next += count;
        match run {
            run if order == Order::Ordered => self.ready.push_back((first, run)),
            run if self.failed.is_some() => self.waste.push(run),
            Run::Values(values) => self.all.extend(values),
            run => run.for_each(|result| self.keep(result)),
        }
    }

    /// Keeps a result for the end; or the first error, and nothing behind it.
    #[inline]
    fn keep(&mut self, result: Outcome<R>) {
        match result {
            Ok(result) if self.failed.is_none() => self.all.push(result),
            Err(error) if self.failed.is_none() => {
                self.failed = Some(error);
                self.waste.push(Run::Values(std::mem::take(&mut self.all).into_iter()));
            }
            result => self.waste.push(Run::One(result)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Outcome<u64> {
        Err(Box::new(TaskError::Cancelled))
    }

    fn handed_out(gather: &Gather<u64>) -> Vec<(u64, Option<u64>)> {
        let mut ready = VecDeque::new();
        gather.swap_ready(&mut ready);
        let runs = ready.into_iter();
        runs.flat_map(|(first, run)| (first..).zip(run.map(Result::ok))).collect()
    }

    #[test]
    fn parts_of_chunks_continue_the_row_in_any_order() {
        let gather = Gather::new(Order::Ordered, 0);
        gather.opened(0, 2, TaskId(7));
        gather.opened(2, 3, TaskId(8));
        assert_eq!(gather.take_in(3, &mut Results::values(vec![13, 14])), 2);
        assert_eq!(gather.take_in(2, &mut Results::one(failure())), 3);
        assert_eq!((gather.available(), gather.open().len()), (0, 1));
        assert_eq!(handed_out(&gather), []);
        gather.take_in(0, &mut Results::many(&mut vec![Ok(10), Ok(11)]));
        assert_eq!((gather.available(), gather.delivered()), (5, 5));
        let all = [Some(10), Some(11), None, Some(13), Some(14)];
        assert!(handed_out(&gather).into_iter().eq((0..).zip(all)));
        assert!(gather.open().is_empty());
    }

    #[test]
    fn a_chunk_may_be_answered_before_it_is_known() {
        let gather = Gather::new(Order::Completed, 0);
        gather.take_in(4, &mut Results::one(Ok(14)));
        gather.take_in(0, &mut Results::values(vec![10, 11]));
        gather.opened(0, 3, TaskId(1));
        assert_eq!(gather.open(), [TaskId(1)]);
        gather.opened(3, 2, TaskId(2));
        gather.take_in(2, &mut Results::one(failure()));
        assert_eq!(gather.open(), [TaskId(2)]);
        gather.take_in(3, &mut Results::one(Ok(13)));
        assert!(gather.open().is_empty());
        let all = [(4, Some(14)), (0, Some(10)), (1, Some(11)), (2, None), (3, Some(13))];
        assert_eq!(handed_out(&gather), all);
    }

    #[test]
    fn all_is_everything_or_the_first_error() {
        let gather = Gather::new(Order::All, 3);
        gather.take_in(1, &mut Results::values(vec![11, 12]));
        gather.take_in(0, &mut Results::one(Ok(10)));
        assert_eq!(gather.take_all().unwrap(), [10, 11, 12]);

        let gather = Gather::new(Order::All, 0);
        let last = Err(Box::new(TaskError::Terminated));
        gather.take_in(2, &mut Results::many(&mut vec![Ok(12), last]));
        gather.take_in(1, &mut Results::one(failure()));
        assert_eq!((gather.available(), gather.delivered()), (0, 3));
        gather.take_in(0, &mut Results::one(Ok(10)));
        assert!(matches!(*gather.take_all().unwrap_err(), TaskError::Cancelled));
    }

    #[test]
    fn calls_are_measured() {
        let gather = Gather::<()>::new(Order::Completed, 0);
        assert_eq!((gather.calls_in(1000), gather.measured()), (None, 0));
        gather.take_in(0, &mut Results::values(vec![(); 10]).took(1000));
        assert_eq!((gather.calls_in(1000), gather.measured()), (Some(10), 10));
        gather.take_in(10, &mut Results::one(Ok(())).took(300));
        assert_eq!((gather.calls_in(1000), gather.calls_in(1)), (Some(5), Some(1)));
    }
}
