//! The thread that sees to a pool's workers: it does what the roster says.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procession_core::sys::{Deadline, nanos};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::death::as_error;
use super::roster::{Gone, Roster, Step, Verdict};
use super::{Death, Employee, Floor, GRACE, Leaving, Shared};
use crate::attendant::{self, Duty};
use crate::process::exit::is_under_way;
use crate::process::wire::above_standard;
use crate::process::{Child, JoinError, StartError, Together};
use crate::task::PoolError;

/// Which event is the bell; the others are the numbers of seats.
const BELL: u64 = u64::MAX;
/// How long is waited for one that was killed.
const LONGEST_BURIAL: Duration = Duration::from_secs(2);
/// How many events are fetched at a time.
const EVENTS: usize = 64;

/// What others wake the supervisor by.
#[derive(Debug)]
pub(super) struct Bell {
    descriptor: OwnedFd,
    /// It was rung, and not heard yet: once is enough.
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> Result<Self, PoolError> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(above_standard)
            .map_err(resource("make an eventfd for the pool"))?;
        Ok(Bell { descriptor, rung: AtomicBool::new(false) })
    }

    /// After an order was written down: it will be read. A load and a store, and a system call if nobody has rung yet.
    pub(super) fn ring(&self) {
        // AcqRel meets the one in `hear`: who finds it rung has written down the order before that is heard.
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Full after 2⁶⁴ of them: it is readable then, too.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }

    /// Orders are read after this.
    fn hear(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.descriptor, &mut count);
        self.rung.swap(false, Ordering::AcqRel);
    }
}

/// The supervisor, or who makes the pool, until there is one.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    floor: Arc<dyn Floor>,
    roster: Roster,
    /// Readable when a worker is gone or the bell was rung.
    events: OwnedFd,
    /// When to get up by oneself.
    rest: Deadline,
    /// The last field: who joins the pool finds that the floor was let go.
    _end: End,
}

/// With it ends the pool, whose workers are gone.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.be_over();
    }
}

impl Supervisor {
    /// Starts the first workers.
    ///
    /// # Errors
    /// If one of them cannot be started. The others are gone then.
    pub(super) fn open(
        shared: Arc<Shared>,
        floor: Arc<dyn Floor>,
        roster: Roster,
    ) -> Result<Self, PoolError> {
        let events = epoll::create(CreateFlags::CLOEXEC)
            .map(above_standard)
            .map_err(resource("make an epoll descriptor for the pool"))?;
        epoll::add(&events, &shared.bell.descriptor, EventData::new_u64(BELL), EventFlags::IN)
            .map_err(resource("wait for the pool's orders"))?;
        let rest = Deadline::NEVER;
        let end = End(shared.clone());
        let mut new = Supervisor { shared, floor, roster, events, rest, _end: end };
        let _one_state = Together::begin();
        loop {
            match new.step() {
                Step::Start { seat, serial } => {
                    if let Err(error) = new.start(seat, serial) {
                        abandon(&new.shared, &*new.floor);
                        return Err(error);
                    }
                }
                step => {
                    new.rest = if let Step::Rest(until) = step { until } else { Deadline::NOW };
                    new.note_growth();
                    return Ok(new);
                }
            }
        }
    }

    /// Has a thread do it from now on.
    ///
    /// # Errors
    /// If there is none to be had. No worker is there then.
    pub(super) fn hire(self) -> Result<(), PoolError> {
        let (shared, floor) = (self.shared.clone(), self.floor.clone());
        match attendant::hire("pool", self) {
            Ok(_runs_by_itself) => Ok(()),
            Err(source) => {
                abandon(&shared, &*floor);
                Err(PoolError::Resource { what: "start the pool's supervisor", source })
            }
        }
    }

    fn step(&mut self) -> Step {
        let floor = &*self.floor;
        self.roster.step(nanos(), &|seat| floor.seats().look(seat), &|| floor.queued())
    }

    fn start(&mut self, seat: usize, serial: u64) -> Result<(), PoolError> {
        let name = format!("{}-{serial}", self.shared.name);
        // Before there is a process: it may be quick.
        self.shared.employ(seat, Employee::Coming(name.clone()));
        self.note_growth();
        // It may take long (a zygote that is stopped), and runs a user's code, which encodes the initializer's arguments.
        let started =
            attendant::aside(|| self.floor.seats().start(seat, name)).map_err(PoolError::Start);
        let child = started.inspect_err(|_| self.shared.dismiss(seat))?;
        let event = EventData::new_u64(seat as u64);
        if let Err(error) = epoll::add(&self.events, child.sentinel(), event, EventFlags::IN) {
            let _ = child.kill();
            bury_the_killed(&self.shared, &*self.floor, seat, &child);
            let source = error.into();
            let what = "watch a worker";
            return Err(PoolError::Start(StartError::Resource { what, source }));
        }
        self.shared.employ(seat, Employee::Here(Arc::new(child)));
        Ok(())
    }

    /// Takes a worker that is gone out of the lists.
    fn dismiss(&self, seat: usize, child: &Child<Leaving>) {
        // Explicitly: closing is not enough where a fork of this process has the descriptor too.
        let _ = epoll::delete(&self.events, child.sentinel());
        self.shared.dismiss(seat);
    }

