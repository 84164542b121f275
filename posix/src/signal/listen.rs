//! Hearing of signals.
//!
//! ```text
//! handler    for each listener that wants the signal: write a record into its pipe (it never waits); else give the signal back
//! listen     make a pipe, want the signals; then install the handler for those that nobody else listens to
//! drop       put back the old actions of those that nobody listens to any more; want nothing;
//!            wait until no handler looks at the listener; close the pipe
//! ```
//!
//! The handler only loads atomics and makes system calls, so it may interrupt anything. It counts itself into a listener before it looks what that
//! wants and out when it has written; who drops the listener first takes the wish away, then waits until the count is zero. One of the two
//! sees the other, so nothing is written to a descriptor that has been closed, and perhaps opened again for something else. A handler
//! runs to its end by itself, so the wait is short.
//!
//! A process that was forked has the handlers of its parent, and the pipes, which lead to the parent. So the handler looks whose they are: in a
//! forked process it puts the old action back and sends itself the signal again, as it came.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_core::sys::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Signal, each, invalid};
use crate::process::wire::above_standard;

/// So many may listen at a time.
const LISTENERS: usize = 64;
/// Those that nobody can listen to: two that the kernel keeps, and those that a thread's own instruction raises, which would
/// raise them again when the handler returns.
const DEAF: [Signal; 6] =
    [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL];

/// Somebody who listens, as the handler sees it.
struct Listener {
    /// The bits of the signals that it wants; 0: nobody is here.
    wanted: AtomicU64,
    /// Where records go.
    pipe: AtomicI32,
    /// How many handlers are looking at it.
    looking: AtomicU32,
}

static LISTENING: [Listener; LISTENERS] = [const {
    Listener { wanted: AtomicU64::new(0), pipe: AtomicI32::new(-1), looking: AtomicU32::new(0) }
}; LISTENERS];

/// The process that they are in; 0: nobody has ever listened.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// What the actions were before ours. What is here is leaked, for a handler may be looking; a changed one takes a new place.
static BEFORE: [AtomicPtr<libc::sigaction>; 64] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; 64];

/// For those who begin and stop to listen.
static CHANGING: Mutex<()> = Mutex::new(());

/// What the handler writes: number, si_code, pid and uid of the sender.
type Note = [u32; 4];

extern "C" fn handler(number: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the address of this thread's errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel gives a handler that was installed with SA_SIGINFO a valid siginfo_t.
    let about = unsafe { &mut *info };
    // Acquire: who finds its own number here finds the listeners of this process, too.
    let ours = OWNER.load(Ordering::Acquire) == std::process::id();
    if !(ours && tell(number, about)) {
        give_back(number, about, ours);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Whether anybody wanted it.
fn tell(number: i32, about: &libc::siginfo_t) -> bool {
    // SAFETY: the kernel has filled all of it in; where there is no sender these bytes are something else, and not looked at later.
    let (pid, uid) = unsafe { (about.si_pid(), about.si_uid()) };
    let note: Note = [number as u32, about.si_code as u32, pid as u32, uid];
    let bit = 1 << (number - 1);
    let mut wanted = false;
    for listener in &LISTENING {
        // Relaxed: who listens had the wish written before the handler was installed; the look that counts follows.
        if listener.wanted.load(Ordering::Relaxed) & bit == 0 {
            continue;
        }
        // SeqCst, here and for the wish: either this sees that the wish is gone, or who took it away sees this.
        listener.looking.fetch_add(1, Ordering::SeqCst);
        if listener.wanted.load(Ordering::SeqCst) & bit != 0 {
            wanted = true;
            // SAFETY: the pipe is not closed as long as this handler is counted. A full pipe takes nothing, at once.
            unsafe {
                let pipe = listener.pipe.load(Ordering::Relaxed);
                libc::write(pipe, note.as_ptr().cast(), size_of::<Note>());
            }
        }
        // Release: the write is over for who waits for a zero.
        listener.looking.fetch_sub(1, Ordering::Release);
    }
    wanted
}

/// Has the action happen that was there before ours: in a forked process for good, in this one if nobody listens any more.
fn give_back(number: i32, about: &mut libc::siginfo_t, ours: bool) {
    // SAFETY: all zeroes are a valid sigaction for the call to fill in.
    let mut now = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // SAFETY: only asks; `now` is valid.
    unsafe { libc::sigaction(number, std::ptr::null(), &mut now) };
    if is_ours(&now) {
        // Acquire: what was before was written before our handler was installed.
        let before = BEFORE[number as usize - 1].load(Ordering::Acquire);
        if ours || before.is_null() {
            return;
        }
        // SAFETY: what is in `BEFORE` is leaked, and an action that the kernel once had.
        unsafe { libc::sigaction(number, before, std::ptr::null_mut()) };
    } else if ![libc::SIG_DFL, libc::SIG_IGN].contains(&now.sa_sigaction) {
        // Another handler was installed over ours, and has called it: the signal has been seen.
        return;
    }
    // SAFETY: sends this thread a signal, with what was said about it; a process may do that to itself.
    unsafe {
        let (pid, tid) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, number, &raw mut *about);
    }
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handler as *const () as usize
}

/// Takes over what a fork has copied, if it has.
fn lock() -> MutexGuard<'static, ()> {
    let guard = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let me = std::process::id();
    // Relaxed: changed under the lock only.
    let owner = OWNER.load(Ordering::Relaxed);
    if owner != me {
        for listener in &LISTENING {
            let inherited = listener.wanted.swap(0, Ordering::SeqCst);
            // A handler that ran in the parent at the fork is not here.
            listener.looking.store(0, Ordering::SeqCst);
            each(inherited).for_each(restore);
        }
        // Release: from now on the handler takes the listeners for those of this process.
        OWNER.store(me, Ordering::Release);
    }
    guard
}

