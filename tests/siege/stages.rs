//! Crashing, exiting, panicking and failing, each while a task is sent, decoded, run and answered: none hangs, and each fails
//! its own task alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use procession::futures::ProcessPoolExecutor;
use procession::pool::{Part, Pool, PoolError, TaskError};
use rustix::process::Signal;

use crate::charge::{Answer, Charge, DEEDS, Deed, STATUS, Stage, carry};
use crate::support::words::Words;
use crate::support::{Child, LONG, eventually};

/// The stages that a worker goes through.
const WORKERS_STAGES: [Stage; 3] = [Stage::Decoded, Stage::Run, Stage::Answered];

/// What a pool has to say about a task.
type Outcome = Result<Result<Answer, String>, TaskError>;

/// All deeds at all stages that leave the caller alive. (Its own panic goes its own way, see [`callers`].)
fn deeds() -> impl Iterator<Item = (Deed, Stage)> {
    let workers = WORKERS_STAGES.into_iter().flat_map(|stage| DEEDS.map(|deed| (deed, stage)));
    workers.chain([
        (Deed::Fail, Stage::Sent),
        (Deed::Panic, Stage::Collected),
        (Deed::Fail, Stage::Collected),
    ])
}

/// That this is what becomes of a task with this deed.
fn expect(deed: Option<(Deed, Stage)>, number: u64, outcome: &Outcome) {
    let good = match (deed, outcome) {
        (None, Ok(Ok(answer))) => *answer == Answer(Charge::harmless(number)),
        (Some((Deed::Crash, _)), Err(TaskError::WorkerDied { signal, code, pid, attempt, .. })) => {
            (*signal, *code, *attempt) == (Some(Signal::KILL.as_raw()), None, 1) && *pid > 1
        }
        (Some((Deed::Exit, _)), Err(TaskError::WorkerDied { signal, code, pid, attempt, .. })) => {
            (*signal, *code, *attempt) == (None, Some(STATUS), 1) && *pid > 1
        }
        (
            Some((Deed::Panic, Stage::Decoded | Stage::Run | Stage::Answered)),
            Err(TaskError::Panicked { message, pid, location, .. }),
        ) => message == "as it was to" && *pid > 1 && location.is_some(),
        // What a type says when it refuses is not among the errors that postcard has.
        (Some((Deed::Fail, Stage::Answered)), Err(TaskError::Encode { .. })) => true,
        (Some((Deed::Fail, Stage::Sent)), Err(TaskError::Input { .. })) => true,
        (
            Some((Deed::Fail, Stage::Decoded)),
            Err(TaskError::Decode { what: Part::Arguments, .. }),
        ) => true,
        (
            Some((Deed::Panic | Deed::Fail, Stage::Collected)),
            Err(TaskError::Decode { what: Part::Result, .. }),
        ) => true,
        (Some((Deed::Fail, Stage::Run)), Ok(Err(message))) => message == "as it was to",
        _ => false,
    };
    assert!(good, "{deed:?}, task {number}: {outcome:?}");
}

/// That a pool is as good as new.
fn works(pool: &Pool, workers: usize) {
    let answers = pool.map(carry, (0..100).map(Charge::harmless)).unwrap();
    let expected: Vec<_> = (0..100).map(|number| Ok(Answer(Charge::harmless(number)))).collect();
    assert_eq!(answers, expected);
    eventually("all workers are there again", || pool.workers().len() == workers);
}

pub fn alone() {
    for workers in [1, 2] {
        let pool = Pool::new(workers).unwrap();
        for (deed, stage) in deeds() {
            let charge = Charge { number: 7, deed: Some((deed, stage)) };
            // Others before, at the same time and behind.
            let others = |from: u64| {
                (from..from + 5)
                    .map(|number| {
                        (number, pool.apply_async(carry, (Charge::harmless(number),)).unwrap())
                    })
                    .collect::<Vec<_>>()
            };
            let mut all = others(0);
            let sent = pool.apply_async(carry, (charge,));
            all.extend(others(5));
            match sent {
                Ok(task) => expect(charge.deed, 7, &task.get_timeout(LONG)),
                Err(PoolError::Encode { message }) => {
                    assert!(stage == Stage::Sent, "{deed:?} while {stage:?}: {message}");
                }
                Err(error) => panic!("{deed:?} while {stage:?}: {error}"),
            }
            for (number, task) in all {
                expect(None, number, &task.get_timeout(LONG));
            }
        }
        works(&pool, workers);
    }
}

