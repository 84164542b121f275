//! What is among an object on its way and is more than bytes: copies of counted ends, and descriptors.
//!
//! ```text
//! encoding   each copy of an end departs, each descriptor is deposited; both are listed here, for the one who packs
//! dispatch   the copies become the carrier's, under the ticket of the object's place; their names are behind its bytes
//! taking     they become the taker's
//! decoding   each end that is decoded takes its copy out of the taker's hand
//! ```
//!
//! What is in the sender's or the taker's hand and not used goes back when its [`Luggage`] is dropped: the object was not sent, could
//! not be decoded, or was not asked for. What is the carrier's and left behind there is found by those who look at the end.
//!
//! The arguments of a process are in the starter's hand until the process has decoded them; what is left there when it has ended
//! goes back then.
//!
//! The list belongs to a thread, and is open only while something is packed. Who encodes a handle by other means has a copy on the
//! way that is its own until somebody decodes it, or it ends.

use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use procession_core::queue::Passage;
use procession_core::sys::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::pipe::line::{Side, View};
use crate::descriptor::{self, Voucher};
use crate::memory::existing;

/// The name of a copy of an end, as it stands behind an object's bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Item {
    /// Where the line lies, a multiple of 128, plus the side.
    place: u64,
    index: u32,
    serial: u32,
}

/// Bytes of an item.
pub(crate) const ITEM: usize = size_of::<Item>();

impl Item {
    pub(super) fn new(line: u64, side: Side, copy: Passage) -> Self {
        Self { place: line | side as u64, index: copy.index, serial: copy.serial }
    }

    /// The line, which end of it, and which copy: if a line lies there.
    fn find(self) -> Option<(View, Side, Passage)> {
        let view = View::at(existing()?, self.place & !1)?;
        let side = if self.place & 1 == 0 { Side::Writers } else { Side::Readers };
        Some((view, side, Passage { index: self.index, serial: self.serial }))
    }
}

/// How long the keeper of a descriptor that was not sent is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends and descriptors that are in this process's hand. What is left when it is dropped goes back.
#[derive(Debug, Default)]
pub(crate) struct Luggage {
    ends: Vec<Item>,
    vouchers: Vec<Voucher>,
}

impl Drop for Luggage {
    fn drop(&mut self) {
        for item in &self.ends {
            if let Some((view, side, copy)) = item.find() {
                view.withdraw(side, copy);
            }
        }
        for voucher in &self.vouchers {
            // The keeper is gone, or the descriptor was collected: nothing is left to be closed.
            drop(descriptor::collect(voucher, Deadline::after(PATIENCE)));
        }
    }
}

impl Luggage {
    /// How many ends there are.
    pub(crate) fn ends(&self) -> usize {
        self.ends.len()
    }

    /// Their names, as they stand behind an object.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.ends)
    }

    /// Makes all of it the carrier's, under this ticket: between the claim of its place and its publication.
    pub(crate) fn send(&mut self, carrier: u64, ticket: u64) {
        for item in std::mem::take(&mut self.ends) {
            if let Some((view, side, copy)) = item.find() {
                view.send(side, copy, carrier, ticket);
            }
        }
        self.vouchers.clear();
    }

    /// Takes what was sent with an object, whose place this process has claimed under this ticket and not given back yet.
    pub(crate) fn take(names: &[u8], carrier: u64, ticket: u64) -> Self {
        let items = names.chunks_exact(ITEM).map(bytemuck::pod_read_unaligned::<Item>);
        let ends = items.filter(|item| {
            item.find().is_some_and(|(view, side, copy)| view.take(side, copy, carrier, ticket))
        });
        Self { ends: ends.collect(), vouchers: Vec::new() }
    }

    /// Leaves it to a process that was started, until that ends.
    pub(crate) fn follow(mut self, process: BorrowedFd<'_>) {
        recall();
        match process.try_clone_to_owned() {
            Ok(process) => {
                let mut away = away();
                away.pieces.push((process, self));
                ANY_AWAY.store(true, Ordering::Relaxed);
            }
            // Nobody can tell when it ends: then it is left to it for good.
            Err(_) => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.ends.clear();
        self.vouchers.clear();
    }

    /// Whether something of it may still be in this process's hand.
    fn is_here(&mut self) -> bool {
        self.ends.retain(|item| {
            item.find().is_some_and(|(view, side, copy)| view.is_departed(side, copy))
        });
        !(self.ends.is_empty() && self.vouchers.is_empty())
    }
}

