//! This process's hand on one end of a line.
//!
//! ```text
//! state: SHUT 1 | users 31      SHUT: it was closed in this process. Users: calls that are under way.
//! ```
//!
//! - The hold goes back with the last call that is under way after it was closed, or when the last handle of the process is
//!   dropped: until then the line is there, and whoever looks finds this process at its end.
//! - A forked child inherits the handle, but the hold is its parent's. With its first call it takes one of its own, if the end is
//!   still open by then.
//! - On its way a handle is a copy of the end that has departed; see `luggage.rs`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_core::queue::{Claim, Hold, HoldError, Passage, PopError, PushError};
use procession_core::region::{Member, Tag};
use procession_core::sys::Deadline;
use procession_core::wait::{Eventcount, Waitable};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{RecvError, SendError};
use super::line::{Damaged, Shape, Side, View};
use crate::channel::error::CreateError;
use crate::channel::luggage::{Item, list_end, recall};
use crate::channel::message::{Message, VOID};
use crate::channel::parcel::{Arrival, Found, PackError, Parcel};
use crate::memory::{Handle, HandleError, kind, refuse};

/// Objects of any type: what a `Connection` carries.
pub(super) struct Anything;

#[derive(Debug)]
pub(super) struct End {
    view: View,
    side: Side,
    largest: u64,
    handle: Handle,
    state: AtomicU32,
    /// Whose the hold is: a forked child finds another's here.
    tag: AtomicU32,
    hold: Mutex<Option<Hold>>,
}

const SHUT: u32 = 1 << 31;

/// Why a call cannot use this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    /// It was closed in this process.
    Shut,
    /// It came too late: nobody had it any more.
    Over,
    /// This process cannot hold it.
    Refused(HoldError),
}

impl From<HoldError> for Unusable {
    fn from(error: HoldError) -> Self {
        if error == HoldError::Closed { Self::Over } else { Self::Refused(error) }
    }
}

/// A call under way.
struct Use<'e>(&'e End);

impl Drop for Use<'_> {
    #[inline]
    fn drop(&mut self) {
        // AcqRel: what the calls did comes before the hold goes back.
        if self.0.state.fetch_sub(1, Ordering::AcqRel) == SHUT | 1 {
            self.0.give_back();
        }
    }
}

impl End {
    /// Both ends of a new line, which carries objects of this type.
    pub(super) fn pair<T: ?Sized>(shape: Shape) -> Result<(Self, Self), CreateError> {
        let (view, handle, [write, read]) = View::create::<T>(shape)?;
        let writers = Self::new(view, Side::Writers, shape.largest, handle.clone(), Some(write));
        Ok((writers, Self::new(view, Side::Readers, shape.largest, handle, Some(read))))
    }

    fn new(view: View, side: Side, largest: u64, handle: Handle, hold: Option<Hold>) -> Self {
        // Whoever holds something has joined.
        let tag = hold.and(view.me().current_tag()).map_or(0, Tag::bits);
        let (state, tag, hold) = (AtomicU32::new(0), AtomicU32::new(tag), Mutex::new(hold));
        Self { view, side, largest, handle, state, tag, hold }
    }

