//! `Pool`: an owner that dies while it hands in or collects takes its workers along, and nothing of it stays in the arena.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::region::Usage;
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::pool::{AsyncResult, Pool};
use procession_posix::process::StartMethod;
use procession_posix::sync::Event;

use super::ground::get_ready;
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);

/// Lengths of arguments and results: in a cell, in a block, in a run of chunks.
const SHORT: usize = 20;
const LONG: usize = 600;
const HUGE: usize = 33_000;

/// What the worker does.
fn echo(text: String) -> String {
    text
}

/// What it does after that.
fn tell(event: Event) {
    event.set();
}

/// A pool of the victim's, and the arena that it shares with those who come after it.
struct Firm {
    arena: &'static Arena,
    len: usize,
    /// Where the victim writes down its worker, and how many objects it has sent it.
    notes: Memory,
    before: Usage,
}

/// The victim's pool; its one worker is stopped, so that nothing moves but what is stepped.
struct Staff {
    pool: Pool,
    answer: Option<AsyncResult<String>>,
}

impl Firm {
    fn new(len: usize) -> &'static Firm {
        let mut config = Config::new();
        config.reserve = Some(8 << 20);
        config.participants = Some(8);
        configure(config).expect("an arena of our own");
        let arena = arena().expect("an arena");
        arena.member().tag().expect("a seat");
        let before = arena.region().usage();
        Box::leak(Box::new(Firm { arena, len, notes: Memory::new(4096), before }))
    }

    fn text(&self) -> String {
        "x".repeat(self.len)
    }

    /// A pool whose worker has done `text` already, if it is to, and is stopped.
    fn hire(&'static self, done: bool) -> Staff {
        self.enter();
        let pool = Pool::builder().processes(1).method(StartMethod::Fork).build();
        let pool = pool.expect("a pool");
        assert_eq!(pool.apply(echo, (self.text(),)).expect("an answer").len(), self.len);
        let answer = done.then(|| {
            let event = Event::new().expect("an event");
            let answer = pool.apply_async(echo, (self.text(),)).expect("a task");
            // The one worker comes to this when it has given the other back.
            let told = pool.apply_async(tell, (event.clone(),)).expect("a task");
            assert!(event.wait_timeout(SOON), "the worker does nothing");
            self.notes.counters()[1].store(1, SeqCst);
            std::mem::forget(told);
            answer
        });
        let worker = pool.workers().first().map_or(0, |worker| worker.pid);
        assert_ne!(worker, 0, "the pool has a worker");
        self.notes.counters()[0].store(worker, SeqCst);
        // SAFETY: stops a child of this process, which is not reaped: the pool has it.
        unsafe { libc::kill(worker as i32, libc::SIGSTOP) };
        Staff { pool, answer }
    }

    /// Whether the victim's worker is gone, but for what its parent has to reap.
    fn is_gone(&self) -> bool {
        let worker = self.notes.counters()[0].load(SeqCst);
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
    }

    fn await_gone(&self) -> Result<(), Trouble> {
        let deadline = Instant::now() + SOON;
        while !self.is_gone() {
            if Instant::now() > deadline {
                return Err(Trouble::Late("the dead owner's worker lives on".into()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Scene for Firm {
    fn memory(&self) -> Span {
        let region = self.arena.region();
        Span { start: region.base().addr().get(), len: region.size() as usize }
    }

    fn enter(&self) {
        get_ready(self.arena.member());
    }

    /// Sees the worker gone, sweeps, and uses a pool of its own.
    fn survive(&self, _: u32, _: Duration) -> Result<(), Trouble> {
        self.await_gone()?;
        self.arena.sweep();
        let pool = Pool::builder().processes(1).method(StartMethod::Fork).build();
        let pool = pool.map_err(|error| error.to_string())?;
        let answer = pool.apply(echo, (self.text(),)).map_err(|error| error.to_string())?;
        if answer != self.text() {
            return Err(Trouble::Wrong("another answer than was asked for".into()));
        }
        pool.close();
        pool.join_timeout(SOON).map_err(|error| Trouble::Late(error.to_string()))
    }

    /// Nothing is left of anybody.
    fn audit(&self) -> Result<Audit, String> {
        self.await_gone().map_err(|trouble| trouble.to_string())?;
        self.arena.sweep();
        let Usage { owned, shared, queued, run_chunks, damaged, .. } = self.arena.region().usage();
        let before = &self.before;
        // What was sent to a worker belongs to the tree.
        let sent = u64::from(self.notes.counters()[1].load(SeqCst));
        let left = (owned - before.owned)
            + queued
            + (run_chunks - before.run_chunks)
            + (shared - before.shared - sent);
        Ok(Audit { lost: left as u32, torn: damaged as u32, ..Audit::default() })
    }
}

fn submit(firm: &'static Firm, staff: Staff) {
    std::mem::forget(staff.pool.apply_async(echo, (firm.text(),)));
    std::mem::forget(staff);
}

fn collect(_: &'static Firm, staff: Staff) {
    if let Some(answer) = &staff.answer {
        let _ = answer.get_timeout(SOON);
    }
    std::mem::forget(staff);
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    let submits = |name, set| Operation::new(name, set, |firm: &Firm| firm.hire(false), submit);
    let collects = |name, set| Operation::new(name, set, |firm: &Firm| firm.hire(true), collect);
    vec![
        submits("pool.submit", || Firm::new(SHORT)),
        submits("pool.submit.long", || Firm::new(LONG)),
        submits("pool.submit.huge", || Firm::new(HUGE)),
        collects("pool.collect", || Firm::new(SHORT)),
        collects("pool.collect.long", || Firm::new(LONG)),
        collects("pool.collect.huge", || Firm::new(HUGE)),
    ]
}
