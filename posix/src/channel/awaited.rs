//! The async forms of everything that carries objects, for programs over tokio.
//!
//! An attempt is made at once, and again whenever the other side makes one worth while. Nothing is in anybody's hand between
//! two attempts, so a future may be dropped at any time.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Buffer, BufferQueue, GetError, JoinableQueue, LifoQueue, PutError, Queue, ReceiveError,
    Subscriber,
};
use crate::ready::{Arrivals, Supply, retry};

/// What an async form returns: outside the system's error, if there is no descriptor to wait with.
type Waited<R, E> = std::io::Result<Result<R, E>>;

/// How to get from a type.
macro_rules! gets {
    ($type:ident, $create:literal) => {
        impl<T: DeserializeOwned + 'static> $type<T> {
            /// `get` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
            /// nothing. With the feature `async`.
            ///
            /// No system call if there is something to get. A wait costs a descriptor, as long as it lasts.
            ///
            /// # Errors
            /// Outside, the system's, if there is no descriptor to wait with; inside, as `get`.
            ///
            /// ```
            #[doc = concat!("use procession_posix::channel::", stringify!($type), ";")]
            ///
            /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            #[doc = concat!("let queue = ", stringify!($type), "::", $create, "?;")]
            /// queue.put_async(&5).await??;
            /// assert_eq!(queue.get_async().await??, 5);
            /// # Ok::<(), procession_posix::Error>(())
            /// # }).unwrap();
            /// ```
            pub async fn get_async(&self) -> Waited<T, GetError> {
                let would_block =
                    |error: &GetError| matches!(error, GetError::Empty | GetError::Busy);
                retry(self, || self.get_nowait(), would_block).await
            }

            /// All objects, one after the other, until it is closed and drained, as a stream of the crate `futures-core`; otherwise as
            /// [`get_async`](Self::get_async).
            pub fn stream(&self) -> Arrivals<Self> {
                Arrivals::of(self.clone())
            }
        }

        impl<T: DeserializeOwned + 'static> Supply for $type<T> {
            type Object = T;

            fn next(&self) -> Option<Option<crate::Result<T>>> {
                match self.get_nowait() {
                    Ok(object) => Some(Some(Ok(object))),
                    Err(GetError::Closed) => Some(None),
                    Err(GetError::Empty | GetError::Busy) => None,
                    Err(error) => Some(Some(Err(error.into()))),
                }
            }
        }
    };
}

/// How to put into a type.
macro_rules! puts {
    ($type:ident) => {
        impl<T: Serialize + 'static> $type<T> {
            /// `put` for programs over tokio: waits for room without holding up the thread. Dropping the future stops waiting:
            /// nothing was put then. With the feature `async`.
            ///
            /// No system call if there is room. A wait costs a descriptor, as long as it lasts; the object is encoded for each
            /// attempt.
            ///
            /// # Errors
            /// Outside, the system's, if there is no descriptor to wait with; inside, as `put`.
            pub async fn put_async(&self, object: &T) -> Waited<(), PutError> {
                match self.put_nowait(object) {
                    Err(PutError::Full | PutError::Busy) => {}
                    answer => return Ok(answer),
                }
                let would_block =
                    |error: &PutError| matches!(error, PutError::Full | PutError::Busy);
                retry(&self.room(), || self.put_nowait(object), would_block).await
            }
        }
    };
}

gets!(Queue, "bounded(1)");
puts!(Queue);
gets!(JoinableQueue, "bounded(1)");
puts!(JoinableQueue);
gets!(LifoQueue, "bounded(1)");
puts!(LifoQueue);

impl BufferQueue {
    /// `get` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `get`.
    pub async fn get_async(&self) -> Waited<Buffer, GetError> {
        let would_block = |error: &GetError| matches!(error, GetError::Empty | GetError::Busy);
        retry(self, || self.get_nowait(), would_block).await
    }
}

impl<T: DeserializeOwned + 'static> Subscriber<T> {
    /// `recv` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and passes
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `recv`.
    pub async fn recv_async(&self) -> Waited<T, ReceiveError> {
        let would_block = |error: &ReceiveError| matches!(error, ReceiveError::Empty);
        retry(&self.news(), || self.try_recv(), would_block).await
    }
}
