//! The board in one process, each thread with a seat of its own in the region: its deaths are declared.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use super::*;
use crate::region::testing::Bytes;
use crate::region::{Membership, Region};
use crate::sys::Deadline;

const AT: u64 = 1 << 19;
const PLAN: Plan = Plan { cells: 4, seats: 2 };

/// What is expected comes long before that.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A board of `plan` with its owner's seat in the region.
fn owned<'r>(region: &Region<'r>, seat: &Membership<'_>, plan: Plan) -> Board<'r> {
    Board::create(region, AT, plan, seat.member()).unwrap()
}

/// A worker that is ready.
fn worker<'r>(board: Board<'r>, seat: &'r Membership<'r>) -> Worker<'r> {
    let at = (0..board.plan().seats).find_map(|index| board.reserve(index)).unwrap();
    let worker = board.sit(seat.member(), at).unwrap();
    assert!(worker.ready());
    worker
}

/// Declares it dead, as the kernel would.
fn bury(region: &Region<'_>, seat: &Membership<'_>) {
    region.participants().declare_dead(seat.member().tag().unwrap());
}

#[track_caller]
fn lease<'r>(worker: &mut Worker<'r>) -> Lease<'r> {
    match worker.take(Deadline::NOW).unwrap() {
        Take::Lease(lease) => lease,
        other => panic!("nothing is queued: {other:?}"),
    }
}

#[track_caller]
fn leave(worker: &mut Worker<'_>) -> Leave {
    match worker.take(Deadline::NOW).unwrap() {
        Take::Leave(why) => why,
        other => panic!("it is to leave: {other:?}"),
    }
}

#[track_caller]
fn nothing(worker: &mut Worker<'_>) {
    let found = worker.take(Deadline::NOW).unwrap();
    assert!(matches!(found, Take::TimedOut), "{found:?}");
}

#[test]
fn what_was_made_can_be_opened() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let owner = region.join().unwrap();
    let me = owner.member();
    assert_eq!(Board::open(&region, AT).unwrap_err(), BoardPlaceError::NoBoard { found: 0 });
    for (cells, seats) in [(0, 1), (3, 1), (MOST_CELLS * 2, 1), (4, 0), (4, MOST_SEATS + 1)] {
        let error = Board::create(&region, AT, Plan { cells, seats }, me).unwrap_err();
        assert_eq!(error, BoardPlaceError::Plan { cells, seats });
    }
    for at in [AT + 8, 1 << 20, u64::MAX - 100] {
        let error = Board::create(&region, at, PLAN, me).unwrap_err();
        assert!(matches!(error, BoardPlaceError::Region(_)), "{error}");
    }
    owned(&region, &owner, PLAN);
    let seen = Board::open(&region, AT).unwrap();
    assert_eq!((seen.plan(), seen.owner()), (PLAN, me.current_tag()));
    bytes.word(AT as usize + 4).store(5, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        Board::open(&region, AT).unwrap_err(),
        BoardPlaceError::Damaged { cells: 5, seats: 2 }
    );
    assert!(Board::bytes(PLAN).is_multiple_of(128));
    assert_eq!(Board::bytes(Plan { cells: u32::MAX, seats: 1 }), u64::MAX);
}

#[test]
fn a_cell_goes_round() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    for lap in 0..20 {
        let ticket = board.publish(me, 2).unwrap();
        assert_eq!((ticket.cell(), ticket.lap()), (2, lap));
        assert_eq!(board.look(ticket), Look::Queued);
        assert_eq!(board.publish(me, 2), Err(Corrupt), "it is not free");
        let lease = lease(&mut worker);
        assert_eq!((lease.ticket(), lease.is_wanted()), (ticket, true));
        lease.answered(7);
        let tag = other.member().tag().unwrap();
        assert_eq!(board.look(ticket), Look::Taken { tag, progress: 7 });
        assert_eq!(board.record(worker.at()).running, Some(ticket.number()));
        assert!(!board.free(me, ticket) && !board.withdraw(me, ticket));
        assert!(!board.is_over(ticket) && !board.passed(ticket.number()));
        assert!(lease.finish());
        assert_eq!(board.look(ticket), Look::Done { progress: 7 });
        assert!(board.is_over(ticket) && !board.passed(ticket.number()));
        assert!(board.free(me, ticket));
        assert!(!board.free(me, ticket));
        assert_eq!(board.look(ticket), Look::Gone);
        assert!(board.is_over(ticket) && board.passed(ticket.number()));
        nothing(&mut worker);
    }
    let record = board.record(worker.at());
    assert_eq!((record.chunks, record.running), (20, None));
    assert_eq!(board.publish(me, 4), Err(Corrupt), "there is no such cell");
}

