//! Pipes between threads: the names and calls of [`channel::pipe`](crate::channel::pipe()).
//!
//! A pipe is a line of at most 64 messages. Each end is counted: with its last clone, or by `close`, the line ends for
//! the other one. Who receives gets what is left first; who sends is told at once, and what is left is dropped.

use std::any::{Any, type_name};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procession_core::queue::Order;
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use super::queue::{Plan, QueueRoom, Stock};
use crate::channel::{CreateError, GetError, PutError, RecvError, SendError};
use crate::memory::{DecodeError, HandleError};
use crate::wait::sealed::Source;
use crate::wait::wait_timeout;

/// How many messages may be on their way.
const MESSAGES: usize = 64;

/// One end of a line. Dropping it closes it.
struct End<T> {
    line: Arc<Stock<T>>,
    shut: AtomicBool,
    receives: bool,
}

impl<T> End<T> {
    fn pair() -> Result<(Arc<Self>, Arc<Self>), CreateError> {
        let plan =
            Plan { capacity: Some(MESSAGES), order: Order::First, again: false, counts: false };
        let line = Stock::create(plan)?;
        let end = |receives| {
            Arc::new(Self { line: Arc::clone(&line), shut: AtomicBool::new(false), receives })
        };
        Ok((end(false), end(true)))
    }

    fn shut(&self) {
        // Relaxed: the line itself says by its lock that it has ended.
        if !self.shut.swap(true, Ordering::Relaxed) {
            self.line.shutdown(self.receives);
        }
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    fn send(&self, object: T, deadline: Deadline) -> Result<(), SendError> {
        self.line.give(0, object, deadline).map_err(|(error, _)| match error {
            PutError::Full => SendError::Full,
            PutError::TimedOut => SendError::TimedOut,
            PutError::Closed if self.is_shut() => SendError::Closed,
            PutError::Closed => SendError::BrokenPipe,
            _ => SendError::Corrupt,
        })
    }

    fn receive(&self, deadline: Deadline) -> Result<T, RecvError> {
        if self.is_shut() {
            return Err(RecvError::Closed);
        }
        self.line.get(deadline).map(|(_, object)| object).map_err(|error| match error {
            GetError::Empty => RecvError::Empty,
            GetError::TimedOut => RecvError::TimedOut,
            GetError::Closed if self.is_shut() => RecvError::Closed,
            GetError::Closed => RecvError::Eof,
            _ => RecvError::Corrupt,
        })
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.shut();
    }
}

/// A pipe for objects of one type: its sending and its receiving end. Each can be cloned.
///
/// # Errors
/// [`CreateError`] if there is no memory.
///
/// ```
/// use procession_posix::channel::RecvError;
/// use procession_posix::thread::{Thread, pipe};
///
/// let (sender, receiver) = pipe()?;
/// let thread = Thread::new(move || sender.send(&"hello".to_string()), ()).start()?;
/// assert_eq!(receiver.recv()?, "hello");
/// thread.join()??;
/// assert!(matches!(receiver.recv(), Err(RecvError::Eof))); // nobody has the other end any more
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub fn pipe<T>() -> Result<(Sender<T>, Receiver<T>), CreateError> {
    let (sends, receives) = End::pair()?;
    let room = QueueRoom::new(&sends.line);
    Ok((Sender { end: sends, room }, Receiver { end: receives }))
}

/// The end of a pipe that sends objects of one type: the [`channel::Sender`](crate::channel::Sender) of threads.
pub struct Sender<T> {
    end: Arc<End<T>>,
    room: QueueRoom<T>,
}

/// The end of a pipe that receives objects of one type: the [`channel::Receiver`](crate::channel::Receiver) of threads.
pub struct Receiver<T> {
    end: Arc<End<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end), room: self.room.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end) }
    }
}

macro_rules! end {
    ($type:ident) => {
        impl<T> $type<T> {
            /// Closes this end, all its clones included. Doing it twice is fine, and dropping the last clone does it too. Threads
            /// that wait at it are told.
            pub fn close(&self) {
                self.end.shut();
            }

            /// Whether this end was closed.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.end.is_shut()
            }
        }

        impl<T> std::fmt::Debug for $type<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("messages", &self.end.line.len())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }
    };
}

end!(Sender);
end!(Receiver);

impl<T> Sender<T> {
    /// Moves an object into the pipe, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn give(&self, object: T) -> Result<(), SendError> {
        self.end.send(object, Deadline::NEVER)
    }
}

impl<T: Clone> Sender<T> {
    /// Sends a clone of an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn send(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NEVER)
    }

    /// Sends a clone of an object if there is room now.
    ///
    /// # Errors
    /// `Full`; otherwise as [`send_until`](Self::send_until).
    pub fn try_send(&self, object: &T) -> Result<(), SendError> {
        self.send_until(object, Deadline::NOW)
    }

    /// Sends a clone of an object, waiting for room for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn send_timeout(&self, object: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_until(object, Deadline::after(timeout))
    }

    /// Sends a clone of an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` with [`Deadline::NOW`]); `BrokenPipe` when nobody can receive it any more; `Closed`.
    pub fn send_until(&self, object: &T, deadline: Deadline) -> Result<(), SendError> {
        self.end.send(object.clone(), deadline)
    }
}