/// So many items has a map, and this one is bad.
const ITEMS: u64 = 60;
const BAD: u64 = 23;

fn items(deed: (Deed, Stage)) -> impl Iterator<Item = Charge> + Send + 'static {
    (0..ITEMS).map(move |number| Charge { number, deed: (number == BAD).then_some(deed) })
}

pub fn in_a_map() {
    for workers in [1, 2] {
        let pool = Pool::new(workers).unwrap();
        for deed in deeds() {
            for chunk in [Some(1), Some(10), None] {
                let tasks = pool.tasks(carry, items(deed));
                let tasks = match chunk {
                    Some(size) => tasks.chunk_size(size),
                    None => tasks,
                };
                // The first error, when all are done; what the function returns is none.
                match tasks.map() {
                    Ok(answers) => {
                        assert_eq!(answers.len() as u64, ITEMS);
                        expect(Some(deed), BAD, &Ok(answers[BAD as usize].clone()));
                    }
                    Err(error) => expect(Some(deed), BAD, &Err(error)),
                }
            }
        }
        works(&pool, workers);
    }
}

pub fn in_an_iterator() {
    for workers in [1, 2] {
        let pool = Pool::new(workers).unwrap();
        for deed in deeds() {
            for chunk in [1, 10] {
                let tasks = || pool.tasks(carry, items(deed)).chunk_size(chunk);
                let mut all = tasks().imap().unwrap();
                for number in 0..ITEMS {
                    let outcome = all.next_timeout(LONG).expect("an item for each");
                    expect((number == BAD).then_some(deed), number, &outcome);
                }
                assert!(all.next().is_none());
                let mut bad = 0;
                let mut left: Vec<u64> = (0..ITEMS).collect();
                for outcome in tasks().imap_unordered().unwrap() {
                    match outcome {
                        Ok(Ok(Answer(Charge { number, .. }))) if number != BAD => {
                            left.retain(|&other| other != number);
                        }
                        outcome => {
                            expect(Some(deed), BAD, &outcome);
                            bad += 1;
                        }
                    }
                }
                assert_eq!((bad, left.as_slice()), (1, [BAD].as_slice()), "{deed:?}");
            }
        }
        works(&pool, workers);
    }
}

pub fn futures() {
    let executor = ProcessPoolExecutor::builder().max_workers(2).build().unwrap();
    for (deed, stage) in deeds() {
        let submit = |charge| executor.submit(carry, (charge,));
        let before = submit(Charge::harmless(1)).unwrap();
        let charge = Charge { number: 7, deed: Some((deed, stage)) };
        let sent = submit(charge);
        let behind = submit(Charge::harmless(2)).unwrap();
        match sent {
            Ok(future) => expect(charge.deed, 7, &future.result_timeout(LONG)),
            Err(PoolError::Encode { message }) => assert!(stage == Stage::Sent, "{message}"),
            Err(error) => panic!("{deed:?} while {stage:?}: {error}"),
        }
        expect(None, 1, &before.result_timeout(LONG));
        expect(None, 2, &behind.result_timeout(LONG));
    }
}

/// Who dies while it encodes an argument takes its pool along, and nobody else.
pub fn callers() {
    for deed in [Deed::Crash, Deed::Exit, Deed::Panic] {
        for map in [false, true] {
            let workers = Words::new(3);
            let caller = Child::start(|| {
                let pool = Pool::new(2).unwrap();
                for (at, worker) in pool.workers().iter().enumerate() {
                    workers.set(at, worker.pid.into());
                }
                let send = || {
                    if map {
                        pool.map(carry, items((deed, Stage::Sent))).map(drop).map_err(drop)
                    } else {
                        let charge = Charge { number: 7, deed: Some((deed, Stage::Sent)) };
                        pool.apply(carry, (charge,)).map(drop).map_err(drop)
                    }
                };
                // A panic is the caller's own, and the pool is none the worse.
                assert!(catch_unwind(AssertUnwindSafe(send)).is_err());
                works(&pool, 2);
                workers.set(2, 1);
            });
            eventually("the caller ends", || caller.has_ended());
            let survived = workers.get(2) == 1;
            assert_eq!(survived, deed == Deed::Panic, "{deed:?}");
            if deed == Deed::Crash {
                assert_eq!(caller.ends_by(), Some(Signal::KILL.as_raw()));
            }
            for at in 0..2 {
                let pid = workers.get(at) as u32;
                assert!(pid != 0);
                eventually("the workers are gone", || crate::gone(pid));
            }
        }
    }
}
