//! The async forms of everything that carries objects, for programs over tokio.
//!
//! An attempt is made at once, and again whenever the other side makes one worth while. Nothing is in anybody's hand between
//! two attempts, so a future may be dropped at any time.

use bytemuck::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Buffer, BufferQueue, Connection, GetError, JoinableQueue, LifoQueue, PodQueue, PriorityQueue,
    PutError, Queue, ReceiveError, Receiver, RecvError, SendError, Sender, Subscriber, Unsent,
};
use crate::ready::{Arrivals, Readiness, Supply, ready, retry};

/// What an async form returns: outside the system's error, if there is no descriptor to wait with.
type Waited<R, E> = std::io::Result<Result<R, E>>;

/// How to get from a type: `$get` is the async form, `$attempt` the try, `$over` its answers when nothing will come any more. The example
/// makes one by the expression `$make`, puts 5 by `$put`, and gets `$five`.
macro_rules! gets {
    (
        $type:ident, $object:ty, $get:ident, $attempt:ident, $error:ident, $over:pat,
        $form:literal, [$($make:tt)*], $put:literal, $five:literal
    ) => {
        impl<T: DeserializeOwned + 'static> $type<T> {
            #[doc = concat!("`", $form, "` for programs over tokio: waits without holding up the thread. Dropping the future stops")]
            /// waiting, and loses nothing. With the feature `async`.
            ///
            /// No system call if there is something to be had. A wait costs a descriptor, as long as it lasts.
            ///
            /// # Errors
            #[doc = concat!("Outside, the system's, if there is no descriptor to wait with; inside, as `", $form, "`.")]
            ///
            /// ```
            /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            /// use procession_posix::channel;
            ///
            #[doc = concat!("let (sender, receiver) = ", $($make)*, ";")]
            #[doc = concat!("sender.", $put, ".await??;")]
            #[doc = concat!("assert_eq!(receiver.", stringify!($get), "().await??, ", $five, ");")]
            /// # Ok::<(), procession_posix::Error>(())
            /// # }).unwrap();
            /// ```
            pub async fn $get(&self) -> Waited<$object, $error> {
                let would_block = |error: &$error| matches!(error, $error::Empty | $error::Busy);
                retry(self, || self.$attempt(), would_block).await
            }

            /// All that come, one after the other, until none will come any more, as a stream of the crate `futures-core`; otherwise
            #[doc = concat!("as [`", stringify!($get), "`](Self::", stringify!($get), ").")]
            pub fn stream(&self) -> Arrivals<Self> {
                Arrivals::of(self.clone())
            }
        }

        impl<T: DeserializeOwned + 'static> Supply for $type<T> {
            type Object = $object;

            fn next(&self) -> Option<Option<crate::Result<$object>>> {
                match self.$attempt() {
                    Ok(object) => Some(Some(Ok(object))),
                    Err($over) => Some(None),
                    Err($error::Empty | $error::Busy) => None,
                    Err(error) => Some(Some(Err(error.into()))),
                }
            }

            fn readiness(&self) -> std::io::Result<Readiness> {
                Readiness::of(self)
            }
        }
    };
}

/// How to put into a type; `$room` is what is waited for, `$key` goes before the object.
macro_rules! puts {
    (
        $type:ident, $put:ident, $attempt:ident, $error:ident, $form:literal, $room:expr $(, $key:ident)?
    ) => {
        impl<T: Serialize + 'static> $type<T> {
            #[doc = concat!("`", $form, "` for programs over tokio: waits for room without holding up the thread. Dropping the future stops")]
            /// waiting: nothing has left then. With the feature `async`.
            ///
            /// No system call if there is room. A wait costs a descriptor, as long as it lasts; the object is encoded for each
            /// attempt.
            ///
            /// # Errors
            #[doc = concat!("Outside, the system's, if there is no descriptor to wait with; inside, as `", $form, "`.")]
            pub async fn $put(&self $(, $key: i64)?, object: &T) -> Waited<(), $error> {
                let would_block = |error: &$error| matches!(error, $error::Full | $error::Busy);
                match self.$attempt($($key,)? object) {
                    Err(error) if would_block(&error) => {}
                    answer => return Ok(answer),
                }
                let room: fn(&Self) -> _ = $room;
                retry(&room(self), || self.$attempt($($key,)? object), would_block).await
            }
        }
    };
}

/// Both, for a queue; `$put` is an example, which gets `$five`.
macro_rules! queue {
    ($type:ident, $object:ty, $put:literal, $five:literal $(, $key:ident)?) => {
        gets!(
            $type, $object, get_async, get_nowait, GetError, GetError::Closed,
            "get", ["{ let queue = channel::", stringify!($type), "::bounded(1)?; (queue.clone(), queue) }"], $put, $five
        );
        puts!($type, put_async, put_nowait, PutError, "put", |queue| queue.room() $(, $key)?);
    };
}
queue!(Queue, T, "put_async(&5)", "5");
queue!(JoinableQueue, T, "put_async(&5)", "5");
queue!(LifoQueue, T, "put_async(&5)", "5");
queue!(PriorityQueue, (i64, T), "put_async(1, &5)", "(1, 5)", priority);
gets!(
    Receiver,
    T,
    recv_async,
    try_recv,
    RecvError,
    RecvError::Eof | RecvError::Closed,
    "recv",
    ["channel::pipe()?"],
    "send_async(&5)",
    "5"
);
puts!(Sender, send_async, try_send, SendError, "send", |sender| sender.clone());

