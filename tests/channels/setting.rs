//! Where the parties of a test are: threads of one process, or processes.

use procession::Queue;
use rustix::process::Pid;

use crate::support::{Child, Word, fall_asleep};

/// Each behaviour is looked at in both.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Setting {
    /// One process with a thread for each.
    Threads,
    /// A process for each.
    Processes,
}

/// What one of the parties does.
pub type Part<'p> = &'p (dyn Fn() + Sync);

impl Setting {
    /// Runs them all at the same time, until each has ended, and fails if one did.
    pub fn run<const N: usize>(self, parts: [Part<'_>; N]) {
        self.run_all(&parts);
    }

    /// The same for so many that do alike; each gets its number.
    pub fn crowd(self, count: usize, part: &(dyn Fn(usize) + Sync)) {
        self.with_crowd(count, part, &[]);
    }

    /// The same, and others beside them.
    pub fn with_crowd(self, count: usize, part: &(dyn Fn(usize) + Sync), others: &[Part<'_>]) {
        let crowd: Vec<_> = (0..count).map(|number| move || part(number)).collect();
        let all: Vec<Part<'_>> =
            crowd.iter().map(|part| part as Part<'_>).chain(others.iter().copied()).collect();
        self.run_all(&all);
    }

    fn run_all(self, parts: &[Part<'_>]) {
        match self {
            // A panic in one of them comes out here.
            Setting::Threads => std::thread::scope(|threads| {
                for part in parts {
                    threads.spawn(part);
                }
            }),
            Setting::Processes => {
                let children: Vec<_> = parts.iter().map(Child::start).collect();
                children.into_iter().for_each(Child::finish);
            }
        }
    }

    /// As many rounds as take a moment: starting a thread or a process is part of each.
    pub fn rounds(self, threads: usize) -> usize {
        match self {
            Setting::Threads => threads,
            Setting::Processes => threads.div_ceil(10),
        }
    }
}

/// A queue of this capacity.
pub fn make<T>(capacity: usize) -> Queue<T> {
    Queue::bounded(capacity).unwrap()
}

/// Where a party says that it is about to wait, and another sees it asleep.
#[derive(Clone, Copy)]
pub struct Bed(Word);

impl Bed {
    /// Nobody's so far.
    pub fn new() -> Bed {
        Bed(Word::new())
    }

    /// The caller will sleep with its next call.
    pub fn lie_down(self) {
        self.0.set(rustix::thread::gettid().as_raw_nonzero().get() as u64);
    }

    /// Waits until it sleeps.
    pub fn wait(self) {
        let thread = self.0.wait();
        fall_asleep(Pid::from_raw(thread as i32).unwrap());
    }
}
