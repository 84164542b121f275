//! Locks for readers and writers, cells and atomics between processes: some are killed or stopped, and all handles travel.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use procession_core::sync::AcquireError;
use procession_posix::channel::Queue;
use procession_posix::process::{Child, Process};
use procession_posix::sync::{Atomic, Event, RwData, RwDataWriteGuard, RwLock, SeqLock, WaitError};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as Message, SeqDeserializer};
use serde::{Deserialize, Serialize};

/// Longer than any of these waits takes, were it not in vain.
const LONG: Duration = Duration::from_secs(60);

/// Decodes `from` as a `T`, with the words of the error: postcard keeps none.
fn decode<T: DeserializeOwned>(from: &impl serde::Serialize) -> Result<T, String> {
    let bytes = postcard::to_stdvec(from).unwrap();
    let (arena, offset, kind, generation): (u64, u64, u8, u32) =
        postcard::from_bytes(&bytes).unwrap();
    let fields = [arena, offset, u64::from(kind), u64::from(generation)];
    let fields = SeqDeserializer::<_, Message>::new(fields.into_iter());
    T::deserialize(fields).map_err(|error| error.to_string())
}

/// How a process holds the lock.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Hold {
    Reading,
    /// With half of its work done.
    Writing,
}

/// A process that holds the lock until it is ended.
fn hold(data: RwData<[u64; 2]>, how: Hold, inside: Event) {
    let (_reading, mut writing);
    match how {
        Hold::Reading => _reading = data.read().unwrap(),
        Hold::Writing => {
            writing = data.write().unwrap();
            writing[0] += 1;
        }
    }
    inside.set();
    std::thread::sleep(LONG);
}

/// Starts it, and waits until it is inside.
fn held(data: &RwData<[u64; 2]>, how: Hold) -> Child<()> {
    let inside = Event::new().unwrap();
    let process = Process::new(hold, (data.clone(), how, inside.clone())).start().unwrap();
    assert!(inside.wait_timeout(LONG));
    process
}