    pub(super) fn me(&self) -> Member<'static> {
        self.view.me()
    }

    fn held(&self) -> MutexGuard<'_, Option<Hold>> {
        // Nothing that happens under the lock panics halfway.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call.
    #[inline]
    fn enter(&self) -> Result<Use<'_>, Unusable> {
        // AcqRel: in one word with SHUT, so that the last call sees it, or this one does.
        let shut = self.state.fetch_add(1, Ordering::AcqRel) & SHUT != 0;
        let entered = Use(self);
        if shut {
            return Err(Unusable::Shut);
        }
        // Relaxed: written before other threads had the end, or by a forked child's first call.
        let tag = self.tag.load(Ordering::Relaxed);
        if !Tag::from_bits(tag).is_some_and(|tag| self.me().is(tag)) {
            self.adopt()?;
        }
        Ok(entered)
    }

    /// Takes a hold of this process's own: this end was inherited over fork, or came when it was closed.
    #[cold]
    fn adopt(&self) -> Result<(), Unusable> {
        let mut hold = self.held();
        let tag = self.me().tag().map_err(HoldError::from)?.bits();
        if self.tag.load(Ordering::Relaxed) == tag {
            return Ok(());
        }
        // Before and after: the line may be destroyed as long as this process holds nothing. And from now on it is not its maker's to
        // free.
        self.view.share().map_err(|_| Unusable::Over)?;
        let left = |carrier, ticket| self.view.left(carrier, ticket);
        let own = self.view.end(self.side).hold(self.me(), &left)?;
        if self.handle.room().is_err() {
            self.view.end(self.side).release(self.me(), own);
            return Err(Unusable::Over);
        }
        *hold = Some(own);
        self.tag.store(tag, Ordering::Relaxed);
        Ok(())
    }

    #[cold]
    fn give_back(&self) {
        // Out of the lock first: giving back cleans up.
        let hold = self.held().take();
        if let Some(hold) = hold.filter(|hold| hold.is_mine(self.me())) {
            self.view.release(self.side, hold);
        }
    }

    /// Closes it for this process.
    pub(super) fn shut(&self) {
        let entered = self.enter();
        // AcqRel: see `enter`.
        self.state.fetch_or(SHUT, Ordering::AcqRel);
        if entered.is_ok() {
            // Threads of this process that wait look again.
            self.view.slots().rouse(self.me());
        }
    }

    #[inline]
    pub(super) fn is_shut(&self) -> bool {
        self.state.load(Ordering::Acquire) & SHUT != 0
    }

    /// Whether nobody living has the other end, asked at most once a millisecond; `false` in between.
    fn may_be_alone(&self) -> Result<bool, Damaged> {
        Ok(self.me().may_ask(std::ptr::from_ref(self)) && self.is_alone()?)
    }

    /// What a call asks while it waits: whether to give up. Of the other end this only sees to it that the queue is closed if
    /// nobody has it; the next look finds that.
    fn gives_up(&self, ask: bool) -> bool {
        self.is_shut() || ask && self.is_alone().is_err()
    }

    /// Whether nobody living has the other end. Asks the kernel.
    fn is_alone(&self) -> Result<bool, Damaged> {
        recall();
        self.view.is_alone(self.side)
    }

    /// Sends what `pack` packs.
    #[inline]
    pub(super) fn send(
        &self,
        deadline: Deadline,
        pack: impl FnOnce(&mut Parcel, u64) -> Result<(), PackError>,
    ) -> Result<(), SendError> {
        let _entered = self.enter()?;
        let mut parcel = Parcel::new(self.view.arena());
        pack(&mut parcel, self.largest)?;
        let (slots, me) = (self.view.slots(), self.me());
        let claim = slots
            .start_push_beside(me, deadline, |ask| self.gives_up(ask))
            .map_err(|error| self.why_not_sent(error, deadline))?;
        // SAFETY: the claim makes the place this process's.
        let sent =
            unsafe { parcel.dispatch(self.view.place(), claim.ticket(), slots.item(&claim)) };
        slots.finish_push(me, claim);
        sent.map_err(|_| SendError::Corrupt)
    }

    #[cold]
    fn why_not_sent(&self, error: PushError, deadline: Deadline) -> SendError {
        match error {
            PushError::Closed => SendError::BrokenPipe,
            PushError::Full | PushError::Busy => match self.may_be_alone() {
                Ok(true) => SendError::BrokenPipe,
                Ok(false) if error == PushError::Full => SendError::Full,
                Ok(false) => SendError::Busy,
                Err(Damaged) => SendError::Corrupt,
            },
            PushError::TimedOut if self.is_shut() => SendError::Closed,
            PushError::TimedOut if deadline.is_past() => SendError::TimedOut,
            PushError::Join(error) => SendError::Join(error),
            _ => SendError::Corrupt,
        }
    }

    /// Receives a message, which `open` opens.
    #[inline]
    pub(super) fn receive<R>(
        &self,
        deadline: Deadline,
        open: impl FnOnce(&Arrival) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        let _entered = self.enter()?;
        // It stays where it lies: moving it would cost more than all the rest.
        let mut arrival = Arrival::new(self.view.arena());
        self.fetch(&mut arrival, deadline, || {
            let slots = self.view.slots();
            slots.start_pop_beside(self.me(), deadline, |ask| self.gives_up(ask))
        })?;
        open(&arrival)
    }

    /// The same, if the message has at most `most` bytes; else it stays.
    pub(super) fn receive_at_most<R>(
        &self,
        deadline: Deadline,
        most: usize,
        open: impl FnOnce(&Arrival) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        let _entered = self.enter()?;
        let (mut bytes, mut too_long) = (0, false);
        let mut accept = |message: &Message| {
            bytes = message.length as usize;
            message.form == VOID || bytes <= most
        };
        let mut arrival = Arrival::new(self.view.arena());
        let fetched = self.fetch(&mut arrival, deadline, || {
            let ends = |ask| self.gives_up(ask);
            let slots = self.view.slots();
            let claim = slots.start_pop_if_beside(self.me(), deadline, &mut accept, ends)?;
            // Any error will do: this one is replaced below.
            too_long = claim.is_none();
            claim.ok_or(PopError::Busy)
        });
        if too_long {
            return Err(RecvError::TooLong { bytes, most });
        }
        fetched?;
        open(&arrival)
    }

    #[inline]
    fn fetch(
        &self,
        arrival: &mut Arrival,
        deadline: Deadline,
        mut claim: impl FnMut() -> Result<Claim, PopError>,
    ) -> Result<(), RecvError> {
        let (slots, me) = (self.view.slots(), self.me());
        loop {
            let claim = claim().map_err(|error| self.why_not_received(error, deadline))?;
            // SAFETY: the claim makes the place this process's to read.
            let found =
                unsafe { arrival.take(slots.item(&claim), self.view.place(), claim.ticket()) };
            slots.finish_pop(me, claim);
            match found {
                Found::Object => return Ok(()),
                Found::Void => {}
                Found::Damage => return Err(RecvError::Corrupt),
            }
        }
    }

    #[cold]
    fn why_not_received(&self, error: PopError, deadline: Deadline) -> RecvError {
        match error {
            PopError::Closed => RecvError::Eof,
            PopError::Empty | PopError::Busy => match self.may_be_alone() {
                // Something may have been put before: the next call says.
                Ok(true) if error == PopError::Empty && self.view.slots().is_empty() => {
                    RecvError::Eof
                }
                Ok(_) if error == PopError::Empty => RecvError::Empty,
                Ok(_) => RecvError::Busy,
                Err(Damaged) => RecvError::Corrupt,
            },
            PopError::TimedOut if self.is_shut() => RecvError::Closed,
            PopError::TimedOut if deadline.is_past() => RecvError::TimedOut,
            PopError::Join(error) => RecvError::Join(error),
            _ => RecvError::Corrupt,
        }
    }

    /// Waits until a call would not wait; whether it came to that before the deadline.
    pub(super) fn poll(&self, deadline: Deadline) -> Result<bool, RecvError> {
        let _entered = self.enter()?;
        let found = procession_core::wait::wait_any(self.me(), deadline, &[self]).is_some();
        if self.is_shut() { Err(RecvError::Closed) } else { Ok(found) }
    }

    /// How many messages are there.
    pub(super) fn len(&self) -> usize {
        self.enter().map_or(0, |_entered| self.view.slots().len())
    }
}

