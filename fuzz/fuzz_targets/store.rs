//! A store whose head, cells and segments are written over, before and while it is used.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::queue::{Lease, Order, Plan, Policy, Store};
use procession_core::region::{CHUNK, Kind, Object};
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    private: bool,
    capacity: u8,
    order: u8,
    policy: u8,
    salt: u32,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Put(i8),
    PutMany(u8),
    /// A put that is given up.
    StartPut,
    Take,
    TakeMany(u8),
    StartTake,
    StartDiscard,
    Peek,
    Finish(u8),
    GiveBack(u8),
    FinishAny,
    Join,
    /// The other process dies.
    Die,
    Switch,
    Wait,
    Sweep,
    SweepSegments,
    ShutDown(bool),
    Ask(u32),
    Attach,
    Damage(Damage),
}

const STORE: Kind = Kind::new(1).unwrap();
const SEGMENT: Kind = Kind::new(2).unwrap();

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(8 * 65536));

fuzz_target!(|input: Input| {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let order = [Order::First, Order::Last, Order::Least][usize::from(input.order) % 3];
    let policy = [Policy::AtMostOnce, Policy::AtMostOnceLeased, Policy::AtLeastOnce]
        [usize::from(input.policy) % 3];
    let plan = Plan { capacity: u64::from(input.capacity).max(1), order, policy };
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    let mut me = seat.member();
    let bytes = Store::<u64>::bytes_for(plan);
    let place = region.allocate_object(me, STORE, bytes).expect("room for a store").offset;
    let mut store =
        Store::<u64>::create(&region, place, plan, SEGMENT, input.salt).expect("a plan");
    let start = place as usize;
    let within = start..start + bytes as usize;
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(within.len())]);
    // The lock: whom it names is waited for, by those who finish as long as it takes. It has a target of its own.
    let lock = start + 128;
    MEMORY.word(lock).store(0, Relaxed);
    let chunk = CHUNK as usize;
    // What is looked at without the lock; the index; the shape and the segments; the cells; rows of participants; what it grew by.
    let areas = [
        start..lock,
        lock + 8..start + 256,
        start + 256..within.end,
        4160..4224,
        2 * chunk..8 * chunk,
    ];
    let mut leases: Vec<Lease> = vec![];
    let lease = |leases: &[Lease], at: u8| match leases {
        [] => None,
        some => Some(some[usize::from(at) % some.len()]),
    };
    // Waiting takes its time: once is enough.
    let mut soon = Some(Duration::from_millis(2));
    let mut segments: Vec<Object> = vec![];
    for act in input.acts.iter().take(300) {
        match act {
            Act::Put(key) => drop(store.try_put(me, i64::from(*key), 7)),
            Act::PutMany(count) => {
                if let Ok(mut putter) = store.start_put(me, Deadline::NOW, 0) {
                    for number in 0..u64::from(*count) {
                        let _ = putter.ticket();
                        putter.write(number);
                        if putter.publish().is_err() || !putter.another(0).unwrap_or(false) {
                            break;
                        }
                    }
                }
            }
            Act::StartPut => drop(store.start_put(me, Deadline::NOW, 3)),
            Act::Take => {
                if let Ok((_, Some(lease))) = store.try_take(me) {
                    leases.push(lease);
                }
            }
            Act::TakeMany(count) => {
                if let Ok(mut taker) = store.start_take(me, Deadline::NOW) {
                    for _ in 0..*count {
                        let _ = taker.read();
                        match taker.settle(None) {
                            Ok(lease) => leases.extend(lease),
                            Err(_) => break,
                        }
                        if !taker.another().unwrap_or(false) {
                            break;
                        }
                    }
                }
            }
            Act::StartTake => drop(store.start_take(me, Deadline::NOW)),
            Act::StartDiscard => drop(store.start_discard(me, Deadline::NOW)),
            Act::Peek => drop(store.peek_until(me, Deadline::NOW)),
            Act::Finish(at) => {
                if let Some(lease) = lease(&leases, *at) {
                    let _ = (store.is_held(lease), store.finish(me, lease));
                }
            }
            Act::GiveBack(at) => {
                if let Some(lease) = lease(&leases, *at) {
                    let _ = store.give_up(me, lease);
                }
            }
            Act::FinishAny => drop(store.finish_any(me, None)),
            Act::Join => drop(store.join_until(me, Deadline::NOW)),
            Act::Die => {
                if let Some(tag) = other.member().current_tag() {
                    region.participants().declare_dead(tag);
                }
            }
            Act::Switch => me = other.member(),
            Act::Wait => {
                if let Some(soon) = soon.take() {
                    let _ = store.put_until(me, Deadline::after(soon), 0, 9);
                    let _ = store.take_until(me, Deadline::after(soon));
                    let _ = store.join_until(me, Deadline::after(soon));
                }
            }
            Act::Sweep => drop(store.sweep(me)),
            Act::SweepSegments => {
                region.for_each_object(SEGMENT, &mut |object, _| segments.push(object));
                for segment in segments.drain(..) {
                    if Store::<u64>::home_of(&region, segment) == Some(place) {
                        let _ = store.sweep_segment(me, segment);
                    }
                }
            }
            Act::ShutDown(at_once) => store.shutdown(me, *at_once),
            Act::Ask(ticket) => {
                let _ = (store.len(), store.is_empty(), store.is_full(), store.held());
                let _ = (store.unfinished(), store.lost(), store.is_closed(), store.is_shut());
                let _ = (store.has_passed(*ticket), store.is_waiting(*ticket));
                let _ = (store.segments().count(), format!("{store:?}"));
            }
            Act::Attach => {
                if let Ok(again) = Store::attach(&region, place, SEGMENT) {
                    store = again;
                }
            }
            Act::Damage(damage) => damage.apply(&MEMORY, &areas),
        }
    }
});
