//! Waiting for any of several objects.
//!
//! ```text
//! 1 look at all; one is ready: done
//! 2 announce at each eventcount, remember its word
//! 3 look at all again, with the question about dead owners
//! 4 sleep until any of the words changes (FUTEX_WAITV), or a slice ends; go on with 2
//! 5 pass on: each object that is ready, and has sleepers, is notified again
//! ```
//!
//! - Each announcement is that of a single wait, so whoever notifies one of the objects sees this sleeper.
//! - Step 5, since a notification for one sleeper may have gone to this one, which is about to use another object, or none:
//!   nothing is taken here. The object that was found needs it only if this one has slept.
//! - Where the kernel has no such call (before Linux 5.16, or a filter denies it), and beyond [`MOST`] objects, the sleep is
//!   on the first words only, and ends after a millisecond: what is waited for is readable, so looking again finds it.

use core::time::Duration;

use super::{Eventcount, Watch};
use crate::region::Member;
use crate::sys::Deadline;
use crate::sys::futex::{self, Expected};
use crate::sys::spin::Pace;

/// On how many objects the kernel lets a thread sleep at a time.
pub const MOST: usize = 128;

/// Where some object is not slept on: look again after this.
const BLIND_SLICE: Duration = Duration::from_millis(1);

/// What can be waited for together with other objects.
pub trait Waitable {
    /// Whether the object is ready: what a wait for it alone would wait for is there at this moment. Takes nothing. `ask` says
    /// whether the kernel may be asked about a dead owner.
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool;

    /// Where those who wait for it sleep.
    fn sleepers(&self) -> &Eventcount;

    /// Who looks at it: `me`, unless it lies in other memory than the rest of what is waited for.
    fn member<'a>(&'a self, me: Member<'a>) -> Member<'a> {
        me
    }
}

/// Waits until one of `objects` is ready; which one, by its place. Of several, the first that is so without a question about
/// a dead owner: that is asked only while none else is. `None` if none was when `deadline` passed, or
/// there are none and nothing will ever come. A deadline that is past looks once.
///
/// Ready means that it was: another process may be faster. Nothing is taken; try to, and wait again if that was in vain.
///
/// No system call while one is ready or becomes so while spinning; each sleep costs a few.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::{Event, Lock};
/// use procession_core::sys::Deadline;
/// use procession_core::wait::wait_any;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let (event, lock) = (Event::new(), Lock::new());
/// let guard = lock.acquire(me).unwrap();
/// assert_eq!(wait_any(me, Deadline::NOW, &[&event, &lock]), None);
/// drop(guard);
/// assert_eq!(wait_any(me, Deadline::NEVER, &[&event, &lock]), Some(1));
/// ```
pub fn wait_any(me: Member<'_>, deadline: Deadline, objects: &[&dyn Waitable]) -> Option<usize> {
    let (first, rest) = objects.split_first()?;
    let look = |ask| objects.iter().position(|object| object.is_ready(object.member(me), ask));
    let once = deadline.is_past();
    let awake = if once {
        look(me.may_ask(first.sleepers()))
    } else {
        me.patience().spin(Pace::Polite, || look(false))
    };
    let (found, slept) = match awake {
        Some(found) => (found, false),
        None if once => return None,
        None => (sleep(me, deadline, *first, rest, &look)?, true),
    };
    for (index, object) in objects.iter().enumerate() {
        let may_have_wake = index != found || slept;
        let me = object.member(me);
        if may_have_wake && object.sleepers().is_awaited() && object.is_ready(me, false) {
            object.sleepers().notify_one(me);
        }
    }
    Some(found)
}

#[cold]
fn sleep(
    me: Member<'_>,
    deadline: Deadline,
    first: &dyn Waitable,
    rest: &[&dyn Waitable],
    look: &dyn Fn(bool) -> Option<usize>,
) -> Option<usize> {
    let (first, mine) = (first.sleepers(), first.member(me));
    // The sentry of the first; the others' sleepers look after themselves.
    let mut watch = Watch::new(first, mine);
    let mut words: [Expected<'_>; MOST] = [(mine.scope(), &first.0, 0); MOST];
    let count = (1 + rest.len()).min(MOST);
    loop {
        let (word, mut fenced) = first.announce(mine.fences());
        words[0].2 = word;
        for (place, object) in words[1..count].iter_mut().zip(rest) {
            let (event, me) = (object.sleepers(), object.member(me));
            let (word, also) = event.announce(me.fences());
            fenced &= also;
            *place = (me.scope(), &event.0, word);
        }
        if let Some(found) = look(true) {
            return Some(found);
        }
        if deadline.is_past() {
            return None;
        }
        let sighted = fenced && rest.len() < MOST;
        let slice = if sighted { watch.slice(true) } else { BLIND_SLICE };
        if !futex::wait_any(&words[..count], deadline.sliced(slice)) {
            futex::wait(mine.scope(), &first.0, words[0].2, deadline.sliced(BLIND_SLICE));
        }
        if let Some(found) = look(false) {
            return Some(found);
        }
    }
}
