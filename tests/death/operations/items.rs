//! Items that show whether they are whole, and the books about them.

use procession_core::queue::{PopError, PushError};

use crate::engine::ledger::Ledger;
use crate::engine::operation::Trouble;

/// What goes through the queues: four words that belong together.
pub type Item = [u64; 4];

/// The items that lie in a queue from the start have numbers from here on,
pub const EARLIER: u64 = 1;
/// the victim's from here,
pub const VICTIMS: u64 = 100;
/// those that let a sleeping victim go on from here,
pub const HELPERS: u64 = 200;
/// and the survivors' from here: whoever takes them sees their numbers ascend.
pub const SURVIVORS: u64 = 300;

/// The item with this number.
pub fn item(number: u64) -> Item {
    [number, !number, number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number.rotate_left(32)]
}

/// Books about items.
pub struct Items {
    pub ledger: Ledger,
}

impl Items {
    pub fn new() -> Items {
        Items { ledger: Ledger::new() }
    }

    /// Puts `count` items from number `first`, one by one.
    pub fn put<E: Refusal>(
        &self,
        first: u64,
        count: u64,
        mut put: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), Trouble> {
        for number in first..first + count {
            self.ledger.begin(number);
            put(item(number)).map_err(|e| e.trouble(&format!("putting {number}")))?;
            self.ledger.acknowledge(number);
        }
        Ok(())
    }

    /// Puts items from number `first`, as many of these as `put` says.
    pub fn put_many<E: Refusal>(
        &self,
        first: u64,
        count: u64,
        put: impl FnOnce(&[Item]) -> Result<usize, E>,
    ) -> Result<(), Trouble> {
        let items: Vec<Item> = (first..first + count).map(item).collect();
        (first..first + count).for_each(|number| self.ledger.begin(number));
        let done = put(&items).map_err(|e| e.trouble("putting many"))?;
        (first..first + done as u64).for_each(|number| self.ledger.acknowledge(number));
        Ok(())
    }

    /// Notes items that were got.
    pub fn got(&self, items: &[Item]) {
        for got in items {
            if *got == item(got[0]) {
                self.ledger.receive(got[0]);
            } else {
                self.ledger.tear();
            }
        }
    }

    /// Takes `count` items, one by one, and looks whether they come in order.
    pub fn take<E: Refusal>(
        &self,
        count: u64,
        mut get: impl FnMut() -> Result<Item, E>,
    ) -> Result<(), Trouble> {
        let mut last = 0;
        for turn in 0..count {
            let item = get().map_err(|e| e.trouble(&format!("taking the {turn}th")))?;
            self.got(&[item]);
            if item[0] <= last {
                return Err(Trouble::Wrong(format!("item {} came after item {last}", item[0])));
            }
            last = item[0];
        }
        Ok(())
    }
}

/// What a queue answers when it does not do it.
pub trait Refusal: ToString {
    /// Whether it waited in vain.
    fn is_late(&self) -> bool;

    /// The trouble, with where it was met.
    fn trouble(&self, place: &str) -> Trouble {
        let what = format!("{place}: {}", self.to_string());
        if self.is_late() { Trouble::Late(what) } else { Trouble::Wrong(what) }
    }
}

impl Refusal for PushError {
    fn is_late(&self) -> bool {
        matches!(self, PushError::TimedOut)
    }
}

impl Refusal for PopError {
    fn is_late(&self) -> bool {
        matches!(self, PopError::TimedOut)
    }
}
