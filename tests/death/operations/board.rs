//! The board of a pool: what a dead worker had comes back as far as it was answered, and a dead owner's workers leave.

use std::cell::Cell;
use std::time::Duration;

use procession_core::pool::{Board, Lease, Leave, Look, Order, Plan, SeatAt, Take, Ticket, Worker};
use procession_core::region::Verdict;
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
const PLAN: Plan = Plan { cells: 4, seats: 4 };
/// How many items each cell holds.
const ITEMS: u8 = 2;
/// Where in a cell's payload its first item's number stands, how many there are, and the answers.
const FIRST: usize = 0;
const COUNT: usize = 1;
const ANSWERS: usize = 8;
/// Which seats are the survivors', and the one's that repairs; the victim's is 0.
const SURVIVORS: u32 = 1;
const REPAIRER: u32 = 3;

/// The first life of a seat.
fn first_life(board: Board<'_>, index: u32) -> SeatAt {
    SeatAt { index, life: 0, owner: board.owner().expect("it has one") }
}

/// A byte of a cell's payload.
fn byte(board: Board<'_>, cell: u32, at: usize) -> *mut u8 {
    let payload = board.payload(cell).expect("there is such a cell");
    // SAFETY: within the payload, as all who ask for it do.
    unsafe { payload.as_ptr().add(at) }
}

/// Fills a free cell with items, the first of which has this number.
fn fill(board: Board<'_>, cell: u32, first: u8, count: u8) {
    for (at, value) in [(FIRST, first), (COUNT, count)] {
        // SAFETY: the cell is free, and so its owner's.
        unsafe { byte(board, cell, at).write_volatile(value) };
    }
}

/// Answers all items of a lease.
fn work(board: Board<'_>, lease: &Lease<'_>) {
    // SAFETY: the lease makes the cell this worker's; so in the loop.
    let [first, count] =
        [FIRST, COUNT].map(|at| unsafe { byte(board, lease.cell(), at).read_volatile() });
    for item in 0..count {
        let answer = byte(board, lease.cell(), ANSWERS + usize::from(item));
        // SAFETY: as above.
        unsafe { answer.write_volatile(100 + first + item) };
        lease.answered(u32::from(item) + 1);
    }
}

/// A pool whose owner set the scene, and one of whose workers is the victim.
struct Desk {
    ground: Ground,
    board: Board<'static>,
    ledger: Ledger,
    /// Whether the tasks come only when the victim sleeps.
    late: Cell<bool>,
    tickets: Cell<[Option<Ticket>; 4]>,
}