fn signal(process: &Child<()>, signal: i32) {
    // SAFETY: a signal to a child of this test that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

#[test]
fn a_killed_reader_is_in_nobodys_way() {
    alone!(a_killed_reader_is_in_nobodys_way);
    let data = RwData::new([0u64; 2]).unwrap();
    let reader = held(&data, Hold::Reading);
    assert!(matches!(data.write_timeout(Duration::ZERO), Err(AcquireError::TimedOut)));
    reader.kill().unwrap();
    let start = Instant::now();
    *data.write_timeout(LONG).unwrap() = [1, 1];
    assert!(start.elapsed() < LONG / 4, "it took {:?}", start.elapsed());
    assert_eq!(data.readers(), 0);
    assert!(reader.join().is_err());
}

#[test]
fn a_killed_writer_is_told_of_until_somebody_mends() {
    alone!(a_killed_writer_is_told_of_until_somebody_mends);
    let data = RwData::new([0u64; 2]).unwrap();
    let writer = held(&data, Hold::Writing);
    assert_eq!(data.writer().unwrap().pid, writer.pid());
    assert!(format!("{data:?}").contains(&writer.pid().to_string()));
    assert!(matches!(data.try_read(), Err(AcquireError::WouldBlock)));
    writer.kill().unwrap();
    let guard = data.read_timeout(LONG).unwrap_err().into_guard().unwrap();
    assert_eq!(*guard, [1, 0], "as it was left");
    drop(guard);
    let looking = data.upgradable_read_timeout(LONG).unwrap_err().into_guard().unwrap();
    let mut guard = looking.upgrade().unwrap();
    guard[0] = 0;
    guard.mark_consistent();
    drop(guard);
    assert_eq!(*data.read().unwrap(), [0, 0]);
    assert!(writer.join().is_err());
}

#[test]
fn who_is_stopped_keeps_the_lock() {
    alone!(who_is_stopped_keeps_the_lock);
    let data = RwData::new([0u64; 2]).unwrap();
    for how in [Hold::Reading, Hold::Writing] {
        let holder = held(&data, how);
        signal(&holder, libc::SIGSTOP);
        assert!(data.write_timeout(Duration::from_millis(200)).is_err());
        signal(&holder, libc::SIGCONT);
        assert!(data.write_timeout(Duration::from_millis(50)).is_err());
        holder.kill().unwrap();
        let _ = data.write_timeout(LONG).or_else(AcquireError::into_guard).unwrap();
        assert!(holder.join().is_err());
    }
}

/// Ten turns as a reader and as a writer.
fn turns(lock: RwLock, cell: SeqLock<[u64; 2]>, sum: Atomic<u32>, done: Atomic<bool>) {
    for turn in 0..10 {
        let looking = lock.upgradable_read().unwrap();
        let [left, right] = cell.get();
        assert_eq!(left, right);
        let writing = looking.upgrade().unwrap();
        cell.update(|[left, right]| [left + 1, right + 1]).unwrap();
        assert_eq!(cell.get(), [left + 1, right + 1], "nobody else writes in between");
        drop(writing.downgrade());
        sum.fetch_add(turn, AcqRel);
    }
    if done.swap(true, AcqRel) {
        sum.fetch_add(1000, AcqRel);
    }
    done.notify_all();
    sum.notify_all();
}

#[test]
fn handles_travel_to_other_processes() {
    alone!(handles_travel_to_other_processes);
    let lock = RwLock::new().unwrap();
    let cell = SeqLock::new([5u64; 2]).unwrap();
    let (sum, done) = (Atomic::new(0u32).unwrap(), Atomic::new(false).unwrap());
    let start = || {
        let args = (lock.clone(), cell.clone(), sum.clone(), done.clone());
        Process::new(turns, args).start().unwrap()
    };
    let processes = [start(), start()];
    assert_eq!(done.wait_timeout(false, LONG), Ok(true));
    assert_eq!(sum.wait_for_timeout(LONG, |sum| sum >= 1000), Ok(1090));
    for process in processes {
        process.join().unwrap();
    }
    assert_eq!(cell.get(), [25; 2]);
    assert!(lock.try_write().is_ok());
}

#[test]
fn handles_travel_through_queues() {
    let queue = Queue::bounded(4).unwrap();
    let (lock, data) = (RwLock::new().unwrap(), RwData::new(7i16).unwrap());
    let (cell, atomic) = (SeqLock::new([1u8; 3]).unwrap(), Atomic::new(-1i64).unwrap());
    queue.put(&(lock.clone(), data.clone(), cell.clone(), atomic.clone())).unwrap();
    type All = (RwLock, RwData<i16>, SeqLock<[u8; 3]>, Atomic<i64>);
    let (same_lock, same_data, same_cell, same_atomic): All = queue.get().unwrap();
    let guard = same_lock.write().unwrap();
    assert!(lock.try_read().is_err() && lock.write_locked());
    drop(guard);
    *same_data.write().unwrap() += 1;
    assert_eq!(*data.read().unwrap(), 8);
    cell.set([2; 3]).unwrap();
    assert_eq!(same_cell.get(), [2; 3]);
    same_atomic.store(3, Release);
    assert_eq!(atomic.load(Acquire), 3);
}

#[test]
fn another_type_is_refused() {
    let data = RwData::new(7u32).unwrap();
    assert!(decode::<RwData<u32>>(&data).is_ok());
    assert!(decode::<RwData<i32>>(&data).unwrap_err().contains("i32"));
    let cell = SeqLock::new(7u32).unwrap();
    assert!(decode::<SeqLock<u32>>(&cell).is_ok());
    assert!(decode::<SeqLock<f32>>(&cell).unwrap_err().contains("f32"));
    let atomic = Atomic::new(7u32).unwrap();
    assert!(decode::<Atomic<u32>>(&atomic).is_ok());
    assert!(decode::<Atomic<i32>>(&atomic).unwrap_err().contains("i32"));
    assert!(decode::<Atomic<u64>>(&atomic).is_err());
    assert!(decode::<RwLock>(&atomic).unwrap_err().contains("RwLock"));
    assert!(decode::<RwLock>(&data).is_err());
}

/// A process that dies while it writes to the cell.
fn die_writing(cell: SeqLock<[u64; 8]>) {
    let _ = cell.update(|_| std::process::abort());
}

#[test]
fn a_writer_that_dies_leaves_the_cell_as_it_was() {
    alone!(a_writer_that_dies_leaves_the_cell_as_it_was);
    let cell = SeqLock::new([7u64; 8]).unwrap();
    let other = Process::new(die_writing, (cell.clone(),)).start().unwrap();
    assert!(other.join().is_err());
    assert_eq!(cell.get(), [7; 8]);
    assert_eq!(cell.set_timeout(LONG, [8; 8]), Ok(()));
    assert_eq!(cell.get(), [8; 8]);
}

#[test]
fn atomics_wait_in_vain_only_so_long() {
    let atomic = Atomic::new(1u16).unwrap();
    assert_eq!(atomic.wait_timeout(1, Duration::from_millis(5)), Err(WaitError::TimedOut));
    assert_eq!(atomic.wait_timeout(2, Duration::ZERO), Ok(1));
    assert_eq!(atomic.fetch_update(AcqRel, Relaxed, |n| n.checked_add(u16::MAX)), Err(1));
    assert_eq!(format!("{atomic:?}"), "Atomic(1)");
}

/// What the processes of the storm share.
#[derive(Clone, Serialize, Deserialize)]
struct Storm {
    data: RwData<[u64; 2]>,
    cell: SeqLock<[u64; 6]>,
    turns: Atomic<u64>,
    wrong: Atomic<u32>,
    stop: Atomic<bool>,
}

impl Storm {
    fn check(&self, whole: bool) {
        if !whole {
            self.wrong.fetch_add(1, Relaxed);
        }
    }

    /// Reads and writes in all ways until it is told to stop.
    fn rage(&self) {
        while !self.stop.load(Acquire) {
            let turn = self.turns.fetch_add(1, Relaxed);
            let found = self.cell.get();
            self.check(found == [found[0]; 6]);
            match turn % 5 {
                0 => {
                    let guard = self.data.write().or_else(AcquireError::into_guard).unwrap();
                    let guard = self.add(guard).downgrade();
                    self.check(guard[0] == guard[1]);
                }
                1 => {
                    let answer = self.data.upgradable_read();
                    let looking = answer.or_else(AcquireError::into_guard).unwrap();
                    drop(self.add(looking.upgrade().unwrap()).downgrade_to_upgradable());
                }
                2 => drop(self.cell.update(|old| [old[0] + 1; 6])),
                _ => {
                    let guard = self.data.read().or_else(AcquireError::into_guard).unwrap();
                    self.check(guard.owner_died() || guard[0] == guard[1]);
                }
            }
            if turn.is_multiple_of(64) {
                self.turns.notify_all();
            }
        }
    }

    fn add<'a>(&self, mut guard: RwDataWriteGuard<'a, [u64; 2]>) -> RwDataWriteGuard<'a, [u64; 2]> {
        if guard.owner_died() {
            guard[0] = guard[1];
            guard.mark_consistent();
        }
        self.check(guard[0] == guard[1]);
        guard[0] += 1;
        guard[1] += 1;
        guard
    }
}

