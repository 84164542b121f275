//! Random programs of calls, against a sequential model: by one process, by several in turn, by several at the same time, and
//! with deaths in between.
//!
//! `cargo test --test programs`. More of them: `PROPTEST_CASES=10000 cargo test --release --test programs`. A program that
//! goes wrong is printed, with what each call answered; where calls overlap, a run of it again may go well.

mod actors;
mod history;
mod model;
mod subject;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use procession::Queue;
use procession::memory::arena;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use actors::{Log, run_in_turn, run_together};
use history::Call;
use model::{Model, Op, Patience, Reply, Setting};
use subject::Subject;

/// How many processes there are at most.
const ACTORS: usize = 3;

fn main() -> ExitCode {
    // More programs take more time.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let limit = Duration::from_secs(120 + cases.unwrap_or(0) / 2);
    support::run_within(
        limit,
        &[
            ("one_process", one_process),
            ("several_in_turn", several_in_turn),
            ("several_at_a_time", several_at_a_time),
            ("with_deaths", with_deaths),
        ],
    )
}

/// Runs `test` with so many programs by chance, or as many as PROPTEST_CASES says.
fn with_cases<S: Strategy>(
    cases: u32,
    programs: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: std::fmt::Debug,
{
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if let Err(error) = TestRunner::new(config).run(&programs, test) {
        panic!("{error}");
    }
}

fn patience() -> impl Strategy<Value = Patience> {
    prop_oneof![6 => Just(Patience::None), 1 => Just(Patience::Some)]
}

/// A call. The numbers of objects are given out later.
fn op() -> impl Strategy<Value = Op> {
    // In the message, in a block, in a block of several pages.
    let bytes = prop_oneof![4 => 0..60usize, 2 => 100..3000usize, 1 => Just(20_000)];
    prop_oneof![
        8 => (bytes, patience()).prop_map(|(bytes, wait)| Op::Put { number: 0, bytes, wait }),
        8 => patience().prop_map(|wait| Op::Get { wait }),
        2 => Just(Op::Size),
        1 => Just(Op::Close),
    ]
}

/// Gives each object that is put a number of its own.
fn number<'p>(ops: impl Iterator<Item = &'p mut Op>) {
    let mut next = 0;
    for op in ops {
        if let Op::Put { number, .. } = op {
            next += 1;
            *number = next;
        }
    }
}

fn subject(capacity: usize) -> Subject {
    Subject::Queue(Queue::bounded(capacity).unwrap())
}

/// One call after the other, each with the only right answer.
fn check_in_turn(capacity: usize, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut model = Model::new(Setting::Alone, capacity);
    for (at, call) in calls.iter().enumerate() {
        let Some((_, reply)) = &call.end else { panic!("a call without an end") };
        match model.after(&call.op, Some(reply)).pop() {
            Some(next) => model = next,
            None => {
                let history = history::show(calls);
                return Err(TestCaseError::fail(format!(
                    "call {at} of a queue of {capacity} cannot answer that; it is {model:?}:\n{history}"
                )));
            }
        }
    }
    Ok(())
}

fn one_process() {
    let program = (1..9usize, prop::collection::vec(op(), 0..100));
    with_cases(300, program, |(capacity, mut ops)| {
        number(ops.iter_mut());
        let (subject, count) = (subject(capacity), ops.len());
        let log = Log::new(&[ops]);
        for at in 0..count {
            log.perform(&subject, 0, at);
        }
        check_in_turn(capacity, &log.calls())
    });
}

fn several_in_turn() {
    let program = (1..9usize, prop::collection::vec((0..ACTORS, op()), 0..60));
    with_cases(100, program, |(capacity, mut ops)| {
        number(ops.iter_mut().map(|(_, op)| op));
        check_in_turn(capacity, &run_in_turn(&subject(capacity), ACTORS, &ops))
    });
}

/// A program for each process, and a seed for what they do between two calls.
fn programs() -> impl Strategy<Value = (usize, Vec<Vec<Op>>, u64)> {
    let program = prop::collection::vec(op(), 1..10);
    (1..5usize, prop::collection::vec(program, 2..=ACTORS), any::<u64>())
}

fn several_at_a_time() {
    with_cases(150, programs(), |(capacity, programs, seed)| {
        check_together(capacity, programs, seed, &[])
    });
}

fn with_deaths() {
    let deaths = prop::collection::vec((0..ACTORS, 0..60u64), 1..=2);
    with_cases(250, (programs(), deaths), |((capacity, programs, seed), mut deaths)| {
        deaths.iter_mut().for_each(|(victim, _)| *victim %= programs.len());
        deaths.sort_by_key(|(_, micros)| *micros);
        deaths.dedup_by_key(|(victim, _)| *victim);
        check_together(capacity, programs, seed, &deaths)
    });
}

/// Runs the programs at the same time, and afterwards takes stock.
fn check_together(
    capacity: usize,
    mut programs: Vec<Vec<Op>>,
    seed: u64,
    deaths: &[(usize, u64)],
) -> Result<(), TestCaseError> {
    number(programs.iter_mut().flatten());
    let subject = subject(capacity);
    let mut calls = run_together(&subject, &programs, seed, deaths);
    take_stock(&subject, capacity, &mut calls);
    if !history::is_in_order(&Model::new(Setting::Together, capacity), &calls) {
        let history = history::show(&calls);
        return Err(TestCaseError::fail(format!(
            "no queue of {capacity} can have done that:\n{history}"
        )));
    }
    // What nobody will get takes no room.
    drop(subject);
    arena().unwrap().sweep();
    let usage = arena().unwrap().region().usage();
    prop_assert_eq!((usage.queued, usage.damaged), (0, 0), "blocks are left over: {:?}", usage);
    Ok(())
}

/// Who is left gets all that is there, and then sees that there is as much room as ever.
fn take_stock(subject: &Subject, capacity: usize, calls: &mut Vec<Call>) {
    let mut now = calls
        .iter()
        .map(|call| call.end.as_ref().map_or(call.begin, |end| end.0))
        .max()
        .unwrap_or(0);
    let mut call = |op: Op| {
        let reply = subject.perform(&op);
        calls.push(Call { actor: 9, op, begin: now + 1, end: Some((now + 2, reply.clone())) });
        now += 2;
        reply
    };
    let get = Op::Get { wait: Patience::None };
    while matches!(call(get.clone()), Reply::Got(_)) {}
    for number in 0..=capacity as u64 {
        call(Op::Put { number: 1000 + number, bytes: 0, wait: Patience::None });
    }
    call(get.clone());
    call(get);
}