#[test]
fn cells_are_taken_in_the_order_of_their_publication() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    for cell in [2, 0, 3, 1] {
        board.publish(me, cell).unwrap();
    }
    for cell in [2, 0, 3, 1] {
        assert_eq!(lease(&mut worker).cell(), cell);
    }
    nothing(&mut worker);
}

#[test]
fn what_is_withdrawn_is_never_taken() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    let gone = board.publish(me, 0).unwrap();
    let there = board.publish(me, 1).unwrap();
    assert!(board.withdraw(me, gone));
    assert!(!board.withdraw(me, gone));
    assert_eq!(board.look(gone), Look::Held { progress: 0 });
    assert_eq!(lease(&mut worker).ticket(), there);
    nothing(&mut worker);
    assert!(board.free(me, gone));
    assert_eq!(lease_again(board, &owner, &mut worker), 0);
}

/// Publishes cell 0 once more; the lap of what is taken then, less one.
fn lease_again(board: Board<'_>, owner: &Membership<'_>, worker: &mut Worker<'_>) -> u32 {
    board.publish(owner.member(), 0).unwrap();
    lease(worker).ticket().lap() - 1
}

#[test]
fn what_is_revoked_is_not_finished() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    let tag = other.member().tag().unwrap();
    let ticket = board.publish(me, 1).unwrap();
    assert_eq!(board.revoke(ticket), None, "nobody has it");
    let lease = lease(&mut worker);
    lease.answered(3);
    assert_eq!(board.revoke(ticket), Some(tag));
    assert_eq!(board.revoke(ticket), None);
    assert!(!lease.is_wanted());
    assert_eq!(board.look(ticket), Look::Revoked { tag, progress: 3 });
    assert!(!lease.finish());
    assert_eq!(Vec::from_iter(board.leases_of(tag)), [ticket]);
    bury(&region, &other);
    assert_eq!(board.reclaim(me, ticket, me.tag().unwrap()), None, "another had it");
    assert_eq!(board.reclaim(me, ticket, tag), Some(3));
    assert_eq!(board.reclaim(me, ticket, tag), None);
    assert_eq!(board.leases_of(tag).count(), 0);
    assert!(board.free(me, ticket));
}

#[test]
fn a_dead_workers_cell_comes_back_with_what_it_had_answered() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut first = worker(board, &other);
    let tickets = [0, 1].map(|cell| board.publish(me, cell).unwrap());
    let (finished, held) = (lease(&mut first), lease(&mut first));
    assert!(finished.finish());
    held.answered(2);
    bury(&region, &other);
    let tag = other.member().tag().unwrap();
    assert_eq!(board.reclaim(me, tickets[0], tag), None, "it had finished");
    assert_eq!(board.reclaim(me, tickets[1], tag), Some(2));
    assert_eq!(board.look(tickets[0]), Look::Done { progress: 0 });
}

#[test]
fn orders_are_followed() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, here, there) =
        (region.join().unwrap(), region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let (mut one, mut two) = (worker(board, &here), worker(board, &there));
    board.retire(me, one.at());
    board.publish(me, 0).unwrap();
    assert_eq!(leave(&mut one), Leave::Retired);
    assert!(one.leaves());
    assert_eq!(board.seat(one.at()), SeatLook::Leaving(here.member().tag().unwrap()));
    board.order(me, Order::Drain);
    assert_eq!(lease(&mut two).cell(), 0);
    assert_eq!(leave(&mut two), Leave::Drained);
    board.publish(me, 1).unwrap();
    board.order(me, Order::Stop);
    assert_eq!(leave(&mut two), Leave::Stopped);
    assert_eq!(board.current_order(), Order::Stop);
}

