//! The ends of a pipe for objects of one type.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sys::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::end::End;
use super::error::{RecvError, SendError};
use super::line::Side;

/// The end of a pipe that sends objects of one type. See [`pipe`](super::pipe()).
///
/// A clone is the same end, in this process; one that travels (as an argument of a process, or in a queue or a pipe) makes its
/// receiver another holder of it. When no process holds it any more, and no copy of it is on its way, the pipe ends for
/// who receives. A process that dies holds nothing any more.
///
/// Cost of a message: of up to 104 encoded bytes, no system call and no allocation as long as nobody has to wait; of more, a block of
/// shared memory, which its receiver frees.
pub struct Sender<T> {
    pub(super) end: Arc<End>,
    sends: PhantomData<fn(T)>,
}

/// The end of a pipe that receives objects of one type. See [`pipe`](super::pipe()).
///
/// Cloned and sent to others as a [`Sender`] is; each message is received once. When nobody holds it any more, who sends is told
/// that the pipe is broken, and what was not received is thrown away.
pub struct Receiver<T> {
    pub(super) end: Arc<End>,
    receives: PhantomData<fn() -> T>,
}

macro_rules! handle {
    ($type:ident, $marker:ident, $side:ident) => {
        impl<T> $type<T> {
            pub(super) fn new(end: Arc<End>) -> Self {
                Self { end, $marker: PhantomData }
            }

            /// Closes this end for this process, all its clones included. Doing it twice is fine, and dropping the last clone does it
            /// too. Threads that wait at it are told.
            pub fn close(&self) {
                self.end.shut();
            }

            /// Whether this end was closed in this process.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.end.is_shut()
            }
        }

        impl<T> Clone for $type<T> {
            fn clone(&self) -> Self {
                Self::new(self.end.clone())
            }
        }

        impl<T> std::fmt::Debug for $type<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("messages", &self.end.len())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }

        impl<T> Serialize for $type<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.end.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $type<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let end = End::deserialize::<T, D>(deserializer, Side::$side)?;
                Ok(Self::new(Arc::new(end)))
            }
        }

        impl<T: 'static> crate::wait::sealed::Source for $type<T> {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                &*self.end
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.end.me()
            }
        }
    };
}
handle!(Sender, sends, Writers);
handle!(Receiver, receives, Readers);

impl<T: Serialize> Sender<T> {
    /// Sends an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NEVER)
    }

    /// Sends an object if there is room now.
    ///
    /// # Errors
    /// `Full` or `Busy`; otherwise as [`send_until`](Self::send_until).
    #[inline]
    pub fn try_send(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NOW)
    }

    /// Sends an object, waiting for room for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send_timeout(&self, object: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_until(object, Deadline::after(timeout))
    }

    /// Sends an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]); `BrokenPipe` when nobody can receive it any more; `Closed`, `TooLarge`,
    /// `Encode`, `Memory`, `Corrupt`, `Join`.
    #[inline]
    pub fn send_until(&self, object: &T, deadline: Deadline) -> Result<(), SendError> {
        self.end.send(deadline, |parcel, largest| parcel.pack(object, largest))
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next object if there is one now.
    ///
    /// # Errors
    /// `Empty` or `Busy`; otherwise as [`recv_until`](Self::recv_until).
    #[inline]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives the next object, waiting for one for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    #[inline]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); `Eof` when everything was received and nobody can send any more; `Closed`,
    /// `Decode`, `Corrupt`, `Join`.
    #[inline]
    pub fn recv_until(&self, deadline: Deadline) -> Result<T, RecvError> {
        self.end.receive(deadline, |arrival| arrival.unpack(RecvError::unpacked::<T>))
    }

    /// Waits for at most `timeout` until a [`recv`](Self::recv) would not wait: there is a message, or the pipe has ended. Takes nothing.
    ///
    /// # Errors
    /// `Closed`, if this end was closed in this process.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.end.poll(Deadline::after(timeout))
    }

    /// Receives one object after the other, waiting for each, until nobody can send any more and all was received. What cannot
    /// be received is an error in its turn.
    ///
    /// ```
    /// use procession_posix::channel::pipe;
    ///
    /// let (sender, receiver) = pipe::<u32>()?;
    /// (0..3).try_for_each(|number| sender.send(&number))?;
    /// drop(sender);
    /// assert_eq!(receiver.iter().collect::<Result<Vec<_>, _>>()?, [0, 1, 2]);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Messages<'_, T> {
        Messages { receiver: self }
    }
}

/// The messages of a pipe until it ends. See [`Receiver::iter`].
#[derive(Debug)]
pub struct Messages<'r, T> {
    receiver: &'r Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Messages<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Err(RecvError::Eof | RecvError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<'r, T: DeserializeOwned> IntoIterator for &'r Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<'r, T>;

    fn into_iter(self) -> Messages<'r, T> {
        self.iter()
    }
}