fn rage(storm: Storm) {
    storm.rage();
}

#[test]
fn a_storm_of_kills_and_stops_leaves_all_whole() {
    alone!(a_storm_of_kills_and_stops_leaves_all_whole);
    let storm = Storm {
        data: RwData::new([0; 2]).unwrap(),
        cell: SeqLock::new([0; 6]).unwrap(),
        turns: Atomic::new(0).unwrap(),
        wrong: Atomic::new(0).unwrap(),
        stop: Atomic::new(false).unwrap(),
    };
    let start = || Process::new(rage, (storm.clone(),)).start().unwrap();
    let mut processes: Vec<_> = (0..3).map(|_| start()).collect();
    for round in 0..60 {
        // The others get on, whatever has become of the last victim.
        let before = storm.turns.load(Relaxed);
        let further = storm.turns.wait_for_timeout(LONG, |turns| turns > before + 200);
        further.expect("somebody waits for the dead");
        let victim = round % processes.len();
        if round % 4 == 0 {
            signal(&processes[victim], libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(3));
            signal(&processes[victim], libc::SIGCONT);
        } else {
            processes[victim].kill().unwrap();
            processes[victim] = start();
        }
    }
    storm.stop.store(true, Release);
    for process in processes {
        process.join_timeout(LONG).expect("it ends");
    }
    assert_eq!(storm.wrong.load(Relaxed), 0);
    let guard = storm.data.write_timeout(LONG).or_else(AcquireError::into_guard).unwrap();
    assert_eq!(storm.data.readers(), 0);
    assert!(guard.owner_died() || guard[0] == guard[1]);
}
