//! The eventcount: how anything in this crate ever sleeps.
//!
//! One word: `epoch 30 | FENCED 1 | WAITING 1`. What a sleeper waits for lies elsewhere, readable by all; the
//! eventcount only says that somebody may be asleep.
//!
//! ```text
//! sleeper                                   notifier
//! 1 set WAITING, remember the word          1 publish
//! 2 heavy fence (then set FENCED)           2 light fence
//! 3 look again: there? done                 3 WAITING clear? done, without a write
//! 4 sleep while the word is as remembered   4 one: wake one. All: move to the next epoch, bits as they are; wake all
//! 5 look again, from the start              5 woke nobody: move to the next epoch, bits clear; then wake all
//! ```
//!
//! - The fences make one see the other: a sleeper that missed the publication has its bit seen.
//! - To wake all, the epoch moves first: who is between 3 and 4 has its sleep refused. (For one it need not: who sleeps on
//!   beside what another was woken for would have had to be woken for something else.)
//! - The bits stay as long as each notification finds somebody: who sleeps again and again, woken each time, needs its
//!   fence once.
//! - Step 5 in this order only. Clearing the bit without a new epoch would let a sleeper between 3 and 4 go to sleep
//!   with nobody to know of it; with the new epoch its sleep is refused.
//! - FENCED saves the fence of those who come to sleep later in the same epoch.
//! - Nobody gets stuck: a notifier may die or be stopped between any two steps, and so may the one it woke. So every
//!   sleep between processes ends by itself after a slice, and the sleeper looks again, with the question whether
//!   an owner that blocks it is dead. The first slice is short for all; after that one sentry for each eventcount slices
//!   shortly, all others long, so that a thousand sleepers cost little. The sentry's name lies in a table of the region,
//!   and an eventcount that finds its place there taken by another does without: its sleepers all slice shortly.
//! - Nobody asks before the first slice has ended without a wake: asking costs as much as sleeping, and mostly a wake comes.
//! - Nothing counts sleepers: a dead one would stay counted. A bit that is set too often costs one system call.
//!
//! The eventcount is Dmitry Vyukov's idea; waking with an epoch and the bits is this crate's.

mod any;

use core::time::Duration;

use crate::region::{Member, Tag};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Fences, Scope, futex};

pub use any::{MOST, Waitable, wait_any};

const WAITING: u32 = 1;
const FENCED: u32 = 2;
const EPOCH: u32 = 4;

/// The sentry looks again after this, at first; then after about a quarter of what it has waited, up to
/// [`SENTRY_SLICE`]: with a question about an owner each look costs 50 to 100 µs, which makes 0.1 % of a processor.
/// Longer than most kernels' tick (4 ms at 250 Hz): a timer before the next tick has the kernel set the hardware anew
/// at each sleep and each wake, some 2 µs in a virtual machine.
const FIRST_SLICE: Duration = Duration::from_millis(5);
const SENTRY_SLICE: Duration = Duration::from_millis(100);
/// All others look again after this: the longest that anybody sleeps beside something that died in its sentry's hands.
const SLICE: Duration = Duration::from_millis(250);
/// Where the kernel refuses the fence, a wake may be missed: look again after this.
const UNFENCED_SLICE: Duration = Duration::from_millis(1);

/// A place to sleep at, in shared memory. All zero is a valid one at which nobody waits.
#[derive(Debug)]
#[repr(transparent)]
pub struct Eventcount(AtomicU32);

impl Default for Eventcount {
    fn default() -> Self {
        Self::new()
    }
}

impl Eventcount {
    /// Nobody waits.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Nobody waits.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Call it after something was published that one sleeper can take. No system call and no write while nobody waits.
    #[inline]
    pub fn notify_one(&self, me: Member<'_>) {
        if self.somebody_waits(me.fences()) {
            self.wake_one(me.scope());
        }
    }

    /// The same for callers that keep the region's fences at hand.
    #[inline(always)]
    pub(crate) fn notify_one_by(&self, me: Member<'_>, fences: Fences) {
        if self.somebody_waits(fences) {
            self.wake_one(me.scope());
        }
    }

    /// Call it after something was published that concerns every sleeper. No system call and no write while nobody waits.
    #[inline]
    pub fn notify_all(&self, me: Member<'_>) {
        if self.somebody_waits(me.fences()) {
            self.wake_many(me.scope());
        }
    }

    #[inline]
    fn somebody_waits(&self, fences: Fences) -> bool {
        fences.light();
        // Relaxed: ordered after the publication by the fence, which meets the sleeper's in `announce`.
        self.0.load(Ordering::Relaxed) & WAITING != 0
    }

