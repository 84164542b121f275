//! Signals and the children: passing on what comes, and ending in order.
//!
//! ```text
//! QUIET → ENDING     by the first signal: a thread goes through the end of this process, then ends it by that signal
//! ENDING → (gone)    by that thread, or by the next signal at once: the children are killed
//! ```
//!
//! Who else comes to the end of this process meanwhile, as a `main` that returns because its children have ended, waits: the thread that is
//! ending it does so for sure, and the status is the signal.
//!
//! Each duty has an attendant. It sleeps on the descriptor of its listener and on one by which it is told to stop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};

use super::{Origin, Received, Signal, Signals, each, listen, set};
use crate::attendant::{Duty, hire, hush};
use crate::process::exit::{self, Others};
use crate::process::{ActiveChild, active_children, is_starter};

/// Those that do not end a process by themselves, or cannot be listened to.
const ENDLESS: [Signal; 14] = [
    Signal::KILL,
    Signal::STOP,
    Signal::SEGV,
    Signal::BUS,
    Signal::FPE,
    Signal::ILL,
    Signal::CHLD,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::URG,
    Signal::WINCH,
    Signal::ABRT,
];

/// A thread that does something about signals.
#[derive(Debug)]
struct Watch {
    signals: Arc<Signals>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// A forked process has no such thread.
    pid: u32,
}

struct Watching<F> {
    signals: Arc<Signals>,
    stop: Arc<OwnedFd>,
    react: F,
}

impl<F: FnMut(Received) + Send + 'static> Duty for Watching<F> {
    fn sleep(&self) {
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        // Interrupted or not: the work is to look.
        let _ = poll(&mut [watch(self.signals.as_fd()), watch(self.stop.as_fd())], None);
    }

    fn work(&mut self) -> bool {
        while let Some(received) = self.signals.try_recv() {
            (self.react)(received);
        }
        // Nothing to read: it goes on.
        rustix::io::read(&*self.stop, &mut [0; 8]).is_err()
    }
}

impl Watch {
    fn begin(
        signals: &[Signal],
        react: impl FnMut(Received) + Send + 'static,
    ) -> io::Result<Watch> {
        let signals = Arc::new(listen(signals)?);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop =
            Arc::new(crate::process::wire::above_standard(rustix::event::eventfd(0, flags)?));
        let duty = Watching { signals: signals.clone(), stop: stop.clone(), react };
        let thread = Some(hire("signals", duty)?);
        Ok(Watch { signals, stop, thread, pid: std::process::id() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // The thread is the parent's, and so is what it would be told.
            std::mem::forget(self.thread.take());
            return;
        }
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        // It would wait for itself.
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !own(thread)) {
            let _ = thread.join();
        }
    }
}

/// The signals that are passed on, each at the place of its number: how many do it.
static FORWARDED: Mutex<[u16; 64]> = Mutex::new([0; 64]);

/// Passes signals on to the children while it lives. See [`forward`].
#[derive(Debug)]
#[must_use = "dropping it ends the forwarding"]
pub struct Forwarding {
    /// Dropped first: then nothing is passed on any more.
    _watch: Watch,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted(u64);

impl Counted {
    fn new(bits: u64) -> Counted {
        Counted::add(bits, 1);
        Counted(bits)
    }

    fn add(bits: u64, change: i16) {
        let mut counts = FORWARDED.lock().unwrap_or_else(PoisonError::into_inner);
        for signal in each(bits) {
            let count = &mut counts[usize::from(signal.0 - 1)];
            *count = count.saturating_add_signed(change);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        Counted::add(self.0, -1);
    }
}

/// Passes on what comes to this process to its [children](active_children), until the answer is dropped, instead of what it did before. This
/// process does nothing else about it; who wants to hear of it, too, [listens](listen).
///
/// What the terminal gave to the whole process group is not given a second time to those in it. What somebody else sent to the whole group
/// by `kill(-group)` cannot be told from what was sent to this process alone, and is passed on.
///
/// Cost: a thread that sleeps, which does not stand in the way of [`StartMethod::Fork`](crate::process::StartMethod::Fork), and
/// three descriptors. A signal that comes costs two system calls for each child.
///
/// # Errors
/// As [`listen`]; if there is no thread to be had.
///
/// ```
/// use procession_posix::signal::{Signal, forward};
///
/// let forwarding = forward(&[Signal::HUP, Signal::USR1])?;
/// // who sends SIGHUP to this process has its children read their configuration again
/// drop(forwarding);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn forward(signals: &[Signal]) -> io::Result<Forwarding> {
    let watch = Watch::begin(signals, |received| tell_all(received, |_| true))?;
    let bits = signals.iter().fold(0, |bits, signal| bits | signal.bit());
    Ok(Forwarding { _watch: watch, _counted: Counted::new(bits) })
}

/// Gives a signal to those children that do not have it already.
fn tell_all(received: Received, chosen: impl Fn(&ActiveChild) -> bool) {
    active_children().iter().filter(|child| chosen(child)).for_each(|child| tell(received, child));
}

fn tell(Received { signal, origin }: Received, child: &ActiveChild) {
    let pid = rustix::process::Pid::from_raw(child.pid() as i32);
    let same_group =
        || rustix::process::getpgid(pid).is_ok_and(|group| group == rustix::process::getpgrp());
    if origin == Origin::Kernel && same_group() {
        return;
    }
    let pidfd = child.sentinel().as_raw_fd();
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; nothing is read through a null pointer.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal.as_raw(), none, 0) };
}

