//! `Connection`: an end of a pipe for messages of any type, and for bytes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::end::{Anything, End};
use super::error::{RecvError, SendError};
use super::line::Side;
use super::typed::{Receiver, Sender};
use crate::Descriptor;

/// An end of a [`Pipe`](super::Pipe), as `multiprocessing.connection.Connection`: sends and receives messages, which are objects of any
/// type that travels, or bytes.
///
/// - Each message arrives whole or not at all, once, in the order of sending. Any number of threads and processes may use the
///   same end: nothing tears or merges.
/// - A clone is the same end, in this process; one that travels makes its receiver another holder of it. When all holders of the
///   other end have closed it, or are dead, what they sent can still be received, then comes [`RecvError::Eof`]; and sending
///   fails with [`SendError::BrokenPipe`]. That reaches those who sleep, too: some milliseconds after the death of the last.
/// - It can be waited for together with other objects, and has a descriptor for poll and epoll on demand:
///   [`Readiness::of`](crate::ready::Readiness::of). Ready means that a receive would not wait; for one that only sends, that a send
///   would not.
///
/// Cost of a message: up to 104 bytes, no system call and no allocation as long as nobody has to wait; of more, a block of shared
/// memory, into which it is copied once and out of which once.
///
/// ```
/// use procession_posix::channel::{Pipe, RecvError};
///
/// let (one, other) = Pipe::duplex()?;
/// one.send(&("a question", 6u32, 7u32))?;
/// let (_, a, b): (String, u32, u32) = other.recv()?;
/// other.send(&(a * b))?;
/// assert_eq!(one.recv::<u32>()?, 42);
///
/// other.send_bytes(b"as they are")?;
/// other.close();
/// assert_eq!(one.recv_bytes()?, b"as they are");
/// assert!(matches!(one.recv_bytes(), Err(RecvError::Eof)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Connection(pub(super) Ways);

/// In which directions a connection leads.
#[derive(Clone)]
pub(super) enum Ways {
    Writes(Arc<End>),
    Reads(Arc<End>),
    Both { writes: Arc<End>, reads: Arc<End> },
}

impl Ways {
    fn writes(&self) -> Option<&Arc<End>> {
        match self {
            Self::Writes(end) | Self::Both { writes: end, .. } => Some(end),
            Self::Reads(_) => None,
        }
    }

    fn reads(&self) -> Option<&Arc<End>> {
        match self {
            Self::Reads(end) | Self::Both { reads: end, .. } => Some(end),
            Self::Writes(_) => None,
        }
    }

    fn ends(&self) -> impl Iterator<Item = &Arc<End>> {
        self.writes().into_iter().chain(self.reads())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut connection = f.debug_struct("Connection");
        if let Some(end) = self.0.writes() {
            connection.field("sent", &end.len());
        }
        if let Some(end) = self.0.reads() {
            connection.field("to_receive", &end.len());
        }
        connection.field("closed", &self.closed()).finish()
    }
}

impl Connection {
    #[inline]
    fn writing(&self) -> Result<&End, SendError> {
        self.0.writes().map(|end| &**end).ok_or(SendError::ReadOnly)
    }

    #[inline]
    fn reading(&self) -> Result<&End, RecvError> {
        self.0.reads().map(|end| &**end).ok_or(RecvError::WriteOnly)
    }

