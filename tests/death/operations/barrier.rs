//! `Barrier`: whoever dies at it, or on the way to it, breaks it for the others, who reset it and go on.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use procession_core::region::{Member, Place};
use procession_core::sync::{Barrier, BarrierError, Reason};
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// A barrier for two, whose action counts the rounds.
struct Meeting {
    ground: Ground,
    barrier: Barrier<'static>,
    /// Rounds whose action has begun, and those whose action is over.
    begun: &'static AtomicU64,
    over: &'static AtomicU64,
    /// Outside the region: how often each survivor has passed, and from `GIVEN` on, how often each index was given out.
    notes: &'static [AtomicU32],
    /// The victim's partner in the first round, and in some scenes one that waits in the second.
    partner: Cell<Option<Child>>,
    /// Whether who comes alone after the victim's death must be told so: the barrier is neither new by then, nor has
    /// it another waiter.
    missed: bool,
}

/// The first survivor has met the dead.
const MET: usize = 2;
/// Somebody was about to reset the barrier: then nobody may be expected any more.
const RESET: usize = 3;
const GIVEN: usize = 4;
/// How often each survivor passes.
const TURNS: u32 = 8;
/// Nobody waits so long where all live, or are found dead.
const SOON: Duration = Duration::from_secs(6);

impl Meeting {
    /// The victim and a partner are going to meet in the first round, so that the victim is expected in the second. The partner
    /// then leaves in order, or waits `again`.
    fn new(again: bool, missed: bool) -> &'static Meeting {
        let ground = Ground::new(8);
        let place = Place::in_region(ground.region(), ground.place(1024)).expect("a place");
        let meeting: &'static Meeting = Box::leak(Box::new(Meeting {
            barrier: Barrier::create(place, 2).expect("a barrier"),
            begun: ground.object(0),
            over: ground.object(64),
            ground,
            notes: Memory::new(4096).counters(),
            partner: Cell::new(None),
            missed,
        }));
        let partner = Child::start(|| {
            let me = meeting.ground.me();
            let mut answer = meeting.pass(me, SOON);
            if again && answer.is_ok() {
                answer = meeting.pass(me, SOON);
            }
            me.leave();
            match answer {
                Ok(true | false) => Ok(Vec::new()),
                Err(trouble) => Err(trouble.to_string()),
            }
        });
        meeting.partner.set(partner.ok());
        meeting
    }

    fn alone() -> &'static Meeting {
        Self::new(false, true)
    }

    fn alone_and_new() -> &'static Meeting {
        Self::new(false, false)
    }

    fn before_waiter() -> &'static Meeting {
        Self::new(true, false)
    }

    /// The action. Half of one that somebody died in is of no harm: the next one does the same again.
    fn act(&self) -> Result<(), String> {
        let round = self.over.load(SeqCst);
        self.begun.store(round + 1, SeqCst);
        match self.over.compare_exchange(round, round + 1, SeqCst, SeqCst) {
            Ok(_) => Ok(()),
            Err(now) => Err(format!("two at a time in the action of round {round}, now {now}")),
        }
    }

    /// Waits once. Whether it passed; else the barrier was broken by somebody, and has been reset.
    fn pass(&self, me: Member<'_>, patience: Duration) -> Result<bool, Trouble> {
        let (before, deadline) = (self.over.load(SeqCst), Deadline::after(patience));
        let answer = self.barrier.wait_with(me, deadline, || self.act());
        self.judge(me, before, answer)
    }

    fn judge(
        &self,
        me: Member<'_>,
        before: u64,
        answer: Result<usize, BarrierError<String>>,
    ) -> Result<bool, Trouble> {
        match answer {
            Ok(index) => {
                if self.over.load(SeqCst) == before {
                    return Err(Trouble::Wrong("passed before the action was over".into()));
                }
                self.notes[GIVEN + index].fetch_add(1, SeqCst);
                Ok(true)
            }
            Err(BarrierError::TimedOut) => Err(Trouble::Late("the others never came".into())),
            Err(BarrierError::Broken(broken)) => {
                if broken.reason == Reason::ActionFailed {
                    return Err(Trouble::Wrong("an action failed".into()));
                }
                if broken.reason != Reason::Reset {
                    self.reset(me)?;
                }
                Ok(false)
            }
            Err(error) => Err(Trouble::Wrong(error.to_string())),
        }
    }

    fn reset(&self, me: Member<'_>) -> Result<(), Trouble> {
        self.notes[RESET].store(1, SeqCst);
        self.barrier.reset(me).map_err(|error| Trouble::Wrong(error.to_string()))
    }

    fn both_done(&self) -> bool {
        self.notes[..2].iter().all(|turns| turns.load(SeqCst) >= TURNS)
    }

    /// The victim has passed the first round.
    fn met(&'static self) {
        self.pass(self.ground.me(), SOON).expect("the first round");
        self.enter();
    }

    /// The same, and the partner sleeps at the second.
    fn awaited(&'static self) {
        self.met();
        let deadline = Instant::now() + SOON;
        while !(self.barrier.n_waiting() == 1 && self.barrier.event().is_awaited())
            && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
    }

    fn met_and_aborted(&'static self) {
        self.met();
        self.barrier.abort(self.ground.me()).expect("an abort");
    }
}

