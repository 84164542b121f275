//! A pool's board whose head, seats, cells and ring are written over, before and while owner and workers use it.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::pool::{
    Board, Lease, MOST_CELLS, MOST_SEATS, Order, PAYLOAD, Plan, SeatAt, Take, Ticket, Worker,
};
use procession_core::region::{CHUNK, Kind};
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    private: bool,
    cells: u8,
    seats: u8,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Publish(u16),
    Withdraw(u8),
    Revoke(u8),
    Reclaim(u8),
    ReclaimAll,
    Free(u8),
    Look(u8),
    Order(u8),
    Reserve(u16),
    Sit(u8, bool),
    Ready(u8),
    Leave(u8),
    Retire(u8),
    Vacate(u8),
    Take(u8),
    Answer(u8, u32),
    Finish(u8),
    /// The other process dies.
    Die,
    Wait,
    Ask(u32),
    Open,
    Damage(Damage),
}

const POOL: Kind = Kind::new(1).unwrap();

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(16 * 65536));

/// Some one of them.
fn pick<T>(things: &[T], at: u8) -> Option<&T> {
    (!things.is_empty()).then(|| &things[usize::from(at) % things.len()])
}

/// Writes to all of a payload, and reads it: the sanitizer sees what lies outside.
fn touch(payload: std::ptr::NonNull<u8>) {
    for at in 0..PAYLOAD {
        // SAFETY: whoever gave it out promises so many bytes; one thread fuzzes.
        unsafe {
            let byte = payload.as_ptr().add(at);
            byte.write_volatile(byte.read_volatile().wrapping_add(1));
        }
    }
}

fuzz_target!(|input: Input| {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let plan = Plan { cells: 1 << (input.cells % 9), seats: u32::from(input.seats % 9) + 1 };
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    let me = seat.member();
    let bytes = Board::bytes(plan);
    let place = region.allocate_object(me, POOL, bytes).expect("room for a board").offset;
    let mut board = Board::create(&region, place, plan, me).expect("a plan");
    let start = place as usize;
    let within = start..start + bytes as usize;
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(within.len())]);
    let cells = start + 640 + 128 * plan.seats as usize;
    let ring = cells + 256 * plan.cells as usize;
    // The head; the seats; the cells; the ring; rows of participants; what lies behind.
    let areas = [
        start..start + 640,
        start + 640..cells,
        cells..ring,
        ring..within.end,
        4160..4224,
        within.end..within.end + CHUNK as usize,
    ];
    let mut tickets: Vec<Ticket> = vec![];
    let mut seats: Vec<SeatAt> = vec![SeatAt { index: u32::MAX, life: u32::MAX, owner: me.tag().expect("a name") }];
    let mut workers: Vec<Worker<'_>> = vec![];
    let mut leases: Vec<Lease<'_>> = vec![];
    // Waiting takes its time: once is enough.
    let mut soon = Some(Duration::from_millis(2));
    for act in input.acts.iter().take(300) {
        match act {
            Act::Publish(cell) => {
                let cell = u32::from(*cell) % (plan.cells + 2);
                board.payload(cell).into_iter().for_each(touch);
                if let Ok(ticket) = board.ticket(cell) {
                    assert_eq!(ticket.cell(), cell);
                    tickets.extend(board.publish(me, cell).ok());
                }
            }
            Act::Withdraw(at) => {
                pick(&tickets, *at).map(|ticket| board.withdraw(me, *ticket));
            }
            Act::Revoke(at) => drop(pick(&tickets, *at).map(|ticket| board.revoke(*ticket))),
            Act::Reclaim(at) => {
                if let Some(tag) = other.member().current_tag() {
                    pick(&tickets, *at).map(|ticket| board.reclaim(me, *ticket, tag));
                }
            }
            Act::ReclaimAll => {
                if let Some(tag) = other.member().current_tag() {
                    for ticket in board.leases_of(tag) {
                        assert!(ticket.cell() < MOST_CELLS);
                        if board.reclaim(me, ticket, tag).is_some() {
                            assert!(board.free(me, ticket));
                        }
                    }
                }
            }
            Act::Free(at) => drop(pick(&tickets, *at).map(|ticket| board.free(me, *ticket))),
            Act::Look(at) => {
                if let Some(ticket) = pick(&tickets, *at) {
                    let _ = (board.look(*ticket), board.is_over(*ticket));
                }
            }
            Act::Order(order) => {
                let orders = [Order::Run, Order::Drain, Order::Stop];
                board.order(me, orders[usize::from(*order) % 3]);
            }
            Act::Reserve(seat) => seats.extend(board.reserve(u32::from(*seat))),
            Act::Sit(at, here) => {
                let who = if *here { me } else { other.member() };
                if let Some(at) = pick(&seats, *at)
                    && workers.len() < 20
                {
                    workers.extend(board.sit(who, *at));
                }
            }
            Act::Ready(at) => drop(pick(&workers, *at).map(Worker::ready)),
            Act::Leave(at) => drop(pick(&workers, *at).map(Worker::leaves)),
            Act::Retire(at) => drop(pick(&seats, *at).map(|at| board.retire(me, *at))),
            Act::Vacate(at) => drop(pick(&seats, *at).map(|at| board.vacate(*at))),
            Act::Take(at) => {
                let count = workers.len().max(1);
                if let Some(worker) = workers.get_mut(usize::from(*at) % count)
                    && let Ok(Take::Lease(lease)) = worker.take(Deadline::NOW)
                {
                    touch(lease.payload());
                    leases.push(lease);
                }
            }
            Act::Answer(at, progress) => {
                if let Some(lease) = pick(&leases, *at) {
                    lease.answered(*progress);
                    let _ = lease.is_wanted();
                }
            }
            Act::Finish(at) => {
                if !leases.is_empty() {
                    let _ = leases.swap_remove(usize::from(*at) % leases.len()).finish();
                }
            }
            Act::Die => {
                if let Some(tag) = other.member().current_tag() {
                    region.participants().declare_dead(tag);
                }
            }
            Act::Wait => {
                if let Some(soon) = soon.take() {
                    if let Some(worker) = workers.first_mut() {
                        let _ = worker.take(Deadline::after(soon));
                    }
                    if let Some(ticket) = tickets.last() {
                        let _ = board.wait_cell(me, *ticket, Deadline::after(soon));
                    }
                }
            }
            Act::Ask(number) => {
                let _ = (board.passed(*number), board.owner(), board.current_order());
                let _ = (board.is_deserted(), board.is_abandoned(me), format!("{board:?}"));
                assert!(board.seated().all(|(at, _)| at.index < MOST_SEATS));
                for at in &seats {
                    let _ = (board.seat(*at), board.record(*at));
                }
            }
            Act::Open => {
                // As posix does: no larger than its room.
                if let Ok(again) = Board::open(&region, place)
                    && Board::bytes(again.plan()) <= bytes
                {
                    board = again;
                }
            }
            Act::Damage(damage) => damage.apply(&MEMORY, &areas),
        }
    }
});
