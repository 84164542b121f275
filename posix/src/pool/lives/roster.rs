//! Who works at which seat, and what is to be done about it: decisions only, nothing is started, killed or waited for here.
//!
//! ```text
//! seat   EMPTY → STARTING     a worker is to be started there
//!        STARTING → READY     it has sat down, and its initializer has returned
//!        any → RETIRING       there are more workers than wanted; it is not counted any more
//!        any → EMPTY          it is gone
//! ```
//!
//! As long as nobody ends the pool there are to be `target` workers that are starting or ready: whoever is missing is started. The
//! target lies in the range that the pool's maker chose. It grows by as many chunks as are queued beyond the workers that wait, and
//! shrinks by one whenever a worker has waited too long.
//!
//! A start has failed when there is no process, or the process is gone before it was ready. Failures in a row are counted, the next
//! start waits a little longer after each; too many of them break the pool. Any worker that gets ready ends the row. (Where
//! there is no process since the machine is short of something, workers that are there go on, and the pool is not broken.)
//! Whoever was killed by SIGKILL before it was ready says nothing of how workers are started: somebody kills processes here. That is
//! borne for much longer, [`MOST_KILLS`] times in a row.
//!
//! An end is ordered, and then there are no more starts. Who has not left when the grace is over is killed. Nothing is waited for but
//! the workers' ends, and a killed worker ends: so the end comes.

use std::ops::RangeInclusive;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::floor::Seen;
use crate::task::Options;

/// What the roster goes by.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The fewest and the most workers.
    pub(crate) workers: RangeInclusive<usize>,
    /// So many starts may fail in a row, one less than breaks the pool.
    pub(crate) start_attempts: u32,
    /// A worker beyond the fewest leaves when it has waited for this long.
    pub(crate) idle_timeout: Option<Duration>,
    /// The first death breaks the pool.
    pub(crate) strict: bool,
}

impl Rules {
    /// What was chosen for a pool.
    pub(crate) fn of<I>(options: &Options<I>) -> Self {
        Rules {
            workers: options.workers.clone(),
            start_attempts: options.start_attempts,
            idle_timeout: options.idle_timeout,
            strict: options.strict,
        }
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Start a worker at this seat, the how manieth of the pool.
    Start { seat: usize, serial: u64 },
    /// Have the worker at this seat leave after its present item.
    Retire(usize),
    /// Kill the worker at this seat.
    Kill(usize),
    /// Nothing before this moment.
    Rest(Deadline),
    /// All are gone, as was ordered.
    Over,
}

/// How a worker went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gone {
    /// In order.
    Left,
    /// By itself: a crash, a panic, an exit.
    Died,
    /// By SIGKILL.
    Killed,
}

/// What one failed start or one death means for the pool.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    GoOn,
    /// So many starts have failed in a row.
    TooManyStarts(u32),
    /// A worker died, and the rules are strict.
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Empty,
    Starting,
    Ready,
    Retiring,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    stage: Stage,
    killed: bool,
}

/// All seats of a pool.
#[derive(Debug)]
pub(crate) struct Roster {
    rules: Rules,
    seats: Vec<Seat>,
    /// So many there are to be.
    target: usize,
    /// How many have been started.
    serial: u64,
    /// How many starts have failed in a row, and when the next one may be.
    failures: u32,
    not_before: Deadline,
    /// How many have been killed in a row before they were ready.
    kills: u32,
    /// Set: all are to leave; who is there at this moment is killed.
    end: Option<Deadline>,
}

/// A row of failed starts: how long to wait before the second one; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// So many workers that are killed in a row before they were ready break a pool.
const MOST_KILLS: u32 = 100;
/// So many are replaced at once; the others after a pause.
const FREE_KILLS: u32 = 8;
/// After so long a growing pool looks again whether what was queued has been taken.
const SOON: Duration = Duration::from_millis(1);

impl Roster {
    /// Nobody is there yet.
    pub(crate) fn new(rules: Rules, seats: usize) -> Self {
        let target = *rules.workers.start();
        let seats = vec![Seat { stage: Stage::Empty, killed: false }; seats];
        let not_before = Deadline::NOW;
        Roster { rules, seats, target, serial: 0, failures: 0, not_before, kills: 0, end: None }
    }