    /// The worker at this seat is gone.
    fn bury(&mut self, seat: usize) {
        let Some(child) = self.shared.at(seat) else { return };
        // It waits for whoever knows how it ended, for a second at most.
        let left = attendant::aside(|| child.join_timeout(Duration::ZERO));
        if matches!(left, Err(JoinError::TimedOut { .. })) && child.is_alive() {
            return;
        }
        let death = Death::of(child.pid(), &left, self.roster.has_asked(seat));
        let floor = &*self.floor;
        let how = match death.signal {
            _ if left.is_ok() => Gone::Left,
            Some(libc::SIGKILL) => Gone::Killed,
            _ => Gone::Died,
        };
        let verdict = self.roster.gone(seat, how, nanos(), &|seat| floor.seats().look(seat));
        let cause = match verdict {
            // Whoever takes its place would leave as well, again and again.
            _ if matches!(left, Ok(Leaving::Damaged)) => {
                Some(PoolError::Corrupt { what: "a board that was written over" })
            }
            Verdict::GoOn => None,
            Verdict::TooManyStarts(attempts) => {
                let cause = as_error(child.name(), child.pid(), left);
                Some(PoolError::Initializer { attempts, cause })
            }
            Verdict::Strict => {
                let death = as_error(child.name(), child.pid(), left);
                Some(PoolError::Strict { death })
            }
        };
        // Whoever is told of the death finds the pool broken by it.
        let cause = cause.map(|cause| self.shared.break_down(cause));
        self.dismiss(seat, &child);
        self.floor.vacate(seat, &death);
        if let Some(cause) = cause {
            self.give_up(&cause);
        }
    }

    /// The pool is broken by this.
    fn give_up(&mut self, cause: &Arc<PoolError>) {
        // It wakes a user's wakers, and drops what is a user's.
        attendant::aside(|| self.floor.broken(cause));
        self.end(Deadline::after(GRACE));
    }

    fn end(&mut self, grace: Deadline) {
        self.floor.seats().stop();
        self.roster.end(grace);
    }

    /// Does what has happened and what was ordered.
    fn attend(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The rest will be there at the next time: it is level-triggered.
        let _ = epoll::wait(&self.events, spare_capacity(&mut events), Some(&at_once));
        if events.iter().any(|event| event.data.u64() == BELL) {
            self.shared.bell.hear();
        }
        // Before the dead: who was told to leave is known to have been.
        let orders = self.shared.take_orders();
        if let Some(workers) = orders.workers {
            self.roster.resize(workers);
        }
        if let Some(grace) = orders.end {
            self.end(grace);
        }
        for event in events {
            if event.data.u64() != BELL {
                self.bury(event.data.u64() as usize);
            }
        }
        let mut late = orders.doomed;
        self.rest = self.floor.overdue(&mut late);
        for tag in late {
            // Whoever is gone already has left its seat to another.
            if let Some(seat) = self.floor.seats().find(tag) {
                self.roster.doomed(seat);
                self.kill(seat);
            }
        }
    }

    fn kill(&self, seat: usize) {
        if let Some(child) = self.shared.at(seat) {
            // Who has taken on another user's rights is not ours to kill, and goes on until it sees the order.
            let _ = child.kill();
        }
    }

    fn note_growth(&self) {
        self.shared.note_growth(self.roster.may_grow(), self.roster.count());
    }
}

impl Duty for Supervisor {
    fn sleep(&self) {
        let left = self.rest.left().and_then(|left| Timespec::try_from(left).ok());
        // Interrupted or not: what there is to do is found out by looking.
        let _ = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], left.as_ref());
    }

    fn work(&mut self) -> bool {
        self.attend();
        loop {
            match self.step() {
                // At the end of this process nobody is started: all daemons are being ended.
                Step::Start { .. } if is_under_way() => self.end(Deadline::NEVER),
                Step::Start { seat, serial } => match self.start(seat, serial) {
                    Ok(()) => {}
                    Err(error) => {
                        if self.roster.not_started(seat, nanos()) != Verdict::GoOn {
                            let cause = self.shared.break_down(error);
                            self.give_up(&cause);
                        }
                    }
                },
                Step::Retire(seat) => self.floor.seats().retire(seat),
                Step::Kill(seat) => self.kill(seat),
                Step::Rest(until) => {
                    self.rest = self.rest.min(until);
                    self.note_growth();
                    return true;
                }
                Step::Over => {
                    // As in `give_up`.
                    attendant::aside(|| self.floor.over());
                    return false;
                }
            }
        }
    }
}

/// Kills all workers of a pool that does not come to be, and waits for their ends.
fn abandon(shared: &Shared, floor: &dyn Floor) {
    let staff = shared.all();
    let here = |(seat, employee)| match employee {
        Employee::Here(child) => Some((seat, child)),
        Employee::Coming(_) => None,
    };
    let staff: Vec<_> = staff.into_iter().filter_map(here).collect();
    for (_, child) in &staff {
        // Who has taken on another user's rights cannot be killed, and finds out by itself.
        let _ = child.kill();
    }
    for (seat, child) in staff {
        bury_the_killed(shared, floor, seat, &child);
    }
}

/// Waits for the end of a worker that was killed. Its seat is not empty before: as long as it lives it may use the board.
fn bury_the_killed(shared: &Shared, floor: &dyn Floor, seat: usize, child: &Child<Leaving>) {
    let left = child.join_timeout(LONGEST_BURIAL);
    shared.dismiss(seat);
    if matches!(left, Err(JoinError::TimedOut { .. })) && child.is_alive() {
        floor.seats().retire(seat);
    } else {
        floor.vacate(seat, &Death::of(child.pid(), &left, true));
    }
}

fn resource(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> PoolError {
    move |errno| PoolError::Resource { what, source: errno.into() }
}
