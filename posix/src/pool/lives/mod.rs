//! The lives of a pool's workers, and of the pool.
//!
//! ```text
//! who makes the pool   starts the first workers, by any start method, and hires the supervisor
//! supervisor           asleep in poll on its workers' pidfds and a bell; awake: buries the dead, carries out orders, ends what is overdue,
//!                      starts who is missing, rests
//! others               write down an order and ring the bell; wait, if at all, for `over` only
//! ```
//!
//! What is to be done is decided by the [`roster`], which knows no process; here it is done. The supervisor is an attendant, see there:
//! asleep it holds nothing, so the process may be forked meanwhile. It cannot fork the process itself, since a fork is for the thread that
//! asks for it alone: in a pool whose first workers were forked those who come later are made by the zygote.
//!
//! No lock is shared with a worker. The locks here are held for a few instructions, never while anything is waited for, started or killed:
//! so nobody waits for a worker that is dead, busy, or stopped.
//!
//! ```text
//! close       no tasks any more. When the last task is over, `finish`: all leave by themselves
//! terminate   all leave after their present item; who is still there after a grace is killed
//! broken      as terminated, with a cause
//! over        the last worker is buried: whoever joins is woken
//! ```
//!
//! The end of this process, in order, terminates its pools and does not wait here: workers are daemons, and daemons are ended there. If
//! it ends in another way, they are killed as all daemons are. In a fork of this process a pool is nobody's: nothing is done there.

mod death;
mod floor;
mod hire;
mod roster;
mod seats;
mod supervisor;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use procession_core::pool::{Closing, Phase, State};
use procession_core::region::Tag;
use procession_core::sys::Deadline;

pub(crate) use death::{Death, Leaving};
pub(crate) use floor::{Floor, Seen};
pub(crate) use hire::{Habits, Hire, Limits, Trade};
use roster::Roster;
pub(crate) use roster::Rules;
pub(crate) use seats::Seats;
use supervisor::{Bell, Supervisor};

use crate::attendant;
use crate::process::{Child, Finalizer, finalizer};
use crate::task::{PoolError, WorkerInfo};

/// Workers have this long between the order to leave and SIGKILL.
const GRACE: Duration = Duration::from_millis(20);
/// Among what this process does at its end, pools come before what has no priority of its own.
const AT_EXIT: i32 = 15;

/// The workers of one pool and the pool's own life, as its crew has them. Copies are the same.
#[derive(Clone)]
pub(crate) struct Lives {
    shared: Arc<Shared>,
}

/// What the supervisor and all others have of a pool's workers.
struct Shared {
    /// Whose pool it is.
    owner: u32,
    /// What its workers are called, with a number behind.
    name: String,
    state: State,
    cause: OnceLock<Arc<PoolError>>,
    bell: Bell,
    orders: Mutex<Orders>,
    staff: Mutex<Staff>,
    floor: OnceLock<Weak<dyn Floor>>,
    at_exit: OnceLock<Finalizer>,
    /// There may be more workers than there are.
    may_grow: AtomicBool,
    /// How many there are, or will be in a moment.
    width: AtomicUsize,
    /// All workers are buried.
    over: Mutex<bool>,
    is_over: Condvar,
}

/// What the supervisor is to do.
#[derive(Default)]
struct Orders {
    /// From now on there are to be so many workers.
    workers: Option<RangeInclusive<usize>>,
    /// All are to leave, and are killed at this moment.
    end: Option<Deadline>,
    /// These workers are to be killed.
    doomed: Vec<Tag>,
}

/// The workers, by their seats.
type Staff = Vec<Option<Employee>>;

/// A worker, as its pool knows it.
#[derive(Clone)]
enum Employee {
    /// It is being started under this name, and may have begun.
    Coming(String),
    Here(Arc<Child<Leaving>>),
}

