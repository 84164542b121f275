//! What the queues over a [`Stock`](super::stock::Stock) have in common, and those of threads: each call in its forms,
//! for a type `struct X<T> { stock: .. }`. `$bound` is what objects have to be.

/// What every such queue can be asked and told, and how it travels.
macro_rules! stocked {
    ($type:ident, $kind:ident) => {
        impl<T> Clone for $type<T> {
            fn clone(&self) -> Self {
                Self { stock: self.stock.clone() }
            }
        }

        impl<T> std::fmt::Debug for $type<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.stock).finish()
            }
        }

        impl<T> serde::Serialize for $type<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.stock.serialize(serializer)
            }
        }

        impl<'de, T> serde::Deserialize<'de> for $type<T> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let stock =
                    super::stock::Stock::deserialize(deserializer, crate::memory::kind::$kind)?;
                Ok(Self { stock })
            }
        }

        /// Ready when there is something to get, or nothing will ever be.
        impl<T: 'static> crate::wait::sealed::Source for $type<T> {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                self.stock.store()
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.stock.me()
            }
        }

        impl<T: 'static> $type<T> {
            /// What those who put wait for together with other objects: ready when a `put` would not wait. (The queue itself is
            /// ready when a `get` would not.)
            #[must_use]
            pub fn room(&self) -> super::StockRoom {
                super::StockRoom::new(&self.stock)
            }
        }

        crate::channel::forms::asked!($type);
    };
}

/// What every queue of processes or threads can be asked and told, for a type `struct X<T> { stock: .. }`.
macro_rules! asked {
    ($type:ident) => {
        impl<T> $type<T> {
            /// How many objects wait to be got: true at some moment during the call while nobody is just putting or getting.
            #[must_use]
            pub fn qsize(&self) -> usize {
                self.stock.len()
            }

            /// Whether none does. After a `put` has returned and before anybody gets, this says no.
            #[must_use]
            pub fn empty(&self) -> bool {
                self.stock.is_empty()
            }

            /// Whether as many wait as it can hold.
            #[must_use]
            pub fn full(&self) -> bool {
                self.stock.is_full()
            }

            /// How many objects can wait in it; 2²⁶ if nothing but memory limits it.
            #[must_use]
            pub fn capacity(&self) -> usize {
                self.stock.capacity()
            }

            /// How many objects died in the hands of those who had got them, as far as somebody has looked. None do, if the queue
            /// delivers at least once.
            #[must_use]
            pub fn lost(&self) -> u64 {
                self.stock.lost()
            }

            /// The same, and counts from zero again: the caller takes note of it.
            pub fn take_lost(&self) -> u64 {
                self.stock.take_lost()
            }

            /// Closes the queue for all: nothing is put any more, what is there can still be got. Doing it twice is fine.
            /// Never waits.
            pub fn close(&self) {
                self.stock.shutdown(false);
            }

            /// Closes the queue; if `immediate`, also throws away what is in it, and whoever gets or joins is told that it is
            /// over.
            pub fn shutdown(&self, immediate: bool) {
                self.stock.shutdown(immediate);
            }

            /// Whether it was closed.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.stock.is_closed()
            }
        }
    };
}

/// How such a queue is made.
macro_rules! made {
    ($type:ident, $kind:ident, $order:ident, leased: $leased:literal) => {
        impl<T> $type<T> {
            /// A queue in which at most `capacity` objects wait, of at most 64 MiB each; each is delivered at most once.
            ///
            /// # Errors
            /// [`CreateError`](crate::channel::CreateError) if there is no room, or no queue can have this capacity (1 to 2²⁶).
            pub fn bounded(capacity: usize) -> Result<Self, crate::channel::CreateError> {
                Self::with(crate::channel::QueueOptions::bounded(capacity))
            }

            /// A queue that grows as far as there is memory, and shrinks again; objects of at most 64 MiB each, delivered at most
            /// once.
            ///
            /// # Errors
            /// [`CreateError`](crate::channel::CreateError) if there is no room.
            pub fn unbounded() -> Result<Self, crate::channel::CreateError> {
                Self::with(crate::channel::QueueOptions::unbounded())
            }

            /// A queue as the options say.
            ///
            /// # Errors
            /// [`CreateError`](crate::channel::CreateError) if there is no room, or no queue can have this capacity (1 to 2²⁶).
            pub fn with(
                options: crate::channel::QueueOptions,
            ) -> Result<Self, crate::channel::CreateError> {
                let kind = crate::memory::kind::$kind;
                let order = procession_core::queue::Order::$order;
                Ok(Self { stock: super::stock::Stock::create(kind, order, $leased, options)? })
            }
        }
    };
}

