//! Attaching: whoever dies on the way in leaves its seat to the next.

use std::time::Duration;

use super::ground::Ground;
use super::lock::Account;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// A region with three seats. The scene's process has one; two survivors, who use an account, find
/// room only if the seats of the dead are given out again.
struct Newcomers(&'static Account);

impl Newcomers {
    fn new() -> &'static Newcomers {
        Box::leak(Box::new(Newcomers(Account::on(Ground::new(3)))))
    }
}

impl Scene for Newcomers {
    fn memory(&self) -> Span {
        self.0.memory()
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        let seat = self.0.ground.attach()?;
        self.0.deposit(seat.member(), patience)
    }

    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        Ok(self.0.ground.attach().map(drop)?)
    }

    fn audit(&self) -> Result<Audit, String> {
        self.0.audit()
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            "attach",
            Newcomers::new,
            |_| (),
            |scene, ()| {
                let _ = scene.0.ground.attach();
            },
        )
        .twice(0),
        // A forked child takes its own seat at its first claim.
        Operation::new(
            "attach.forked",
            Newcomers::new,
            |_| (),
            |scene, ()| {
                scene.0.ground.me();
            },
        )
        .twice(0),
    ]
}
