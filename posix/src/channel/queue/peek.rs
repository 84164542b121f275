//! Looking at the next object without getting it.

use procession_core::sys::Deadline;
use serde::de::DeserializeOwned;

use super::super::error::GetError;
use super::super::message::{LUGGAGE, Message, VOID};
use super::super::parcel::{Arrival, Found, Unpacked};
use super::super::waits::waits;
use super::{Bounded, Queue, Slots, Stocked};
use crate::memory::{DecodeError, HandleError, decode_or};

/// What lies in the first place.
enum Seen {
    Object(Vec<u8>),
    /// With ends of pipes: each of them is one, and goes to whoever gets it.
    Unique,
    Void,
    Damage,
}

impl<T> Slots<T> {
    /// Copies the next object, which stays where it is: a short one, or one in a block, which stays as long as its message does.
    fn see(&self, message: &Message, ticket: u64) -> Seen {
        if message.form & LUGGAGE != 0 {
            return Seen::Unique;
        }
        let mut arrival = Arrival::new(self.arena());
        // SAFETY: a copy of the message, which nobody else knows.
        match unsafe { arrival.look(message, self.handle.offset(), ticket) } {
            Found::Object => arrival.bytes().map_or(Seen::Damage, Seen::Object),
            Found::Void => Seen::Void,
            Found::Damage => Seen::Damage,
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    waits!(peek_until as peek, peek_nowait, peek_timeout
        () -> Result<T, GetError>,
        "A copy of the next object, which stays where it is: see [`peek_until`](Self::peek_until).");

    /// A copy of the next object, which stays where it is. Waits for one until `deadline`. It was the next one at some moment
    /// during the call: another process may get it first.
    ///
    /// Cost: as [`get`](Self::get), and a copy of the encoded object.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until); `Decode` also for an object with ends of pipes in it, which cannot be copied.
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    ///
    /// let queue = Queue::<String>::bounded(2)?;
    /// queue.put(&"next".into())?;
    /// assert_eq!(queue.peek()?, "next");
    /// assert_eq!(queue.get()?, "next");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn peek_until(&self, deadline: Deadline) -> Result<T, GetError> {
        match &self.engine {
            Bounded(slots) => slots.peek(deadline),
            Stocked(stock) => stock.peek(deadline).map(|(_, object)| object),
        }
    }
}

impl<T: DeserializeOwned> Slots<T> {
    fn peek(&self, deadline: Deadline) -> Result<T, GetError> {
        let refused = |error| GetError::unpacked::<T>(Unpacked::Refused(error));
        loop {
            let see = |message: &Message, ticket| self.see(message, ticket);
            match self.slots.peek_with(self.me, deadline, see)? {
                Seen::Object(bytes) => return decode_or(&bytes, refused),
                Seen::Unique => {
                    let reason = "it has ends of pipes, which only whoever gets it can have";
                    return Err(refused(DecodeError::Handle(HandleError::Content(reason.into()))));
                }
                Seen::Damage => return Err(GetError::Corrupt),
                Seen::Void => {
                    let is_void = |message: &Message| message.form == VOID;
                    if let Ok(Some(claim)) =
                        self.slots.start_pop_if(self.me, Deadline::NOW, is_void)
                    {
                        self.slots.finish_pop(self.me, claim);
                    }
                }
            }
        }
    }
}
