//! Several objects at once: one claim, and one wake, for many.
//!
//! All that may fail or runs the user's code is done before the claim or after it: objects are encoded first, and decoded
//! when all of them have been copied out of their places.

use std::borrow::Borrow;

use procession_core::sys::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::error::{GetError, GetManyError, PutError};
use super::super::forms::many;
use super::super::parcel::{Arrival, Found, Parcel};
use super::{Bounded, Queue, Slots, Stocked};

/// How many objects are encoded or copied out for one claim: enough that the claim costs little for each, and few enough
/// that they lie in the nearest cache.
const BATCH: usize = 32;

many!(Queue: Serialize, DeserializeOwned);

impl<T: Serialize> Queue<T> {
    /// Puts objects, in order, waiting for room until `deadline`, and says how many: all of them, unless something kept it from
    /// putting the next one. The reason is the error of the next call. (An iterator's own objects that were not put are gone:
    /// give it a slice to keep them.)
    ///
    /// Others may put theirs in between. A process that is killed while it puts leaves the first of its objects there, and
    /// none in part. Cost: some 32 objects share a claim and a wake; one allocation of the process's own memory.
    ///
    /// # Errors
    /// As [`put_until`](Self::put_until): then none was put.
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    ///
    /// let queue = Queue::<u32>::bounded(4)?;
    /// assert_eq!(queue.put_many([1, 2, 3])?, 3);
    /// assert_eq!(queue.put_many_nowait(&[4, 5])?, 1);
    /// assert_eq!(queue.get_many(10)?, [1, 2, 3, 4]);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn put_many_until(
        &self,
        objects: impl IntoIterator<Item = impl Borrow<T>>,
        deadline: Deadline,
    ) -> Result<usize, PutError> {
        let mut objects = objects.into_iter();
        // They stay where they are, and are filled again and again.
        let mut parcels = Vec::with_capacity(objects.size_hint().0.min(BATCH));
        let mut put = 0;
        loop {
            let mut filled = 0;
            let packed = objects.by_ref().take(BATCH).try_for_each(|object| {
                if filled == parcels.len() {
                    parcels.push(Parcel::new(self.arena()));
                }
                parcels[filled].pack(object.borrow(), self.largest())?;
                filled += 1;
                Ok::<_, PutError>(())
            });
            let sent = self.put_parcels(&mut parcels[..filled], deadline, &mut put);
            // Damage is not to be put off.
            match sent.and(packed) {
                Err(error) if put == 0 || matches!(error, PutError::Corrupt) => return Err(error),
                Err(_) => return Ok(put),
                Ok(()) if filled < BATCH => return Ok(put),
                Ok(()) => {}
            }
        }
    }

    /// Puts all of these, and counts them in `put`.
    fn put_parcels(
        &self,
        parcels: &mut [Parcel],
        deadline: Deadline,
        put: &mut usize,
    ) -> Result<(), PutError> {
        match &self.engine {
            Bounded(slots) => slots.put_parcels(parcels, deadline, put),
            Stocked(stock) => stock.put_parcels(parcels, deadline, put),
        }
    }
}

