//! One start method and the whole rest of this library, as one object.

use bytemuck::{AnyBitPattern, Pod};

use super::builder::{Named, Process};
use super::handle::ActiveChild;
use super::method::StartMethod;
use super::names::{self, CurrentProcess, ParentProcess};
use super::run::Run;
use super::target::Target;
use crate::channel::{
    self, Broadcast, BufferQueue, Connection, JoinableQueue, LifoQueue, Pipe, PodQueue,
    PriorityQueue, Queue, Receiver, Sender, SimpleQueue,
};
use crate::memory::{MemoryError, SharedMemory, SharedMemoryError};
use crate::sync::{
    Atomic, AtomicType, Barrier, BarrierCreateError, BoundedSemaphore, Condition, Event, Latch,
    LatchCreateError, Lock, Mutex, Once, OnceCell, RLock, RwData, RwLock, Semaphore,
    SemaphoreError, SeqLock,
};
use crate::value::{self, Array, CType, Value};

/// The context whose processes are started by `method`.
///
/// ```
/// use procession_posix::process::{StartMethod, get_context};
///
/// let context = get_context(StartMethod::Spawn);
/// let total = context.value(0i64)?;
/// let child = context.process(|total: procession_posix::value::Value<i64>| total.set(5), (total.clone(),));
/// child.start()?.join()?;
/// assert_eq!(total.get(), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const fn get_context(method: StartMethod) -> Context {
    Context { method }
}

/// All that one builds of processes, in one place, with a start method of its own: for code that is to use one
/// method whatever the [default](super::start_method) is, and hands the choice on.
///
/// It is a word to be copied, and can be an argument of a process. What it makes is not bound to it: a lock of one
/// context works with the processes of any other. Only [`process`](Context::process) and what is like it differ
/// from the functions outside; children of its processes have the default again.
///
/// ```
/// use procession_posix::process::{Context, StartMethod, get_context};
///
/// fn squares(context: Context, up_to: u32) -> Result<Vec<u32>, Box<dyn std::error::Error>> {
///     let results = context.queue(up_to as usize)?;
///     let square = |n: u32, results: procession_posix::channel::Queue<u32>| results.put(&(n * n)).is_ok();
///     let children: Result<Vec<_>, _> =
///         (0..up_to).map(|n| context.process(square, (n, results.clone())).start()).collect();
///     for child in children? {
///         assert!(child.join()?);
///     }
///     let mut squares: Vec<u32> = (0..up_to).map_while(|_| results.get_nowait().ok()).collect();
///     squares.sort();
///     Ok(squares)
/// }
///
/// assert_eq!(squares(get_context(StartMethod::Zygote), 4)?, [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Context {
    method: StartMethod,
}

impl Context {
    /// How its processes come to be.
    pub const fn start_method(self) -> StartMethod {
        self.method
    }

    /// A [process](Process::new) that will call `target` with `args`.
    pub fn process<F: Target<Args>, Args>(self, target: F, args: Args) -> Process<F, Args> {
        Process::new(target, args).method(self.method)
    }

    /// A process that will call the target of this [name](Process::named).
    pub fn named<R, Args>(self, name: impl Into<String>, args: Args) -> Process<Named<R>, Args> {
        Process::named(name, args).method(self.method)
    }

    /// The process that a value of a [type of its own](Run) is.
    pub fn run<T: Run>(self, value: T) -> Process<impl Target<(T,), Output = T::Output>, (T,)> {
        value.process().method(self.method)
    }

    /// The living children of this process, by whatever method they were started. See
    /// [`active_children`](super::active_children).
    pub fn active_children(self) -> Vec<ActiveChild> {
        super::active_children()
    }

    /// Who am I? See [`current_process`](super::current_process).
    pub fn current_process(self) -> CurrentProcess {
        names::current_process()
    }

    /// Who started me? See [`parent_process`](super::parent_process).
    pub fn parent_process(self) -> Option<ParentProcess> {
        names::parent_process()
    }

    /// How many CPUs may be used, see [`cpu_count`](super::cpu_count).
    pub fn cpu_count(self) -> usize {
        super::limits::cpu_count()
    }
}

/// Methods that make what their types make, under the names that users know.
macro_rules! makers {
    ($(
        $(#[$doc:meta])*
        fn $name:ident $(<$t:ident $(: $bound:ident)?>)? ($($arg:ident: $type:ty),*)
            -> Result<$made:ty, $error:ty> = $make:expr;
    )*) => {
        impl Context {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As there.
                pub fn $name $(<$t $(: $bound)?>)? (self, $($arg: $type),*) -> Result<$made, $error> {
                    $make
                }
            )*
        }
    };
}

