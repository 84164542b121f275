//! Calling a function with many inputs on all processors, for as long as the call lasts.
//!
//! The threads share the iterator, under a lock, and each takes as many inputs at once as keep it busy for a while. Each keeps
//! its results with the index of the first of them; at the end they are put in order. The caller's thread is one of the threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use procession_core::sys::nanos;

use crate::process::cpu_count;

/// How long a thread should be busy with what it takes at once, in nanoseconds: long against taking a lock, short against what
/// one notices when the last thread is not done.
const BUSY: u64 = 50_000;
/// What a thread takes at once at most.
const MOST: usize = 1 << 14;

/// Calls `f` with each input, on all processors that this process may use, and returns the results in the order of the
/// inputs. All may borrow: when it returns, all threads are done with it.
///
/// Costs the start of a thread for each further processor, some 50 µs. Inputs are taken one chunk at a time by whichever
/// thread is free; the iterator itself is asked by one thread at a time.
///
/// # Panics
/// If `f` or the iterator panics. No further inputs are taken then, and the panic goes on here, when all threads are done;
/// of several the one with the first input.
///
/// ```
/// use procession_posix::futures::par_map;
///
/// let words = vec!["one".to_owned(), "two".into(), "three".into()];
/// let lengths = par_map(&words, |word| word.len());
/// assert_eq!(lengths, [3, 3, 5]);
/// ```
pub fn par_map<I, R, F>(inputs: I, f: F) -> Vec<R>
where
    I: IntoIterator<IntoIter: Send, Item: Send>,
    R: Send,
    F: Fn(I::Item) -> R + Sync,
{
    let inputs = inputs.into_iter();
    let expected = inputs.size_hint().0;
    let most = inputs.size_hint().1.unwrap_or(usize::MAX);
    let source = Source {
        inputs: Mutex::new(Inputs { rest: Some(inputs.fuse()), next: 0 }),
        panic: Mutex::new(None),
    };
    // One of them is this thread.
    let helpers = cpu_count().min(most).saturating_sub(1);
    let mut runs = std::thread::scope(|scope| {
        let started: Vec<_> = (0..helpers)
            .map_while(|_| {
                let thread = std::thread::Builder::new().name("par_map".into());
                // Without it the others do it all.
                thread.spawn_scoped(scope, || source.work(&f)).ok()
            })
            .collect();
        let mut runs = source.work(&f);
        // `work` does not unwind.
        runs.extend(started.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        runs
    });
    if let Some((_, panic)) = source.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    runs.sort_unstable_by_key(|run| run.0);
    let mut results = Vec::with_capacity(expected);
    results.extend(runs.into_iter().flat_map(|run| run.1));
    results
}

/// Where the threads take their inputs from.
struct Source<I> {
    inputs: Mutex<Inputs<I>>,
    /// The panic with the first input of all so far.
    panic: Mutex<Option<(usize, Box<dyn Any + Send>)>>,
}

struct Inputs<I> {
    /// `None` after a panic: no more are taken.
    rest: Option<I>,
    /// The index of the next one.
    next: usize,
}

/// Results one behind the other, and the index of the first.
type Run<R> = (usize, Vec<R>);

impl<I: Iterator> Source<I> {
    /// Takes inputs and calls `f` until there are none left.
    fn work<R>(&self, f: &(impl Fn(I::Item) -> R + Sync)) -> Vec<Run<R>> {
        let mut runs: Vec<Run<R>> = Vec::new();
        let (mut size, mut taken) = (1, Vec::new());
        while let Some(first) = self.take(size, &mut taken) {
            let (begun, count) = (nanos(), taken.len());
            let mut at = first;
            let run = catch_unwind(AssertUnwindSafe(|| {
                let call = |input| {
                    let result = f(input);
                    at += 1;
                    result
                };
                taken.drain(..).map(call).collect()
            }));
            match run {
                Ok(run) => runs.push((first, run)),
                Err(panic) => {
                    self.stop(at, panic);
                    break;
                }
            }
            let each = (nanos().saturating_sub(begun) / count as u64).max(1);
            size = ((BUSY / each) as usize).clamp(1, (size * 4).min(MOST));
        }
        runs
    }

    /// Takes up to so many inputs; the index of the first one. `None` if there are none.
    fn take(&self, size: usize, taken: &mut Vec<I::Item>) -> Option<usize> {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let first = inputs.next;
        let rest = inputs.rest.as_mut()?;
        let pulled = catch_unwind(AssertUnwindSafe(|| taken.extend(rest.by_ref().take(size))));
        if let Err(panic) = pulled {
            let at = first + taken.len();
            drop(inputs);
            self.stop(at, panic);
            return None;
        }
        inputs.next += taken.len();
        (!taken.is_empty()).then_some(first)
    }

    /// A panic with the input at this index: no more inputs are taken.
    fn stop(&self, at: usize, panic: Box<dyn Any + Send>) {
        let rest = self.inputs.lock().unwrap_or_else(PoisonError::into_inner).rest.take();
        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not kept is forgotten: its own drop may panic.
        if first.as_ref().is_none_or(|(index, _)| at < *index) {
            std::mem::forget(first.replace((at, panic)));
        } else {
            std::mem::forget(panic);
        }
        drop(first);
        drop(rest);
    }
}