impl Desk {
    fn new(late: bool) -> &'static Desk {
        let ground = Ground::new(8);
        let board = Board::create(ground.region(), ground.place(0), PLAN, ground.me());
        let board = board.expect("a board");
        for seat in 0..PLAN.seats {
            board.reserve(seat).expect("an empty seat");
        }
        let (ledger, tickets) = (Ledger::new(), Cell::new([None; 4]));
        let desk = Desk { ground, board, ledger, late: Cell::new(late), tickets };
        if !late {
            desk.publish_all();
        }
        Box::leak(Box::new(desk))
    }

    fn publish_all(&self) {
        let tickets = [0u32, 1, 2, 3].map(|cell| {
            let first = cell as u8 * ITEMS;
            fill(self.board, cell, first, ITEMS);
            for item in first..first + ITEMS {
                self.ledger.begin(item.into());
                self.ledger.acknowledge(item.into());
            }
            Some(self.board.publish(self.ground.me(), cell).expect("it is free"))
        });
        self.tickets.set(tickets);
    }

    fn sit(&self, index: u32) -> Worker<'static> {
        let worker = self.board.sit(self.ground.me(), first_life(self.board, index));
        let worker = worker.expect("the seat is kept");
        worker.ready();
        worker
    }

    fn enter_and_sit(&'static self) -> Worker<'static> {
        self.enter();
        self.sit(0)
    }

    /// Takes something, does it, and gives it back.
    fn do_one(&self, worker: &mut Worker<'_>) {
        if let Ok(Take::Lease(lease)) = worker.take(Deadline::after(SOON)) {
            work(self.board, &lease);
            let _ = lease.finish();
        }
    }

    /// Does what there is.
    fn do_all(&self, worker: &mut Worker<'_>) -> Result<(), Trouble> {
        loop {
            match worker.take(Deadline::NOW) {
                Ok(Take::Lease(lease)) => {
                    work(self.board, &lease);
                    if !lease.finish() {
                        return Err(Trouble::Wrong("nobody revokes anything".into()));
                    }
                }
                Ok(Take::TimedOut) => return Ok(()),
                Ok(Take::Leave(why)) => return Err(Trouble::Wrong(format!("told to go: {why:?}"))),
                Err(error) => return Err(Trouble::Wrong(error.to_string())),
            }
        }
    }

    /// What the owner does with a cell that is its own again: notes the answers, and publishes the rest anew.
    fn collect(&self, ticket: Ticket, progress: u32) -> Option<Ticket> {
        // SAFETY: the cell is the owner's; so in the loop.
        let [first, count] =
            [FIRST, COUNT].map(|at| unsafe { byte(self.board, ticket.cell(), at).read_volatile() });
        for item in 0..progress as u8 {
            let at = ANSWERS + usize::from(item);
            // SAFETY: as above.
            match unsafe { byte(self.board, ticket.cell(), at).read_volatile() } {
                answer if answer == 100 + first + item => {
                    self.ledger.receive(u64::from(first + item));
                }
                _ => drop(self.ledger.tear()),
            }
        }
        let me = self.ground.me();
        assert!(self.board.free(me, ticket), "it is the owner's");
        let left = count.checked_sub(progress as u8).filter(|left| *left > 0)?;
        fill(self.board, ticket.cell(), first + progress as u8, left);
        Some(self.board.publish(me, ticket.cell()).expect("it is free"))
    }

    /// What the owner does when workers have died, until nothing is left of theirs.
    fn reclaim(&self) {
        let me = self.ground.me();
        for (_, tag) in self.board.seated() {
            if me.verdict(tag) != Verdict::Dead {
                continue;
            }
            for ticket in self.board.leases_of(tag) {
                let progress = self.board.reclaim(me, ticket, tag).expect("the dead one's");
                let mut tickets = self.tickets.get();
                tickets[ticket.cell() as usize] = self.collect(ticket, progress);
                self.tickets.set(tickets);
            }
        }
    }
}

impl Scene for Desk {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        self.do_all(&mut self.sit(SURVIVORS + who))
    }

    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let mut worker = self.sit(REPAIRER);
        self.do_one(&mut worker);
        worker.leaves();
        Ok(())
    }

    fn release(&self) {
        if self.late.replace(false) {
            self.publish_all();
        }
    }

    /// The owner reclaims what the dead had, does what is left, and collects.
    fn audit(&self) -> Result<Audit, String> {
        self.reclaim();
        let me = self.ground.me();
        let last = self.board.seated().map(|(at, _)| at.index).max().unwrap_or(0);
        for (at, tag) in self.board.seated() {
            if me.verdict(tag) == Verdict::Dead && !self.board.vacate(at) {
                return Err(format!("seat {} of a dead worker cannot be had", at.index));
            }
        }
        let at = self.board.reserve(last).ok_or("the dead one's seat is empty")?;
        let mut worker = self.board.sit(me, at).map_err(|error| error.to_string())?;
        self.do_all(&mut worker).map_err(|trouble| trouble.to_string())?;
        let mut stuck = 0;
        for ticket in self.tickets.get().into_iter().flatten() {
            match self.board.look(ticket) {
                Look::Done { progress } => match self.collect(ticket, progress) {
                    None => {}
                    Some(_) => stuck += 1,
                },
                _ => stuck += 1,
            }
        }
        Ok(Audit { stuck, ..self.ledger.audit() })
    }
}

/// A pool whose owner is the victim.
struct Orphans {
    ground: Ground,
}