impl From<Unusable> for SendError {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Shut => Self::Closed,
            Unusable::Over => Self::BrokenPipe,
            Unusable::Refused(HoldError::Full { most }) => Self::Crowded { most },
            Unusable::Refused(HoldError::Join(error)) => Self::Join(error),
            Unusable::Refused(_) => Self::Corrupt,
        }
    }
}

impl From<Unusable> for RecvError {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Shut => Self::Closed,
            Unusable::Over => Self::Eof,
            Unusable::Refused(HoldError::Full { most }) => Self::Crowded { most },
            Unusable::Refused(HoldError::Join(error)) => Self::Join(error),
            Unusable::Refused(_) => Self::Corrupt,
        }
    }
}

/// The reading end is ready when a receive would not wait, the writing end when a send would not; also when nobody living has the
/// other end, and when it was closed here.
impl Waitable for End {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        let Ok(_entered) = self.enter() else { return true };
        if ask && self.is_alone().is_err() {
            return true;
        }
        match self.side {
            Side::Readers => self.view.slots().is_ready(me, ask),
            Side::Writers => self.view.slots().room().is_ready(me, ask),
        }
    }

    fn sleepers(&self) -> &Eventcount {
        /// Of an end that was closed here: it is ready.
        static NOBODY: Eventcount = Eventcount::new();
        match (self.enter(), self.side) {
            (Err(_), _) => &NOBODY,
            (Ok(_), Side::Readers) => self.view.slots().sleepers(),
            (Ok(_), Side::Writers) => self.view.slots().room_sleepers(),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Also after it was closed: of a forked child's copy the calls that were under way in its parent never end.
        self.give_back();
    }
}

