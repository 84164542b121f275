//! Processes that run programs, and write down what they call and what they are told, where it outlives them.

use std::time::Instant;

use crate::history::Call;
use crate::model::{Op, Reply};
use crate::subject::{Hand, Subject};
use crate::support::random::Random;
use crate::support::words::Words;
use crate::support::{Child, LONG, Word};

/// Words for each call: its begin, its end, the length of the answer, and the answer.
const RECORD: usize = 64;

/// What was called and answered. The moments are numbers that all count together.
pub struct Log {
    clock: Word,
    /// Of each actor: its calls.
    records: Vec<(Words, Vec<Op>)>,
}

impl Log {
    /// For these programs, one for each actor.
    pub fn new(programs: &[Vec<Op>]) -> Log {
        let records =
            |program: &Vec<Op>| (Words::new(RECORD * program.len().max(1)), program.clone());
        Log { clock: Word::new(), records: programs.iter().map(records).collect() }
    }

    /// Makes one call of an actor, and writes it down.
    pub fn perform(&self, subject: &Subject, hand: &Hand, actor: usize, at: usize) -> Reply {
        let (words, program) = &self.records[actor];
        words.set(at * RECORD, self.clock.add(1) + 1);
        let reply = subject.perform(&program[at], hand);
        let mut bytes = postcard::to_stdvec(&reply).unwrap();
        words.set(at * RECORD + 2, bytes.len() as u64);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        for (word, bytes) in bytes.chunks_exact(8).enumerate() {
            words.set(at * RECORD + 3 + word, u64::from_le_bytes(bytes.try_into().unwrap()));
        }
        words.set(at * RECORD + 1, self.clock.add(1) + 1);
        reply
    }

    /// All calls that were begun.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for (actor, (words, program)) in self.records.iter().enumerate() {
            for (at, op) in program.iter().enumerate() {
                let word = |word| words.get(at * RECORD + word);
                if word(0) == 0 {
                    break;
                }
                let bytes: Vec<u8> = (3..RECORD).flat_map(|at| word(at).to_le_bytes()).collect();
                let reply = || postcard::from_bytes(&bytes[..word(2) as usize]).unwrap();
                let end = (word(1) != 0).then(|| (word(1), reply()));
                calls.push(Call { actor, op: op.clone(), begin: word(0), end });
            }
        }
        calls
    }
}

/// A process for each program. All begin together, and some are killed in the midst of it: (who, after how many microseconds).
/// Returns what they did.
pub fn run_together(
    subject: &Subject,
    programs: &[Vec<Op>],
    seed: u64,
    deaths: &[(usize, u64)],
) -> Vec<Call> {
    let log = Log::new(programs);
    let (there, go) = (Word::new(), Word::new());
    let actors: Vec<Child> = (0..programs.len())
        .map(|actor| {
            Child::start(|| {
                let subject = subject.travelled();
                let hand = Hand::default();
                let mut random = Random::new(seed ^ actor as u64);
                there.count();
                spin_until(go, 1);
                for at in 0..programs[actor].len() {
                    log.perform(&subject, &hand, actor, at);
                    random.dawdle();
                }
            })
        })
        .collect();
    there.wait_for(programs.len() as u64);
    go.set(1);
    let begin = Instant::now();
    for (victim, micros) in deaths {
        while begin.elapsed().as_micros() < u128::from(*micros) {
            std::hint::spin_loop();
        }
        actors[*victim].kill();
    }
    for (actor, child) in actors.into_iter().enumerate() {
        match deaths.iter().any(|(victim, _)| *victim == actor) {
            true => drop(child),
            false => child.finish(),
        }
    }
    log.calls()
}

/// A process for each actor; the steps of a program are done by one of them each, one after the other.
pub fn run_in_turn(subject: &Subject, actors: usize, program: &[(usize, Op)]) -> Vec<Call> {
    let log = Log::new(&[program.iter().map(|(_, op)| op.clone()).collect()]);
    let turn = Word::new();
    let children: Vec<Child> = (0..actors)
        .map(|actor| {
            Child::start(|| {
                let (subject, hand) = (subject.travelled(), Hand::default());
                for (at, _) in program.iter().enumerate().filter(|(_, (who, _))| *who == actor) {
                    spin_until(turn, at as u64);
                    log.perform(&subject, &hand, 0, at);
                    turn.set(at as u64 + 1);
                }
                // What it has in hand it keeps until all have ended.
                spin_until(turn, program.len() as u64);
            })
        })
        .collect();
    children.into_iter().for_each(Child::finish);
    let mut calls = log.calls();
    for (call, (actor, _)) in calls.iter_mut().zip(program) {
        call.actor = *actor;
    }
    calls
}

/// Waits without sleeping.
fn spin_until(word: Word, value: u64) {
    let deadline = Instant::now() + LONG;
    while word.get() != value {
        std::thread::yield_now();
        assert!(Instant::now() < deadline, "the others do not come");
    }
}