/// How a tree of processes ends by signals: what each process tells those that it starts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ends {
    /// The bits of the signals; 0: nobody has asked.
    signals: u64,
    grace: Duration,
}

struct Order {
    /// Whose it is.
    pid: u32,
    ends: Ends,
    watch: Option<Watch>,
}

static ORDER: Mutex<Order> =
    Mutex::new(Order { pid: 0, ends: Ends { signals: 0, grace: Duration::ZERO }, watch: None });

impl Ends {
    /// Those of this process.
    pub(crate) fn now() -> Ends {
        ORDER.lock().unwrap_or_else(PoisonError::into_inner).ends
    }

    /// Makes them this process' own.
    pub(crate) fn take_on(self) -> io::Result<()> {
        if self.signals == 0 {
            return Ok(());
        }
        let mut order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        if order.pid != pid {
            *order = Order { pid, ends: Ends::default(), watch: None };
        }
        let heeded: Vec<Signal> =
            each(self.signals).filter(|signal| !is_ignored(*signal)).collect();
        if !heeded.is_empty() {
            let (grace, mut first) = (self.grace, None);
            let react = move |received| {
                let first = *first.get_or_insert(received);
                come_to_an_end(first, received, grace);
            };
            let new = Watch::begin(&heeded, react)?;
            // The old one goes when the new one is there.
            order.watch = Some(new);
        }
        order.ends = self;
        Ok(())
    }
}

/// From now on the first of these signals ends this process in order, and the next one at once. So in all processes
/// that it starts from now on, and those that they start: a tree ends as one.
///
/// In order means, as when `main` [returns](crate::process#the-end-of-the-starter): finalizers with a priority of 0 or more are called; daemons
/// get SIGTERM, and SIGKILL if that does not help; the other children get this signal, unless the terminal gave it to them already, and are
/// waited for, and killed if they are still there after `grace`; the remaining finalizers are called; output is flushed. Then the process ends by the very signal,
/// so that whoever started it sees that. The other threads of the process run on until then; one that comes to the end of the process
/// itself, or starts another process, waits there.
///
/// The next one of these signals kills all children that were not detached, and ends the process at once. (A SIGTERM by its starter is not
/// taken for the next one after a Ctrl-C, which has told the starter, too.)
///
/// Signals that are ignored at this moment stay so, as it is the custom: whoever started the program with `nohup` meant it. Calling
/// this again replaces signals and grace.
///
/// Cost: a thread that sleeps, which does not stand in the way of [`StartMethod::Fork`](crate::process::StartMethod::Fork), and three
/// descriptors: in this process and in each that is started from then on.
///
/// # Errors
/// If a signal is among them that does not end a process, or that nobody can listen to; as [`listen`]; if there is no thread to be had.
///
/// ```
/// use procession_posix::signal::{Signal, end_in_order};
/// use std::time::Duration;
///
/// end_in_order(&[Signal::INT, Signal::TERM, Signal::HUP], Duration::from_secs(5))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn end_in_order(signals: &[Signal], grace: Duration) -> io::Result<()> {
    let signals = super::bits(signals, &ENDLESS, "an order to end")?;
    if signals == 0 {
        return Err(super::invalid("there is no signal to end by; name at least one".into()));
    }
    Ends { signals, grace }.take_on()
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all zeroes are a valid sigaction for the call to fill in; it only asks.
    unsafe {
        let mut now = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(signal.as_raw(), std::ptr::null(), &mut now);
        now.sa_sigaction == libc::SIG_IGN
    }
}