    /// What is to be done next; it counts as done. To be asked until there is a rest.
    pub(super) fn step(
        &mut self,
        now: u64,
        look: &dyn Fn(usize) -> Seen,
        queued: &dyn Fn() -> usize,
    ) -> Step {
        self.welcome(look);
        if let Some(grace) = self.end {
            return self.step_to_the_end(now, grace);
        }
        let live = self.count();
        let mut rest = Deadline::NEVER;
        if self.may_grow() {
            let free = |(at, seat): (usize, &Seat)| match seat.stage {
                Stage::Starting => true,
                Stage::Ready => !matches!(look(at), Seen::Busy),
                _ => false,
            };
            let free = self.seats.iter().enumerate().filter(|seat| free(*seat)).count();
            let queued = queued();
            let wanted = live + queued.saturating_sub(free);
            self.target = wanted.clamp(self.target, *self.rules.workers.end());
            if queued > 0 {
                // Whoever was free may have begun just now with another chunk than these.
                rest = Deadline::at_nanos(now.saturating_add(SOON.as_nanos() as u64));
            }
        }
        if live < self.target {
            return self.start(now);
        }
        let mut surplus = None;
        if live > self.target {
            surplus = self.least_needed(look);
        } else if let Some(limit) = self.rules.idle_timeout
            && live > *self.rules.workers.start()
        {
            let until;
            (surplus, until) = self.idle_for(limit, now, look);
            rest = rest.min(until);
            self.target -= usize::from(surplus.is_some());
        }
        match surplus {
            Some(seat) => {
                self.seats[seat].stage = Stage::Retiring;
                Step::Retire(seat)
            }
            None => Step::Rest(rest),
        }
    }

    fn step_to_the_end(&mut self, now: u64, grace: Deadline) -> Step {
        if self.seats.iter().all(|seat| seat.stage == Stage::Empty) {
            return Step::Over;
        }
        if now < grace.as_nanos() {
            return Step::Rest(grace);
        }
        let left = |seat: &Seat| seat.stage != Stage::Empty && !seat.killed;
        match self.seats.iter().position(left) {
            Some(seat) => {
                self.seats[seat].killed = true;
                Step::Kill(seat)
            }
            None => Step::Rest(Deadline::NEVER),
        }
    }

    fn start(&mut self, now: u64) -> Step {
        if now < self.not_before.as_nanos() {
            return Step::Rest(self.not_before);
        }
        // If all are taken, one of those that retire makes room soon.
        let Some(seat) = self.seats.iter().position(|seat| seat.stage == Stage::Empty) else {
            return Step::Rest(Deadline::NEVER);
        };
        self.seats[seat] = Seat { stage: Stage::Starting, killed: false };
        self.serial += 1;
        Step::Start { seat, serial: self.serial }
    }

    /// Notes who has got ready.
    fn welcome(&mut self, look: &dyn Fn(usize) -> Seen) {
        for (at, seat) in self.seats.iter_mut().enumerate() {
            if seat.stage == Stage::Starting && look(at) != Seen::Starting {
                seat.stage = Stage::Ready;
                (self.failures, self.kills, self.not_before) = (0, 0, Deadline::NOW);
            }
        }
    }

    /// The one that is missed least: one that waits, else one that starts, else the last.
    fn least_needed(&self, look: &dyn Fn(usize) -> Seen) -> Option<usize> {
        let here = |at: &usize| matches!(self.seats[*at].stage, Stage::Starting | Stage::Ready);
        let order = |at: &usize| match look(*at) {
            Seen::Busy => 0,
            Seen::Starting => 1,
            Seen::Idle { .. } => 2,
        };
        (0..self.seats.len()).filter(here).max_by_key(order)
    }

