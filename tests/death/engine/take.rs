//! One take of a scene: set the stage, kill at one moment, let the survivors play on, and count.
//!
//! Each take runs in a process of its own, forked from a program that has never touched what is
//! tested. So all takes of an operation start alike, at the same addresses.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::child::{Child, Ending};
use super::operation::{Operation, Scene, Trouble};
use super::tracee::{Moment, Tracee};
use super::watch::{Trap, Watch};

/// What to do with a stepped process.
#[derive(Clone)]
pub enum Aim {
    /// Let it run, and report which pages it writes to.
    Touch,
    /// Step through, and report all moments, watching these pages.
    Record(Vec<u64>),
    /// Kill it at this moment, watching these pages, and reap it at once or only later.
    Kill { moment: Moment, pages: Vec<u64>, reap: bool },
}

/// One take: an aim for the victim, and one for the survivor that repairs.
#[derive(Clone)]
pub struct Take {
    pub victim: Aim,
    pub second: Option<Aim>,
}

/// What a take reports.
#[derive(Serialize, Deserialize, Default, Debug)]
pub struct Report {
    /// Pages of the scene's memory that were written to, as offsets.
    pub pages: Vec<u64>,
    pub moments: Vec<Moment>,
    pub steps: u64,
    /// A child did not come to the moment at which it was to be killed.
    pub strayed: bool,
    pub stuck: u32,
    pub lost: u32,
    pub torn: u32,
    pub doubled: u32,
    /// What survivors complained of.
    pub notes: Vec<String>,
}

impl Take {
    /// Plays the take. Called in a process of its own.
    pub fn play(&self, operation: &Operation, cpu: usize, all: &CpuSet) -> Result<Report, String> {
        pin(cpu)?;
        let stage = operation.stage();
        let scene = stage.scene;
        let mut report = Report::default();

        let act = stage.victim;
        let trap = Trap::new();
        let mut victim = Tracee::start(|mark| {
            let unarmed = Cell::new(self.victim.is_touch());
            act(&|| {
                if unarmed.take() {
                    trap.arm(scene.memory()).expect("a trap");
                }
                mark();
            });
            Ok(())
        })?;
        if !self.victim.pursue(&mut victim, trap, scene, || scene.release(), &mut report)? {
            return Ok(report);
        }
        scene.release();
        let mut repairer = None;
        if let Some(aim) = &self.second {
            let patience = operation.patience;
            let trap = Trap::new();
            let second = Tracee::start(|mark| {
                scene.enter();
                if aim.is_touch() {
                    trap.arm(scene.memory())?;
                }
                mark();
                scene.repair(patience).map_err(|trouble| trouble.to_string())?;
                mark();
                Ok(())
            });
            let pursued = second.and_then(|mut second| {
                let goes_on = aim.pursue(&mut second, trap, scene, || {}, &mut report)?;
                Ok((second, goes_on))
            });
            let second = match pursued {
                Ok((second, true)) => second,
                Ok((_, false)) => return Ok(report),
                Err(complaint) => {
                    // A survivor that cannot even be stepped to its end counts like any other.
                    report.torn += 1;
                    report.notes.push(format!("while it repaired: {complaint}"));
                    return Ok(report);
                }
            };
            repairer = Some(second);
        }

        survive(operation, scene, all, &mut report)?;
        drop((victim, repairer));
        let audit = scene.audit()?;
        report.stuck += audit.stuck;
        report.lost += audit.lost;
        report.torn += audit.torn;
        report.doubled += audit.doubled;
        Ok(report)
    }
}

impl Aim {
    fn is_touch(&self) -> bool {
        matches!(self, Aim::Touch)
    }

    /// Steps the child. Returns whether it has been killed and the take goes on.
    fn pursue(
        &self,
        child: &mut Tracee,
        trap: Trap,
        scene: &dyn Scene,
        asleep: impl Fn(),
        report: &mut Report,
    ) -> Result<bool, String> {
        match self {
            Aim::Touch => {
                child.run_trapped(asleep)?;
                report.pages = trap.written(scene.memory())?;
                Ok(false)
            }
            Aim::Record(pages) => {
                let mut watch = Watch::new(scene.memory(), pages);
                (report.moments, report.steps) = child.record(&mut watch, asleep)?;
                report.pages.clone_from(pages);
                Ok(false)
            }
            // The living must cope with the dead whether these are zombies or not.
            Aim::Kill { moment, pages, reap } => {
                report.strayed |=
                    !child.seek(moment, || Watch::new(scene.memory(), pages), asleep)?;
                child.kill(*reap)?;
                Ok(true)
            }
        }
    }
}

/// The survivors play on, all at once.
fn survive(
    operation: &Operation,
    scene: &dyn Scene,
    all: &CpuSet,
    report: &mut Report,
) -> Result<(), String> {
    let patience = operation.patience;
    let survivors: Result<Vec<_>, _> = (0..operation.survivors)
        .map(|who| {
            Child::start(|| {
                sched_setaffinity(None, all).map_err(|e| format!("sched_setaffinity: {e}"))?;
                scene.enter();
                let met = scene.survive(who, patience).err();
                postcard::to_allocvec(&met).map_err(|e| format!("a survivor's answer: {e}"))
            })
        })
        .collect();
    let deadline = Instant::now() + patience * 2 + Duration::from_millis(500);
    for survivor in survivors? {
        match survivor.finish(deadline)? {
            Ending::Done(bytes) => {
                let met: Option<Trouble> = postcard::from_bytes(&bytes)
                    .map_err(|e| format!("a survivor's answer: {e}"))?;
                match met {
                    None => continue,
                    Some(Trouble::Late(_)) => report.stuck += 1,
                    Some(Trouble::Wrong(_)) => report.torn += 1,
                }
                report.notes.extend(met.map(|trouble| trouble.to_string()));
            }
            Ending::Late => {
                report.stuck += 1;
                report.notes.push("a survivor does not end".into());
            }
            Ending::Failed(complaint) => {
                report.torn += 1;
                report.notes.push(complaint);
            }
        }
    }
    Ok(())
}

/// Binds this process, and those it forks, to one CPU.
fn pin(cpu: usize) -> Result<(), String> {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).map_err(|e| format!("sched_setaffinity to CPU {cpu}: {e}"))
}