impl Lives {
    /// A pool that has no workers yet.
    ///
    /// # Errors
    /// `Resource`, if there is no descriptor to be had.
    pub(crate) fn new(name: String) -> Result<Self, PoolError> {
        let shared = Shared {
            owner: std::process::id(),
            name,
            state: State::new(),
            cause: OnceLock::new(),
            bell: Bell::new()?,
            orders: Mutex::default(),
            staff: Mutex::default(),
            floor: OnceLock::new(),
            at_exit: OnceLock::new(),
            may_grow: AtomicBool::new(false),
            width: AtomicUsize::new(0),
            over: Mutex::new(false),
            is_over: Condvar::new(),
        };
        Ok(Lives { shared: Arc::new(shared) })
    }

    /// Starts the first workers at this floor, which has so many seats, and hires the supervisor, which keeps the floor until all workers
    /// are gone.
    ///
    /// # Errors
    /// `Start`, `Resource`. No worker is there then.
    pub(crate) fn begin(
        &self,
        floor: Arc<dyn Floor>,
        seats: usize,
        rules: Rules,
    ) -> Result<(), PoolError> {
        let shared = &self.shared;
        let begun = Supervisor::open(shared.clone(), floor.clone(), Roster::new(rules, seats))
            .and_then(|supervisor| {
                let _ = shared.floor.set(Arc::downgrade(&floor));
                let weak = Arc::downgrade(shared);
                let terminate = move || {
                    if let Some(shared) = weak.upgrade() {
                        (Lives { shared }).terminate(GRACE);
                    }
                };
                let _ = shared.at_exit.set(finalizer(AT_EXIT, terminate));
                supervisor.hire()
            });
        begun.inspect_err(|_| shared.be_over())
    }

    /// Where the pool is, and how many tasks it has.
    pub(crate) fn state(&self) -> &State {
        &self.shared.state
    }

    /// Why it is broken.
    pub(crate) fn cause(&self) -> Option<Arc<PoolError>> {
        self.shared.cause.get().cloned()
    }