/// What processes that were started have not decoded yet.
struct Away {
    /// Whose list it is: a forked child starts anew.
    pid: u32,
    pieces: Vec<(OwnedFd, Luggage)>,
}

static AWAY: Mutex<Away> = Mutex::new(Away { pid: 0, pieces: Vec::new() });
/// Whether the list may have something.
static ANY_AWAY: AtomicBool = AtomicBool::new(false);

fn away() -> MutexGuard<'static, Away> {
    // Nothing that happens under the lock panics halfway.
    let mut away = AWAY.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if away.pid != pid {
        away.pieces.iter_mut().for_each(|(_, luggage)| luggage.forget());
        *away = Away { pid, pieces: Vec::new() };
    }
    away
}

/// Takes back what was left to processes that have ended, and says whether something is still away. Called by those who wait for an
/// end to be closed, and where a process is seen to have ended; a load if nothing is away.
pub(crate) fn recall() -> bool {
    if !ANY_AWAY.load(Ordering::Relaxed) {
        return false;
    }
    let mut ended = Vec::new();
    let more = {
        let mut away = away();
        let pieces = std::mem::take(&mut away.pieces);
        for (process, mut luggage) in pieces {
            if has_ended(&process) {
                ended.push(luggage);
            } else if luggage.is_here() {
                away.pieces.push((process, luggage));
            }
        }
        ANY_AWAY.store(!away.pieces.is_empty(), Ordering::Relaxed);
        !away.pieces.is_empty()
    };
    // Out of the lock: giving back cleans up.
    drop(ended);
    more
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(process, PollFlags::IN)];
    rustix::event::poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
}

/// Nobody packs in this thread.
const SHUT: u32 = 0;
/// Somebody does, and nothing is listed yet. Each piece counts one more.
const OPEN: u32 = 1;

thread_local! {
    static LISTED: Cell<u32> = const { Cell::new(SHUT) };
    static LIST: RefCell<Vec<Piece>> = const { RefCell::new(Vec::new()) };
}

enum Piece {
    End(Item),
    Voucher(Voucher),
}

/// While it lives what is encoded by this thread lists its luggage. Dropping it gives that back.
pub(crate) struct Packing {
    /// What was listed by the one that this one interrupts: an object that is encoded while another is.
    outer: u32,
}

impl Packing {
    #[inline]
    pub(crate) fn begin() -> Self {
        Self { outer: LISTED.try_with(|listed| listed.replace(OPEN)).unwrap_or(SHUT) }
    }

    /// What was listed; mostly nothing.
    #[inline]
    pub(crate) fn end(self) -> Option<Luggage> {
        let listed = LISTED.try_with(|listed| listed.replace(self.outer)).unwrap_or(SHUT);
        std::mem::forget(self);
        if listed <= OPEN { None } else { Some(collect(listed)) }
    }
}

impl Drop for Packing {
    #[inline]
    fn drop(&mut self) {
        let listed = LISTED.try_with(|listed| listed.replace(self.outer)).unwrap_or(SHUT);
        if listed > OPEN {
            drop(collect(listed));
        }
    }
}

/// Takes the newest pieces off the list.
#[cold]
fn collect(listed: u32) -> Luggage {
    let mut luggage = Luggage::default();
    let _ = LIST.try_with(|list| {
        let mut list = list.borrow_mut();
        let first = list.len().saturating_sub((listed - OPEN) as usize);
        for piece in list.drain(first..) {
            match piece {
                Piece::End(item) => luggage.ends.push(item),
                Piece::Voucher(voucher) => luggage.vouchers.push(voucher),
            }
        }
    });
    luggage
}

fn list(piece: Piece) {
    let _ = LISTED.try_with(|listed| {
        if listed.get() != SHUT {
            let _ = LIST.try_with(|list| list.borrow_mut().push(piece));
            listed.set(listed.get() + 1);
        }
    });
}

/// A copy of an end has departed.
pub(super) fn list_end(item: Item) {
    list(Piece::End(item));
}

/// A descriptor was deposited.
pub(crate) fn list_voucher(voucher: Voucher) {
    list(Piece::Voucher(voucher));
}
