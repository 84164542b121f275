//! What is chosen of workers before they are started, in the words of users: by the builder of pools, and by that of
//! executors over processes.

use std::ops::RangeInclusive;

use super::{Options, PoolError, Terms};
use crate::process::cpu_count;

/// What was chosen so far, and the first choice that cannot be.
pub struct Chosen<I> {
    /// How many workers: at first, and at most. `None`: as the processors are, which are counted only in the end, for it takes
    /// longer than to start a worker.
    pub workers: Option<RangeInclusive<usize>>,
    /// All else; possible if nothing is refused.
    pub options: Options<I>,
    refused: Option<PoolError>,
}

impl<I> Chosen<I> {
    /// What holds where nobody says anything.
    pub fn new(name: &str) -> Self {
        let options = Options {
            // Until it is asked for all.
            workers: 1..=1,
            initializer: None,
            max_tasks: None,
            idle_timeout: None,
            memory_limit: None,
            strict: false,
            quarantine: 8,
            start_attempts: 3,
            name: name.into(),
            method: None,
            terms: Terms::default(),
        };
        Chosen { workers: None, options, refused: None }
    }

    /// Refuses 0. The first refusal stays.
    pub fn at_least_one(&mut self, number: u64, what: &'static str) {
        if number == 0 {
            self.refused.get_or_insert(PoolError::Zero { what });
        }
    }

    /// All that was chosen; if nobody said how many workers, then as many as `per_cpu` says for that many processors.
    ///
    /// # Errors
    /// What was refused.
    pub fn options(
        mut self,
        per_cpu: impl FnOnce(usize) -> RangeInclusive<usize>,
    ) -> Result<Options<I>, PoolError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.options.workers = self.workers.unwrap_or_else(|| per_cpu(cpu_count().max(1)));
        Ok(self.options)
    }
}

/// How these things are chosen, for a type `struct X { chosen: Chosen<..>, .. }` whose workers are called `$name`.
macro_rules! choices {
    ($type:ident $(<$crew:ident: $start:ident>)?, name: $name:literal) => {
        impl$(<$crew: $start>)? $type$(<$crew>)? {
            /// A worker is replaced after so many tasks.
            pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
                self.chosen.at_least_one(tasks, "max_tasks_per_child");
                self.chosen.options.max_tasks = Some(tasks);
                self
            }

            /// Worker processes are started by this method.
            pub fn method(mut self, method: crate::process::StartMethod) -> Self {
                self.chosen.options.method = Some(method);
                self
            }

            /// Worker processes are started as those of this context.
            pub fn context(self, context: crate::process::Context) -> Self {
                self.method(context.start_method())
            }

            /// A worker beyond the fewest leaves when it had nothing to do for so long. Without this workers stay.
            pub fn idle_timeout(mut self, timeout: std::time::Duration) -> Self {
                self.chosen.options.idle_timeout = Some(timeout);
                self
            }

            /// A worker process that has more bytes of memory of its own (not counting what is shared) after a task is replaced.
            /// It looks at most every 5 ms.
            pub fn memory_limit(mut self, bytes: u64) -> Self {
                self.chosen.at_least_one(bytes, "the memory limit");
                self.chosen.options.memory_limit = Some(bytes);
                self
            }

            /// What happens to a task whose worker dies, unless the task says otherwise. Without this it fails.
            pub fn retry(mut self, retry: crate::task::Retry) -> Self {
                self.chosen.options.terms.retry = retry;
                self
            }

            /// How long a task may run, unless the task says otherwise. A worker process that is late is ended and replaced.
            pub fn deadline(mut self, limit: std::time::Duration) -> Self {
                self.chosen.options.terms.deadline = Some(limit);
                self
            }

            /// One worker that dies breaks everything, as in Python's `ProcessPoolExecutor`: all tasks that are not done fail, and no
            /// more are taken.
            pub fn strict(mut self, strict: bool) -> Self {
                self.chosen.options.strict = strict;
                self
            }

            /// A task of which so many workers died is run no more, whatever its [`Retry`](crate::pool::Retry) says. Without this 8.
            pub fn quarantine(mut self, deaths: u32) -> Self {
                self.chosen.at_least_one(deaths.into(), "the number of deaths before quarantine");
                self.chosen.options.quarantine = deaths;
                self
            }

            /// When so many workers one after the other did not get ready, no more are started, and all fails with the cause. Without
            /// this 3.
            pub fn start_attempts(mut self, attempts: u32) -> Self {
                let what = "the number of attempts to start a worker";
                self.chosen.at_least_one(attempts.into(), what);
                self.chosen.options.start_attempts = attempts;
                self
            }

            #[doc = concat!(
                "What workers are called, with `-1`, `-2` and so on behind it. Without this `", $name, "`."
            )]
            pub fn name(mut self, name: impl Into<String>) -> Self {
                self.chosen.options.name = name.into();
                self
            }
        }

        impl$(<$crew: $start>)? std::fmt::Debug for $type$(<$crew>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("workers", &self.chosen.workers)
                    .field("name", &self.chosen.options.name)
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use choices;
