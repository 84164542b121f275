//! Where results go.

use std::vec;

use super::TaskError;

/// What became of one call. The error is boxed, so that results lie close together.
pub type Outcome<R> = Result<R, Box<TaskError>>;

/// Who wants results.
///
/// Called by whichever thread collects, with no lock of the crew held, so it may call the crew. It gets each result of what
/// was submitted with it exactly once, in order within a chunk, chunks in any order and from several threads at once. A chunk
/// may come in parts. It runs no user code: that goes to [`Crew::post`](super::Crew::post).
pub trait Sink<R>: Send + Sync {
    /// Takes the results of the items from `first` on.
    fn deliver(&self, first: u64, results: &mut Results<'_, R>);
}

/// Some results, one behind the other.
#[derive(Debug)]
pub struct Results<'a, R> {
    kind: Kind<'a, R>,
    nanos: u64,
}

#[derive(Debug)]
enum Kind<'a, R> {
    One(Option<Outcome<R>>),
    Values(vec::IntoIter<R>),
    Many(vec::Drain<'a, Outcome<R>>),
}

impl<'a, R> Results<'a, R> {
    /// One result.
    pub fn one(result: Outcome<R>) -> Self {
        Results { kind: Kind::One(Some(result)), nanos: 0 }
    }

    /// All of these, none of which is an error: the fast way for a chunk, which is moved on as it is. Where there is an error, a
    /// chunk comes in parts.
    pub fn values(results: Vec<R>) -> Self {
        Results { kind: Kind::Values(results.into_iter()), nanos: 0 }
    }

    /// All of these; what the sink leaves of them is dropped.
    pub fn many(results: &'a mut Vec<Outcome<R>>) -> Self {
        Results { kind: Kind::Many(results.drain(..)), nanos: 0 }
    }

    /// Says how long a worker was busy with these, in nanoseconds; 0 if nobody measured.
    #[must_use]
    pub fn took(mut self, nanos: u64) -> Self {
        self.nanos = nanos;
        self
    }

    /// How long a worker was busy with these, in nanoseconds; 0 if nobody measured.
    pub fn nanos(&self) -> u64 {
        self.nanos
    }

    /// Takes them out, to be kept.
    pub fn take(&mut self) -> Run<R> {
        match &mut self.kind {
            Kind::One(result) => result.take().map_or_else(Run::empty, Run::One),
            Kind::Values(values) => Run::Values(std::mem::take(values)),
            Kind::Many(results) => Run::Many(results.collect::<Vec<_>>().into_iter()),
        }
    }
}

impl<R> Iterator for Results<'_, R> {
    type Item = Outcome<R>;

    #[inline]
    fn next(&mut self) -> Option<Outcome<R>> {
        match &mut self.kind {
            Kind::One(result) => result.take(),
            Kind::Values(values) => values.next().map(Ok),
            Kind::Many(results) => results.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.kind {
            Kind::One(result) => usize::from(result.is_some()),
            Kind::Values(values) => values.len(),
            Kind::Many(results) => results.len(),
        };
        (left, Some(left))
    }
}

impl<R> ExactSizeIterator for Results<'_, R> {}

/// Results that are kept, one behind the other.
#[derive(Debug)]
pub enum Run<R> {
    /// One.
    One(Outcome<R>),
    /// Those without errors.
    Values(vec::IntoIter<R>),
    /// Others.
    Many(vec::IntoIter<Outcome<R>>),
}

impl<R> Run<R> {
    fn empty() -> Self {
        Run::Values(Vec::new().into_iter())
    }
}

impl<R> Iterator for Run<R> {
    type Item = Outcome<R>;

    #[inline]
    fn next(&mut self) -> Option<Outcome<R>> {
        match self {
            Run::Values(values) => values.next().map(Ok),
            Run::Many(results) => results.next(),
            Run::One(_) => match std::mem::replace(self, Run::empty()) {
                Run::One(result) => Some(result),
                _ => None,
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Run::One(_) => 1,
            Run::Values(values) => values.len(),
            Run::Many(results) => results.len(),
        };
        (left, Some(left))
    }
}

impl<R> ExactSizeIterator for Run<R> {}
