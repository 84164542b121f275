//! Locks and the like whose words are written over, before and while they are used.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::region::{CHUNK, Member, Place, Region};
use procession_core::sync::*;
use procession_core::sys::{Deadline, Scope};
use procession_core::wait::{Waitable, wait_any};
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    private: bool,
    kind: Kind,
    size: u8,
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Lock,
    RLock,
    Mutex,
    Event,
    Condition,
    Semaphore,
    Latch,
    Barrier,
    Once,
    OnceCell,
    RwLock,
    RwData,
    SeqLock,
    Atomic,
}

#[derive(Arbitrary, Debug)]
enum Act {
    /// One of the object's operations, once.
    Use(u8),
    /// The same, and what it gave is never given back.
    Keep(u8),
    /// The other process dies.
    Die,
    Switch,
    /// Operations wait for a moment from here on, a few of them.
    Wait,
    Damage(Damage),
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(2 * 65536));

/// What one act does: the operation, whether its outcome is kept, and until when it may wait.
struct Step {
    number: u8,
    keep: bool,
    deadline: Deadline,
}

impl Step {
    /// Drops what an operation gave, or keeps it for good.
    fn end<T>(&self, given: T) {
        if self.keep {
            std::mem::forget(given);
        }
    }
}

type Operation<'r> = Box<dyn FnMut(Member<'r>, Step) + 'r>;

fuzz_target!(|input: Input| {
    let scope = if input.private { Scope::Private } else { Scope::Shared };
    let region = MEMORY.create(7, scope);
    let (seat, other) = (region.join().expect("a row"), region.join().expect("a row"));
    let mut me = seat.member();
    let start = CHUNK as usize;
    // The head; the cells; rows of participants; any of it.
    let areas = [start..start + 64, start + 64..start + 512, 4160..4224, start..start + 2048];
    MEMORY.write(start, &input.bytes[..input.bytes.len().min(2048)]);
    let Some(mut operation) = operation(&region, input.kind, u32::from(input.size)) else { return };
    // Waiting takes its time.
    let mut patience = 0;
    for act in input.acts.iter().take(200) {
        let (number, keep) = match act {
            Act::Use(number) => (*number, false),
            Act::Keep(number) => (*number, true),
            Act::Die => {
                if let Some(tag) = other.member().current_tag() {
                    region.participants().declare_dead(tag);
                }
                continue;
            }
            Act::Switch => {
                me = other.member();
                continue;
            }
            Act::Wait => {
                patience = 3;
                continue;
            }
            Act::Damage(damage) => {
                damage.apply(&MEMORY, &areas);
                continue;
            }
        };
        let deadline = if patience > 0 {
            patience -= 1;
            Deadline::after(Duration::from_micros(200))
        } else {
            Deadline::NOW
        };
        operation(me, Step { number, keep, deadline });
    }
});

/// Also waits for it among others.
fn any(me: Member<'_>, deadline: Deadline, object: &dyn Waitable) {
    static NEVER: Event = Event::new();
    let _ = wait_any(me, deadline, &[object, &NEVER]);
}

