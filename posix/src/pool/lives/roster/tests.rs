//! The roster, with workers that are only said to be there.

use std::cell::Cell;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::{FREE_KILLS, Gone, MOST_KILLS, Roster, Rules, Step, Verdict};
use crate::pool::lives::Seen;

/// What the roster sees.
struct Scene {
    seats: Vec<Cell<Seen>>,
    queued: Cell<usize>,
    now: Cell<u64>,
}

fn rules() -> Rules {
    Rules { workers: 2..=2, start_attempts: 3, idle_timeout: None, strict: false }
}

impl Scene {
    fn new(seats: usize) -> Self {
        let seats = vec![Cell::new(Seen::Starting); seats];
        Scene { seats, queued: Cell::new(0), now: Cell::new(1) }
    }

    fn set(&self, seat: usize, seen: Seen) {
        self.seats[seat].set(seen);
    }

    /// Does what the roster says until it rests or is over.
    fn settle(&self, roster: &mut Roster) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            assert!(steps.len() < 100, "it comes to an end: {steps:?}");
            let look = |seat: usize| self.seats[seat].get();
            let step = roster.step(self.now.get(), &look, &|| self.queued.get());
            let last = matches!(step, Step::Rest(_) | Step::Over);
            if let Step::Start { seat, .. } = step {
                self.set(seat, Seen::Starting);
            }
            steps.push(step);
            if last {
                return steps;
            }
        }
    }

    fn gone(&self, roster: &mut Roster, seat: usize, died: bool) -> Verdict {
        let how = if died { Gone::Died } else { Gone::Left };
        self.went(roster, seat, how)
    }

    fn went(&self, roster: &mut Roster, seat: usize, how: Gone) -> Verdict {
        roster.gone(seat, how, self.now.get(), &|seat| self.seats[seat].get())
    }
}

const IDLE: Seen = Seen::Idle { since: 0 };
const REST: Step = Step::Rest(Deadline::NEVER);

fn start(seat: usize, serial: u64) -> Step {
    Step::Start { seat, serial }
}

#[test]
fn who_is_missing_is_started_again() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    assert_eq!(scene.settle(&mut roster), [start(0, 1), start(1, 2), REST]);
    scene.set(0, Seen::Busy);
    scene.set(1, IDLE);
    assert_eq!(scene.settle(&mut roster), [REST]);
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [start(0, 3), REST]);
    // One that leaves in order is replaced as well.
    assert_eq!(scene.gone(&mut roster, 1, false), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [start(1, 4), REST]);
}

#[test]
fn starts_that_fail_in_a_row_are_too_many() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [start(0, 3), REST]);
    assert_eq!(scene.gone(&mut roster, 1, false), Verdict::GoOn, "it left before it was ready");
    // Now there is a pause.
    let [Step::Rest(until)] = scene.settle(&mut roster)[..] else { panic!("it rests") };
    scene.now.set(until.as_nanos());
    assert_eq!(scene.settle(&mut roster), [start(1, 4), REST]);
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::TooManyStarts(3));
}

#[test]
fn who_is_killed_before_it_is_ready_is_no_failed_start_for_long() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    for round in 1..MOST_KILLS {
        assert_eq!(scene.went(&mut roster, 0, Gone::Killed), Verdict::GoOn, "round {round}");
        if let [Step::Rest(until)] = scene.settle(&mut roster)[..] {
            assert!(round > FREE_KILLS, "round {round}");
            scene.now.set(until.as_nanos());
            scene.settle(&mut roster);
        }
    }
    assert_eq!(scene.went(&mut roster, 0, Gone::Killed), Verdict::TooManyStarts(MOST_KILLS));
    scene.settle(&mut roster);
    scene.set(1, IDLE);
    assert_eq!(scene.went(&mut roster, 0, Gone::Killed), Verdict::GoOn, "one has got ready");
}

#[test]
fn one_that_gets_ready_ends_the_row() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    for round in 0..10 {
        assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn, "round {round}");
        scene.settle(&mut roster);
        scene.set(0, IDLE);
        // It died before anybody looked, but what it wrote into its seat can be seen.
        assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn, "round {round}");
        scene.settle(&mut roster);
    }
}

#[test]
fn without_processes_the_others_go_on() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    scene.set(0, Seen::Busy);
    scene.set(1, IDLE);
    scene.settle(&mut roster);
    scene.gone(&mut roster, 1, true);
    for _ in 0..20 {
        let steps = scene.settle(&mut roster);
        match steps[..] {
            [Step::Start { seat, .. }, Step::Rest(_)] => {
                assert_eq!(roster.not_started(seat, scene.now.get()), Verdict::GoOn);
            }
            [Step::Rest(until)] => scene.now.set(until.as_nanos()),
            _ => panic!("{steps:?}"),
        }
    }
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn);
    let look = |seat: usize| scene.seats[seat].get();
    let Step::Rest(until) = roster.step(scene.now.get(), &look, &|| 0) else { panic!("a pause") };
    let Step::Start { seat, .. } = roster.step(until.as_nanos(), &look, &|| 0) else {
        panic!("the pause is over")
    };
    let verdict = roster.not_started(seat, until.as_nanos());
    assert!(matches!(verdict, Verdict::TooManyStarts(_)), "nobody is left");
}