/// Putting; `key` is nothing, or an argument in front of the object.
macro_rules! puts {
    ($type:ident: $bound:path $(, $key:ident)?) => {
        impl<T: $bound> $type<T> {
            /// Puts an object, waiting for room as long as it takes.
            ///
            /// # Errors
            /// `Closed`, `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Join`.
            pub fn put(&self $(, $key: i64)?, object: &T) -> Result<(), crate::channel::PutError> {
                self.put_until($($key,)? object, procession_core::sys::Deadline::NEVER)
            }

            /// Puts an object if there is room now.
            ///
            /// # Errors
            /// `Full` or `Busy`; otherwise as [`put`](Self::put).
            pub fn put_nowait(&self $(, $key: i64)?, object: &T) -> Result<(), crate::channel::PutError> {
                self.put_until($($key,)? object, procession_core::sys::Deadline::NOW)
            }

            /// Puts an object, waiting for room for at most `timeout`.
            ///
            /// # Errors
            /// `TimedOut` (`Full` or `Busy` if it is zero); otherwise as [`put`](Self::put).
            pub fn put_timeout(
                &self $(, $key: i64)?,
                object: &T,
                timeout: std::time::Duration,
            ) -> Result<(), crate::channel::PutError> {
                self.put_until($($key,)? object, procession_core::sys::Deadline::after(timeout))
            }

            /// Puts an object, waiting for room until `deadline`.
            ///
            /// # Errors
            /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`](crate::sync::Deadline::NOW)); otherwise as [`put`](Self::put).
            pub fn put_until(
                &self $(, $key: i64)?,
                object: &T,
                deadline: procession_core::sys::Deadline,
            ) -> Result<(), crate::channel::PutError> {
                self.stock.put(crate::channel::forms::key!($($key)?), object, deadline)
            }
        }
    };
}

/// The key, or 0 where there is none.
macro_rules! key {
    () => {
        0
    };
    ($key:ident) => {
        $key
    };
}

/// Getting what is `$got`, by `$get` of the stock, made of `(key, object)` by `$made`.
macro_rules! gets {
    ($type:ident: $bound:path, $got:ty, $get:ident, $made:expr) => {
        impl<T: $bound> $type<T> {
            /// Gets the next object, waiting for one as long as it takes.
            ///
            /// # Errors
            /// `Closed` when the queue is closed and drained, and nothing can come back; `Decode`, `Corrupt`, `Join`.
            pub fn get(&self) -> Result<$got, crate::channel::GetError> {
                self.get_until(procession_core::sys::Deadline::NEVER)
            }

            /// Gets the next object if there is one now.
            ///
            /// # Errors
            /// `Empty` or `Busy`; otherwise as [`get`](Self::get).
            pub fn get_nowait(&self) -> Result<$got, crate::channel::GetError> {
                self.get_until(procession_core::sys::Deadline::NOW)
            }

            /// Gets the next object, waiting for one for at most `timeout`.
            ///
            /// # Errors
            /// `TimedOut` (`Empty` or `Busy` if it is zero); otherwise as [`get`](Self::get).
            pub fn get_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> Result<$got, crate::channel::GetError> {
                self.get_until(procession_core::sys::Deadline::after(timeout))
            }

            /// Gets the next object, waiting for one until `deadline`.
            ///
            /// # Errors
            /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`](crate::sync::Deadline::NOW)); otherwise as [`get`](Self::get).
            pub fn get_until(
                &self,
                deadline: procession_core::sys::Deadline,
            ) -> Result<$got, crate::channel::GetError> {
                self.stock.$get(deadline).map($made)
            }

            /// Gets one object after the other, waiting for each, until the queue is closed and drained. What cannot be got is
            /// an error in its turn: an object that cannot be decoded is passed over, damage comes again and again.
            pub fn iter(&self) -> impl Iterator<Item = Result<$got, crate::channel::GetError>> {
                std::iter::from_fn(|| match self.get() {
                    Err(crate::channel::GetError::Closed) => None,
                    got => Some(got),
                })
            }

            /// Gets one object after the other until nothing is there.
            pub fn try_iter(&self) -> impl Iterator<Item = Result<$got, crate::channel::GetError>> {
                std::iter::from_fn(|| match self.get_nowait() {
                    Err(crate::channel::GetError::Closed | crate::channel::GetError::Empty) => None,
                    got => Some(got),
                })
            }
        }
    };
}

/// Looking at what is `$got`, made of `(key, object)` by `$made`.
macro_rules! peeks {
    ($type:ident: $bound:path, $got:ty, $made:expr) => {
        impl<T: $bound> $type<T> {
            /// A copy of the next object, which stays where it is. Waits for one as long as it takes.
            ///
            /// # Errors
            /// As [`get`](Self::get).
            pub fn peek(&self) -> Result<$got, crate::channel::GetError> {
                self.peek_until(procession_core::sys::Deadline::NEVER)
            }

            /// A copy of the next object, if there is one now.
            ///
            /// # Errors
            /// As [`get_nowait`](Self::get_nowait).
            pub fn peek_nowait(&self) -> Result<$got, crate::channel::GetError> {
                self.peek_until(procession_core::sys::Deadline::NOW)
            }

            /// A copy of the next object, waiting for one for at most `timeout`.
            ///
            /// # Errors
            /// As [`get_timeout`](Self::get_timeout).
            pub fn peek_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> Result<$got, crate::channel::GetError> {
                self.peek_until(procession_core::sys::Deadline::after(timeout))
            }

            /// A copy of the next object, waiting for one until `deadline`.
            ///
            /// # Errors
            /// As [`get_until`](Self::get_until).
            pub fn peek_until(
                &self,
                deadline: procession_core::sys::Deadline,
            ) -> Result<$got, crate::channel::GetError> {
                self.stock.peek(deadline).map($made)
            }
        }
    };
}

