//! The board of a pool: each cell done once, nothing lost with the dead, and nobody asleep beside what is to be done.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::pool::model::BoardHeap;
use procession_core::pool::{
    Board, Lease, Leave, Look, Order, PAYLOAD, Plan, SeatAt, SeatLook, Take, Ticket, Worker,
};
use procession_core::region::{Member, Tag};
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::model::{self, Mutation, Sleeps};
use procession_core::sys::spin::Pace;

use crate::world::{Process, explore, explore_deaths};

type Heap = Arc<BoardHeap>;

fn heap(cells: u32, seats: u32, owner: &Process) -> Heap {
    Arc::new(BoardHeap::new(Plan { cells, seats }, tag(owner.me())))
}

fn tag(me: Member<'_>) -> Tag {
    me.tag().expect("joined before")
}

/// Fills a cell and queues it.
fn publish(board: Board<'_>, me: Member<'_>, cell: u32, items: u8) -> Ticket {
    // SAFETY: the cell is free, and so the owner's.
    unsafe { board.item(cell).write([items; PAYLOAD]) };
    board.publish(me, cell).expect("it was free")
}

/// The same with several cells together.
fn publish_all<const N: usize>(board: Board<'_>, me: Member<'_>, cells: [u32; N]) -> [Ticket; N] {
    // SAFETY: the cells are free, and so the owner's.
    cells.iter().for_each(|cell| unsafe { board.item(*cell).write([1; PAYLOAD]) });
    let tickets = cells.map(|cell| board.ticket(cell).expect("it is free"));
    board.publish_all(me, &cells).expect("they were free");
    tickets
}

/// Does what a lease asks for, one item after the other: each answer says what its item was.
fn work(board: Board<'_>, lease: &Lease<'_>) {
    // SAFETY: the lease makes it this worker's.
    let mut payload = unsafe { board.item(lease.cell()).read() };
    let items = payload[0];
    for item in 1..=items {
        payload[usize::from(item)] = 100 + item;
        // SAFETY: as above.
        unsafe { board.item(lease.cell()).write(payload) };
        lease.answered(item.into());
    }
}

/// What a cell that is the owner's again holds, after checking the answers that it says are there.
fn read(board: Board<'_>, ticket: Ticket, answered: u32) -> u8 {
    // SAFETY: the owner has it back.
    let payload = unsafe { board.item(ticket.cell()).read() };
    for item in 1..=answered as usize {
        assert_eq!(payload[item], 100 + item as u8);
    }
    payload[0]
}

/// The first life of a seat.
fn first_life(board: Board<'_>, index: u32) -> SeatAt {
    SeatAt { index, life: 0, owner: board.owner().expect("it has one") }
}

/// Waits for a cell, and frees it; how many items it held, all of which were answered.
fn collect(board: Board<'_>, me: Member<'_>, ticket: Ticket) -> u8 {
    assert!(board.wait_cell(me, ticket, Deadline::NEVER));
    let Look::Done { progress } = board.look(ticket) else { panic!("it is done, and not freed") };
    let items = read(board, ticket, progress);
    assert_eq!(progress, u32::from(items));
    assert!(board.free(me, ticket));
    items
}

/// Works until it is told to leave; how much it did, and why it left.
fn worker_life(board: Board<'_>, me: Member<'_>, at: SeatAt) -> (u32, Option<Leave>) {
    let mut worker = board.sit(me, at).expect("the seat is kept");
    let mut done = 0;
    loop {
        match worker.take(Deadline::NEVER).expect("nothing is damaged") {
            Take::Lease(lease) => {
                work(board, &lease);
                if !lease.finish() {
                    return (done, None);
                }
                done += 1;
            }
            Take::Leave(why) => return (done, Some(why)),
            Take::TimedOut => unreachable!("it waits for ever"),
        }
    }
}

/// Takes what is there, without waiting.
fn try_take<'m>(worker: &mut Worker<'m>) -> Option<Lease<'m>> {
    match worker.take(Deadline::NOW).expect("nothing is damaged") {
        Take::Lease(lease) => Some(lease),
        Take::Leave(_) | Take::TimedOut => None,
    }
}

/// A worker with a thread of its own, in seat `index`.
fn spawn<R: 'static>(
    heap: &Heap,
    index: u32,
    life: impl FnOnce(Board<'_>, Member<'_>, SeatAt) -> R + 'static,
) -> JoinHandle<R> {
    let (heap, process) = (Arc::clone(heap), Process::new());
    let at = heap.board().reserve(index).expect("it is empty");
    thread::spawn(move || life(heap.board(), process.me(), at))
}