/// How often who waits for the first signal to be heeded looks.
const LOOK: Duration = Duration::from_millis(1);
/// No signal has come yet.
const QUIET: u64 = 0;
/// The process that a signal ends, times 2³², and the thread that does it, or 0 before that runs.
static ENDING: AtomicU64 = AtomicU64::new(QUIET);

fn come_to_an_end(first: Received, received: Received, grace: Duration) {
    let me = u64::from(std::process::id()) << 32;
    let was = ENDING.load(Ordering::Relaxed);
    // Only attendants come here, one at a time. A fork finds the word of its parent.
    if was & !0xffff_ffff == me {
        // The terminal has told both, and the starter, which ends in order, too, tells its daemons once more.
        let once_more = first.origin == Origin::Kernel
            && received.signal == Signal::TERM
            && matches!(received.origin, Origin::Process { pid, .. } if is_starter(pid));
        if once_more {
            return;
        }
        kill_and_end(received.signal);
    }
    // Release meets the Acquire of those who come to the end themselves.
    ENDING.store(me, Ordering::Release);
    let end = move || {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u64;
        ENDING.store(me | thread, Ordering::Release);
        end(received, grace);
    };
    // It listens on meanwhile, for the one that ends it at once.
    if std::thread::Builder::new().name("ending".into()).spawn(end).is_err() {
        end();
    }
}

fn end(received: Received, grace: Duration) -> ! {
    let is_forwarded = {
        let counts = FORWARDED.lock().unwrap_or_else(PoisonError::into_inner);
        counts[usize::from(received.signal.0 - 1)] > 0
    };
    let tell = |child: &ActiveChild| {
        // Once is enough.
        if !is_forwarded {
            tell(received, child);
        }
    };
    if exit::is_under_way() {
        // It waits for them.
        tell_all(received, |child| !child.is_daemon() && !is_forwarded);
    }
    exit::in_order(Others::Tell(&tell, grace));
    end_by(received.signal)
}

fn kill_and_end(signal: Signal) -> ! {
    for child in active_children().iter().filter(|child| !child.is_detached()) {
        let _ = child.kill();
    }
    end_by(signal)
}

/// Ends this process as the signal does by itself.
fn end_by(signal: Signal) -> ! {
    let number = signal.as_raw();
    // SAFETY: puts the default action back, which ends the process; then sends the signal to this thread, which does not block it.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set(signal.bit()), std::ptr::null_mut());
        libc::raise(number);
        // The first process of a container is not ended by its own signals.
        libc::_exit(128 + number)
    }
}

/// The process that a signal is ending, and the thread that does it.
fn ending() -> (u32, i32) {
    // Acquire meets the Release of the attendant.
    let word = ENDING.load(Ordering::Acquire);
    ((word >> 32) as u32, word as i32)
}

fn me() -> (u32, i32) {
    (std::process::id(), rustix::thread::gettid().as_raw_nonzero().get())
}

/// For who is about to start a process: does not return if a signal is ending this one, unless in the thread that does it. Mostly a load.
pub(crate) fn start_nothing_at_the_end() {
    if ENDING.load(Ordering::Relaxed) != QUIET {
        wait_for_the_end();
    }
}

/// Does not return if a signal is ending this process, unless in the thread that does it.
fn wait_for_the_end() {
    let me = me();
    while ending().0 == me.0 && ending() != me {
        std::thread::park();
    }
}

/// For who has come to the end of this process: does not return if a signal is ending it, unless in the thread that does it.
pub(crate) fn yield_to_the_ending() {
    if ending() == me() {
        return;
    }
    let order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    // While the attendants are quiet a signal is either in the pipe still, or has set the word.
    let quiet = hush(Duration::ZERO);
    let own = order.watch.as_ref().filter(|watch| watch.pid == me().0);
    let has_come = own.is_some_and(|watch| {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut signals = [PollFd::new(&*watch.signals, PollFlags::IN)];
        poll(&mut signals, Some(&at_once)).is_ok_and(|ready| ready > 0)
    });
    drop((order, quiet));
    while has_come && ending().0 != me().0 {
        std::thread::park_timeout(LOOK);
    }
    wait_for_the_end();
}