    /// Whether this is the process that made the pool.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.owner == std::process::id()
    }

    /// Takes no more tasks. When the last one is over, whoever was told so calls [`finish`](Lives::finish).
    pub(crate) fn close(&self) {
        if self.is_here() && self.shared.state.close() == Closing::Idle {
            self.finish();
        }
    }

    /// The pool takes no tasks and has none: all workers leave, and are waited for as long as they take.
    pub(crate) fn finish(&self) {
        self.shared.end(Deadline::NEVER);
    }

    /// Takes no more tasks; all workers leave after their present item, and are killed if they have not after this grace. A
    /// second call can only make it shorter.
    pub(crate) fn terminate(&self, grace: Duration) {
        if self.is_here() {
            self.shared.state.terminate();
            self.shared.end(Deadline::after(grace));
        }
    }

    /// The same with the grace that workers usually have.
    pub(crate) fn terminate_soon(&self) {
        self.terminate(GRACE);
    }

    /// Waits until all workers are gone; in an attendant, which could wait for itself, it only looks.
    ///
    /// # Errors
    /// `StillRunning` while tasks are taken, `TimedOut`, `Forked` in another process.
    pub(crate) fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        let shared = &self.shared;
        if !self.is_here() {
            return Err(PoolError::Forked { owner: shared.owner });
        }
        if shared.state.phase() == Phase::Run {
            return Err(PoolError::StillRunning);
        }
        let deadline = if attendant::am_one() { Deadline::NOW } else { deadline };
        let mut over = lock(&shared.over);
        while !*over {
            if deadline.is_past() {
                return Err(PoolError::TimedOut);
            }
            over = match deadline.left() {
                Some(left) => {
                    let waited = shared.is_over.wait_timeout(over, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.is_over.wait(over).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Ok(())
    }

    /// From now on there are so many workers, growing at need within the range.
    ///
    /// # Errors
    /// `NotRunning`, `Forked`.
    pub(crate) fn resize(&self, workers: RangeInclusive<usize>) -> Result<(), PoolError> {
        let shared = &self.shared;
        if !self.is_here() {
            return Err(PoolError::Forked { owner: shared.owner });
        }
        match shared.state.phase() {
            Phase::Run | Phase::Closed => {}
            phase => return Err(PoolError::NotRunning { state: phase.into() }),
        }
        lock(&shared.orders).workers = Some(workers);
        shared.bell.ring();
        Ok(())
    }

    /// This worker is killed and replaced: what it ran was taken from it.
    pub(crate) fn doom(&self, worker: Tag) {
        lock(&self.shared.orders).doomed.push(worker);
        self.shared.bell.ring();
    }

    /// The supervisor looks again at what is overdue and what is queued.
    pub(crate) fn look_again(&self) {
        self.shared.bell.ring();
    }

    /// Whether more workers would be started for chunks that nobody takes: then who queues some has it
    /// [looked at](Lives::look_again).
    pub(crate) fn may_grow(&self) -> bool {
        // Relaxed: who sees it too late is told of by the next one.
        self.shared.may_grow.load(Ordering::Relaxed)
    }

    /// How many workers there are, or will be in a moment.
    pub(crate) fn width(&self) -> usize {
        // Relaxed: a number for people and plans.
        self.shared.width.load(Ordering::Relaxed)
    }

    /// The workers that have begun, in the order of their seats.
    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        let floor = self.shared.floor.get().and_then(Weak::upgrade);
        let info = |(seat, employee): (usize, Employee)| match employee {
            Employee::Here(child) => Some(WorkerInfo::new(child.pid(), child.name().to_owned())),
            // Whoever starts it does not have its process yet, but it may have run tasks already.
            Employee::Coming(name) => {
                floor.as_ref()?.seats().pid(seat).map(|pid| WorkerInfo::new(pid, name))
            }
        };
        self.shared.all().into_iter().filter_map(info).collect()
    }
}

impl Shared {
    /// Has all leave, and killed at this moment.
    fn end(&self, grace: Deadline) {
        let mut orders = lock(&self.orders);
        orders.end = Some(orders.end.map_or(grace, |before| before.min(grace)));
        drop(orders);
        // Behind the order: whoever is gone because of this is not replaced. Before the bell: they are woken first.
        if let Some(floor) = self.floor.get().and_then(Weak::upgrade) {
            floor.seats().stop();
        }
        self.bell.ring();
        if *lock(&self.over) {
            // The last task was over after the last worker.
            self.state.end();
        }
    }

    /// It is broken; by this, unless something else has broken it before.
    fn break_down(&self, cause: PoolError) -> Arc<PoolError> {
        // Before the state says so: who sees that finds the cause.
        let cause = self.cause.get_or_init(|| Arc::new(cause)).clone();
        self.state.break_down();
        cause
    }

    fn take_orders(&self) -> Orders {
        std::mem::take(&mut *lock(&self.orders))
    }

    fn note_growth(&self, may_grow: bool, width: usize) {
        // Relaxed, both: see where they are read.
        self.may_grow.store(may_grow, Ordering::Relaxed);
        self.width.store(width, Ordering::Relaxed);
    }

    fn employ(&self, seat: usize, employee: Employee) {
        let mut staff = lock(&self.staff);
        if staff.len() <= seat {
            staff.resize(seat + 1, None);
        }
        staff[seat] = Some(employee);
    }

    fn at(&self, seat: usize) -> Option<Arc<Child<Leaving>>> {
        match lock(&self.staff).get(seat) {
            Some(Some(Employee::Here(child))) => Some(child.clone()),
            _ => None,
        }
    }

    fn dismiss(&self, seat: usize) {
        let gone = lock(&self.staff).get_mut(seat).and_then(Option::take);
        // Outside of the lock: it closes a descriptor.
        drop(gone);
    }

    fn all(&self) -> Vec<(usize, Employee)> {
        let staff = lock(&self.staff);
        staff.iter().enumerate().filter_map(|(at, one)| Some((at, one.clone()?))).collect()
    }

    /// The last worker is buried, or there never was one.
    fn be_over(&self) {
        if let Some(at_exit) = self.at_exit.get() {
            at_exit.cancel();
        }
        self.note_growth(false, 0);
        // It takes no tasks, whatever it was.
        self.state.terminate();
        self.state.end();
        *lock(&self.over) = true;
        self.is_over.notify_all();
        // Whoever was over with the last task meanwhile has not seen that it is over here.
        self.state.end();
    }
}

/// A thread that panicked under one of these locks left nothing halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