    /// Sends an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NEVER)
    }

    /// Sends an object if there is room now.
    ///
    /// # Errors
    /// `Full` or `Busy`; otherwise as [`send_until`](Self::send_until).
    #[inline]
    pub fn try_send<T: Serialize + ?Sized>(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NOW)
    }

    /// Sends an object, waiting for room for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send_timeout<T: Serialize + ?Sized>(
        &self,
        object: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_until(object, Deadline::after(timeout))
    }

    /// Sends an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]); `BrokenPipe` when nobody can receive it any more; `ReadOnly`, `Closed`,
    /// `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Join`.
    #[inline]
    pub fn send_until<T: Serialize + ?Sized>(
        &self,
        object: &T,
        deadline: Deadline,
    ) -> Result<(), SendError> {
        self.writing()?.send(deadline, |parcel, largest| parcel.pack(object, largest))
    }

    /// Receives the next message as an object of this type, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    #[inline]
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// `Empty` or `Busy`; otherwise as [`recv_until`](Self::recv_until).
    #[inline]
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives the next message, waiting for one for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    #[inline]
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives the next message, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); `Eof` when all was received and nobody can send any more; `WriteOnly`,
    /// `Closed`, `Corrupt`, `Join`; `Decode` if it is no object of this type: then it is gone, and the connection as good as before.
    #[inline]
    pub fn recv_until<T: DeserializeOwned>(&self, deadline: Deadline) -> Result<T, RecvError> {
        self.reading()?.receive(deadline, |arrival| arrival.unpack(RecvError::unpacked::<T>))
    }

    /// Sends these bytes as one message, waiting for room as long as it takes. No bytes are a message, too.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_bytes_until(bytes, Deadline::NEVER)
    }

    /// The same, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    #[inline]
    pub fn send_bytes_until(&self, bytes: &[u8], deadline: Deadline) -> Result<(), SendError> {
        self.writing()?.send(deadline, |parcel, largest| parcel.pack_bytes(bytes, largest))
    }

    /// Receives the bytes of the next message, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until), but `Decode`.
    #[inline]
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Deadline::NEVER)
    }

    /// The same, waiting for a message until `deadline`.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until), but `Decode`.
    #[inline]
    pub fn recv_bytes_until(&self, deadline: Deadline) -> Result<Vec<u8>, RecvError> {
        let corrupt = |_| RecvError::Corrupt;
        self.reading()?.receive(deadline, |arrival| arrival.bytes().map_err(corrupt))
    }

    /// Receives the bytes of the next message if they are at most `most`, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `TooLong`: the message stays, and can be received by another call. Otherwise as [`recv_bytes`](Self::recv_bytes).
    ///
    /// ```
    /// use procession_posix::channel::{Pipe, RecvError};
    ///
    /// let (reader, writer) = Pipe::simplex()?;
    /// writer.send_bytes(b"longer than that")?;
    /// assert!(matches!(reader.recv_bytes_max(4), Err(RecvError::TooLong { bytes: 16, most: 4 })));
    /// assert_eq!(reader.recv_bytes_max(16)?, b"longer than that");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn recv_bytes_max(&self, most: usize) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_max_until(most, Deadline::NEVER)
    }

    /// The same, waiting for a message until `deadline`.
    ///
    /// # Errors
    /// As [`recv_bytes_max`](Self::recv_bytes_max), and `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]).
    pub fn recv_bytes_max_until(
        &self,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<u8>, RecvError> {
        let corrupt = |_| RecvError::Corrupt;
        self.reading()?.receive_at_most(deadline, most, |arrival| arrival.bytes().map_err(corrupt))
    }

    /// Receives the bytes of the next message into `buffer`, waiting for one as long as it takes. How many they are.
    ///
    /// A message of any length is copied once.
    ///
    /// # Errors
    /// `BufferTooShort`, with the message, which is received; otherwise as [`recv_bytes`](Self::recv_bytes).
    ///
    /// ```
    /// use procession_posix::channel::{Pipe, RecvError};
    ///
    /// let (reader, writer) = Pipe::simplex()?;
    /// let mut buffer = [0; 5];
    /// writer.send_bytes(b"hello")?;
    /// assert_eq!(reader.recv_bytes_into(&mut buffer[1..])
    ///     .map_err(|error| match error {
    ///         RecvError::BufferTooShort { message, .. } => message,
    ///         _ => unreachable!(),
    ///     })
    ///     .unwrap_err(), b"hello");
    /// writer.send_bytes(b"you")?;
    /// assert_eq!(reader.recv_bytes_into(&mut buffer[1..])?, 3);
    /// assert_eq!(&buffer, b"\0you\0");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buffer, Deadline::NEVER)
    }

    /// The same, waiting for a message until `deadline`.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]).
    #[inline]
    pub fn recv_bytes_into_until(
        &self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, RecvError> {
        self.reading()?.receive(deadline, |arrival| {
            if arrival.copy_into(buffer).map_err(|_| RecvError::Corrupt)? {
                return Ok(arrival.len());
            }
            let message = arrival.bytes().map_err(|_| RecvError::Corrupt)?;
            Err(RecvError::BufferTooShort { message, room: buffer.len() })
        })
    }

    /// Sends a copy of a descriptor, which is there for its receiver even if this process ends: see [`Descriptor`]. To send
    /// one together with something else, send it as a part of an object.
    ///
    /// # Errors
    /// As [`send`](Self::send); `Encode` if the descriptor cannot be sent.
    ///
    /// ```
    /// use procession_posix::channel::Pipe;
    /// use std::io::{Read, Write};
    ///
    /// let (reader, writer) = Pipe::simplex()?;
    /// let (mut text, file) = std::io::pipe()?;
    /// writer.send_fd(&file)?;
    /// drop(file);
    /// std::fs::File::from(reader.recv_fd()?).write_all(b"hello")?;
    /// let mut read = String::new();
    /// text.read_to_string(&mut read)?;
    /// assert_eq!(read, "hello");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn send_fd(&self, descriptor: impl AsFd) -> Result<(), SendError> {
        let copy = descriptor.as_fd().try_clone_to_owned();
        let copy = copy.map_err(|_| SendError::Encode(postcard::Error::SerdeSerCustom))?;
        self.send(&Descriptor::from(copy))
    }

    /// Receives a descriptor, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); `Decode` if it is none, or cannot be had any more.
    pub fn recv_fd(&self) -> Result<OwnedFd, RecvError> {
        self.recv::<Descriptor>().map(Descriptor::into_fd)
    }

    /// Waits for at most `timeout` until a [`recv`](Self::recv) would not wait: there is a message, or nobody can send any more. Takes
    /// nothing; zero looks once.
    ///
    /// # Errors
    /// `WriteOnly`; `Closed`.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.reading()?.poll(Deadline::after(timeout))
    }

    /// Whether it can receive.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.0.reads().is_some()
    }

    /// Whether it can send.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.0.writes().is_some()
    }

    /// Closes this end for this process, all its clones included. Doing it twice is fine, and dropping the last clone does it too.
    /// Threads that wait at it are told.
    pub fn close(&self) {
        self.0.ends().for_each(|end| end.shut());
    }

    /// Whether it was closed in this process.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.0.ends().all(|end| end.is_shut())
    }

    /// Its two directions, each of which can be closed, and sent elsewhere, on its own. `None` if it has only one.
    ///
    /// ```
    /// use procession_posix::channel::Pipe;
    ///
    /// let (one, other) = Pipe::duplex()?;
    /// let (questions, answers) = one.split::<String, usize>().expect("both ways");
    /// questions.send(&"how long?".to_string())?;
    /// drop(questions); // no more of them
    /// let question: String = other.recv()?;
    /// other.send(&question.len())?;
    /// assert_eq!(answers.recv()?, 9);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn split<S, R>(self) -> Option<(Sender<S>, Receiver<R>)> {
        match self.0 {
            Ways::Both { writes, reads } => Some((Sender::new(writes), Receiver::new(reads))),
            _ => None,
        }
    }

    /// Its sending direction, for objects of one type. `None` if it only receives.
    #[must_use]
    pub fn sender<T>(&self) -> Option<Sender<T>> {
        self.0.writes().cloned().map(Sender::new)
    }

    /// Its receiving direction, for objects of one type. `None` if it only sends.
    #[must_use]
    pub fn receiver<T>(&self) -> Option<Receiver<T>> {
        self.0.reads().cloned().map(Receiver::new)
    }
}