impl<T: Serialize> Slots<T> {
    fn put_parcels(
        &self,
        parcels: &mut [Parcel],
        deadline: Deadline,
        put: &mut usize,
    ) -> Result<(), PutError> {
        let queue = self.handle.offset();
        let mut parcels = parcels.iter_mut();
        while parcels.len() > 0 {
            let (mut damaged, most) = (false, parcels.len());
            let write = |ticket, place| {
                if let Some(parcel) = parcels.next() {
                    // SAFETY: the place is this process's while this runs.
                    damaged |= unsafe { parcel.dispatch(queue, ticket, place) }.is_err();
                }
            };
            *put += self.slots.push_each(self.me, deadline, most, write)?;
            if damaged {
                return Err(PutError::Corrupt);
            }
        }
        Ok(())
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets as many objects as are there, at most `most` and (if that is not 0) at least one, waiting for the first until
    /// `deadline`.
    ///
    /// Cost: some 32 objects share a claim and a wake; the vector, and one allocation of the process's own memory.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until). If some objects cannot be decoded, the error has the others in
    /// [`got`](GetManyError::got).
    pub fn get_many_until(
        &self,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<T>, GetManyError<T>> {
        match &self.engine {
            Bounded(slots) => slots.get_many(most, deadline),
            Stocked(stock) => match stock.get_many(most, deadline) {
                (got, None) => Ok(got),
                (got, Some(error)) => Err(GetManyError { got, error }),
            },
        }
    }

    /// Gets all that is there, however much it is, and does not wait: an empty vector if nothing is.
    ///
    /// # Errors
    /// As [`get_many_until`](Self::get_many_until), except `Empty`.
    pub fn drain(&self) -> Result<Vec<T>, GetManyError<T>> {
        match self.get_many_nowait(self.capacity()) {
            Err(GetManyError { error: GetError::Empty, .. }) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Gets the newest object and passes over all before it, and says how many those were. Waits for one until `deadline`. For
    /// readers who want to know how things are and not how they came to be so.
    ///
    /// The objects that were passed over are gone: nobody gets them.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until).
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    ///
    /// let queue = Queue::<u32>::bounded(10)?;
    /// queue.put_many([1, 2, 3])?;
    /// assert_eq!(queue.get_latest()?, (3, 2));
    /// assert!(queue.empty());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn get_latest_until(&self, deadline: Deadline) -> Result<(T, usize), GetError> {
        match &self.engine {
            Bounded(slots) => slots.get_latest(deadline),
            Stocked(stock) => stock.get_latest(deadline),
        }
    }
}

impl<T: DeserializeOwned> Slots<T> {
    fn get_many(&self, most: usize, deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        let queue = self.handle.offset();
        // As much as is there, as far as anybody can say now.
        let there = most.min(self.slots.len());
        let mut got = Vec::with_capacity(there);
        let mut failed = None;
        // They stay where they are, and are filled again and again.
        let mut arrivals = Vec::with_capacity(there.min(BATCH));
        while got.len() < most && failed.is_none() {
            let (mut filled, mut damaged) = (0, false);
            let read = |ticket, place: *mut _| {
                if filled == arrivals.len() {
                    arrivals.push(Arrival::new(self.arena()));
                }
                // SAFETY: the place is this process's while this runs.
                match unsafe { arrivals[filled].take(place, queue, ticket) } {
                    Found::Object => filled += 1,
                    Found::Void => {}
                    Found::Damage => damaged = true,
                }
            };
            // Waits for the first only.
            let deadline = if got.is_empty() { deadline } else { Deadline::NOW };
            let wanted = (most - got.len()).min(BATCH);
            let taken = self.slots.pop_each(self.me, deadline, wanted, read);
            got.reserve(filled);
            for arrival in &mut arrivals[..filled] {
                match arrival.unpack(GetError::unpacked::<T>) {
                    Ok(object) => got.push(object),
                    Err(error) => failed = failed.or(Some(error)),
                }
                arrival.clear();
            }
            if damaged {
                failed = Some(GetError::Corrupt);
            }
            match taken {
                // That there is no more is no error behind the first.
                Err(_) if !got.is_empty() => break,
                Err(error) => failed = failed.or(Some(error.into())),
                Ok(count) if count < wanted && !got.is_empty() => break,
                Ok(_) => {}
            }
        }
        match failed {
            None => Ok(got),
            Some(error) => Err(GetManyError { got, error }),
        }
    }

    fn get_latest(&self, deadline: Deadline) -> Result<(T, usize), GetError> {
        let queue = self.handle.offset();
        let mut latest = Arrival::new(self.arena());
        loop {
            let (mut objects, mut damaged) = (0, false);
            let read = |ticket, place: *mut _| {
                let mut next = Arrival::new(self.arena());
                // SAFETY: the place is this process's while this runs.
                match unsafe { next.take(place, queue, ticket) } {
                    Found::Object => {
                        objects += 1;
                        latest = next;
                    }
                    Found::Void => {}
                    Found::Damage => damaged = true,
                }
            };
            self.slots.pop_each(self.me, deadline, self.slots.capacity(), read)?;
            if damaged {
                return Err(GetError::Corrupt);
            }
            if objects > 0 {
                let object = latest.unpack(GetError::unpacked::<T>)?;
                return Ok((object, objects - 1));
            }
        }
    }
}
