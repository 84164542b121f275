//! A ring for one producer and one consumer that is written over, before and while it is used.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::queue::{Consumer, Producer, SpscRing};
use procession_core::region::CHUNK;
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Items of 3, 8 or 100 bytes.
    size: u8,
    private: bool,
    capacity: u8,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Producer,
    Consumer,
    /// The roles change hands.
    Leave,
    LeaveToo,
    Push,
    Pop,
    PushMany(u8),
    PopMany(u8),
    Wait,
    Close,
    Ask,
    Attach,
    /// The holder of the roles dies.
    Die,
    Damage(Damage),
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(2 * 65536));

fuzz_target!(|input: Input| {
    match input.size % 3 {
        0 => run(&input, [1u8; 3]),
        1 => run(&input, [2u8; 8]),
        _ => run(&input, [3u8; 100]),
    }
});

fn run<const SIZE: usize>(input: &Input, item: [u8; SIZE]) {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let capacity = u64::from(input.capacity).max(1);
    let mut ring =
        SpscRing::<[u8; SIZE]>::create(&region, CHUNK, capacity).expect("a good capacity");
    let start = CHUNK as usize;
    let within = start..start + SpscRing::<[u8; SIZE]>::bytes_for(capacity) as usize;
    // The head; the lines; rows of participants; any of it.
    let areas = [start..start + 512, start + 512..within.end, 4160..4224, within.clone()];
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(within.len())]);
    let (mut producer, mut consumer): (Option<Producer<'_, _>>, Option<Consumer<'_, _>>) =
        (None, None);
    let mut me = seat.member();
    let mut soon = Some(Duration::from_millis(2));
    for act in input.acts.iter().take(300) {
        match act {
            Act::Producer => {
                if let Ok(end) = ring.producer(me) {
                    producer = Some(end);
                }
            }
            Act::Consumer => {
                if let Ok(end) = ring.consumer(me) {
                    consumer = Some(end);
                }
            }
            Act::Leave => producer = None,
            Act::LeaveToo => consumer = None,
            Act::Push => {
                if let Some(end) = &producer {
                    let _ = end.try_push(item);
                }
            }
            Act::Pop => {
                if let Some(end) = &consumer {
                    let _ = end.try_pop();
                }
            }
            Act::PushMany(count) => {
                let items = vec![item; usize::from(*count)];
                if let Some(end) = &producer
                    && let Ok(put) = end.push_many(Deadline::NOW, &items)
                {
                    assert!(put <= items.len() && put <= end.ring().capacity());
                }
            }
            Act::PopMany(count) => {
                let mut room = vec![[0; SIZE]; usize::from(*count)];
                if let Some(end) = &consumer
                    && let Ok(got) = end.pop_many(Deadline::NOW, &mut room)
                {
                    assert!(got <= room.len());
                }
            }
            Act::Wait => {
                if let Some(soon) = soon.take() {
                    let _ =
                        producer.as_ref().map(|end| end.push_until(Deadline::after(soon), item));
                    let _ = consumer.as_ref().map(|end| end.pop_until(Deadline::after(soon)));
                }
            }
            Act::Close => {
                if let Some(end) = &producer {
                    end.close();
                }
            }
            Act::Ask => {
                assert!(ring.len() <= ring.capacity());
                let _ = (ring.is_empty(), ring.is_full(), ring.is_closed());
                let _ = format!("{ring:?}");
            }
            Act::Attach => {
                if let Ok(again) = SpscRing::attach(&region, CHUNK) {
                    ring = again;
                }
            }
            Act::Die => {
                if let Some(tag) = me.current_tag() {
                    // The dead do nothing any more.
                    std::mem::forget((producer.take(), consumer.take()));
                    region.participants().declare_dead(tag);
                    me = other.member();
                }
            }
            Act::Damage(damage) => damage.apply(&MEMORY, &areas),
        }
    }
}