impl Connection {
    /// [`recv`](Self::recv) for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`recv`](Self::recv).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use procession_posix::channel::Pipe;
    ///
    /// let (near, far) = Pipe::duplex()?;
    /// near.send_async("to there").await??;
    /// assert_eq!(far.recv_async::<String>().await??, "to there");
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn recv_async<T: DeserializeOwned>(&self) -> Waited<T, RecvError> {
        let would_block = |error: &RecvError| matches!(error, RecvError::Empty | RecvError::Busy);
        retry(self, || self.try_recv(), would_block).await
    }

    /// [`send`](Self::send) for programs over tokio: waits for room without holding up the thread. Dropping the future stops waiting:
    /// nothing has left then. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`send`](Self::send).
    pub async fn send_async<T: Serialize + ?Sized>(&self, object: &T) -> Waited<(), SendError> {
        let would_block = |error: &SendError| matches!(error, SendError::Full | SendError::Busy);
        match (self.try_send(object), self.sender::<()>()) {
            (Err(error), Some(room)) if would_block(&error) => {
                retry(&room, || self.try_send(object), would_block).await
            }
            (answer, _) => Ok(answer),
        }
    }
}

impl<T: Pod> PodQueue<T> {
    /// `get` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `get`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use procession_posix::channel::PodQueue;
    ///
    /// let queue = PodQueue::bounded(1)?;
    /// queue.put_async(5u32).await??;
    /// assert_eq!(queue.get_async().await??, 5);
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn get_async(&self) -> Waited<T, GetError> {
        let would_block = |error: &GetError| matches!(error, GetError::Empty | GetError::Busy);
        retry(self, || self.get_nowait(), would_block).await
    }

    /// `put` for programs over tokio: waits for room without holding up the thread. Dropping the future stops waiting:
    /// nothing was put then. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `put`.
    pub async fn put_async(&self, item: T) -> Waited<(), PutError> {
        let would_block = |error: &PutError| matches!(error, PutError::Full | PutError::Busy);
        retry(&self.room(), || self.put_nowait(item), would_block).await
    }

    /// All items, one after the other, until the queue is closed and drained, as a stream of the crate `futures-core`; otherwise as
    /// [`get_async`](Self::get_async).
    pub fn stream(&self) -> Arrivals<Self> {
        Arrivals::of(self.clone())
    }
}

impl<T: Pod> Supply for PodQueue<T> {
    type Object = T;

    fn next(&self) -> Option<Option<crate::Result<T>>> {
        match self.get_nowait() {
            Ok(item) => Some(Some(Ok(item))),
            Err(GetError::Closed) => Some(None),
            Err(GetError::Empty | GetError::Busy) => None,
            Err(error) => Some(Some(Err(error.into()))),
        }
    }

    fn readiness(&self) -> std::io::Result<Readiness> {
        Readiness::of(self)
    }
}

impl BufferQueue {
    /// `get` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and loses
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `get`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use procession_posix::channel::BufferQueue;
    ///
    /// let queue = BufferQueue::bounded(1)?;
    /// let mut buffer = queue.reserve(5)?;
    /// buffer.copy_from_slice(b"hello");
    /// queue.put_async(buffer).await??;
    /// assert_eq!(&*queue.get_async().await??, b"hello");
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn get_async(&self) -> Waited<Buffer, GetError> {
        let would_block = |error: &GetError| matches!(error, GetError::Empty | GetError::Busy);
        retry(self, || self.get_nowait(), would_block).await
    }

    /// `put` for programs over tokio: waits for room without holding up the thread. Dropping the future stops waiting, and gives the
    /// buffer's memory back. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with: the buffer is gone then. Inside, as `put`.
    pub async fn put_async(&self, mut buffer: Buffer) -> Waited<(), Unsent> {
        loop {
            match self.put_nowait(buffer) {
                Err(Unsent { buffer: back, error: PutError::Full | PutError::Busy }) => {
                    buffer = back;
                    ready(&self.room()).await?;
                }
                answer => return Ok(answer),
            }
        }
    }
}

impl<T: DeserializeOwned + 'static> Subscriber<T> {
    /// `recv` for programs over tokio: waits without holding up the thread. Dropping the future stops waiting, and passes
    /// nothing. With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as `recv`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use procession_posix::channel::Broadcast;
    ///
    /// let news = Broadcast::blocking(8)?;
    /// let subscriber = news.subscribe()?;
    /// news.publisher()?.publish(&5)?;
    /// assert_eq!(subscriber.recv_async().await??, 5);
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn recv_async(&self) -> Waited<T, ReceiveError> {
        let would_block = |error: &ReceiveError| matches!(error, ReceiveError::Empty);
        retry(&self.news(), || self.try_recv(), would_block).await
    }

    /// All that is published, one after the other, until the broadcast is closed, as a stream of the crate `futures-core`; otherwise as
    /// [`recv_async`](Self::recv_async). That something was missed is an error in its turn.
    pub fn into_stream(self) -> Arrivals<Self> {
        Arrivals::of(self)
    }
}

impl<T: DeserializeOwned + 'static> Supply for Subscriber<T> {
    type Object = T;

    fn next(&self) -> Option<Option<crate::Result<T>>> {
        match self.try_recv() {
            Ok(object) => Some(Some(Ok(object))),
            Err(ReceiveError::Closed) => Some(None),
            Err(ReceiveError::Empty) => None,
            Err(error) => Some(Some(Err(error.into()))),
        }
    }

    fn readiness(&self) -> std::io::Result<Readiness> {
        Readiness::of(&self.news())
    }
}
