//! Plays an operation's takes, as many at once as there are CPUs, and adds up what they report.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity};

use super::child::{Child, Ending, wait_any};
use super::operation::Operation;
use super::take::{Aim, Report, Take};
use super::tracee::Moment;

/// How thorough to be.
#[derive(Clone, Copy)]
pub struct Depth {
    /// At most so many first deaths for each operation.
    pub kills: usize,
    /// At most so many first deaths that are followed by a second one.
    pub firsts: usize,
    /// At most so many second deaths for each of those.
    pub seconds: usize,
}

impl Depth {
    /// For each run: every instruction once, some of those in loops left out.
    pub const SHORT: Depth = Depth { kills: 80, firsts: 7, seconds: 9 };
    /// Everything.
    pub const FULL: Depth = Depth { kills: usize::MAX, firsts: usize::MAX, seconds: usize::MAX };
}

/// So many stuck survivors show that something is wrong.
const ENOUGH: u32 = 6;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    /// Instructions from begin to end.
    pub steps: u64,
    /// Moments at which the operation could be killed.
    pub moments: usize,
    /// Takes with a death, or two.
    pub kills: usize,
    /// Takes in which somebody did not come to the moment at which it was to be killed.
    pub strayed: usize,
    pub stuck: u32,
    /// The most that one take has lost.
    pub lost: u32,
    /// The most that one death may lose.
    pub may_lose: u32,
    /// Whether a take has lost more than its deaths may.
    pub lost_more: bool,
    pub torn: u32,
    pub doubled: u32,
    /// What went wrong where.
    pub notes: Vec<String>,
    pub seconds: f64,
}

impl Row {
    /// Whether most kills came at another moment than they were meant for: on a busy machine sleeps end differently.
    pub fn has_missed(&self) -> bool {
        self.strayed * 2 > self.kills
    }

    /// The head of the table.
    pub const TITLE: &str = "operation                 steps  moments  kills  strays  stuck  lost (may)  torn  doubled  seconds";

    /// Which promises were broken: stuck, lost, torn, doubled.
    pub fn faults(&self) -> [bool; 4] {
        [self.stuck > 0, self.lost_more, self.torn > 0, self.doubled > 0]
    }

    /// The row as a JSON object.
    pub fn json(&self) -> String {
        let Row { name, steps, kills, stuck, lost, may_lose, torn, doubled, .. } = self;
        format!(
            "  {{\"operation\": \"{name}\", \"steps\": {steps}, \"kills\": {kills}, \
             \"stuck\": {stuck}, \"lost\": {lost}, \"may_lose\": {may_lose}, \
             \"torn\": {torn}, \"doubled\": {doubled}}}"
        )
    }

    fn add(&mut self, report: &Report, deaths: &[Moment], may_lose: u32) {
        self.kills += 1;
        self.strayed += usize::from(report.strayed);
        self.stuck += report.stuck;
        self.lost = self.lost.max(report.lost);
        self.lost_more |= report.lost > may_lose;
        self.torn += report.torn;
        self.doubled += report.doubled;
        let Report { stuck, lost, torn, doubled, .. } = *report;
        if stuck + torn + doubled > 0 || lost > may_lose {
            let places: Vec<String> = deaths
                .iter()
                .map(|m| format!("{:?} after step {} at {}", m.cause, m.step, name(m.at)))
                .collect();
            self.notes.push(format!(
                "{}: stuck {stuck}, lost {lost}, torn {torn}, doubled {doubled}; killed: {}{} {}",
                self.name,
                places.join("; then: "),
                if report.strayed { " (or at its end)" } else { "" },
                report.notes.join(", "),
            ));
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            name, steps, moments, kills, strayed, stuck, lost, may_lose, torn, doubled, ..
        } = self;
        write!(
            f,
            "{name:23} {steps:7} {moments:8} {kills:6} {strayed:7} {stuck:6} {lost:5} ({may_lose:2}) \
             {torn:6} {doubled:8} {:8.1}",
            self.seconds
        )
    }
}

/// A first death, and what a survivor then does.
struct Script {
    first: Moment,
    victim: Aim,
    second: Report,
}

/// The CPUs that we may use.
pub struct Crew {
    all: CpuSet,
    cpus: Vec<usize>,
}

impl Crew {
    /// All of them.
    pub fn new() -> Result<Crew, String> {
        let all = sched_getaffinity(None).map_err(|e| format!("sched_getaffinity: {e}"))?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
        Ok(Crew { all, cpus })
    }

