//! The processes that this one has started and whose end it does not know yet.
//!
//! ```text
//! started            → in the list, at the place of its slot
//! its end is known   → out of it: by whoever waited for it, by a look at each start, by `active_children`
//! ```
//!
//! Each start looks at two of them, round and round: what ended and has no handle any more is cleaned up (a forked
//! process is reaped, the descriptor closed, the slot given out again) at a constant price per start, and of n
//! processes that nobody joins at most about n stay behind. Nothing waits under the list's lock, and nothing is
//! dropped there. A fork of this process finds the list, and forgets it: they are not its children.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handle::ActiveChild;
use super::life::Life;

struct Children {
    /// Whose they are.
    pid: u32,
    /// By the number of the slot.
    places: Vec<Option<Arc<Life>>>,
    /// Where the next look goes.
    next: usize,
    /// How many are being started, and will be in the list.
    starting: u32,
}

static CHILDREN: Mutex<Children> =
    Mutex::new(Children { pid: 0, places: Vec::new(), next: 0, starting: 0 });

fn children() -> MutexGuard<'static, Children> {
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if children.pid != pid {
        // The slots and descriptors are those of the process that this is a fork of.
        std::mem::forget(std::mem::take(&mut children.places));
        (children.pid, children.next, children.starting) = (pid, 0, 0);
    }
    children
}

/// One is being started: until this is dropped the end of this process waits for it.
pub(super) struct Starting;

/// Announces that one will be in the list.
pub(super) fn starting() -> Starting {
    crate::signal::start_nothing_at_the_end();
    children().starting += 1;
    Starting
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut children = children();
        children.starting = children.starting.saturating_sub(1);
    }
}

/// Whether there will be more in the list soon.
pub(super) fn is_any_starting() -> bool {
    children().starting > 0
}

/// Keeps a new process in the list.
pub(super) fn add(life: &Arc<Life>) {
    super::exit::register();
    let place = life.slot as usize;
    let mut children = children();
    if children.places.len() <= place {
        children.places.resize(place + 1, None);
    }
    children.places[place] = Some(life.clone());
}

/// Takes out of the list what is known to be over.
pub(super) fn remove(life: &Life) {
    let mut children = children();
    let removed = children
        .places
        .get_mut(life.slot as usize)
        .and_then(|place| place.take_if(|known| std::ptr::eq(&**known, life)));
    drop(children);
    // Outside of the lock: the last one gives back what it has.
    drop(removed);
}

/// Looks at two of them, and cleans up what is over.
pub(super) fn sweep() {
    /// Places without anybody are passed by, but not more than this.
    const PLACES: usize = 64;
    let (mut seen, mut looks) = ([None, None], 0);
    let mut children = children();
    for _ in 0..PLACES.min(children.places.len()) {
        children.next = (children.next + 1) % children.places.len();
        let next = children.next;
        if let Some(life) = &children.places[next] {
            seen[looks] = Some(life.clone());
            looks += 1;
        }
        if looks == seen.len() {
            break;
        }
    }
    drop(children);
    // Outside of the lock: to ask after one whose zygote was killed can take a while.
    for life in seen.into_iter().flatten().filter(|life| life.is_over()) {
        remove(&life);
    }
}

/// All that have not ended, in the order of their slots; the others are cleaned up.
pub(super) fn living() -> Vec<Arc<Life>> {
    let all: Vec<Arc<Life>> = children().places.iter().flatten().cloned().collect();
    let (living, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|life| life.is_alive());
    for life in gone.iter().filter(|life| life.is_over()) {
        remove(life);
    }
    living
}

/// The processes that were started from this one and have not ended, in the order of their process ids. Those that
/// have ended are cleaned up, as by joining them.
///
/// Two system calls for each.
///
/// ```
/// use procession_posix::process::{Process, active_children};
///
/// let child = Process::new(std::thread::park, ()).name("sleeper").start()?;
/// let children = active_children();
/// assert!(children.iter().any(|child| child.name() == "sleeper"));
/// child.kill()?;
/// let _ = child.join();
/// assert!(!active_children().iter().any(|child| child.name() == "sleeper"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn active_children() -> Vec<ActiveChild> {
    let mut living = living();
    living.sort_unstable_by_key(|life| life.pid);
    living.into_iter().map(ActiveChild::new).collect()
}