#[test]
fn a_strict_pool_forgives_no_death() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(Rules { strict: true, ..rules() }, 4));
    scene.settle(&mut roster);
    scene.set(0, Seen::Busy);
    scene.set(1, IDLE);
    assert_eq!(scene.gone(&mut roster, 0, false), Verdict::GoOn, "it left in order");
    scene.settle(&mut roster);
    scene.set(0, Seen::Busy);
    scene.settle(&mut roster);
    roster.doomed(0);
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn, "it was to be killed");
    assert_eq!(scene.gone(&mut roster, 1, true), Verdict::Strict);
}

#[test]
fn it_grows_with_what_is_queued_and_shrinks_with_idleness() {
    let timeout = Duration::from_nanos(100);
    let rules = Rules { workers: 0..=3, idle_timeout: Some(timeout), ..rules() };
    let (scene, mut roster) = (Scene::new(8), Roster::new(rules, 8));
    assert_eq!(scene.settle(&mut roster), [REST]);
    scene.queued.set(1);
    let soon = Step::Rest(Deadline::at_nanos(1 + 100));
    assert_eq!(scene.settle(&mut roster), [start(0, 1), soon]);
    // Somebody is on the way.
    let soon = Step::Rest(Deadline::at_nanos(1 + 100));
    assert_eq!(scene.settle(&mut roster), [soon]);
    scene.queued.set(9);
    let soon = Step::Rest(Deadline::at_nanos(1 + 100));
    assert_eq!(scene.settle(&mut roster), [start(1, 2), start(2, 3), soon]);
    assert!(!roster.may_grow());
    scene.queued.set(0);
    scene.now.set(1000);
    scene.set(0, Seen::Busy);
    scene.set(1, Seen::Idle { since: 900 });
    scene.set(2, Seen::Idle { since: 950 });
    let rest = Step::Rest(Deadline::at_nanos(1050));
    assert_eq!(scene.settle(&mut roster), [Step::Retire(1), rest]);
    // It is not missed.
    assert_eq!(scene.gone(&mut roster, 1, false), Verdict::GoOn);
    scene.now.set(1050);
    let rest = Step::Rest(Deadline::at_nanos(1150));
    assert_eq!(scene.settle(&mut roster), [Step::Retire(2), rest]);
}

#[test]
fn what_stays_queued_is_looked_at_again() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(Rules { workers: 1..=2, ..rules() }, 4));
    scene.settle(&mut roster);
    scene.set(0, IDLE);
    scene.queued.set(1);
    let [Step::Rest(until)] = scene.settle(&mut roster)[..] else { panic!("somebody is free") };
    scene.now.set(until.as_nanos());
    // It was free for another one.
    scene.set(0, Seen::Busy);
    assert!(scene.settle(&mut roster).contains(&start(1, 2)));
}

#[test]
fn it_takes_on_another_size() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    scene.set(0, IDLE);
    scene.set(1, Seen::Busy);
    roster.resize(3..=3);
    assert_eq!(scene.settle(&mut roster), [start(2, 3), REST]);
    roster.resize(1..=1);
    assert_eq!(scene.settle(&mut roster), [Step::Retire(0), Step::Retire(2), REST]);
    assert_eq!(roster.count(), 1);
    // All seats are taken: who retires makes room.
    roster.resize(4..=4);
    assert_eq!(scene.settle(&mut roster), [start(3, 4), REST]);
    assert_eq!(scene.gone(&mut roster, 0, false), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [start(0, 5), REST]);
}

#[test]
fn the_end_comes() {
    let (scene, mut roster) = (Scene::new(4), Roster::new(rules(), 4));
    scene.settle(&mut roster);
    scene.set(0, Seen::Busy);
    roster.end(Deadline::NEVER);
    assert_eq!(scene.settle(&mut roster), [REST]);
    let grace = Deadline::at_nanos(500);
    roster.end(grace);
    roster.end(Deadline::NEVER);
    assert_eq!(scene.settle(&mut roster), [Step::Rest(grace)], "it is not put off");
    assert_eq!(scene.gone(&mut roster, 1, false), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [Step::Rest(grace)], "nobody is started any more");
    scene.now.set(500);
    assert_eq!(scene.settle(&mut roster), [Step::Kill(0), REST]);
    assert_eq!(scene.gone(&mut roster, 0, true), Verdict::GoOn);
    assert_eq!(scene.settle(&mut roster), [Step::Over]);
}