/// The owner publishes one cell for each of `items` and collects them; the workers do them.
fn exchange(cells: u32, workers: u32, items: &[u8]) {
    let owner = Process::new();
    let heap = heap(cells, workers, &owner);
    let lives: Vec<_> = (0..workers).map(|index| spawn(&heap, index, worker_life)).collect();
    let (board, me) = (heap.board(), owner.me());
    let mut tickets: Vec<Option<Ticket>> = vec![None; cells as usize];
    let last = std::iter::repeat_n(None, cells as usize);
    for (turn, items) in items.iter().copied().map(Some).chain(last).enumerate() {
        let cell = turn % cells as usize;
        if let Some(ticket) = tickets[cell].take() {
            collect(board, me, ticket);
        }
        tickets[cell] = items.map(|items| publish(board, me, cell as u32, items));
    }
    board.order(me, Order::Drain);
    let mut done = 0;
    for life in lives {
        let (count, why) = life.join().unwrap();
        assert_eq!(why, Some(Leave::Drained));
        done += count;
    }
    assert_eq!(done, items.len() as u32);
}

#[test]
fn one_cell_goes_round_and_the_ring_with_it() {
    explore(Sleeps::Endless, 1, || exchange(1, 1, &[1, 1, 1]));
}

#[test]
fn two_workers_sleep_beside_one_task() {
    explore(Sleeps::Endless, 1, || exchange(1, 2, &[1]));
}

/// Two workers take what is there while the owner publishes: each cell is one worker's, and none is passed over.
#[test]
fn two_workers_take_what_is_just_published() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(2, 3, &owner);
        let board = heap.board();
        let takers = [0, 1].map(|index| {
            spawn(&heap, index, |board, me, at| {
                let mut worker = board.sit(me, at).expect("the seat is kept");
                match try_take(&mut worker) {
                    Some(lease) => {
                        work(board, &lease);
                        assert!(lease.finish());
                        1
                    }
                    None => 0,
                }
            })
        });
        let tickets = [0, 1].map(|cell| publish(board, owner.me(), cell, 1));
        let done: u32 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        let last = Process::new();
        let mut worker = board.sit(last.me(), board.reserve(2).unwrap()).unwrap();
        let mut left = 0;
        while let Some(lease) = try_take(&mut worker) {
            work(board, &lease);
            assert!(lease.finish());
            left += 1;
        }
        assert_eq!(done + left, 2);
        assert!(tickets.iter().all(|ticket| collect(board, owner.me(), *ticket) == 1));
    });
}

/// Two workers wait, each for one of two cells that are published together: both are woken.
#[test]
fn what_is_published_together_wakes_one_worker_each() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(2, 2, &owner);
        let takers = [0, 1].map(|index| {
            spawn(&heap, index, |board, me, at| {
                let mut worker = board.sit(me, at).expect("the seat is kept");
                let Ok(Take::Lease(lease)) = worker.take(Deadline::NEVER) else {
                    panic!("one is there for each")
                };
                work(board, &lease);
                assert!(lease.finish());
            })
        });
        let (board, me) = (heap.board(), owner.me());
        let tickets = publish_all(board, me, [0, 1]);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert!(tickets.iter().all(|ticket| collect(board, me, *ticket) == 1));
    });
}

#[test]
fn who_waits_for_any_cell_is_woken() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let worker = spawn(&heap, 0, worker_life);
        let (board, me) = (heap.board(), owner.me());
        let tickets = [0, 1].map(|cell| publish(board, me, cell, 1));
        for _ in 0..2 {
            let done = |ticket: &Ticket| matches!(board.look(*ticket), Look::Done { progress: 1 });
            let look = |_| tickets.iter().copied().find(done);
            let found = board.answers().wait(me, Deadline::NEVER, Pace::Eager, look);
            let ticket = found.expect("it waits for ever");
            read(board, ticket, 1);
            assert!(board.free(me, ticket));
        }
        board.order(me, Order::Stop);
        worker.join().unwrap();
    });
}