impl Orphans {
    fn new() -> &'static Orphans {
        Box::leak(Box::new(Orphans { ground: Ground::new(8) }))
    }

    fn open(&self) -> Result<Board<'static>, String> {
        Board::open(self.ground.region(), self.ground.place(0)).map_err(|error| error.to_string())
    }

    /// Makes the board, and publishes two tasks.
    fn found(&'static self) -> (Board<'static>, [Ticket; 2]) {
        self.enter();
        let me = self.ground.me();
        let board = Board::create(self.ground.region(), self.ground.place(0), PLAN, me);
        let board = board.expect("a board");
        for seat in 0..PLAN.seats {
            board.reserve(seat).expect("an empty seat");
        }
        let tickets = [0, 1].map(|cell| {
            fill(board, cell, 0, ITEMS);
            board.publish(me, cell).expect("it is free")
        });
        (board, tickets)
    }

    /// The same, when one task is done.
    fn found_and_work(&'static self) -> (Board<'static>, [Ticket; 2]) {
        let (board, tickets) = self.found();
        let worker = board.sit(self.ground.me(), first_life(board, 0));
        let mut worker = worker.expect("the seat is kept");
        if let Ok(Take::Lease(lease)) = worker.take(Deadline::NOW) {
            work(board, &lease);
            assert!(lease.finish());
        }
        assert!(board.vacate(worker.at()));
        (board, tickets)
    }
}

impl Scene for Orphans {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    /// A worker that goes on until it is told to leave, and why.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        let board = self.open()?;
        let at = first_life(board, SURVIVORS + who);
        let mut worker = board.sit(self.ground.me(), at).map_err(|error| error.to_string())?;
        worker.ready();
        loop {
            match worker.take(Deadline::after(SOON)) {
                Ok(Take::Lease(lease)) => {
                    work(board, &lease);
                    if !lease.finish() {
                        return Err(Trouble::Wrong("nobody revokes anything".into()));
                    }
                }
                Ok(Take::Leave(Leave::OwnerDied | Leave::Drained)) => return Ok(()),
                Ok(Take::Leave(why)) => return Err(Trouble::Wrong(format!("told to go: {why:?}"))),
                Ok(Take::TimedOut) => return Err(Trouble::Late("beside a dead owner".into())),
                Err(error) => return Err(Trouble::Wrong(error.to_string())),
            }
        }
    }

    /// All are gone: a sweep may free the board.
    fn audit(&self) -> Result<Audit, String> {
        let board = self.open()?;
        let me = self.ground.me();
        let stuck = board.seated().map(|(_, tag)| board.leases_of(tag).count()).sum::<usize>()
            + usize::from(!board.is_abandoned(me));
        Ok(Audit { stuck: stuck as u32, ..Audit::default() })
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use {Desk as D, Orphans as O};
    vec![
        Operation::new(
            "board.sit",
            || D::new(false),
            D::enter,
            |s, ()| {
                s.sit(0).leaves();
            },
        ),
        Operation::new(
            "board.take",
            || D::new(false),
            D::enter_and_sit,
            |s, mut worker| {
                s.do_one(&mut worker);
            },
        )
        .twice(0),
        Operation::new(
            "board.take.asleep",
            || D::new(true),
            D::enter_and_sit,
            |s, mut worker| {
                s.do_one(&mut worker);
            },
        ),
        Operation::new("board.publish", O::new, O::found, |s, (board, _)| {
            for cell in [2, 3] {
                fill(board, cell, 0, ITEMS);
                let _ = board.publish(s.ground.me(), cell);
            }
        }),
        Operation::new("board.withdraw", O::new, O::found, |s, (board, tickets)| {
            let me = s.ground.me();
            for ticket in tickets {
                if board.withdraw(me, ticket) && board.free(me, ticket) {
                    let _ = board.publish(me, ticket.cell());
                }
            }
        }),
        Operation::new("board.collect", O::new, O::found_and_work, |s, (board, tickets)| {
            let me = s.ground.me();
            if board.wait_cell(me, tickets[0], Deadline::NOW)
                && matches!(board.look(tickets[0]), Look::Done { .. })
                && board.free(me, tickets[0])
            {
                let _ = board.publish(me, tickets[0].cell());
            }
        }),
        Operation::new("board.order", O::new, O::found, |s, (board, _)| {
            let me = s.ground.me();
            board.retire(me, first_life(board, 0));
            board.order(me, Order::Drain);
            board.vacate(first_life(board, 0));
        }),
    ]
}