#[allow(clippy::too_many_lines, reason = "a list of operations for each kind")]
fn operation<'r>(region: &Region<'r>, kind: Kind, size: u32) -> Option<Operation<'r>> {
    let place = || Place::in_region(region, CHUNK).ok();
    Some(match kind {
        Kind::Lock => {
            let lock = region.object::<Lock>(CHUNK).ok()?;
            Box::new(move |me, step| match step.number % 4 {
                0 => step.end(lock.acquire_until(me, step.deadline)),
                1 => drop(lock.release(me)),
                2 => {
                    if let Ok(guard) = lock.acquire_until(me, step.deadline) {
                        guard.detach();
                    }
                }
                _ => {
                    any(me, step.deadline, lock);
                    let _ = (lock.locked(), lock.holder(me));
                }
            })
        }
        Kind::RLock => {
            let lock = region.object::<RLock>(CHUNK).ok()?;
            Box::new(move |me, step| match step.number % 4 {
                0 => step.end(lock.acquire_until(me, step.deadline)),
                1 => drop(lock.release(me)),
                2 => {
                    if let Ok(guard) = lock.acquire_until(me, step.deadline) {
                        guard.detach();
                    }
                }
                _ => {
                    any(me, step.deadline, lock);
                    let _ = (lock.locked(), lock.holder(me), lock.depth());
                }
            })
        }
        Kind::Mutex => {
            let mutex = if size.is_multiple_of(2) {
                Mutex::create(place()?, 7u64).ok()?
            } else {
                Mutex::attach(place()?).ok()?
            };
            Box::new(move |me, step| match mutex.lock_until(me, step.deadline) {
                Ok(mut guard) => {
                    guard.set(guard.get() ^ 1);
                    step.end(guard);
                }
                Err(error) => step.end(error),
            })
        }
        Kind::Event => {
            let event = region.object::<Event>(CHUNK).ok()?;
            Box::new(move |me, step| match step.number % 4 {
                0 => event.set(me),
                1 => event.clear(),
                2 => drop(event.wait_until(me, step.deadline)),
                _ => any(me, step.deadline, event),
            })
        }
        Kind::Condition => {
            let lock = region.object::<Lock>(CHUNK).ok()?;
            let condition = region.object::<Condition>(CHUNK + 64).ok()?;
            Box::new(move |me, step| {
                let Ok(mut guard) = lock.acquire_until(me, step.deadline) else { return };
                match step.number % 4 {
                    0 => drop(condition.wait_until(&mut guard, step.deadline)),
                    1 => drop(condition.notify(&guard, u32::from(step.number))),
                    2 => drop(condition.notify_all(&guard)),
                    _ => drop(condition.waiters()),
                }
                step.end(guard);
            })
        }
        Kind::Semaphore => {
            let semaphore = match size % 3 {
                0 => Semaphore::create(place()?, size).ok()?,
                1 => Semaphore::create_bounded(place()?, size).ok()?,
                _ => Semaphore::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 6 {
                0 => step.end(semaphore.acquire_until(me, step.deadline)),
                1 => drop(semaphore.take_until(me, step.deadline)),
                2 => drop(semaphore.release(me, u32::from(step.number))),
                3 => {
                    if let Ok(permit) = semaphore.acquire_until(me, step.deadline) {
                        let _ = permit.detach();
                    }
                }
                4 => any(me, step.deadline, &semaphore),
                _ => {
                    let _ = (semaphore.value(), semaphore.locked(), semaphore.most_permits());
                    let _ = semaphore.holders(me).count();
                }
            })
        }
        Kind::Latch => {
            let latch = match size % 2 {
                0 => Latch::create(place()?, size).ok()?,
                _ => Latch::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 5 {
                0 => drop(latch.count_down(me)),
                1 => step.end(latch.part(me)),
                2 => drop(latch.wait_until(me, step.deadline)),
                3 => any(me, step.deadline, &latch),
                _ => {
                    let _ = (latch.remaining(), latch.is_open(), latch.broken(), latch.parts());
                }
            })
        }
        Kind::Barrier => {
            let barrier = match size % 2 {
                0 => Barrier::create(place()?, size).ok()?,
                _ => Barrier::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 4 {
                0 => drop(barrier.wait_until(me, step.deadline)),
                1 => drop(barrier.abort(me)),
                2 => drop(barrier.reset(me)),
                _ => {
                    let _ = (barrier.broken(), barrier.breach(me), barrier.n_waiting());
                }
            })
        }
        Kind::Once => {
            let once = region.object::<Once>(CHUNK).ok()?;
            Box::new(move |me, step| match step.number % 3 {
                0 => drop(once.call_until(me, step.deadline, |_| ())),
                1 => drop(once.wait_until(me, step.deadline)),
                _ => any(me, step.deadline, once),
            })
        }
        Kind::OnceCell => {
            let cell = match size % 2 {
                0 => OnceCell::<u64>::create(place()?).ok()?,
                _ => OnceCell::<u64>::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 3 {
                0 => drop(cell.set_until(me, step.deadline, 9)),
                1 => drop(cell.wait_until(me, step.deadline)),
                _ => drop(cell.copied()),
            })
        }
        Kind::RwLock => {
            let lock = region.object::<RwLock>(CHUNK).ok()?;
            Box::new(move |me, step| match step.number % 5 {
                0 => step.end(lock.read_until(me, step.deadline)),
                1 => step.end(lock.write_until(me, step.deadline)),
                2 => step.end(lock.upgradable_read_until(me, step.deadline)),
                3 => {
                    if let Ok(guard) = lock.upgradable_read_until(me, step.deadline)
                        && let Ok(guard) = guard.upgrade_until(step.deadline)
                    {
                        step.end(guard.downgrade());
                    }
                }
                _ => {
                    any(me, step.deadline, lock);
                    let _ = (lock.readers(), lock.write_locked(), lock.writer(me));
                }
            })
        }
        Kind::RwData => {
            let data = match size % 2 {
                0 => RwData::create(place()?, [1u64, 2]).ok()?,
                _ => RwData::<[u64; 2]>::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 2 {
                0 => step.end(data.read_until(me, step.deadline)),
                _ => step.end(data.write_until(me, step.deadline)),
            })
        }
        Kind::SeqLock => {
            let lock = match size % 2 {
                0 => SeqLock::create(place()?, [1u64, 2]).ok()?,
                _ => SeqLock::<[u64; 2]>::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 3 {
                0 => drop(lock.try_get()),
                1 => drop(lock.set_until(me, step.deadline, [3, 4])),
                _ => drop(lock.update_until(me, step.deadline, |pair| pair)),
            })
        }
        Kind::Atomic => {
            let number = match size % 2 {
                0 => Atomic::create(place()?, 5u16).ok()?,
                _ => Atomic::<u16>::attach(place()?).ok()?,
            };
            Box::new(move |me, step| match step.number % 3 {
                0 => drop(number.fetch_add(u16::from(step.number), Relaxed)),
                1 => drop(number.wait_until(me, 5, step.deadline)),
                _ => number.notify_all(me),
            })
        }
    })
}
