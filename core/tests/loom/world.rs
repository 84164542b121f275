//! What every model needs: processes with seats in a table, a runner, and deaths.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use procession_core::region::{Member, Membership, Participant, Participants, Setting};
use procession_core::sys::atomic::AtomicU32;
use procession_core::sys::model::{self, Sleeps};
use procession_core::sys::{Fences, Scope};

/// Of how many processes a table has rows: loom has four threads at most, and some models join anew.
const ROWS: usize = 4;

struct Table {
    rows: Vec<Participant>,
    next: AtomicU32,
    deaths: AtomicU32,
}

loom::lazy_static! {
    // loom makes it anew in each execution.
    static ref TABLE: Table = Table {
        rows: (0..=ROWS).map(|_| Participant::fresh()).collect(),
        next: AtomicU32::new(0),
        deaths: AtomicU32::new(0),
    };
}

fn participants() -> Participants<'static> {
    let table: &'static Table = &TABLE;
    Participants::new(&table.rows, &table.next, &table.deaths)
}

/// A process of the model.
pub struct Process(Membership<'static>);

impl Process {
    /// Takes a seat. Done by the main thread, before it spawns others: how processes join is not under test here.
    pub fn new() -> Self {
        let setting = Setting {
            participants: participants(),
            scope: Scope::Shared,
            fences: Fences::Full,
            sentries: &[],
            backing: None,
            sweeper: None,
        };
        Self(Membership::join(setting).expect("the table has a row for each process of a model"))
    }

    pub fn me(&self) -> Member<'_> {
        self.0.member()
    }

    /// Runs `life` until it ends or has made `fuel` shared accesses. In the second case the process is declared
    /// dead, as the kernel would have it, and the answer is `None`.
    pub fn live<R>(&self, fuel: u32, life: impl FnOnce(Member<'_>) -> R) -> Option<R> {
        let outcome = model::mortal(fuel, || life(self.me()));
        if outcome.is_none() {
            self.declare_dead();
        }
        outcome
    }

    /// The kernel's verdict on this process; speak it of the living only to see what that does.
    pub fn declare_dead(&self) {
        participants().declare_dead(self.me().tag().expect("joined in `new`"));
    }
}

/// Explores all interleavings with at most so many preemptions (`None`: all there are).
pub fn explore(
    sleeps: Sleeps,
    preemptions: impl Into<Option<usize>>,
    model: impl Fn() + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions.into());
    builder.max_branches = 20_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let start = std::time::Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model::begin(sleeps);
        // Made before anybody else runs, so that nobody learns anything by making it.
        let _ = participants();
        model();
    });
    println!("{executions:?} executions in {:?}", start.elapsed());
}

/// Explores the model for each amount of fuel, until there is so much that its victim never dies. The model says
/// whether the victim died.
pub fn explore_deaths(
    preemptions: impl Into<Option<usize>>,
    model: impl Fn(u32) -> bool + Send + Sync + 'static,
) {
    let preemptions = preemptions.into();
    let model = Arc::new(model);
    for fuel in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        explore(Sleeps::Sliced, preemptions, {
            let (model, died) = (Arc::clone(&model), Arc::clone(&died));
            move || {
                if model(fuel) {
                    died.store(true, Relaxed);
                }
            }
        });
        if !died.load(Relaxed) {
            assert!(fuel > 0, "the victim makes no shared access: it was never mortal");
            return;
        }
    }
}