/// Installs the handler for a signal.
fn install(signal: Signal) -> io::Result<()> {
    // SAFETY: all zeroes are a valid sigaction.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // SAFETY: only asks; `action` is valid.
    check(unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), &mut action) })?;
    if is_ours(&action) {
        return Ok(());
    }
    let place = &BEFORE[usize::from(signal.0 - 1)];
    // Acquire: reads what another process, before its fork, or another thread wrote there.
    // SAFETY: what is there is leaked.
    let known = unsafe { place.load(Ordering::Acquire).as_ref() };
    if known.is_none_or(|known| !same(known, &action)) {
        // Release: the handler reads it.
        place.store(Box::leak(Box::new(action)), Ordering::Release);
    }
    // SAFETY: all zeroes are a valid sigaction.
    let mut ours = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // Else of two signals that have waited the second would interrupt the handler of the first, and be told before it.
    ours.sa_mask = super::set(!0);
    ours.sa_sigaction = handler as *const () as usize;
    // System calls of the program go on; a thread that has a stack for handlers uses it.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler only does what a handler may.
    check(unsafe { libc::sigaction(signal.as_raw(), &ours, std::ptr::null_mut()) })
}

fn same(a: &libc::sigaction, b: &libc::sigaction) -> bool {
    // SAFETY: both were filled in by the C library.
    let member =
        |set: &libc::sigset_t, signal: Signal| unsafe { libc::sigismember(set, signal.as_raw()) };
    a.sa_sigaction == b.sa_sigaction
        && a.sa_flags == b.sa_flags
        && each(!0).all(|signal| member(&a.sa_mask, signal) == member(&b.sa_mask, signal))
}

/// Puts the old action back, unless somebody else has put another one over ours.
fn restore(signal: Signal) {
    // SAFETY: all zeroes are a valid sigaction for the call to fill in.
    let mut now = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // Acquire: it was written before our handler was installed.
    let before = BEFORE[usize::from(signal.0 - 1)].load(Ordering::Acquire);
    // SAFETY: `now` is valid; what is in `BEFORE` is leaked, and an action that the kernel once had.
    unsafe {
        libc::sigaction(signal.as_raw(), std::ptr::null(), &mut now);
        if is_ours(&now) && !before.is_null() {
            libc::sigaction(signal.as_raw(), before, std::ptr::null_mut());
        }
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A process sent it, by `kill` or a call like it.
    Process {
        /// The process id. It may have ended by now.
        pid: u32,
        /// The user that it ran as.
        uid: u32,
    },
    /// The kernel: the terminal, for one, which gives it to the whole process group.
    Kernel,
    /// Something else: a timer, a child's end. The number is `si_code` of sigaction(2).
    Other(i32),
}

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// Where from.
    pub origin: Origin,
}

impl Received {
    fn read([number, code, pid, uid]: Note) -> Option<Received> {
        let signal = Signal::from_raw(number as i32)?;
        let origin = match code as i32 {
            libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL => Origin::Process { pid, uid },
            libc::SI_KERNEL => Origin::Kernel,
            other => Origin::Other(other),
        };
        Some(Received { signal, origin })
    }
}

/// Signals as they come, one after the other. See [`listen`].
#[derive(Debug)]
#[must_use = "dropping it gives the signals back to those who had them before"]
pub struct Signals {
    place: usize,
    bits: u64,
    owner: u32,
    records: OwnedFd,
    pipe: Option<OwnedFd>,
}

