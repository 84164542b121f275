//! The life of a pool: whoever was told that its task is accepted is waited for, one caller is told that nothing is left,
//! and phases only go forward.

use std::sync::Arc;

use loom::thread;
use procession_core::pool::{Closing, Phase, Refused, State};
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::explore;

/// Hands in a task and finishes it; whether it was accepted, and whether it was told to be the last.
fn task(state: &State) -> (bool, bool) {
    match state.begin(1) {
        Ok(()) => (true, state.over(1)),
        Err(Refused::Phase(phase)) => {
            assert!(phase > Phase::Run);
            (false, false)
        }
        Err(Refused::Full) => panic!("there are few tasks"),
    }
}

#[test]
fn one_is_told_that_a_closed_pool_is_idle() {
    explore(Sleeps::Endless, 3, || {
        let state = Arc::new(State::new());
        let tasks = [(); 2].map(|()| {
            let state = Arc::clone(&state);
            thread::spawn(move || task(&state))
        });
        let closed = state.close();
        let told = tasks.map(|task| task.join().unwrap().1);
        let last = told.into_iter().filter(|last| *last).count();
        // A task that is begun and over before it is closed ends nothing.
        assert_eq!(last + usize::from(closed == Closing::Idle), 1);
        assert_eq!(state.pending(), 0);
        assert!(state.end());
    });
}

#[test]
fn nothing_is_accepted_once_a_pool_is_closed() {
    explore(Sleeps::Endless, None, || {
        let state = Arc::new(State::new());
        let closer = thread::spawn({
            let state = Arc::clone(&state);
            move || {
                state.close();
                state.pending()
            }
        });
        let accepted = state.begin(1).is_ok();
        let counted = closer.join().unwrap();
        assert!(state.begin(1).is_err());
        // Whoever closes counts what was accepted before.
        assert_eq!(counted, u32::from(accepted));
    });
}

/// Close, terminate and break at the same time: each step is one caller's, and the furthest stands.
#[test]
fn phases_only_go_forward() {
    explore(Sleeps::Endless, 3, || {
        let state = Arc::new(State::new());
        let others = [State::terminate, State::break_down].map(|step| {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let before = state.phase();
                let answer = step(&state);
                assert!(state.phase() >= before);
                answer
            })
        });
        let closed = state.close();
        let [terminated, broken] = others.map(|other| other.join().unwrap());
        assert_eq!(terminated, Closing::Idle, "nothing goes further");
        assert!(matches!(broken, Closing::Idle | Closing::Already(Phase::Terminating)));
        assert!(matches!(
            closed,
            Closing::Idle | Closing::Already(Phase::Broken | Phase::Terminating)
        ));
        assert_eq!(state.phase(), Phase::Terminating);
    });
}

/// Two threads join a pool while another one's last task ends: one of them ends it, and only when nothing is pending.
#[test]
fn one_ends_a_pool() {
    explore(Sleeps::Endless, 3, || {
        let state = Arc::new(State::new());
        state.begin(1).unwrap();
        assert_eq!(state.close(), Closing::Pending);
        let ends = [(); 2].map(|()| {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let ended = state.end();
                assert!(!ended || state.pending() == 0);
                ended
            })
        });
        assert!(state.over(1));
        let ended = ends.into_iter().filter(|_| true).map(|end| end.join().unwrap());
        let ended = ended.filter(|ended| *ended).count() + usize::from(state.end());
        assert_eq!(ended, 1);
        assert_eq!(state.phase(), Phase::Ended);
    });
}

/// A pool breaks while a task is handed in and another one joins: the task is refused, or counted by who ends it.
#[test]
fn a_broken_pool_ends_after_its_tasks() {
    explore(Sleeps::Endless, 3, || {
        let state = Arc::new(State::new());
        let submitter = thread::spawn({
            let state = Arc::clone(&state);
            move || task(&state).0
        });
        let joiner = thread::spawn({
            let state = Arc::clone(&state);
            move || state.end()
        });
        state.break_down();
        let ended = joiner.join().unwrap();
        let accepted = submitter.join().unwrap();
        assert!(state.phase() == if ended { Phase::Ended } else { Phase::Broken });
        assert_eq!(state.pending(), 0, "{accepted}");
    });
}

/// The model sees it if a task is accepted by a look that the closing does not count.
#[test]
#[should_panic(expected = "nobody was told")]
fn a_look_is_not_enough_to_be_accepted() {
    explore(Sleeps::Endless, None, || {
        let state = Arc::new(State::new());
        let submitter = thread::spawn({
            let state = Arc::clone(&state);
            move || state.phase().accepts()
        });
        let closed = state.close();
        let accepted = submitter.join().unwrap();
        assert!(!accepted || closed == Closing::Pending, "nobody was told");
    });
}

/// What a task leaves behind is there for whoever is told that it was the last.
#[test]
fn what_tasks_leave_behind_is_there_for_the_last() {
    explore(Sleeps::Endless, None, || leave_behind());
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_what_tasks_leave_behind_may_not_be_there() {
    explore(Sleeps::Endless, None, || {
        model::mutate(Mutation::NoOrder);
        leave_behind();
    });
}

fn leave_behind() {
    struct Shared(State, [loom::cell::UnsafeCell<u32>; 2]);
    // SAFETY: each cell is one thread's until its task is over, and then that of who is told to be the last.
    unsafe impl Sync for Shared {}
    // SAFETY: numbers have no tie to a thread.
    unsafe impl Send for Shared {}
    let cells = [(); 2].map(|()| loom::cell::UnsafeCell::new(0));
    let shared = Arc::new(Shared(State::new(), cells));
    shared.0.begin(2).unwrap();
    assert_eq!(shared.0.close(), Closing::Pending);
    let end = |shared: &Shared, own: usize| {
        // SAFETY: this thread's, until its task is over.
        shared.1[own].with_mut(|place| unsafe { *place = 1 });
        if shared.0.over(1) {
            // SAFETY: both tasks are over.
            let sum: u32 = shared.1.iter().map(|cell| cell.with(|place| unsafe { *place })).sum();
            assert_eq!(sum, 2);
        }
    };
    let other = thread::spawn({
        let shared = Arc::clone(&shared);
        move || end(&shared, 1)
    });
    end(&shared, 0);
    other.join().unwrap();
}
