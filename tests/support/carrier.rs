//! All that carries objects, under one set of names: what a test says of one it can say of all.

use std::time::Duration;

use procession::channel::{
    Connection, JoinableQueue, LifoQueue, Receiver, RecvError, SendError, Sender,
};
use procession::sync::Deadline;
use procession::{GetError, PutError, Queue};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wait {
    /// As long as it takes.
    Endless,
    /// Not at all.
    Not,
    /// For so long.
    For(Duration),
    /// The same, said as a deadline.
    Until(Duration),
}

/// Why nothing was put or got.
#[derive(Clone, Debug, PartialEq)]
pub enum No {
    /// Full or empty.
    NotNow,
    /// Somebody is just using the next place.
    Busy,
    /// The time was up.
    TimedOut,
    /// It is closed; for who gets, and drained.
    Closed,
    /// Anything else, which no test expects.
    Error(String),
}

/// What carries objects from process to process.
pub trait Carrier<T> {
    /// Puts an object.
    fn offer(&self, object: &T, wait: Wait) -> Result<(), No>;
    /// Gets one.
    fn fetch(&self, wait: Wait) -> Result<T, No>;
    /// Closes it for those who put.
    fn close(&self);

    /// Puts an object, without a limit of time.
    fn give(&self, object: &T) {
        self.offer(object, Wait::Endless).unwrap();
    }

    /// Gets one, without a limit of time.
    fn receive(&self) -> T {
        self.fetch(Wait::Endless).unwrap()
    }

    /// Gets one that is there, or says that there is none, or that it is closed and drained.
    fn try_receive(&self) -> Result<T, No> {
        loop {
            match self.fetch(Wait::Not) {
                Err(No::Busy) => std::thread::yield_now(),
                answer => return answer,
            }
        }
    }

    /// Puts an object if there is room.
    fn try_give(&self, object: &T) -> Result<(), No> {
        loop {
            match self.offer(object, Wait::Not) {
                Err(No::Busy) => std::thread::yield_now(),
                answer => return answer,
            }
        }
    }
}

impl From<PutError> for No {
    fn from(error: PutError) -> No {
        match error {
            PutError::Full => No::NotNow,
            PutError::Busy => No::Busy,
            PutError::TimedOut => No::TimedOut,
            PutError::Closed => No::Closed,
            error => No::Error(error.to_string()),
        }
    }
}

impl From<GetError> for No {
    fn from(error: GetError) -> No {
        match error {
            GetError::Empty => No::NotNow,
            GetError::Busy => No::Busy,
            GetError::TimedOut => No::TimedOut,
            GetError::Closed => No::Closed,
            error => No::Error(error.to_string()),
        }
    }
}

/// The calls of a queue with the usual names.
macro_rules! carriers {
    ($($type:ident)*) => {$(
        impl<T: Serialize + DeserializeOwned> Carrier<T> for $type<T> {
            fn offer(&self, object: &T, wait: Wait) -> Result<(), No> {
                Ok(match wait {
                    Wait::Endless => self.put(object),
                    Wait::Not => self.put_nowait(object),
                    Wait::For(time) => self.put_timeout(object, time),
                    Wait::Until(time) => self.put_until(object, Deadline::after(time)),
                }?)
            }

            fn fetch(&self, wait: Wait) -> Result<T, No> {
                Ok(match wait {
                    Wait::Endless => self.get(),
                    Wait::Not => self.get_nowait(),
                    Wait::For(time) => self.get_timeout(time),
                    Wait::Until(time) => self.get_until(Deadline::after(time)),
                }?)
            }

            fn close(&self) {
                self.close();
            }
        }
    )*};
}
carriers! { Queue LifoQueue JoinableQueue }

impl From<SendError> for No {
    fn from(error: SendError) -> No {
        match error {
            SendError::Full => No::NotNow,
            SendError::Busy => No::Busy,
            SendError::TimedOut => No::TimedOut,
            SendError::BrokenPipe => No::Closed,
            error => No::Error(error.to_string()),
        }
    }
}

impl From<RecvError> for No {
    fn from(error: RecvError) -> No {
        match error {
            RecvError::Empty => No::NotNow,
            RecvError::Busy => No::Busy,
            RecvError::TimedOut => No::TimedOut,
            RecvError::Eof => No::Closed,
            error => No::Error(error.to_string()),
        }
    }
}

/// Sends through one end of a pipe.
pub fn send<T: Serialize>(end: &Sender<T>, object: &T, wait: Wait) -> Result<(), No> {
    Ok(match wait {
        Wait::Endless => end.send(object),
        Wait::Not => end.try_send(object),
        Wait::For(time) => end.send_timeout(object, time),
        Wait::Until(time) => end.send_until(object, Deadline::after(time)),
    }?)
}

/// Receives from the other.
pub fn recv<T: DeserializeOwned>(end: &Receiver<T>, wait: Wait) -> Result<T, No> {
    Ok(match wait {
        Wait::Endless => end.recv(),
        Wait::Not => end.try_recv(),
        Wait::For(time) => end.recv_timeout(time),
        Wait::Until(time) => end.recv_until(Deadline::after(time)),
    }?)
}

/// Both ends of a pipe in one hand.
impl<T: Serialize + DeserializeOwned> Carrier<T> for (Sender<T>, Receiver<T>) {
    fn offer(&self, object: &T, wait: Wait) -> Result<(), No> {
        send(&self.0, object, wait)
    }

    fn fetch(&self, wait: Wait) -> Result<T, No> {
        recv(&self.1, wait)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// The connection that sends, and the one that receives, in one hand.
impl<T: Serialize + DeserializeOwned> Carrier<T> for (Connection, Connection) {
    fn offer(&self, object: &T, wait: Wait) -> Result<(), No> {
        Ok(match wait {
            Wait::Endless => self.0.send(object),
            Wait::Not => self.0.try_send(object),
            Wait::For(time) => self.0.send_timeout(object, time),
            Wait::Until(time) => self.0.send_until(object, Deadline::after(time)),
        }?)
    }

    fn fetch(&self, wait: Wait) -> Result<T, No> {
        Ok(match wait {
            Wait::Endless => self.1.recv(),
            Wait::Not => self.1.try_recv(),
            Wait::For(time) => self.1.recv_timeout(time),
            Wait::Until(time) => self.1.recv_until(Deadline::after(time)),
        }?)
    }

    fn close(&self) {
        self.0.close();
    }
}
