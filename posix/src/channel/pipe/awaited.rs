//! The async forms, for programs over tokio. Nothing is in anybody's hand between two attempts, so a future may be dropped at any
//! time.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Connection, Receiver, RecvError, SendError, Sender};
use crate::ready::{Arrivals, Supply, retry};

/// What an async form returns: outside the system's error, if there is no descriptor to wait with.
type Waited<R, E> = std::io::Result<Result<R, E>>;

fn would_block_sending(error: &SendError) -> bool {
    matches!(error, SendError::Full | SendError::Busy)
}

fn would_block_receiving(error: &RecvError) -> bool {
    matches!(error, RecvError::Empty | RecvError::Busy)
}

impl<T: Serialize + 'static> Sender<T> {
    /// [`send`](Self::send) for programs over tokio: waits for room without holding up the thread. Dropping the future stops waiting:
    /// nothing was sent then. With the feature `async`.
    ///
    /// No system call if there is room. A wait costs a descriptor, as long as it lasts; the object is encoded for each
    /// attempt.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`send`](Self::send).
    pub async fn send_async(&self, object: &T) -> Waited<(), SendError> {
        retry(self, || self.try_send(object), would_block_sending).await
    }
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    /// [`recv`](Self::recv) for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
    /// nothing. With the feature `async`.
    ///
    /// No system call if there is a message. A wait costs a descriptor, as long as it lasts.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`recv`](Self::recv).
    ///
    /// ```
    /// use procession_posix::channel::pipe;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let (sender, receiver) = pipe()?;
    /// sender.send_async(&5).await??;
    /// assert_eq!(receiver.recv_async().await??, 5);
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn recv_async(&self) -> Waited<T, RecvError> {
        retry(self, || self.try_recv(), would_block_receiving).await
    }

    /// All messages, one after the other, until the pipe ends, as a stream of the crate `futures-core`; otherwise as
    /// [`recv_async`](Self::recv_async).
    pub fn stream(&self) -> Arrivals<Self> {
        Arrivals::of(self.clone())
    }
}

impl<T: DeserializeOwned + 'static> Supply for Receiver<T> {
    type Object = T;

    fn next(&self) -> Option<Option<crate::Result<T>>> {
        match self.try_recv() {
            Ok(object) => Some(Some(Ok(object))),
            Err(RecvError::Eof | RecvError::Closed) => Some(None),
            Err(RecvError::Empty | RecvError::Busy) => None,
            Err(error) => Some(Some(Err(error.into()))),
        }
    }
}

impl Connection {
    /// [`send`](Self::send) for programs over tokio; see [`Sender::send_async`].
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`send`](Self::send).
    pub async fn send_async<T: Serialize + ?Sized>(&self, object: &T) -> Waited<(), SendError> {
        match self.sender::<()>() {
            Some(room) => retry(&room, || self.try_send(object), would_block_sending).await,
            None => Ok(Err(SendError::ReadOnly)),
        }
    }

    /// [`recv`](Self::recv) for programs over tokio; see [`Receiver::recv_async`].
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`recv`](Self::recv).
    pub async fn recv_async<T: DeserializeOwned>(&self) -> Waited<T, RecvError> {
        retry(self, || self.try_recv(), would_block_receiving).await
    }
}