#[test]
fn who_waits_for_a_worker_is_woken() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let process = Process::new();
        let at = heap.board().reserve(0).unwrap();
        let worker = thread::spawn({
            let heap = Arc::clone(&heap);
            move || {
                let worker = heap.board().sit(process.me(), at).unwrap();
                assert!(worker.ready());
            }
        });
        let (board, me) = (heap.board(), owner.me());
        let ready = |_| matches!(board.seat(at), SeatLook::Ready(_)).then_some(());
        assert!(board.answers().wait(me, Deadline::NEVER, Pace::Eager, ready).is_some());
        worker.join().unwrap();
    });
}

#[test]
fn each_order_reaches_who_sleeps() {
    for retire in [false, true] {
        explore(Sleeps::Endless, 2, move || {
            let owner = Process::new();
            let heap = heap(1, 2, &owner);
            let worker = spawn(&heap, 1, worker_life);
            let (board, me) = (heap.board(), owner.me());
            if retire {
                board.retire(me, first_life(board, 1));
            } else {
                board.order(me, Order::Stop);
            }
            let why = if retire { Leave::Retired } else { Leave::Stopped };
            assert_eq!(worker.join().unwrap(), (0, Some(why)));
        });
    }
}

#[test]
fn what_is_queued_before_the_order_to_drain_is_done() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let worker = spawn(&heap, 0, worker_life);
        let (board, me) = (heap.board(), owner.me());
        let tickets = [0, 1].map(|cell| publish(board, me, cell, 1));
        board.order(me, Order::Drain);
        assert_eq!(worker.join().unwrap(), (2, Some(Leave::Drained)));
        assert!(tickets.iter().all(|ticket| collect(board, me, *ticket) == 1));
    });
}

#[test]
fn what_is_withdrawn_is_not_done() {
    explore(Sleeps::Endless, 1, || {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let worker = spawn(&heap, 0, worker_life);
        let (board, me) = (heap.board(), owner.me());
        let first = publish(board, me, 0, 1);
        let second = publish(board, me, 1, 2);
        let withdrawn = board.withdraw(me, first);
        if withdrawn {
            assert_eq!(board.look(first), Look::Held { progress: 0 });
            assert_eq!(read(board, first, 0), 1);
            assert!(board.free(me, first));
        } else {
            collect(board, me, first);
        }
        // Again, in the same cell.
        let third = publish(board, me, 0, 3);
        assert_eq!([second, third].map(|ticket| collect(board, me, ticket)), [2, 3]);
        board.order(me, Order::Drain);
        let done = if withdrawn { 2 } else { 3 };
        assert_eq!(worker.join().unwrap(), (done, Some(Leave::Drained)));
    });
}

/// One cell stays queued while another is published and withdrawn, round the ring and on.
#[test]
fn what_is_queued_is_not_lost_when_the_ring_comes_round() {
    explore(Sleeps::Endless, 1, || {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let worker = spawn(&heap, 0, worker_life);
        let (board, me) = (heap.board(), owner.me());
        let first = publish(board, me, 0, 1);
        let mut done = 1;
        for _ in 0..4 {
            let other = publish(board, me, 1, 2);
            if board.withdraw(me, other) {
                assert!(board.free(me, other));
            } else {
                collect(board, me, other);
                done += 1;
            }
        }
        collect(board, me, first);
        board.order(me, Order::Drain);
        assert_eq!(worker.join().unwrap(), (done, Some(Leave::Drained)));
    });
}

#[test]
fn what_is_revoked_is_not_finished() {
    explore(Sleeps::Sliced, 2, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let process = Arc::new(Process::new());
        let at = heap.board().reserve(0).unwrap();
        let worker = thread::spawn({
            let (heap, process) = (Arc::clone(&heap), Arc::clone(&process));
            move || {
                let outcome = worker_life(heap.board(), process.me(), at);
                // It has to end.
                process.declare_dead();
                outcome
            }
        });
        let (board, me) = (heap.board(), owner.me());
        let ticket = publish(board, me, 0, 1);
        let revoked = board.revoke(ticket);
        match revoked {
            Some(owner) => {
                assert_eq!(owner, tag(process.me()));
                let (done, why) = worker.join().unwrap();
                assert_eq!((done, why), (0, None));
                let progress = board.reclaim(me, ticket, owner).expect("it had it");
                read(board, ticket, progress);
                assert!(board.free(me, ticket));
            }
            None => {
                collect(board, me, ticket);
                board.order(me, Order::Stop);
                assert_eq!(worker.join().unwrap(), (1, Some(Leave::Stopped)));
            }
        }
    });
}

