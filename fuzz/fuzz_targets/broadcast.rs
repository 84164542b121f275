//! A broadcast whose head, readers and slots are written over, before and while it is used.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::queue::{Broadcast, Slow, Start};
use procession_core::region::CHUNK;
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    private: bool,
    lose: bool,
    capacity: u8,
    first: u64,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    /// Takes the role anew, perhaps in another process.
    Publisher,
    Publish(u64),
    PublishMany(u8),
    Subscribe(Option<u64>, bool),
    Receive(u8),
    ReceiveMany(u8, u8),
    Leave(u8),
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

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(3 * 65536));

fuzz_target!(|input: Input| {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let capacity = u64::from(input.capacity).max(1);
    let slow = if input.lose { Slow::Lose } else { Slow::Block };
    let mut cast = Broadcast::<u64>::create_at(&region, CHUNK, capacity, slow, input.first)
        .expect("a good capacity");
    let start = CHUNK as usize;
    let within = start..start + Broadcast::<u64>::bytes_for(capacity) as usize;
    let slots = within.end - capacity.next_power_of_two() as usize * 16;
    // The head; the readers; the slots; rows of participants; any of it.
    let areas =
        [start..start + 512, start + 512..slots, slots..within.end, 4160..4224, within.clone()];
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    let mut me = seat.member();
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(within.len())]);
    let mut publisher = cast.publisher(me).ok();
    let mut readers = vec![];
    // Waiting takes its time: once is enough.
    let mut soon = Some(Duration::from_millis(2));
    for act in input.acts.iter().take(300) {
        match act {
            Act::Publisher => {
                drop(publisher.take());
                publisher = cast.publisher(me).ok();
            }
            Act::Publish(item) => {
                if let Some(publisher) = &publisher {
                    let _ = publisher.try_publish(*item);
                }
            }
            Act::PublishMany(count) => {
                if let Some(publisher) = &publisher {
                    let items = vec![7; usize::from(*count)];
                    if let Ok(put) = publisher.publish_many(Deadline::NOW, &items) {
                        assert!(put <= items.len());
                    }
                }
            }
            Act::Subscribe(at, oldest) => {
                let start = match (at, oldest) {
                    (Some(at), _) => Start::At(*at),
                    (None, true) => Start::Oldest,
                    (None, false) => Start::Next,
                };
                if let Ok(reader) = cast.subscribe(me, start) {
                    readers.push(reader);
                }
            }
            Act::Receive(at) => {
                if !readers.is_empty() {
                    let reader = &readers[usize::from(*at) % readers.len()];
                    let _ = (reader.lag(), reader.try_recv(), reader.position());
                }
            }
            Act::ReceiveMany(at, count) => {
                if !readers.is_empty() {
                    let reader = &readers[usize::from(*at) % readers.len()];
                    let mut room = vec![0; usize::from(*count)];
                    if let Ok(got) = reader.recv_many(Deadline::NOW, &mut room) {
                        assert!(got <= room.len());
                    }
                }
            }
            Act::Leave(at) => {
                if !readers.is_empty() {
                    readers.swap_remove(usize::from(*at) % readers.len());
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
                    if let Some(publisher) = &publisher {
                        let _ = publisher.publish_until(Deadline::after(soon), 9);
                    }
                    if let Some(reader) = readers.first() {
                        let _ = reader.recv_until(Deadline::after(soon));
                    }
                }
            }
            Act::Sweep => drop(cast.sweep(me)),
            Act::Close => {
                if let Some(publisher) = &publisher {
                    publisher.close();
                }
            }
            Act::Ask(index) => {
                let _ = (cast.published(), cast.readers(), cast.is_closed(), cast.capacity());
                let _ = (cast.has_passed(*index), cast.who_publishes(me), format!("{cast:?}"));
            }
            Act::Attach => {
                if let Ok(again) = Broadcast::attach(&region, CHUNK) {
                    cast = again;
                }
            }
            Act::Damage(damage) => damage.apply(&MEMORY, &areas),
        }
    }
});