impl Scene for Meeting {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, who: u32, patience: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        if who == 0 {
            let missed = self.missed && self.notes[RESET].load(SeqCst) == 0;
            let answer = if missed { self.pass(me, SOON).map(drop) } else { Ok(()) };
            self.notes[MET].store(1, SeqCst);
            answer?;
        }
        let deadline = Instant::now() + patience;
        while self.notes[MET].load(SeqCst) == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        while !self.both_done() {
            let (before, deadline) = (self.over.load(SeqCst), Deadline::after(patience));
            let answer = self.barrier.wait_with(me, deadline, || self.act());
            if let Err(BarrierError::Broken(broken)) = &answer
                && broken.reason == Reason::Aborted
                && self.both_done()
            {
                break;
            }
            if self.judge(me, before, answer)? {
                self.notes[who as usize].fetch_add(1, SeqCst);
            }
        }
        // The other may wait for one more round.
        self.barrier.abort(me).map_err(|error| Trouble::Wrong(error.to_string()))
    }

    /// Meets the dead: completes their round, or finds that they are missing. If nobody is expected, nobody comes.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        let before = self.over.load(SeqCst);
        let answer = match self.barrier.try_wait_with(me, || self.act()) {
            Err(BarrierError::WouldBlock) => {
                let deadline = Deadline::after(Duration::from_millis(20));
                self.barrier.wait_with(me, deadline, || self.act())
            }
            answer => answer,
        };
        match self.judge(me, before, answer) {
            Err(Trouble::Late(_)) => self.reset(me),
            answer => answer.map(drop),
        }
    }

    /// Whom the victim waits for.
    fn release(&self) {
        if self.barrier.n_waiting() > 0 {
            let (me, before) = (self.ground.me(), self.over.load(SeqCst));
            match self.barrier.try_wait_with(me, || self.act()) {
                Err(BarrierError::WouldBlock) => {}
                answer => {
                    self.judge(me, before, answer).expect("the round that the victim waits for");
                }
            }
        }
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(partner) = self.partner.take() {
            match partner.finish(Instant::now() + SOON * 2)? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the partner: {complaint}")),
            }
        }
        let rounds = self.over.load(SeqCst) as u32;
        for given in &self.notes[GIVEN..GIVEN + 2] {
            audit.doubled += given.load(SeqCst).saturating_sub(rounds);
        }
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("barrier.wait.timeout", Meeting::alone, Meeting::met, |meeting, ()| {
            let _ = meeting.barrier.wait_until(meeting.ground.me(), Deadline::NOW);
        })
        .twice(0),
        Operation::new("barrier.wait.asleep", Meeting::alone, Meeting::met, |meeting, ()| {
            let _ = meeting.pass(meeting.ground.me(), SOON);
        })
        .twice(0),
        Operation::new(
            "barrier.wait.last",
            Meeting::before_waiter,
            Meeting::awaited,
            |meeting, ()| {
                let _ = meeting.pass(meeting.ground.me(), SOON);
            },
        )
        .twice(0),
        Operation::new("barrier.abort", Meeting::alone, Meeting::met, |meeting, ()| {
            let _ = meeting.barrier.abort(meeting.ground.me());
        })
        .twice(0),
        Operation::new("barrier.reset", Meeting::before_waiter, Meeting::awaited, |meeting, ()| {
            let _ = meeting.barrier.reset(meeting.ground.me());
        })
        .twice(0),
        Operation::new(
            "barrier.reset.broken",
            Meeting::alone_and_new,
            Meeting::met_and_aborted,
            |meeting, ()| {
                let _ = meeting.barrier.reset(meeting.ground.me());
            },
        ),
    ]
}