#[test]
fn one_of_two_threads_frees() {
    explore(Sleeps::Endless, None, || {
        let owner = Arc::new(Process::new());
        let heap = heap(1, 1, &owner);
        let seat = Process::new();
        let board = heap.board();
        let at = board.reserve(0).unwrap();
        let mut worker = board.sit(seat.me(), at).unwrap();
        let ticket = publish(board, owner.me(), 0, 1);
        assert!(try_take(&mut worker).unwrap().finish());
        let other = thread::spawn({
            let (heap, owner) = (Arc::clone(&heap), Arc::clone(&owner));
            move || heap.board().free(owner.me(), ticket)
        });
        let freed = board.free(seat.me(), ticket);
        assert_ne!(freed, other.join().unwrap());
    });
}

/// A worker dies at each point; another goes on. What the dead one had comes back, and all is answered once.
#[test]
fn a_worker_dies() {
    explore_deaths(1, |fuel| {
        let owner = Process::new();
        let heap = heap(2, 2, &owner);
        let (board, me) = (heap.board(), owner.me());
        let victim = Arc::new(Process::new());
        let at = board.reserve(0).unwrap();
        let mut tickets = vec![publish(board, me, 0, 2), publish(board, me, 1, 1)];
        let dying = thread::spawn({
            let (heap, victim) = (Arc::clone(&heap), Arc::clone(&victim));
            move || {
                let board = heap.board();
                victim.live(fuel, |me| {
                    let mut worker = board.sit(me, at).expect("the seat is kept");
                    while let Some(lease) = try_take(&mut worker) {
                        work(board, &lease);
                        assert!(lease.finish());
                    }
                })
            }
        });
        let other = Process::new();
        let at_other = board.reserve(1).unwrap();
        let mut worker = board.sit(other.me(), at_other).unwrap();
        let mut help = |board: Board<'_>| {
            while let Some(lease) = try_take(&mut worker) {
                work(board, &lease);
                assert!(lease.finish());
            }
        };
        help(board);
        let died = dying.join().unwrap().is_none();
        let dead = tag(victim.me());
        let mut answered = 0;
        if died {
            for ticket in board.leases_of(dead).collect::<Vec<_>>() {
                let progress = board.reclaim(me, ticket, dead).expect("it is dead");
                let items = read(board, ticket, progress);
                assert!(board.free(me, ticket));
                answered += progress;
                tickets.retain(|other| *other != ticket);
                // It may have died between its last answer and the end.
                if progress < items.into() {
                    tickets.push(publish(board, me, ticket.cell(), items - progress as u8));
                }
            }
        }
        help(board);
        for ticket in tickets {
            assert!(board.is_over(ticket), "nobody is left to do it");
            answered += u32::from(collect(board, me, ticket));
        }
        assert_eq!(answered, 3);
        died
    });
}

/// The owner dies at each point; its worker leaves, and finds nothing that was half published.
#[test]
fn an_owner_dies() {
    explore_deaths(1, |fuel| {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let worker = spawn(&heap, 0, worker_life);
        let board = heap.board();
        let lived = owner.live(fuel, |me| {
            let tickets = [0, 1].map(|cell| publish(board, me, cell, 1));
            let _ = board.withdraw(me, tickets[0]) && board.free(me, tickets[0]);
            for ticket in tickets {
                if board.wait_cell(me, ticket, Deadline::NOW) {
                    board.free(me, ticket);
                }
            }
            board.order(me, Order::Drain);
        });
        let (_, why) = worker.join().unwrap();
        let died = lived.is_none();
        assert!(why == Some(Leave::OwnerDied) && died || why == Some(Leave::Drained), "{why:?}");
        died
    });
}

/// A worker says when it began; the owner never takes the time of one task for that of the next.
#[test]
fn a_time_is_that_of_its_task() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(2, 1, &owner);
        let (board, me) = (heap.board(), owner.me());
        let [_, second] = [0, 1].map(|cell| publish(board, me, cell, 1));
        let time = |ticket: Ticket| u64::from(ticket.cell()) + 1;
        let at = first_life(board, 0);
        let worker = spawn(&heap, 0, move |board, me, at| {
            let mut worker = board.sit(me, at).expect("the seat is kept");
            while let Some(lease) = try_take(&mut worker) {
                worker.note_since(time(lease.ticket()));
                assert!(lease.finish());
            }
        });
        if matches!(board.look(second), Look::Taken { .. }) {
            let since = board.record(at).since;
            assert!(since == 0 || since == time(second), "that was when the first began");
        }
        worker.join().unwrap();
    });
}