#[test]
fn a_worker_leaves_when_its_owner_is_dead() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let board = owned(&region, &owner, PLAN);
    let mut worker = worker(board, &other);
    bury(&region, &owner);
    assert!(matches!(worker.take(soon()), Ok(Take::Leave(Leave::OwnerDied))));
    assert!(!board.is_abandoned(other.member()), "the worker lives");
    let last = region.join().unwrap();
    bury(&region, &other);
    assert!(board.is_abandoned(last.member()));
}

#[test]
fn a_seat_has_lives() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let board = owned(&region, &owner, PLAN);
    assert!(board.is_deserted());
    let first = board.reserve(1).unwrap();
    assert_eq!((board.reserve(1), board.reserve(2)), (None, None));
    assert_eq!(board.seat(first), SeatLook::Reserved);
    assert!(!board.is_deserted());
    assert!(board.vacate(first));
    assert!(!board.vacate(first));
    let second = board.reserve(1).unwrap();
    let late = board.sit(other.member(), first).unwrap_err();
    assert_eq!(late, SitError::NotReserved { index: 1 });
    let worker = board.sit(other.member(), second).unwrap();
    let tag = other.member().tag().unwrap();
    assert_eq!(board.seat(second), SeatLook::Starting(tag));
    assert!(board.sit(other.member(), second).is_err());
    assert!(worker.ready() && !worker.ready());
    worker.note_since(5);
    worker.note_resident(6);
    let record = SeatRecord { since: 5, resident: 6, ..SeatRecord::default() };
    assert_eq!(board.record(second), record);
    assert_eq!(Vec::from_iter(board.seated()), [(second, tag)]);
    assert!(!board.vacate(first), "another life is in it");
    assert!(board.vacate(second));
    assert!(!worker.leaves(), "it was given up");
    assert_eq!(board.seat(second), SeatLook::Empty);
    assert_eq!(board.record(board.reserve(1).unwrap()), SeatRecord::default());
}

#[test]
fn who_comes_for_a_dead_owners_seat_is_turned_away() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, late) = (region.join().unwrap(), region.join().unwrap());
    let board = owned(&region, &owner, PLAN);
    let at = board.reserve(0).unwrap();
    assert!(!board.is_abandoned(late.member()));
    bury(&region, &owner);
    assert!(board.is_abandoned(late.member()));
    assert!(board.sit(late.member(), at).is_err());
}

/// One cell stays queued while the others are published and withdrawn, several times round the ring.
#[test]
fn what_nobody_takes_is_not_overtaken_by_the_ring() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    let waiting = [0, 1].map(|cell| board.publish(me, cell).unwrap());
    for _ in 0..50 {
        for cell in [2, 3] {
            let ticket = board.publish(me, cell).unwrap();
            assert!(board.withdraw(me, ticket) && board.free(me, ticket));
        }
    }
    let last = board.publish(me, 2).unwrap();
    let taken: BTreeSet<_> = (0..3).map(|_| lease(&mut worker).ticket().number()).collect();
    assert_eq!(taken, BTreeSet::from([waiting[0], waiting[1], last].map(Ticket::number)));
    nothing(&mut worker);
}

/// As many as there are cells, again and again, so that the ring comes round within one publication; among them one that is not free.
#[test]
fn what_is_published_together_is_taken_in_order() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    let stays = board.publish(me, 0).unwrap();
    let kept = lease(&mut worker);
    assert_eq!(kept.ticket(), stays);
    for _ in 0..20 {
        let free = [3, 1, 2].map(|cell| board.ticket(cell).unwrap());
        assert!(board.publish_all(me, &[3, 0, 1, 2, 99]).is_err());
        assert_eq!(board.untaken(), 3);
        for ticket in free {
            board.expect(ticket);
            let lease = lease(&mut worker);
            assert_eq!(lease.ticket(), ticket);
            assert!(lease.finish() && board.free(me, ticket));
        }
        nothing(&mut worker);
    }
    assert!(kept.finish() && board.publish_all(me, &[]).is_ok());
    nothing(&mut worker);
}