/// One direction, as it travels.
struct Half<E, const WRITES: bool>(E);

impl<const WRITES: bool> Serialize for Half<&End, WRITES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, const WRITES: bool> Deserialize<'de> for Half<Arc<End>, WRITES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let side = if WRITES { Side::Writers } else { Side::Readers };
        let end = End::deserialize::<Anything, D>(deserializer, side)?;
        Ok(Self(Arc::new(end)))
    }
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let writes = self.0.writes().map(|end| Half::<_, true>(&**end));
        let reads = self.0.reads().map(|end| Half::<_, false>(&**end));
        (writes, reads).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Halves = (Option<Half<Arc<End>, true>>, Option<Half<Arc<End>, false>>);
        match Halves::deserialize(deserializer)? {
            (Some(Half(writes)), Some(Half(reads))) => Ok(Self(Ways::Both { writes, reads })),
            (Some(Half(writes)), None) => Ok(Self(Ways::Writes(writes))),
            (None, Some(Half(reads))) => Ok(Self(Ways::Reads(reads))),
            (None, None) => {
                Err(serde::de::Error::custom("a connection has at least one direction"))
            }
        }
    }
}

impl crate::wait::sealed::Source for Connection {
    fn source(&self) -> &dyn Waitable {
        match &self.0 {
            Ways::Reads(end) | Ways::Both { reads: end, .. } | Ways::Writes(end) => &**end,
        }
    }

    fn me(&self) -> Member<'static> {
        match &self.0 {
            Ways::Reads(end) | Ways::Both { reads: end, .. } | Ways::Writes(end) => end.me(),
        }
    }
}