/// A worker sits down while its seat is given up.
#[test]
fn a_seat_is_one_workers() {
    explore(Sleeps::Endless, None, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let process = Process::new();
        let board = heap.board();
        let at = board.reserve(0).unwrap();
        let late = thread::spawn({
            let heap = Arc::clone(&heap);
            move || heap.board().sit(process.me(), at).is_ok()
        });
        let vacated = board.vacate(at);
        let sat = late.join().unwrap();
        match (sat, vacated) {
            (true, true) | (false, true) => assert!(board.is_deserted()),
            (true, false) => assert!(matches!(board.seat(at), SeatLook::Starting(_))),
            (false, false) => panic!("somebody was turned away from a seat that was kept"),
        }
    });
}

/// A sweep asks whether anybody is left, while another has freed the board and a new one is made in its place.
#[test]
fn a_new_board_is_not_given_up_with_the_old_one() {
    explore(Sleeps::Endless, None, || {
        let (old, new) = (Process::new(), Process::new());
        let heap = heap(1, 1, &old);
        old.declare_dead();
        let late = thread::spawn({
            let heap = Arc::clone(&heap);
            move || {
                let sweeper = Process::new();
                heap.board().is_abandoned(sweeper.me());
            }
        });
        heap.make_anew(new.me().tag().unwrap());
        let board = heap.board();
        let at = board.reserve(0).unwrap();
        let worker = Process::new();
        assert!(board.sit(worker.me(), at).is_ok());
        late.join().unwrap();
    });
}

/// What was tied to a ticket is taken over before its turn ends: a sweep that finds it over sees that.
#[test]
fn what_is_found_over_was_taken_over() {
    explore(Sleeps::Endless, 2, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let (board, me) = (heap.board(), owner.me());
        let ticket = publish(board, me, 0, 1);
        let block = Arc::new(AtomicU32::new(1));
        let sweeper = thread::spawn({
            let (heap, block) = (Arc::clone(&heap), Arc::clone(&block));
            move || {
                if heap.board().passed(ticket.number()) {
                    assert_eq!(block.load(Ordering::Relaxed), 0, "it is still tied");
                }
            }
        });
        assert!(board.withdraw(me, ticket));
        block.store(0, Ordering::Relaxed);
        assert!(board.free(me, ticket));
        sweeper.join().unwrap();
    });
}

/// A worker sits down while a sweep asks whether anybody is left.
#[test]
fn a_board_is_not_given_up_beneath_a_worker() {
    explore(Sleeps::Endless, None, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let board = heap.board();
        let at = board.reserve(0).unwrap();
        owner.declare_dead();
        let process = Process::new();
        let late = thread::spawn({
            let heap = Arc::clone(&heap);
            move || {
                let sat = heap.board().sit(process.me(), at).is_ok();
                (sat, process)
            }
        });
        let sweeper = Process::new();
        let abandoned = board.is_abandoned(sweeper.me());
        let (sat, _process) = late.join().unwrap();
        assert_ne!(sat, abandoned);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_worker_sleeps_beside_a_task() {
    explore(Sleeps::Endless, 2, || {
        model::mutate(Mutation::NoFences);
        exchange(1, 1, &[1]);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_a_task_is_torn() {
    explore(Sleeps::Endless, 2, || {
        model::mutate(Mutation::NoOrder);
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let taker = spawn(&heap, 0, |board, me, at| {
            let mut worker = board.sit(me, at).expect("the seat is kept");
            if let Some(lease) = try_take(&mut worker) {
                work(board, &lease);
            }
        });
        publish(heap.board(), owner.me(), 0, 1);
        taker.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_verdict_on_the_living_gives_a_cell_to_two() {
    explore(Sleeps::Sliced, 2, || {
        let owner = Process::new();
        let heap = heap(1, 1, &owner);
        let process = Arc::new(Process::new());
        let at = heap.board().reserve(0).unwrap();
        let (board, me) = (heap.board(), owner.me());
        let ticket = publish(board, me, 0, 1);
        let worker = thread::spawn({
            let (heap, process) = (Arc::clone(&heap), Arc::clone(&process));
            move || {
                let mut worker = heap.board().sit(process.me(), at).unwrap();
                if let Some(lease) = try_take(&mut worker) {
                    work(heap.board(), &lease);
                    let _ = lease.finish();
                }
            }
        });
        if board.reclaim(me, ticket, tag(process.me())).is_some() {
            read(board, ticket, 0);
        }
        worker.join().unwrap();
    });
}
