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

use procession::memory::arena;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use actors::{Log, run_in_turn, run_together};
use history::Call;
use model::{Model, Op, Patience, Policy, Reply, Setting};
use subject::{Hand, Kind, Subject};

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

/// A call that this kind of queue has. The numbers of objects are given out later.
fn op(kind: Kind) -> impl Strategy<Value = Op> {
    // In the message, in a block, in a block of several pages.
    let bytes = prop_oneof![4 => 0..60usize, 2 => 100..3000usize, 1 => Just(20_000)];
    let put = (bytes, patience()).prop_map(|(bytes, wait)| Op::Put { number: 0, bytes, wait });
    let get = patience().prop_map(|wait| Op::Get { wait });
    let all: Vec<(u32, BoxedStrategy<Op>)> = vec![
        (12, put.boxed()),
        (12, get.boxed()),
        (6, patience().prop_map(|wait| Op::Take { wait }).boxed()),
        (6, any::<bool>().prop_map(|done| Op::Settle { done }).boxed()),
        (6, Just(Op::TaskDone).boxed()),
        (3, Just(Op::Peek).boxed()),
        (3, Just(Op::Size).boxed()),
        (3, Just(Op::Join).boxed()),
        (1, Just(Op::Close).boxed()),
        (1, Just(Op::Shutdown).boxed()),
    ];
    let samples = [
        Op::Put { number: 0, bytes: 0, wait: Patience::None },
        Op::Get { wait: Patience::None },
        Op::Take { wait: Patience::None },
        Op::Settle { done: true },
        Op::TaskDone,
        Op::Peek,
        Op::Size,
        Op::Join,
        Op::Close,
        Op::Shutdown,
    ];
    let has = all.into_iter().zip(samples).filter(|(_, sample)| kind.has(sample));
    proptest::strategy::Union::new_weighted(has.map(|(weighted, _)| weighted).collect())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&Kind::ALL[..])
}

