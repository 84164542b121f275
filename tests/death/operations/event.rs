//! `Event`, alone and among others: whoever dies over it is in nobody's way.

use std::cell::Cell;
use std::time::{Duration, Instant};

use procession_core::sync::{Event, Lock};
use procession_core::sys::Deadline;
use procession_core::wait::{Waitable, wait_any};

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// An event, and a second object for who waits for any of two.
struct Bell {
    ground: Ground,
    event: &'static Event,
    lock: &'static Lock,
    /// Waits for the event from the start.
    sleeper: Cell<Option<Child>>,
}

/// How often each survivor uses the event.
const TURNS: u32 = 20;

impl Bell {
    fn new() -> &'static Bell {
        let ground = Ground::new(8);
        Box::leak(Box::new(Bell {
            event: ground.object(0),
            lock: ground.object(64),
            ground,
            sleeper: Cell::new(None),
        }))
    }

    /// An event that is set.
    fn ringing() -> &'static Bell {
        let bell = Bell::new();
        bell.event.set(bell.ground.me());
        bell
    }

    /// An event that somebody waits for.
    fn awaited() -> &'static Bell {
        let bell = Bell::new();
        let child = Child::start(|| match bell.wait(Duration::from_secs(6)) {
            true => Ok(Vec::new()),
            false => Err("nobody set the event".into()),
        });
        bell.sleeper.set(child.ok());
        let deadline = Instant::now() + Duration::from_secs(5);
        while bell.event.sleepers().sleepers(bell.ground.me()).next().is_none()
            && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        bell
    }

    fn wait(&self, patience: Duration) -> bool {
        self.event.wait_until(self.ground.me(), Deadline::after(patience))
    }

    fn enter(&self) {
        self.ground.enter();
    }
}

impl Scene for Bell {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        for _ in 0..TURNS {
            self.event.set(me);
            // Others clear it meanwhile; who waits then is woken by their next turn, or its own.
            if !self.wait(Duration::from_millis(1)) {
                self.event.set(me);
            }
            self.event.clear();
        }
        self.event.set(me);
        let objects = [self.event as &dyn Waitable, self.lock];
        match wait_any(me, Deadline::after(patience), &objects) {
            Some(_) => Ok(()),
            None => Err(Trouble::Late("neither of two was ever ready".into())),
        }
    }

    fn release(&self) {
        self.event.set(self.ground.me());
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        self.event.set(self.ground.me());
        if let Some(sleeper) = self.sleeper.take() {
            match sleeper.finish(Instant::now() + Duration::from_secs(6))? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the sleeper: {complaint}")),
            }
        }
        audit.lost += u32::from(!self.event.is_set());
        self.event.clear();
        audit.doubled += u32::from(self.event.is_set());
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("event.set", Bell::new, Bell::enter, |bell, ()| {
            bell.event.set(bell.ground.me());
        }),
        Operation::new("event.set.waking", Bell::awaited, Bell::enter, |bell, ()| {
            bell.event.set(bell.ground.me());
        }),
        Operation::new("event.clear", Bell::ringing, Bell::enter, |bell, ()| bell.event.clear()),
        Operation::new("event.wait.asleep", Bell::new, Bell::enter, |bell, ()| {
            bell.wait(Duration::from_secs(5));
        }),
        Operation::new(
            "any.wait.asleep",
            Bell::new,
            |bell| {
                bell.enter();
                // Held by the victim itself: only the event can become ready.
                std::mem::forget(bell.lock.acquire(bell.ground.me()));
            },
            |bell, ()| {
                let objects = [bell.lock as &dyn Waitable, bell.event];
                let soon = Deadline::after(Duration::from_secs(5));
                let _ = wait_any(bell.ground.me(), soon, &objects);
            },
        ),
    ]
}
