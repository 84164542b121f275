//! A queue of slots whose head and slots are written over, before and while it is used.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::queue::SlotQueue;
use procession_core::region::CHUNK;
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    private: bool,
    capacity: u8,
    first: u64,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Push(u64),
    Pop,
    PushMany(u8),
    PopMany(u8),
    /// Claims that are never finished.
    StartPush,
    StartPop,
    /// The other process dies.
    Die,
    Switch,
    Wait,
    Sweep,
    Close,
    Ask(u32),
    Attach,
    Damage(Damage),
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(2 * 65536));

fuzz_target!(|input: Input| {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let capacity = u64::from(input.capacity).max(1);
    let mut queue = SlotQueue::<u64>::create_at(&region, CHUNK, capacity, input.first)
        .expect("a good capacity");
    let start = CHUNK as usize;
    let within = start..start + SlotQueue::<u64>::bytes_for(capacity) as usize;
    // The head; the slots; rows of participants; any of it.
    let areas = [start..start + 512, start + 512..within.end, 4160..4224, within.clone()];
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    let mut me = seat.member();
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(within.len())]);
    // Waiting takes its time: once is enough.
    let mut soon = Some(Duration::from_millis(2));
    for act in input.acts.iter().take(300) {
        let most = queue.capacity();
        match act {
            Act::Push(item) => drop(queue.try_push(me, *item)),
            Act::Pop => drop(queue.try_pop(me)),
            Act::PushMany(count) => {
                let items = vec![7; usize::from(*count)];
                if let Ok(put) = queue.push_many(me, Deadline::NOW, &items) {
                    assert!(put <= items.len() && put <= most.next_power_of_two());
                }
            }
            Act::PopMany(count) => {
                let mut room = vec![0; usize::from(*count)];
                if let Ok(got) = queue.pop_many(me, Deadline::NOW, &mut room) {
                    assert!(got <= room.len() && got <= most.next_power_of_two());
                }
            }
            Act::StartPush => {
                if let Ok(claim) = queue.start_push(me, Deadline::NOW) {
                    // SAFETY: the claim is held, and the slot lies in the region.
                    unsafe { queue.item(&claim).write(claim.ticket()) };
                }
            }
            Act::StartPop => {
                if let Ok(claim) = queue.start_pop(me, Deadline::NOW) {
                    // SAFETY: as above.
                    unsafe { queue.item(&claim).read() };
                }
            }
            Act::Die => {
                if let Some(tag) = other.member().current_tag() {
                    region.participants().declare_dead(tag);
                }
            }
            Act::Switch => me = other.member(),
            Act::Wait => {
                if let Some(soon) = soon.take() {
                    let _ = queue.push_until(me, Deadline::after(soon), 9);
                    let _ = queue.pop_until(me, Deadline::after(soon));
                }
            }
            Act::Sweep => drop(queue.sweep(me)),
            Act::Close => queue.close(me),
            Act::Ask(ticket) => {
                assert!(queue.len() <= most);
                let _ = (queue.is_empty(), queue.is_full(), queue.is_closed());
                let _ = queue.has_passed(*ticket);
                let _ = format!("{queue:?}");
            }
            Act::Attach => {
                if let Ok(again) = SlotQueue::attach(&region, CHUNK) {
                    queue = again;
                }
            }
            Act::Damage(damage) => damage.apply(&MEMORY, &areas),
        }
    }
});