/// Taking what is to be done with.
macro_rules! takes {
    ($type:ident: $bound:path, $delivery:path) => {
        impl<T: $bound> $type<T> {
            /// Takes the next object, waiting for one as long as it takes. It is out of the queue when the
            /// [`Delivery`](crate::channel::Delivery) is done; given up before, or its process killed, it goes back if the queue delivers
            /// at least once.
            ///
            /// # Errors
            /// As [`get`](Self::get).
            pub fn take(&self) -> Result<$delivery, crate::channel::GetError> {
                self.take_until(procession_core::sys::Deadline::NEVER)
            }

            /// Takes the next object if there is one now.
            ///
            /// # Errors
            /// As [`get_nowait`](Self::get_nowait).
            pub fn take_nowait(&self) -> Result<$delivery, crate::channel::GetError> {
                self.take_until(procession_core::sys::Deadline::NOW)
            }

            /// Takes the next object, waiting for one for at most `timeout`.
            ///
            /// # Errors
            /// As [`get_timeout`](Self::get_timeout).
            pub fn take_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> Result<$delivery, crate::channel::GetError> {
                self.take_until(procession_core::sys::Deadline::after(timeout))
            }

            /// Takes the next object, waiting for one until `deadline`.
            ///
            /// # Errors
            /// As [`get_until`](Self::get_until).
            pub fn take_until(
                &self,
                deadline: procession_core::sys::Deadline,
            ) -> Result<$delivery, crate::channel::GetError> {
                self.stock.take(deadline)
            }
        }
    };
}

/// The queues that know what is not finished yet.
macro_rules! joined {
    ($type:ident) => {
        impl<T> $type<T> {
            /// Says that an object that was got is done: the one that this thread has had longest, else this process, else anybody.
            ///
            /// # Errors
            /// [`TaskDoneError::TooMany`](crate::channel::TaskDoneError::TooMany) if nobody has got anything that is not done; between
            /// processes also `Corrupt`, `Join`.
            pub fn task_done(&self) -> Result<(), crate::channel::TaskDoneError> {
                self.stock.task_done()
            }

            /// How many objects wait or were got and are not done.
            #[must_use]
            pub fn unfinished(&self) -> usize {
                self.stock.unfinished()
            }

            /// Waits until nothing is unfinished, as long as it takes. Objects whose takers die go back to the queue, or are given up.
            ///
            /// # Errors
            /// [`JoinTasksError::Lost`](crate::channel::JoinTasksError::Lost) if some were given up, until somebody
            /// [takes note](Self::take_lost); `ShutDown` after an [immediate shutdown](Self::shutdown); between processes also `Corrupt`,
            /// `Join`.
            pub fn join(&self) -> Result<(), crate::channel::JoinTasksError> {
                self.join_until(procession_core::sys::Deadline::NEVER)
            }

            /// Waits until nothing is unfinished, for at most `timeout`.
            ///
            /// # Errors
            /// `TimedOut` (`WouldBlock` if it is zero); otherwise as [`join`](Self::join).
            pub fn join_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> Result<(), crate::channel::JoinTasksError> {
                self.join_until(procession_core::sys::Deadline::after(timeout))
            }

            /// Waits until nothing is unfinished, until `deadline`.
            ///
            /// # Errors
            /// `TimedOut` (`WouldBlock` with [`Deadline::NOW`](procession_core::sys::Deadline::NOW)); otherwise as
            /// [`join`](Self::join).
            pub fn join_until(
                &self,
                deadline: procession_core::sys::Deadline,
            ) -> Result<(), crate::channel::JoinTasksError> {
                self.stock.join(deadline)
            }
        }
    };
}

/// Many objects at once, in the forms of the calls that wait.
macro_rules! many {
    ($type:ident: $put:path, $get:path) => {
        impl<T: $put> $type<T> {
            crate::channel::waits::waits!(put_many_until as put_many, put_many_nowait, put_many_timeout
                (objects: impl IntoIterator<Item = impl std::borrow::Borrow<T>>)
                -> Result<usize, crate::channel::PutError>,
                "Puts objects, in order, and says how many: see [`put_many_until`](Self::put_many_until).");
        }

        impl<T: $get> $type<T> {
            crate::channel::waits::waits!(get_many_until as get_many, get_many_nowait, get_many_timeout
                (most: usize) -> Result<Vec<T>, crate::channel::GetManyError<T>>,
                "Gets as many objects as are there, at most `most` and at least one: see [`get_many_until`](Self::get_many_until).");

            crate::channel::waits::waits!(get_latest_until as get_latest, get_latest_nowait, get_latest_timeout
                () -> Result<(T, usize), crate::channel::GetError>,
                "Gets the newest object, and passes over all before it: see [`get_latest_until`](Self::get_latest_until).");
        }
    };
}

pub(crate) use {asked, gets, joined, key, many, peeks, puts, takes};
pub(super) use {made, stocked};
