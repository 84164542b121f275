//! How a worker is started, and what it does before its first task and after each.

use std::fs::File;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use procession_core::pool::{SeatAt, Worker};
use procession_core::region::Tag;
use procession_core::sys::coarse_nanos;
use serde::de::DeserializeOwned;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Leaving;
use crate::attendant;
use crate::memory::arena;
use crate::pool::board::BoardAt;
use crate::process::words::Words;
use crate::process::{Child, Process, StartError, StartMethod, Target, start_method};

/// What the workers of a pool do once they are ready.
pub(crate) trait Trade: 'static {
    /// Takes tasks until it is to leave.
    fn work(worker: Worker<'static>, habits: Habits) -> Leaving;
}

/// Where a worker works.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Post {
    board: BoardAt,
    seat: u32,
    life: u32,
    /// The tag of the pool's owner.
    owner: u32,
    limits: Limits,
}

/// What a worker must not exceed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// So many tasks it runs at most.
    pub(crate) tasks: Option<u64>,
    /// When it has more bytes of memory of its own after a task, it leaves.
    pub(crate) memory: Option<u64>,
}

/// How the workers of one pool are started. Copies are the same.
#[derive(Clone)]
pub struct Hire {
    method: Option<StartMethod>,
    limits: Limits,
    start: Arc<Start>,
}

type Start =
    dyn Fn(Post, String, Option<StartMethod>) -> Result<Child<Leaving>, StartError> + Send + Sync;

impl Hire {
    /// Workers of this trade, each of which calls `initializer` with `args` first. If that panics, exits or returns an error, it is not
    /// ready, and ends.
    pub(crate) fn new<T, F, A>(initializer: F, args: A) -> Self
    where
        T: Trade,
        F: Target<A>,
        A: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        // Its type says all.
        let _: F = initializer;
        let args = Arc::new(args);
        let start = move |post: Post, name: String, method: Option<StartMethod>| {
            let opening = Opening::<F, A> { args: args.clone(), initializer: PhantomData };
            let process = Process::new(begin::<T, F, A>, (post, opening));
            let process = process.name(name).daemon(true).allow_children(true);
            match method {
                Some(method) => process.method(method).start(),
                None => process.start(),
            }
        };
        Hire { method: None, limits: Limits::default(), start: Arc::new(start) }
    }

    /// Workers are started by this method, in place of that of the whole program.
    pub(crate) fn method(mut self, method: Option<StartMethod>) -> Self {
        self.method = method;
        self
    }

    /// Workers leave at these limits.
    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts a worker for this seat of the board, which is reserved for it.
    pub(crate) fn start(
        &self,
        board: BoardAt,
        at: SeatAt,
        name: String,
    ) -> Result<Child<Leaving>, StartError> {
        let post = Post {
            board,
            seat: at.index,
            life: at.life,
            owner: at.owner.bits(),
            limits: self.limits,
        };
        let method = match self.method.unwrap_or_else(start_method) {
            // An attendant must not fork the process.
            StartMethod::Fork if attendant::am_one() => Some(StartMethod::Zygote),
            _ => self.method,
        };
        (self.start)(post, name, method)
    }
}

/// What a worker's initializer is called with; encoded anew for each worker.
struct Opening<F, A> {
    args: Arc<A>,
    initializer: PhantomData<fn(F)>,
}

impl<F, A: Serialize> Serialize for Opening<F, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A panic would go through the supervisor, in the middle of a start: it is an error of this start alone.
        match catch_unwind(AssertUnwindSafe(|| self.args.serialize(serializer))) {
            Ok(done) => done,
            Err(payload) => {
                let words = Words::of_unwinding(payload);
                let message = format!("the initializer's arguments panicked: {}", words.message);
                Err(S::Error::custom(message))
            }
        }
    }
}

impl<'de, F, A: Deserialize<'de>> Deserialize<'de> for Opening<F, A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let args = Arc::new(A::deserialize(deserializer)?);
        Ok(Opening { args, initializer: PhantomData })
    }
}