impl<T> Receiver<T> {
    /// Receives the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next object if there is one now.
    ///
    /// # Errors
    /// `Empty`; otherwise as [`recv_until`](Self::recv_until).
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives the next object, waiting for one for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` with [`Deadline::NOW`]); `Eof` when everything was received and nobody can send any more; `Closed`.
    pub fn recv_until(&self, deadline: Deadline) -> Result<T, RecvError> {
        self.end.receive(deadline)
    }

    /// Receives one object after the other, waiting for each, until nobody can send any more and all was received.
    #[must_use]
    pub fn iter(&self) -> Messages<'_, T> {
        Messages { receiver: self }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Waits for at most `timeout` until a [`recv`](Self::recv) would not wait: there is a message, or the pipe has ended. Takes nothing.
    ///
    /// # Errors
    /// `Closed`, if this end was closed.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        if self.is_closed() {
            return Err(RecvError::Closed);
        }
        Ok(!wait_timeout(&[self], timeout).is_empty())
    }
}

impl<T: Send + 'static> Source for Receiver<T> {
    fn source(&self) -> &dyn Waitable {
        &*self.end.line
    }

    fn me(&self) -> Member<'static> {
        self.end.line.me()
    }
}

impl<T: Send + 'static> Source for Sender<T> {
    fn source(&self) -> &dyn Waitable {
        &self.room
    }

    fn me(&self) -> Member<'static> {
        self.end.line.me()
    }
}

/// The messages of a pipe until it ends. See [`Receiver::iter`].
#[derive(Debug)]
pub struct Messages<'r, T> {
    receiver: &'r Receiver<T>,
}

impl<T> Iterator for Messages<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Err(RecvError::Eof | RecvError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<'r, T> IntoIterator for &'r Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<'r, T>;

    fn into_iter(self) -> Messages<'r, T> {
        self.iter()
    }
}

/// What a [`Connection`] carries: an object, and what its type is called.
struct Message {
    object: Box<dyn Any + Send>,
    type_name: &'static str,
}

/// Pipes for messages of any type: the [`channel::Pipe`](crate::channel::Pipe) of threads.
///
/// ```
/// use procession_posix::thread::Pipe;
///
/// let (near, far) = Pipe::duplex()?;
/// near.send("a question")?;
/// assert_eq!(far.recv::<String>()?, "a question");
/// far.send(&42u32)?;
/// assert!(near.recv::<String>().is_err()); // it was a u32
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// A pipe that leads both ways: two connections, each of which sends to the other.
    ///
    /// # Errors
    /// [`CreateError`] if there is no memory.
    pub fn duplex() -> Result<(Connection, Connection), CreateError> {
        let ((forth, back), (answers, asks)) = (pipe()?, pipe()?);
        let near = Connection(Ways::Both { writes: forth, reads: asks });
        let far = Connection(Ways::Both { writes: answers, reads: back });
        Ok((near, far))
    }

    /// A pipe that leads one way: the connection that receives, and the one that sends.
    ///
    /// # Errors
    /// [`CreateError`] if there is no memory.
    pub fn simplex() -> Result<(Connection, Connection), CreateError> {
        let (writes, reads) = pipe()?;
        Ok((Connection(Ways::Reads(reads)), Connection(Ways::Writes(writes))))
    }
}

/// One end of a [`Pipe`], for messages of any type: the [`channel::Connection`](crate::channel::Connection) of threads. A
/// message is received as the type that was sent, where what was sent as `str` is a `String`, and a `[T]` a `Vec<T>`.
#[derive(Clone, Debug)]
pub struct Connection(Ways);

#[derive(Clone, Debug)]
enum Ways {
    Reads(Receiver<Message>),
    Writes(Sender<Message>),
    Both { writes: Sender<Message>, reads: Receiver<Message> },
}

impl Connection {
    fn reads(&self) -> Result<&Receiver<Message>, RecvError> {
        match &self.0 {
            Ways::Reads(reads) | Ways::Both { reads, .. } => Ok(reads),
            Ways::Writes(_) => Err(RecvError::WriteOnly),
        }
    }

    fn writes(&self) -> Result<&Sender<Message>, SendError> {
        match &self.0 {
            Ways::Writes(writes) | Ways::Both { writes, .. } => Ok(writes),
            Ways::Reads(_) => Err(SendError::ReadOnly),
        }
    }