    /// Whether somebody may be asleep. Without a fence: true is a reason to look closer, false says nothing about
    /// who comes next.
    #[inline]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed) & WAITING != 0
    }

    /// As [`notify_one`](Self::notify_one), and says whether somebody was woken: not who was awake, stopped, or dead.
    #[inline]
    pub(crate) fn rouse_one(&self, me: Member<'_>) -> bool {
        self.somebody_waits(me.fences()) && self.wake_one(me.scope())
    }

    #[cold]
    fn wake_one(&self, scope: Scope) -> bool {
        futex::wake(scope, &self.0, 1) != 0 || self.move_on(scope, WAITING | FENCED) != 0
    }

    #[cold]
    fn wake_many(&self, scope: Scope) {
        if self.move_on(scope, 0) == 0 {
            self.move_on(scope, WAITING | FENCED);
        }
    }

    /// Moves to the next epoch, clearing these bits, and wakes all who slept in the last one. How many they were; not 0 if
    /// others were faster, or nobody waits any more.
    fn move_on(&self, scope: Scope, clear: u32) -> usize {
        let mut word = self.0.load(Ordering::Relaxed);
        let mut overtaken = false;
        while word & WAITING != 0 {
            let next = (word & !clear).wrapping_add(EPOCH);
            // Release and Acquire: a sleeper that finds the new epoch finds what was published before it. Failure:
            // FENCED was set meanwhile, or somebody else moved the epoch and wakes.
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return futex::wake(scope, &self.0, u32::MAX),
                Err(now) if (now ^ word) & !(WAITING | FENCED) == 0 => word = now,
                // Who sleeps in the new epoch may have looked before this notifier's publication was to be seen, and relies
                // on a fence of an earlier epoch.
                Err(_) if !overtaken => {
                    overtaken = true;
                    fence(Ordering::SeqCst);
                    // Read behind the fence: only an epoch that begins after this is one whose sleepers have seen it.
                    word = self.0.load(Ordering::Relaxed);
                }
                // The epoch moved again, after that fence: who sleeps in the newest has seen the publication.
                Err(_) => return 1,
            }
        }
        1
    }

    /// Which processes sleep here, and for how long: for people to read, and as of about now. Of a process whose threads sleep
    /// at several places, one place is known.
    #[cfg(not(loom))]
    pub fn sleepers<'r>(
        &self,
        me: Member<'r>,
    ) -> impl Iterator<Item = crate::region::Sleeper> + 'r {
        let now = crate::sys::coarse_nanos();
        me.participants().sleepers(key(self, me)).filter_map(move |(tag, since)| {
            let waited = Duration::from_nanos(now.saturating_sub(since));
            Some(crate::region::Sleeper { who: me.who(tag)?, waited })
        })
    }

    /// Waits until `look` finds something; `None` when the deadline has passed and a last look found nothing.
    ///
    /// `look` is the whole attempt, repairs included. Its argument says whether it should ask the kernel about an
    /// owner that blocks it: `false` while spinning and when it was woken, `true` when a slice of sleep has ended without a
    /// wake, and at the last look before the deadline ends the wait. A deadline that is past looks once. `pace` says how
    /// often it looks while it spins.
    ///
    /// No system call while spinning finds it; each sleep costs two or three.
    #[inline]
    pub fn wait<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        pace: Pace,
        look: impl FnMut(bool) -> Option<R>,
    ) -> Option<R> {
        self.wait_glancing(me, deadline, pace, || true, look)
    }

    /// The same, where a cheap `glance` says while spinning whether it is worth while to look. Before and after each sleep it
    /// looks anyway.
    #[inline]
    pub fn wait_glancing<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        pace: Pace,
        mut glance: impl FnMut() -> bool,
        mut look: impl FnMut(bool) -> Option<R>,
    ) -> Option<R> {
        if deadline.is_past() {
            return look(me.may_ask(self));
        }
        let spinning = || if glance() { look(false) } else { None };
        if let Some(found) = me.patience().spin(pace, spinning) {
            return Some(found);
        }
        self.sleep(me, deadline, &mut look)
    }

    /// The same, without spinning: for who knows that it takes longer.
    pub fn wait_asleep<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut look: impl FnMut(bool) -> Option<R>,
    ) -> Option<R> {
        if deadline.is_past() {
            return look(me.may_ask(self));
        }
        self.sleep(me, deadline, &mut look)
    }

    #[cold]
    fn sleep<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        look: &mut dyn FnMut(bool) -> Option<R>,
    ) -> Option<R> {
        let mut watch = Watch::new(self, me);
        // Asking is for nothing in private memory; a model asks whenever it may, since its clock stands still.
        let always = cfg!(loom) || me.scope() == Scope::Private;
        let mut slice_ends: Option<Deadline> = None;
        loop {
            let (word, fenced) = self.announce(me.fences());
            let late = deadline.is_past();
            let ask = always || late || slice_ends.is_some_and(Deadline::is_past);
            if let Some(found) = look(ask) {
                return Some(found);
            }
            if late {
                return None;
            }
            let until = match (me.scope(), slice_ends) {
                // Threads of one process die together: a wake is never lost halfway.
                (Scope::Private, _) if fenced => deadline,
                _ if !fenced => deadline.sliced(UNFENCED_SLICE),
                // Woken for nothing, or by a signal: that makes no slice longer.
                (_, Some(end)) if !ask => end,
                _ => deadline.sliced(watch.slice(ask)),
            };
            slice_ends = Some(until);
            futex::wait(me.scope(), &self.0, word, until);
            if let Some(found) = look(false) {
                return Some(found);
            }
        }
    }

    /// Says that somebody is about to sleep. Returns the word to sleep on, and whether the fence was executed.
    fn announce(&self, fences: Fences) -> (u32, bool) {
        // Relaxed: the fence below orders it before the next look.
        let before = self.0.fetch_or(WAITING, Ordering::Relaxed);
        let word = before | WAITING;
        if before & FENCED != 0 {
            // Somebody has executed the barrier for all in this epoch after WAITING was set. What it made visible
            // this thread must see too: Acquire meets the Release below.
            fence(Ordering::SeqCst);
            return (word, true);
        }
        if !fences.heavy() {
            return (word, false);
        }
        // Release: see above. Failure: the word has moved, and the sleep will be refused.
        match self.0.compare_exchange(word, word | FENCED, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => (word | FENCED, true),
            Err(_) => (word, true),
        }
    }
}