/// A kind of queue, a capacity, and some of what `part` makes of the kind's calls.
fn program<P: Strategy>(
    most: usize,
    part: impl Fn(BoxedStrategy<Op>) -> P + Clone + 'static,
) -> impl Strategy<Value = (Kind, usize, Vec<P::Value>)>
where
    P: 'static,
    P::Value: Clone,
{
    kind().prop_flat_map(move |kind| {
        let parts = prop::collection::vec(part(op(kind).boxed()), 1..most);
        (Just(kind), 1..7usize, parts)
    })
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

/// One call after the other, each with the only right answer.
fn check_in_turn(kind: Kind, capacity: usize, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut model = Model::new(kind.rules(Setting::Alone, capacity), &[]);
    for (at, call) in calls.iter().enumerate() {
        let Some((_, reply)) = &call.end else { panic!("a call without an end") };
        match model.after(call.actor, &call.op, Some(reply)).pop() {
            Some(next) => model = next,
            None => {
                let history = history::show(calls);
                return Err(TestCaseError::fail(format!(
                    "call {at} cannot answer that; the queue is {model:?}:\n{history}"
                )));
            }
        }
    }
    Ok(())
}

fn one_process() {
    with_cases(500, program(100, |op| op), |(kind, capacity, mut ops)| {
        number(ops.iter_mut());
        let (subject, hand, count) = (kind.make(capacity), Hand::default(), ops.len());
        let log = Log::new(&[ops]);
        for at in 0..count {
            log.perform(&subject, &hand, 0, at);
        }
        check_in_turn(kind, capacity, &log.calls())
    });
}

fn several_in_turn() {
    let part = |op| (0..ACTORS, op);
    with_cases(150, program(60, part), |(kind, capacity, mut ops)| {
        number(ops.iter_mut().map(|(_, op)| op));
        check_in_turn(kind, capacity, &run_in_turn(&kind.make(capacity), ACTORS, &ops))
    });
}

/// A program for each process, and a seed for what they do between two calls.
fn programs() -> impl Strategy<Value = (Kind, usize, Vec<Vec<Op>>, u64)> {
    let part = |op| prop::collection::vec(op, 1..10);
    (program(ACTORS + 1, part), any::<u64>())
        .prop_map(|((kind, capacity, programs), seed)| (kind, capacity, programs, seed))
}

fn several_at_a_time() {
    with_cases(150, programs(), |programs| check_together(programs, &[]));
}

fn with_deaths() {
    let deaths = prop::collection::vec((0..ACTORS, 0..60u64), 1..=2);
    with_cases(250, (programs(), deaths), |(programs, mut deaths)| {
        deaths.iter_mut().for_each(|(victim, _)| *victim %= programs.2.len());
        deaths.sort_by_key(|(_, micros)| *micros);
        deaths.dedup_by_key(|(victim, _)| *victim);
        check_together(programs, &deaths)
    });
}

/// Runs the programs at the same time, and afterwards takes stock.
fn check_together(
    (kind, capacity, mut programs, seed): (Kind, usize, Vec<Vec<Op>>, u64),
    deaths: &[(usize, u64)],
) -> Result<(), TestCaseError> {
    number(programs.iter_mut().flatten());
    for program in &mut programs {
        // Nobody leaves with something in hand, unless it dies.
        let taken = program.iter().filter(|op| matches!(op, Op::Take { .. })).count();
        program.extend(vec![Op::Settle { done: false }; taken]);
    }
    let queued = || {
        arena().unwrap().sweep();
        arena().unwrap().region().usage().queued
    };
    let before = queued();
    let subject = kind.make(capacity);
    let mut calls = run_together(&subject, &programs, seed, deaths);
    take_stock(kind, &subject, capacity, &mut calls);
    let rules = kind.rules(Setting::Together, capacity);
    // What was got and not said to be done is unfinished when its process ends.
    let mortals: Vec<usize> = match rules.joinable {
        true => (0..programs.len()).collect(),
        false => deaths.iter().map(|(victim, _)| *victim).collect(),
    };
    if !history::is_in_order(&Model::new(rules, &mortals), &calls) {
        let history = history::show(&calls);
        return Err(TestCaseError::fail(format!(
            "no {kind:?} of {capacity} can have done that:\n{history}"
        )));
    }
    // What nobody will get takes no room.
    drop(subject);
    let after = queued();
    prop_assert!(
        after <= before,
        "{} blocks of {kind:?} are left over:\n{}",
        after - before,
        history::show(&calls)
    );
    Ok(())
}

/// Who is left gets all that is there, and then sees that there is as much room as ever.
fn take_stock(kind: Kind, subject: &Subject, capacity: usize, calls: &mut Vec<Call>) {
    let last = calls.iter().map(|call| call.end.as_ref().map_or(call.begin, |end| end.0)).max();
    let (mut now, hand) = (last.unwrap_or(0), Hand::default());
    let mut call = |op: Op| {
        let reply = subject.perform(&op, &hand);
        let end = Some((now + 2, reply.clone()));
        calls.push(Call { actor: ACTORS, op, begin: now + 1, end });
        now += 2;
        reply
    };
    // Those that keep what the dead had need a moment to find it.
    let patience = match kind.rules(Setting::Together, capacity).policy {
        Policy::Gone => Patience::None,
        _ => Patience::Much,
    };
    let get_all = |call: &mut dyn FnMut(Op) -> Reply, wait| {
        while matches!(call(Op::Get { wait }), Reply::Got(_)) {
            if kind.has(&Op::TaskDone) {
                call(Op::TaskDone);
            }
        }
    };
    get_all(&mut call, patience);
    for number in 0..=capacity as u64 {
        call(Op::Put { number: 1000 + number, bytes: 0, wait: Patience::None });
    }
    get_all(&mut call, Patience::None);
    if kind.has(&Op::Join) {
        call(Op::Join);
    }
}