/// The handle of a line, as it travels.
struct Line<H>(H);

impl Serialize for Line<&Handle> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Line<Handle> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Handle::deserialize(deserializer, kind::PIPE, 1).map(Line)
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let copy = self.depart().map_err(S::Error::custom)?;
        (Line(&self.handle), self.side as u8, copy.index, copy.serial).serialize(serializer)
    }
}

impl End {
    /// A copy of it leaves this process.
    fn depart(&self) -> Result<Passage, String> {
        let _entered = match self.enter() {
            Ok(entered) => entered,
            Err(Unusable::Shut) => return Err("it was closed in this process".into()),
            // Names nothing: who decodes it comes too late as well.
            Err(Unusable::Refused(error)) => return Err(error.to_string()),
            Err(Unusable::Over) => return Ok(Passage { index: u32::MAX, serial: 0 }),
        };
        let left = |carrier, ticket| self.view.left(carrier, ticket);
        let copy = self.view.end(self.side).depart(self.me(), &left);
        let copy = copy.map_err(|error| error.to_string())?;
        list_end(Item::new(self.view.place(), self.side, copy));
        Ok(copy)
    }

    /// An end of which a copy has come here, if it is this one and carries objects of type `T`, or of any.
    pub(super) fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(
        deserializer: D,
        side: Side,
    ) -> Result<Self, D::Error> {
        let (Line(handle), found, index, serial) =
            <(Line<Handle>, u8, u32, u32)>::deserialize(deserializer)?;
        if found != side as u8 {
            let wrong = "it names the other end of the pipe: decode it as what was encoded";
            return Err(refuse(HandleError::Content(wrong.into())));
        }
        Self::arrive::<T>(handle, side, Passage { index, serial }).map_err(refuse)
    }

    fn arrive<T: ?Sized>(handle: Handle, side: Side, copy: Passage) -> Result<Self, HandleError> {
        let (view, largest) = View::attach::<T, Anything>(&handle)?;
        let left = |carrier, ticket| view.left(carrier, ticket);
        let hold = match view.end(side).arrive(view.me(), copy, &left) {
            Ok(hold) => Some(hold),
            Err(HoldError::Closed) => None,
            Err(error) => return Err(HandleError::Content(error.to_string())),
        };
        let end = Self::new(view, side, largest, handle, hold);
        // If the copy was not there any more, the line may have been destroyed meanwhile.
        end.handle.room()?;
        Ok(end)
    }
}