    /// Plays an operation to the given depth.
    pub fn play(&self, operation: &Operation, depth: Depth) -> Result<Row, String> {
        let begun = Instant::now();
        let fail = |e| format!("{}: {e}", operation.name);
        let touched = self.one(operation, Aim::Touch, None).map_err(fail)?;
        let recorded = self.one(operation, Aim::Record(touched.pages), None).map_err(fail)?;
        let mut row = Row {
            name: operation.name,
            steps: recorded.steps,
            moments: recorded.moments.len(),
            kills: 0,
            strayed: 0,
            stuck: 0,
            lost: 0,
            may_lose: operation.may_lose,
            lost_more: false,
            torn: 0,
            doubled: 0,
            notes: Vec::new(),
            seconds: 0.0,
        };

        let kill = |record: &Report, index: usize| Aim::Kill {
            moment: record.moments[index],
            pages: record.pages.clone(),
            reap: index.is_multiple_of(2),
        };
        let chosen = choose(&recorded.moments, depth.kills);
        let takes = chosen.iter().map(|&i| Take { victim: kill(&recorded, i), second: None });
        let reports = self.all(operation, takes.collect()).map_err(fail)?;
        for (take, report) in &reports {
            row.add(report, &[recorded.moments[chosen[*take]]], row.may_lose);
        }
        if let Some(hand) = operation.second_may_lose
            && row.stuck <= ENOUGH
        {
            let may_lose = row.may_lose + hand;
            // For each of the first deaths a survivor is watched, then stepped, then killed.
            let mut scripts: Vec<Script> = choose(&recorded.moments, depth.firsts)
                .into_iter()
                .map(|first| Script {
                    first: recorded.moments[first],
                    victim: kill(&recorded, first),
                    second: Report::default(),
                })
                .collect();
            for aim in [|_: Vec<u64>| Aim::Touch, Aim::Record] {
                let takes = scripts.iter().map(|script| Take {
                    victim: script.victim.clone(),
                    second: Some(aim(script.second.pages.clone())),
                });
                for (index, report) in self.all(operation, takes.collect()).map_err(fail)? {
                    scripts[index].second = report;
                }
            }
            let mut takes = Vec::new();
            let mut deaths = Vec::new();
            for Script { first, victim, second } in &scripts {
                if second.torn > 0 {
                    row.add(second, &[*first], may_lose);
                }
                for index in choose(&second.moments, depth.seconds) {
                    deaths.push([*first, second.moments[index]]);
                    let second = Some(kill(second, index));
                    takes.push(Take { victim: victim.clone(), second });
                }
            }
            for (take, report) in &self.all(operation, takes).map_err(fail)? {
                row.add(report, &deaths[*take], may_lose);
            }
        }
        if row.has_missed() {
            row.notes.push(format!("{}: most kills missed their moment", row.name));
        }
        row.seconds = begun.elapsed().as_secs_f64();
        Ok(row)
    }

    fn one(
        &self,
        operation: &Operation,
        victim: Aim,
        second: Option<Aim>,
    ) -> Result<Report, String> {
        let only = self.all(operation, vec![Take { victim, second }])?.pop();
        only.map(|(_, report)| report).ok_or("no report".into())
    }

    /// Plays the takes, and returns their reports with the index of each. When many are stuck, each of
    /// which takes seconds, the rest is left out.
    fn all(&self, operation: &Operation, takes: Vec<Take>) -> Result<Vec<(usize, Report)>, String> {
        let mut waiting = takes.into_iter().enumerate();
        let mut free = self.cpus.clone();
        let mut playing: Vec<(usize, usize, Child)> = Vec::new();
        let mut reports: Vec<(usize, Report)> = Vec::new();
        let patience = operation.patience * 3 + Duration::from_secs(60);
        loop {
            let stuck: u32 = reports.iter().map(|(_, report)| report.stuck).sum();
            while stuck <= ENOUGH
                && let Some(cpu) = free.pop()
            {
                let Some((index, take)) = waiting.next() else { break };
                let child = Child::start(|| {
                    let report = take.play(operation, cpu, &self.all)?;
                    postcard::to_allocvec(&report).map_err(|e| format!("a report: {e}"))
                })?;
                playing.push((index, cpu, child));
            }
            if playing.is_empty() {
                return Ok(reports);
            }
            let pidfds: Vec<_> = playing.iter().map(|(_, _, child)| child.pidfd()).collect();
            let ended = wait_any(&pidfds, Instant::now() + patience)?;
            if ended.is_empty() {
                return Err("a take does not end".into());
            }
            for place in ended.into_iter().rev() {
                let (index, cpu, child) = playing.swap_remove(place);
                free.push(cpu);
                let bytes = match child.finish(Instant::now())? {
                    Ending::Done(bytes) => bytes,
                    Ending::Failed(complaint) => return Err(format!("take {index}: {complaint}")),
                    Ending::Late => return Err("an ended take has not ended".into()),
                };
                let report =
                    postcard::from_bytes(&bytes).map_err(|e| format!("reading a report: {e}"))?;
                reports.push((index, report));
            }
        }
    }
}

/// Chooses at most `limit` moments: each instruction's first and last time, then others evenly.
fn choose(moments: &[Moment], limit: usize) -> Vec<usize> {
    if moments.len() <= limit {
        return (0..moments.len()).collect();
    }
    let mut ends = BTreeMap::new();
    for (index, moment) in moments.iter().enumerate() {
        ends.entry(moment.at).or_insert((index, index)).1 = index;
    }
    let mut first: Vec<usize> = ends.into_values().flat_map(|(a, b)| [a, b]).collect();
    first.extend([0, moments.len() - 1]);
    first.sort_unstable();
    first.dedup();
    let mut chosen = evenly(&first, limit);
    let others: Vec<usize> =
        (0..moments.len()).filter(|i| first.binary_search(i).is_err()).collect();
    chosen.extend(evenly(&others, limit - chosen.len()));
    chosen.sort_unstable();
    chosen
}

/// At most `limit` of the items, the first and the last among them.
fn evenly(items: &[usize], limit: usize) -> Vec<usize> {
    match (items.len(), limit) {
        (_, 0) => Vec::new(),
        (len, limit) if len <= limit => items.to_vec(),
        (_, 1) => vec![items[0]],
        (len, limit) => (0..limit).map(|i| items[i * (len - 1) / (limit - 1)]).collect(),
    }
}

/// Where an instruction lies: as an offset from the start of this program's file, for addr2line.
fn name(at: u64) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let place = maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
        let file = words.nth(2).unwrap_or("unnamed memory");
        (start..end).contains(&at).then(|| (file.to_owned(), at - start + offset))
    });
    match place {
        Some((file, offset)) => format!("{file}+{offset:#x}"),
        None => format!("{at:#x}"),
    }
}
