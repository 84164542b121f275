//! Pipes: messages of any size between two ends.
//!
//! ```text
//! Pipe, pipe()       make them
//! connection, typed  the ends, as users see them
//! end                this process's hand on one end
//! line               what lies in shared memory: one for each direction
//! awaited            the async forms
//! ```

mod connection;
mod end;
mod error;
pub(super) mod line;
mod typed;

use std::sync::Arc;

use super::error::CreateError;
use super::label::{MOST_LARGEST, USUAL_LARGEST};
use connection::Ways;
use end::{Anything, End};
use line::Shape;

pub use connection::Connection;
pub use error::{RecvError, SendError};
pub use typed::{Messages, Receiver, Sender};

/// How a pipe is to be.
///
/// ```
/// use procession_posix::channel::{PipeOptions, SendError};
///
/// let (sender, receiver) = PipeOptions::new().messages(2).largest_message(1000).typed::<String>()?;
/// assert!(matches!(sender.send(&"x".repeat(2000)), Err(SendError::TooLarge { largest: 1000, .. })));
/// sender.send(&"one".into())?;
/// sender.send(&"two".into())?;
/// assert!(matches!(sender.try_send(&"three".into()), Err(SendError::Full)));
/// assert_eq!(receiver.recv()?, "one");
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PipeOptions(Shape);

impl Default for PipeOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PipeOptions {
    /// 64 messages on their way, each of at most 64 MiB; up to 256 holders of each end.
    pub const fn new() -> Self {
        Self(Shape { messages: 64, largest: USUAL_LARGEST, holders: 256 })
    }

    /// How many messages may be on their way in each direction before sending waits, 1 to 2³⁰. Each takes 128 bytes.
    pub const fn messages(self, messages: usize) -> Self {
        Self(Shape { messages, ..self.0 })
    }

    /// The largest message, in bytes as encoded: at most 4 GiB.
    pub const fn largest_message(self, bytes: u64) -> Self {
        let largest = if bytes < MOST_LARGEST { bytes } else { MOST_LARGEST };
        Self(Shape { largest, ..self.0 })
    }

    /// How many processes may hold the same end at a time, copies that are on their way included: 1 to 65,536. Each takes 16 bytes.
    pub const fn holders(self, holders: u32) -> Self {
        Self(Shape { holders, ..self.0 })
    }

    /// A pipe for objects of one type: its sending and its receiving end.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no pipe can be like that.
    pub fn typed<T>(self) -> Result<(Sender<T>, Receiver<T>), CreateError> {
        let (writes, reads) = End::pair::<T>(self.0)?;
        Ok((Sender::new(Arc::new(writes)), Receiver::new(Arc::new(reads))))
    }

    /// A pipe that leads one way: the connection that receives, and the one that sends.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no pipe can be like that.
    pub fn simplex(self) -> Result<(Connection, Connection), CreateError> {
        let (writes, reads) = End::pair::<Anything>(self.0)?;
        let (writes, reads) = (Ways::Writes(Arc::new(writes)), Ways::Reads(Arc::new(reads)));
        Ok((Connection(reads), Connection(writes)))
    }

    /// A pipe that leads both ways.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no pipe can be like that.
    pub fn duplex(self) -> Result<(Connection, Connection), CreateError> {
        let ((forth_out, forth_in), (back_out, back_in)) =
            (End::pair::<Anything>(self.0)?, End::pair::<Anything>(self.0)?);
        let both = |writes, reads| Ways::Both { writes: Arc::new(writes), reads: Arc::new(reads) };
        Ok((Connection(both(forth_out, back_in)), Connection(both(back_out, forth_in))))
    }
}

/// Pipes for messages of any type, as `multiprocessing.Pipe`.
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// A pipe that leads both ways: two connections, each of which sends to the other.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room.
    pub fn duplex() -> Result<(Connection, Connection), CreateError> {
        PipeOptions::new().duplex()
    }

    /// A pipe that leads one way: the connection that receives, and the one that sends.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room.
    pub fn simplex() -> Result<(Connection, Connection), CreateError> {
        PipeOptions::new().simplex()
    }
}

/// A pipe for objects of one type: its sending and its receiving end. Each can be cloned, and can travel.
///
/// # Errors
/// [`CreateError`] if there is no room.
///
/// ```
/// use procession_posix::channel::{RecvError, pipe};
///
/// let (sender, receiver) = pipe()?;
/// let thread = std::thread::spawn(move || sender.send(&"hello".to_string()));
/// assert_eq!(receiver.recv()?, "hello");
/// thread.join().unwrap()?;
/// assert!(matches!(receiver.recv(), Err(RecvError::Eof))); // nobody has the other end any more
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub fn pipe<T>() -> Result<(Sender<T>, Receiver<T>), CreateError> {
    PipeOptions::new().typed()
}