/// A sleeper's turn as the sentry of its eventcount: `key 34 | tag 30` in a table of the region.
struct Watch<'r> {
    place: Option<&'r AtomicU64>,
    mine: u64,
    me: Member<'r>,
    short: Duration,
}

impl<'r> Watch<'r> {
    fn new(event: &Eventcount, me: Member<'r>) -> Self {
        let tag = me.current_tag().map_or(0, |tag| u64::from(tag.bits()));
        let table = me.sentries();
        let key = key(event, me);
        #[cfg(not(loom))]
        if let Some(tag) = me.current_tag() {
            let (at, since) = (key << 30 | u64::from(tag.bits()), crate::sys::coarse_nanos());
            me.participants().sleeps(tag, at, since);
        }
        let place = (!table.is_empty() && tag != 0).then(|| {
            &table[(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % table.len()]
        });
        Self { place, mine: key << 30 | tag, me, short: FIRST_SLICE }
    }

    /// How long to sleep now. Who has just come asks nobody whether there is a sentry, and sleeps shortly: mostly it is
    /// woken before that matters, and asking costs as much as sleeping.
    fn slice(&mut self, ask: bool) -> Duration {
        if !ask {
            return FIRST_SLICE;
        }
        if !self.keep_watch() {
            return SLICE;
        }
        let slice = self.short;
        self.short = (slice + slice / 4).min(SENTRY_SLICE);
        slice
    }

    /// Whether this sleeper has to be the one that looks often.
    fn keep_watch(&self) -> bool {
        let Some(place) = self.place else { return true };
        // Relaxed throughout: the table saves work, and nothing is published by it.
        let now = place.load(Ordering::Relaxed);
        if now == self.mine {
            // This process keeps watch: this thread, or another that looks as often.
            return true;
        }
        let free = now == 0
            || Tag::from_bits(now as u32 & Tag::MASK)
                .is_none_or(|tag| self.me.verdict(tag) != crate::region::Verdict::Alive);
        if free {
            return place
                .compare_exchange(now, self.mine, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        }
        // Somebody keeps watch: over this eventcount, or over another with the same place.
        now >> 30 != self.mine >> 30
    }
}

/// The same number for the same eventcount in all processes, which map a region at different addresses: its pages stay in
/// order, so the offset from the table of sentries is the same for all. 34 bits.
fn key(event: &Eventcount, me: Member<'_>) -> u64 {
    let table = me.sentries().as_ptr() as usize;
    let offset = (core::ptr::from_ref(event) as usize).wrapping_sub(table);
    (offset as u64 >> 2) & ((1 << 34) - 1)
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        if let Some(tag) = self.me.current_tag() {
            self.me.participants().sleeps(tag, 0, 0);
        }
        if let Some(place) = self.place {
            let _ = place.compare_exchange(self.mine, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