/// The body of a worker's process.
fn begin<T, F, A>(post: Post, opening: Opening<F, A>) -> Leaving
where
    T: Trade,
    F: Target<A>,
    A: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let worker = match sit_down(post) {
        Ok(worker) => worker,
        Err(message) => return Leaving::NotReady(message),
    };
    let Some(args) = Arc::into_inner(opening.args) else {
        return Leaving::NotReady("its arguments are still being decoded".into());
    };
    // SAFETY: `Hire::new` was given a value of the type, which is part of what this function is named by.
    let returned = unsafe { F::call(args) };
    if let Some(message) = failure::<F::Output>(&returned) {
        return Leaving::NotReady(message);
    }
    if !worker.ready() {
        return Leaving::Asked;
    }
    T::work(worker, Habits::new(post.limits))
}

fn sit_down(post: Post) -> Result<Worker<'static>, String> {
    let board = post.board.open().map_err(|error| error.to_string())?;
    let arena = arena().map_err(|error| error.to_string())?;
    let owner = Tag::from_bits(post.owner).ok_or("it was started for nobody's pool")?;
    let at = SeatAt { index: post.seat, life: post.life, owner };
    board.sit(arena.member(), at).map_err(|error| error.to_string())
}

/// What an initializer says that returned an error.
fn failure<R: Serialize + DeserializeOwned>(returned: &R) -> Option<String> {
    let encoded = postcard::to_stdvec(returned).ok()?;
    if !crate::process::is_err::<R>(&encoded) {
        return None;
    }
    let why = "its initializer returned an error";
    // Nothing is known of the error's type. If it was text, this is what it says.
    let text = postcard::from_bytes::<Result<(), String>>(&encoded).ok().and_then(Result::err);
    let text = text.filter(|_| std::any::type_name::<R>().ends_with("alloc::string::String>"));
    Some(text.map_or_else(|| why.into(), |text| format!("{why}: {text}")))
}

/// What a worker does after each chunk: it looks whether it has had enough.
#[derive(Debug)]
pub(crate) struct Habits {
    tasks: Option<u64>,
    memory: Option<Look>,
}

/// How a worker looks at its own memory.
#[derive(Debug)]
struct Look {
    limit: u64,
    /// Pages, as the kernel counts them for this process.
    statm: File,
    page: u64,
    /// Not before this reading of the coarse clock.
    next: u64,
}

/// A look at the memory costs some microseconds: not after each task that takes less.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

impl Habits {
    fn new(limits: Limits) -> Self {
        let look = |limit| {
            // Where there is no /proc nobody looks.
            let statm = File::open("/proc/self/statm").ok()?;
            let page = rustix::param::page_size() as u64;
            Some(Look { limit, statm, page, next: 0 })
        };
        Habits { tasks: limits.tasks, memory: limits.memory.and_then(look) }
    }

    /// How many tasks it may still run: a longer chunk is cut there.
    pub(crate) fn tasks_left(&self) -> u64 {
        self.tasks.unwrap_or(u64::MAX)
    }

    /// So many tasks were run: whether it leaves now, and why.
    #[inline]
    pub(crate) fn after(&mut self, worker: &Worker<'_>, tasks: u64) -> Option<Leaving> {
        if let Some(left) = &mut self.tasks {
            *left = left.saturating_sub(tasks);
            if *left == 0 {
                return Some(Leaving::TasksDone);
            }
        }
        let look = self.memory.as_mut()?;
        let bytes = look.look()?;
        worker.note_resident(bytes);
        (bytes > look.limit).then_some(Leaving::Memory)
    }
}

impl Look {
    /// How many bytes of memory this process has for itself; `None` if it has just looked.
    fn look(&mut self) -> Option<u64> {
        let now = coarse_nanos();
        if now < self.next {
            return None;
        }
        self.next = now.saturating_add(BETWEEN_LOOKS.as_nanos() as u64);
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let mut pages = text.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
        let (_all, resident, shared) = (pages.next()??, pages.next()??, pages.next()??);
        // What is shared is the program's file, and the arena.
        Some(resident.saturating_sub(shared).saturating_mul(self.page))
    }
}