makers! {
    /// [`Lock::new`].
    fn lock() -> Result<Lock, MemoryError> = Lock::new();
    /// [`RLock::new`].
    fn rlock() -> Result<RLock, MemoryError> = RLock::new();
    /// [`Semaphore::new`].
    fn semaphore(value: u32) -> Result<Semaphore, SemaphoreError> = Semaphore::new(value);
    /// [`BoundedSemaphore::new`].
    fn bounded_semaphore(value: u32) -> Result<BoundedSemaphore, SemaphoreError>
        = BoundedSemaphore::new(value);
    /// [`Event::new`].
    fn event() -> Result<Event, MemoryError> = Event::new();
    /// [`Condition::new`].
    fn condition() -> Result<Condition, MemoryError> = Condition::new();
    /// [`Barrier::new`].
    fn barrier(parties: u32) -> Result<Barrier, BarrierCreateError> = Barrier::new(parties);
    /// [`Mutex::new`].
    fn mutex<T: AnyBitPattern>(value: T) -> Result<Mutex<T>, MemoryError> = Mutex::new(value);
    /// [`RwLock::new`].
    fn rwlock() -> Result<RwLock, MemoryError> = RwLock::new();
    /// [`RwData::new`].
    fn rwdata<T: AnyBitPattern>(value: T) -> Result<RwData<T>, MemoryError> = RwData::new(value);
    /// [`SeqLock::new`].
    fn seqlock<T: Pod>(value: T) -> Result<SeqLock<T>, MemoryError> = SeqLock::new(value);
    /// [`Atomic::new`].
    fn atomic<T: AtomicType>(value: T) -> Result<Atomic<T>, MemoryError> = Atomic::new(value);
    /// [`Latch::new`].
    fn latch(parts: u32) -> Result<Latch, LatchCreateError> = Latch::new(parts);
    /// [`Once::new`].
    fn once() -> Result<Once, MemoryError> = Once::new();
    /// [`OnceCell::new`].
    fn once_cell<T: AnyBitPattern>() -> Result<OnceCell<T>, MemoryError> = OnceCell::new();
    /// [`Value::new`].
    fn value<T: CType>(initial: T) -> Result<Value<T>, value::CreateError> = Value::new(initial);
    /// [`Array::new`].
    fn array<T: CType>(length: usize) -> Result<Array<T>, value::CreateError> = Array::new(length);
    /// [`Queue::bounded`].
    fn queue<T>(capacity: usize) -> Result<Queue<T>, channel::CreateError>
        = Queue::bounded(capacity);
    /// [`Queue::unbounded`].
    fn unbounded_queue<T>() -> Result<Queue<T>, channel::CreateError> = Queue::unbounded();
    /// [`JoinableQueue::bounded`].
    fn joinable_queue<T>(capacity: usize) -> Result<JoinableQueue<T>, channel::CreateError>
        = JoinableQueue::bounded(capacity);
    /// [`SimpleQueue::new`].
    fn simple_queue<T>() -> Result<SimpleQueue<T>, channel::CreateError> = SimpleQueue::new();
    /// [`PriorityQueue::bounded`].
    fn priority_queue<T: Ord>(capacity: usize) -> Result<PriorityQueue<T>, channel::CreateError>
        = PriorityQueue::bounded(capacity);
    /// [`LifoQueue::bounded`].
    fn lifo_queue<T>(capacity: usize) -> Result<LifoQueue<T>, channel::CreateError>
        = LifoQueue::bounded(capacity);
    /// [`PodQueue::bounded`].
    fn pod_queue<T: Pod>(capacity: usize) -> Result<PodQueue<T>, channel::CreateError>
        = PodQueue::bounded(capacity);
    /// [`BufferQueue::bounded`].
    fn buffer_queue(capacity: usize) -> Result<BufferQueue, channel::CreateError>
        = BufferQueue::bounded(capacity);
    /// [`Broadcast::blocking`].
    fn broadcast<T>(capacity: usize) -> Result<Broadcast<T>, channel::CreateError>
        = Broadcast::blocking(capacity);
    /// [`channel::pipe`].
    fn pipe<T>() -> Result<(Sender<T>, Receiver<T>), channel::CreateError> = channel::pipe();
    /// [`SharedMemory::create`].
    fn shared_memory(name: &str, size: u64) -> Result<SharedMemory, SharedMemoryError>
        = SharedMemory::create(name, size);
    /// [`Pipe::duplex`].
    fn duplex_pipe() -> Result<(Connection, Connection), channel::CreateError> = Pipe::duplex();
}