    /// Somebody who has waited for as long as this, or when to look again.
    fn idle_for(
        &self,
        limit: Duration,
        now: u64,
        look: &dyn Fn(usize) -> Seen,
    ) -> (Option<usize>, Deadline) {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let mut rest = u64::MAX;
        for (at, seat) in self.seats.iter().enumerate() {
            let since = match (seat.stage, look(at)) {
                (Stage::Ready, Seen::Idle { since }) => since,
                // Whoever is busy now, or starts, can be missed at the earliest after so long.
                (Stage::Ready | Stage::Starting, _) => now,
                (Stage::Empty | Stage::Retiring, _) => continue,
            };
            let end = since.saturating_add(limit);
            if end <= now {
                return (Some(at), Deadline::NEVER);
            }
            rest = rest.min(end);
        }
        (None, Deadline::at_nanos(rest))
    }

    /// Whether the worker at this seat was asked to leave, or killed, by the pool.
    pub(super) fn has_asked(&self, seat: usize) -> bool {
        let asked = |seat: &Seat| seat.killed || seat.stage == Stage::Retiring;
        self.end.is_some() || self.seats.get(seat).is_some_and(asked)
    }

    /// The worker at this seat is gone.
    pub(super) fn gone(
        &mut self,
        seat: usize,
        how: Gone,
        now: u64,
        look: &dyn Fn(usize) -> Seen,
    ) -> Verdict {
        self.welcome(look);
        let asked = self.has_asked(seat);
        let Some(place) = self.seats.get_mut(seat) else { return Verdict::GoOn };
        let before = std::mem::replace(place, Seat { stage: Stage::Empty, killed: false });
        if asked {
            return Verdict::GoOn;
        }
        match before.stage {
            Stage::Starting if how == Gone::Killed => self.count_kill(now),
            Stage::Starting => self.count_failure(now),
            _ if how != Gone::Left && self.rules.strict => Verdict::Strict,
            _ => Verdict::GoOn,
        }
    }

    /// There is no process for this seat.
    pub(super) fn not_started(&mut self, seat: usize, now: u64) -> Verdict {
        if let Some(place) = self.seats.get_mut(seat) {
            place.stage = Stage::Empty;
        }
        match self.count_failure(now) {
            _ if self.seats.iter().any(|seat| seat.stage == Stage::Ready) => Verdict::GoOn,
            verdict => verdict,
        }
    }

    fn count_failure(&mut self, now: u64) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.failures {
            1 => Duration::ZERO,
            n => (FIRST_PAUSE * (1 << (n - 2).min(10))).min(LONGEST_PAUSE),
        };
        self.not_before = Deadline::at_nanos(now.saturating_add(pause.as_nanos() as u64));
        match self.failures {
            n if n >= self.rules.start_attempts => Verdict::TooManyStarts(n),
            _ => Verdict::GoOn,
        }
    }

    fn count_kill(&mut self, now: u64) -> Verdict {
        self.kills = self.kills.saturating_add(1);
        if self.kills > FREE_KILLS {
            let pause = FIRST_PAUSE.as_nanos() as u64;
            self.not_before = self.not_before.max(Deadline::at_nanos(now.saturating_add(pause)));
        }
        match self.kills {
            n if n >= MOST_KILLS => Verdict::TooManyStarts(n),
            _ => Verdict::GoOn,
        }
    }

    /// This worker will be killed by whoever says so: that is no death that breaks a strict pool.
    pub(super) fn doomed(&mut self, seat: usize) {
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.killed = true;
        }
    }

    /// From now on there are to be so many.
    pub(super) fn resize(&mut self, workers: RangeInclusive<usize>) {
        self.target = self.target.clamp(*workers.start(), *workers.end());
        self.rules.workers = workers;
    }

    /// All are to leave; who has not done so at this moment is killed. It is never put off.
    pub(super) fn end(&mut self, grace: Deadline) {
        self.end = Some(self.end.map_or(grace, |before| before.min(grace)));
    }

    /// Whether there may be more workers than there are.
    pub(super) fn may_grow(&self) -> bool {
        self.end.is_none() && self.target < *self.rules.workers.end()
    }

    /// How many are starting or ready.
    pub(super) fn count(&self) -> usize {
        let here = |seat: &&Seat| matches!(seat.stage, Stage::Starting | Stage::Ready);
        self.seats.iter().filter(here).count()
    }
}

#[cfg(test)]
mod tests;