/// A worker that was stopped stores a head of long ago: all else goes on.
#[test]
fn the_head_may_go_back() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, here, there) =
        (region.join().unwrap(), region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let (mut one, mut two) = (worker(board, &here), worker(board, &there));
    for turn in 0..100 {
        let ticket = board.publish(me, turn % 4).unwrap();
        let lease = lease(if turn % 3 == 0 { &mut one } else { &mut two });
        assert_eq!(lease.ticket(), ticket);
        assert!(lease.finish() && board.free(me, ticket));
        // Relaxed: one thread.
        board.head.head.store(u64::from(turn) / 9, core::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn damage_is_reported() {
    use core::sync::atomic::Ordering::Relaxed;
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let (me, board) = (owner.member(), owned(&region, &owner, PLAN));
    let mut worker = worker(board, &other);
    let ticket = board.publish(me, 0).unwrap();
    board.ring[0].store(u32::MAX, Relaxed);
    assert_eq!(worker.take(Deadline::NOW).unwrap_err(), Corrupt);
    board.ring[0].store(ticket.number(), Relaxed);
    board.head.head.store(u64::MAX, Relaxed);
    assert_eq!(worker.take(Deadline::NOW).unwrap_err(), Corrupt);
    board.head.head.store(0, Relaxed);
    board.cells[0].word.store(u64::MAX, Relaxed);
    assert_eq!(board.look(ticket), Look::Gone);
    assert!(board.is_over(ticket) && !board.free(me, ticket));
    nothing(&mut worker);
    assert_eq!(board.publish(me, 0), Err(Corrupt));
}

/// Two workers and an owner that publishes as fast as cells come back: each item once.
#[test]
fn many_go_through() {
    const TASKS: u32 = 100_000;
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let owner = region.join().unwrap();
    let me = owner.member();
    let board = owned(&region, &owner, Plan { cells: 8, seats: 2 });
    let seats = [(); 2].map(|()| region.join().unwrap());
    thread::scope(|scope| {
        let workers = seats.each_ref().map(|seat| {
            scope.spawn(move || {
                let mut worker = worker(board, seat);
                let mut count = 0;
                loop {
                    match worker.take(soon()).unwrap() {
                        Take::Lease(lease) => {
                            // SAFETY: the lease makes the payload this thread's; it is aligned for a u32.
                            unsafe { *lease.payload().cast::<u32>().as_ptr() *= 2 };
                            lease.answered(1);
                            assert!(lease.finish());
                            count += 1;
                        }
                        Take::Leave(why) => {
                            assert_eq!(why, Leave::Drained);
                            return count;
                        }
                        Take::TimedOut => panic!("nothing came"),
                    }
                }
            })
        });
        let payload = |cell| board.payload(cell).unwrap().cast::<u32>();
        let mut tickets: [Option<(Ticket, u32)>; 8] = [None; 8];
        let mut collect = |cell: u32, next: Option<u32>| {
            let place = &mut tickets[cell as usize];
            if let Some((ticket, sent)) = place.take() {
                assert!(board.wait_cell(me, ticket, soon()), "lost");
                assert_eq!(board.look(ticket), Look::Done { progress: 1 });
                // SAFETY: the cell is done, and so this thread's.
                assert_eq!(unsafe { payload(cell).read() }, sent * 2);
                assert!(board.free(me, ticket));
            }
            if let Some(task) = next {
                // SAFETY: the cell is free, and so this thread's.
                unsafe { payload(cell).write(task) };
                *place = Some((board.publish(me, cell).unwrap(), task));
            }
        };
        for task in 0..TASKS {
            collect(task % 8, Some(task));
        }
        (0..8).for_each(|cell| collect(cell, None));
        board.order(me, Order::Drain);
        let done: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(done, TASKS);
    });
}

/// Else it would be late before it has begun.
#[test]
fn a_chunk_is_not_timed_by_the_one_before() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (owner, other) = (region.join().unwrap(), region.join().unwrap());
    let board = owned(&region, &owner, PLAN);
    let mut worker = worker(board, &other);
    let me = owner.member();
    for cell in 0..3 {
        worker.note_since(5);
        let ticket = board.publish(me, cell).unwrap();
        let lease = lease(&mut worker);
        let fresh = board.record(worker.at());
        assert_eq!((fresh.running, fresh.since), (Some(ticket.number()), 0));
        worker.note_since(6);
        let begun = board.record(worker.at());
        assert_eq!((begun.running, begun.since), (Some(ticket.number()), 6));
        assert!(lease.finish());
    }
}
