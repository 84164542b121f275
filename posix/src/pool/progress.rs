//! Somebody is shown regularly what a pool has done.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use procession_core::sys::Deadline;

use super::Statistics;
use crate::attendant::{self, Duty};
use crate::task::Crew;

/// What is called with the numbers.
pub(super) type Show = Box<dyn FnMut(&Statistics) + Send>;

/// While it lives, somebody is shown the numbers.
pub(super) struct Progress {
    shared: Arc<Shared>,
}

struct Shared {
    show: Mutex<Show>,
    /// The courier is to show the numbers, and has not yet: it may be busy with a callback.
    posted: AtomicBool,
    over: Mutex<bool>,
    ends: Condvar,
}

struct Look<C> {
    shared: Arc<Shared>,
    crew: Weak<C>,
    interval: Duration,
}

impl Progress {
    /// From now on, whenever so long has passed, the crew's courier shows the numbers.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn begin<C: Crew>(
        crew: &Arc<C>,
        interval: Duration,
        show: Show,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            show: Mutex::new(show),
            posted: AtomicBool::new(false),
            over: Mutex::default(),
            ends: Condvar::new(),
        });
        // The courier is to be there when the attendant needs it.
        crew.attend();
        let look = Look { shared: shared.clone(), crew: Arc::downgrade(crew), interval };
        drop(attendant::hire("pool-progress", look)?);
        Ok(Progress { shared })
    }

    /// Shows these, here and now.
    pub(super) fn show(&self, statistics: &Statistics) {
        self.shared.show(statistics);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.shared.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.ends.notify_all();
    }
}

impl Shared {
    fn show(&self, statistics: &Statistics) {
        // A panic in it is reported by the hook; the next numbers are shown again.
        let mut show = self.show.lock().unwrap_or_else(PoisonError::into_inner);
        crate::task::quietly(|| show(statistics));
    }
}

impl<C: Crew> Duty for Look<C> {
    fn sleep(&self) {
        let until = Deadline::after(self.interval);
        let mut over = self.shared.over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over && !until.is_past() {
            let left = until.left().unwrap_or(Duration::MAX);
            let waited = self.shared.ends.wait_timeout(over, left);
            over = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&mut self) -> bool {
        let over = *self.shared.over.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(crew) = self.crew.upgrade().filter(|_| !over) else { return false };
        // Relaxed in both: it only keeps a second one from being posted; who posts is this thread alone.
        if self.shared.posted.swap(true, Ordering::Relaxed) {
            return true;
        }
        let (shared, weak) = (self.shared.clone(), self.crew.clone());
        let show = move || {
            shared.posted.store(false, Ordering::Relaxed);
            if let Some(crew) = weak.upgrade() {
                shared.show(&crew.statistics());
            }
        };
        // Without a courier it is called here.
        attendant::aside(|| crew.post(Box::new(show)));
        true
    }
}