/// Listens to signals from now on, until the answer is dropped: instead of doing what they did before, they are told by
/// [`Signals::recv`].
///
/// Several may listen to the same signal; each is told. When the last one is dropped, the old actions are put back, unless somebody else has installed a
/// handler in the meantime. That a signal came is told even if it is received much later; like the kernel, it remembers a limited number: 4,096
/// signals that nobody has received, then further ones are lost.
///
/// A handler is installed, by `sigaction` with `SA_RESTART`. It belongs to this process: started ones do not have it, and a forked one gives
/// signals back to the actions from before.
///
/// Cost: two descriptors, and two system calls for each signal. A signal that comes costs a system call for each listener.
///
/// # Errors
/// If SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE or SIGILL is among them, which nobody can listen to; if there are no descriptors left,
/// or 64 listeners already.
///
/// ```
/// use procession_posix::signal::{Signal, listen};
/// use std::time::Duration;
///
/// let signals = listen(&[Signal::HUP, Signal::USR1])?;
/// assert_eq!(signals.try_recv(), None);
///
/// rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)?;
/// let came = signals.recv_timeout(Duration::from_secs(5)).unwrap();
/// assert_eq!(came.signal, Signal::USR1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen(signals: &[Signal]) -> io::Result<Signals> {
    let bits = super::bits(signals, &DEAF, "listened to")?;
    if bits == 0 {
        return Err(invalid("there is no signal to listen to; name at least one".into()));
    }
    let (records, pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let (records, pipe) = (above_standard(records), above_standard(pipe));
    let changing = lock();
    let free = LISTENING.iter().position(|one| one.wanted.load(Ordering::Relaxed) == 0);
    let place = free.ok_or_else(|| {
        io::Error::other(format!("{LISTENERS} listen to signals already; drop one of them"))
    })?;
    let listener = &LISTENING[place];
    listener.pipe.store(pipe.as_raw_fd() as RawFd, Ordering::Relaxed);
    // Meets the handler's load: with the wish it sees the pipe.
    listener.wanted.store(bits, Ordering::SeqCst);
    let owner = std::process::id();
    let listening = Signals { place, bits, owner, records, pipe: Some(pipe) };
    for signal in each(bits) {
        if let Err(error) = install(signal) {
            drop(changing);
            return Err(error);
        }
    }
    Ok(listening)
}

impl Signals {
    /// Waits for the next signal, as long as it takes.
    #[must_use]
    pub fn recv(&self) -> Received {
        loop {
            if let Some(received) = self.recv_until(Deadline::NEVER) {
                return received;
            }
        }
    }

    /// The next signal, if one has come.
    #[must_use]
    pub fn try_recv(&self) -> Option<Received> {
        if self.owner != std::process::id() {
            // What is in the pipe is for the process that this one was forked from.
            return None;
        }
        let mut note = [0; size_of::<Note>()];
        // The kernel takes each record into the pipe and out of it in one piece.
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.records, &mut note)) {
            Ok(read) if read == note.len() => Received::read(bytemuck::cast(note)),
            _ => None,
        }
    }

    /// Waits for the next signal, but no longer than `timeout`; zero only looks.
    #[must_use]
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Received> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Waits for the next signal until `deadline`.
    #[must_use]
    pub fn recv_until(&self, deadline: Deadline) -> Option<Received> {
        loop {
            // Before the attempt: what comes while it is made is found.
            let late = deadline.is_past();
            let received = self.try_recv();
            if received.is_some() || late {
                return received;
            }
            let left = deadline.left().and_then(|left| Timespec::try_from(left).ok());
            let mut record = [PollFd::new(&self.records, PollFlags::IN)];
            // In a forked process there is nothing to wait for but the time.
            let polled = if self.owner == std::process::id() { &mut record[..] } else { &mut [] };
            // Interrupted or not: look again.
            let _ = poll(polled, left.as_ref());
        }
    }
}

impl AsFd for Signals {
    /// A descriptor that can be read while there is a signal to receive: to wait for it, not to read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        let _changing = lock();
        let others = LISTENING.iter().enumerate().filter(|(place, _)| *place != self.place);
        let others = others.fold(0, |bits, (_, one)| bits | one.wanted.load(Ordering::Relaxed));
        each(self.bits & !others).for_each(restore);
        let listener = &LISTENING[self.place];
        // SeqCst, this and the loads of the count: see the handler.
        listener.wanted.store(0, Ordering::SeqCst);
        let mut looks = 0u32;
        while listener.looking.load(Ordering::SeqCst) != 0 {
            looks += 1;
            match looks {
                ..100 => std::hint::spin_loop(),
                // The handler's thread may need this processor.
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        self.pipe = None;
    }
}
