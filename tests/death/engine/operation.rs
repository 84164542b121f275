//! What the matrix needs to know of an operation: how the stage is set, what the victim does, what
//! the survivors do, and how one counts afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::memory::Span;

/// What an audit found wrong. All zero: the books balance.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Audit {
    /// Processes of the scene itself that waited too long.
    pub stuck: u32,
    /// Acknowledged by a producer, and never seen again.
    pub lost: u32,
    /// Seen in part, or never produced at all, or damage that a survivor met.
    pub torn: u32,
    /// Seen, or handed out, more than once.
    pub doubled: u32,
}

/// What a survivor met.
#[derive(Debug, Serialize, Deserialize)]
pub enum Trouble {
    /// It waited in vain: counts as stuck.
    Late(String),
    /// It saw what should not be: counts as torn.
    Wrong(String),
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Trouble::Wrong(what)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Late(what) => write!(f, "waited in vain: {what}"),
            Trouble::Wrong(what) => f.write_str(what),
        }
    }
}

/// The objects of one family of operations, in shared memory, freshly made for each kill.
///
/// `set` of an [`Operation`] makes it, and leaks it, in a process of its own, from which victim and survivors are
/// forked: they find the scene at the same address.
pub trait Scene {
    /// The memory that the victim may change, from a page's start.
    fn memory(&self) -> Span;

    /// Makes a survivor ready, before it is stepped. For instance: attaches.
    fn enter(&self) {}

    /// A survivor uses the object in all the ways that a user could, and no wait of it may take
    /// longer than `patience`.
    fn survive(&self, who: u32, patience: Duration) -> Result<(), Trouble>;

    /// The short piece of use that meets the dead and repairs: here the second death strikes.
    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.survive(9, patience)
    }

    /// Called when the victim sleeps, and when it is dead: gives it, and those who come after it,
    /// what they wait for.
    fn release(&self) {}

    /// Balances the books. Only living survivors' results and shared memory are left to look at.
    fn audit(&self) -> Result<Audit, String>;
}

/// One row of the matrix.
pub struct Operation {
    pub name: &'static str,
    /// How many items one death may lose: those in the dead process' hand.
    pub may_lose: u32,
    /// How many survivors use the object at the same time after the death.
    pub survivors: u32,
    /// Also kill a survivor while it repairs, and how many items that may lose.
    pub second_may_lose: Option<u32>,
    /// How long a survivor's waits may take.
    pub patience: Duration,
    set: Box<dyn Fn() -> Staged>,
}

/// What the victim does, with the mark that it executes before and after the operation itself.
pub type Victim = Box<dyn FnOnce(&dyn Fn())>;

/// A scene that is set, and the victim's two steps: getting ready and the operation itself.
pub struct Staged {
    pub scene: &'static dyn Scene,
    pub victim: Victim,
}

impl Operation {
    /// An operation: `set` makes the scene, `ready` runs in the victim before it is stepped, and
    /// `act`, with what `ready` returned, is the operation, stepped instruction by instruction.
    pub fn new<S: Scene + 'static, R: 'static>(
        name: &'static str,
        set: fn() -> &'static S,
        ready: fn(&'static S) -> R,
        act: fn(&'static S, R),
    ) -> Self {
        let set = Box::new(move || {
            let scene = set();
            let victim = Box::new(move |mark: &dyn Fn()| {
                let hand = ready(scene);
                mark();
                act(scene, hand);
                mark();
            });
            Staged { scene, victim }
        });
        Operation {
            name,
            may_lose: 0,
            survivors: 2,
            second_may_lose: None,
            patience: Duration::from_secs(10),
            set,
        }
    }

    /// One death may lose so many items.
    pub fn may_lose(self, items: u32) -> Self {
        Self { may_lose: items, ..self }
    }

    /// Kill a survivor as well, while it repairs with so many items in its hand.
    pub fn twice(self, hand: u32) -> Self {
        Self { second_may_lose: Some(hand), ..self }
    }

    /// How long a survivor's waits may take.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sets the stage.
    pub fn stage(&self) -> Staged {
        (self.set)()
    }
}
