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
    Many(vec::Drain<'a, Outcome<R>>),
}

impl<'a, R> Results<'a, R> {
    /// One result.
    pub fn one(result: Outcome<R>) -> Self {
        Results { kind: Kind::One(Some(result)), nanos: 0 }
    }

    /// All of these; what the sink leaves of them is dropped. Who decodes a chunk does it at once into such a vector and
    /// keeps that for the next chunk.
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
}

impl<R> Iterator for Results<'_, R> {
    type Item = Outcome<R>;

    #[inline]
    fn next(&mut self) -> Option<Outcome<R>> {
        match &mut self.kind {
            Kind::One(result) => result.take(),
            Kind::Many(results) => results.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.kind {
            Kind::One(result) => usize::from(result.is_some()),
            Kind::Many(results) => results.len(),
        };
        (left, Some(left))
    }
}

impl<R> ExactSizeIterator for Results<'_, R> {}