    /// Sends a copy of an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn send<T: ToOwned<Owned: Send + 'static> + ?Sized>(
        &self,
        object: &T,
    ) -> Result<(), SendError> {
        self.send_until(object, Deadline::NEVER)
    }

    /// Sends a copy of an object if there is room now.
    ///
    /// # Errors
    /// `Full`; otherwise as [`send_until`](Self::send_until).
    pub fn try_send<T: ToOwned<Owned: Send + 'static> + ?Sized>(
        &self,
        object: &T,
    ) -> Result<(), SendError> {
        self.send_until(object, Deadline::NOW)
    }

    /// Sends a copy of an object, waiting for room for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn send_timeout<T: ToOwned<Owned: Send + 'static> + ?Sized>(
        &self,
        object: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_until(object, Deadline::after(timeout))
    }

    /// Sends a copy of an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` with [`Deadline::NOW`]); `BrokenPipe` when nobody can receive it any more; `ReadOnly`; `Closed`.
    pub fn send_until<T: ToOwned<Owned: Send + 'static> + ?Sized>(
        &self,
        object: &T,
        deadline: Deadline,
    ) -> Result<(), SendError> {
        let writes = self.writes()?;
        let message =
            Message { object: Box::new(object.to_owned()), type_name: type_name::<T::Owned>() };
        writes.end.send(message, deadline)
    }

    /// Receives the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    pub fn recv<T: 'static>(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next object if there is one now.
    ///
    /// # Errors
    /// `Empty`; otherwise as [`recv_until`](Self::recv_until).
    pub fn try_recv<T: 'static>(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives the next object, waiting for one for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    pub fn recv_timeout<T: 'static>(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` with [`Deadline::NOW`]); `Eof` when everything was received and nobody can send any more; `Decode` if
    /// the object is of another type: it is gone; `WriteOnly`; `Closed`.
    pub fn recv_until<T: 'static>(&self, deadline: Deadline) -> Result<T, RecvError> {
        let reads = self.reads()?;
        let Message { object, type_name: sent } = reads.end.receive(deadline)?;
        match object.downcast() {
            Ok(object) => Ok(*object),
            Err(_) => {
                let error = DecodeError::Handle(HandleError::Content(format!("it is a {sent}")));
                Err(RecvError::Decode { expected: type_name::<T>(), error })
            }
        }
    }

    /// Sends bytes as one message.
    ///
    /// # Errors
    /// As [`send_until`](Self::send_until).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send(bytes)
    }

    /// Receives a message of bytes.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv()
    }

    /// Receives a message of bytes into `buffer`. How many they are.
    ///
    /// # Errors
    /// `BufferTooShort`, with the message, which is received; otherwise as [`recv_until`](Self::recv_until).
    ///
    /// ```
    /// use procession_posix::channel::RecvError;
    /// use procession_posix::thread::Pipe;
    ///
    /// let (reader, writer) = Pipe::simplex()?;
    /// let mut buffer = [0; 3];
    /// writer.send_bytes(b"you")?;
    /// assert_eq!(reader.recv_bytes_into(&mut buffer)?, 3);
    /// assert_eq!(&buffer, b"you");
    /// writer.send_bytes(b"hello")?;
    /// let error = reader.recv_bytes_into(&mut buffer).unwrap_err();
    /// assert!(matches!(error, RecvError::BufferTooShort { message, room: 3 } if message == b"hello"));
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buffer, Deadline::NEVER)
    }

    /// The same, waiting for a message until `deadline`.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and `TimedOut` (`Empty` with [`Deadline::NOW`]).
    pub fn recv_bytes_into_until(
        &self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, RecvError> {
        let message: Vec<u8> = self.recv_until(deadline)?;
        match buffer.get_mut(..message.len()) {
            Some(room) => {
                room.copy_from_slice(&message);
                Ok(message.len())
            }
            None => Err(RecvError::BufferTooShort { message, room: buffer.len() }),
        }
    }

    /// Waits for at most `timeout` until a [`recv`](Self::recv) would not wait. Takes nothing.
    ///
    /// # Errors
    /// `WriteOnly`; `Closed`.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.reads()?.poll(timeout)
    }

    /// Whether it receives.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.reads().is_ok()
    }

    /// Whether it sends.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.writes().is_ok()
    }

    /// Closes it, all its clones included. Dropping the last clone does it too.
    pub fn close(&self) {
        let _ = self.writes().map(Sender::close);
        let _ = self.reads().map(Receiver::close);
    }

    /// Whether it was closed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.writes().map_or(true, Sender::is_closed)
            && self.reads().map_or(true, Receiver::is_closed)
    }
}

/// Ready when there is a message; one that only sends, when there is room.
impl Source for Connection {
    fn source(&self) -> &dyn Waitable {
        match &self.0 {
            Ways::Reads(reads) | Ways::Both { reads, .. } => reads.source(),
            Ways::Writes(writes) => writes.source(),
        }
    }

    fn me(&self) -> Member<'static> {
        match &self.0 {
            Ways::Reads(reads) | Ways::Both { reads, .. } => reads.me(),
            Ways::Writes(writes) => writes.me(),
        }
    }
}
