//! What a process needs to start others: one zygote at a time, asked under a lock.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StartError;
use super::executable;
use super::link::{Failure, Link, PATIENCE, sweep_zygotes};
use super::state::{Overrides, take_seen};
use super::status::Slots;
use super::stdio::Places;
use super::target::Wanted;
use super::warm;
use super::{Names, news};

/// What a process needs to start others.
pub(super) struct Starter {
    pid: u32,
    pub(super) slots: Arc<Slots>,
    zygote: Mutex<Option<Arc<Link>>>,
    /// How many zygotes there have been.
    made: AtomicU32,
}

static STARTER: AtomicPtr<Starter> = AtomicPtr::new(std::ptr::null_mut());

impl Starter {
    /// The starter of this process. A forked process finds its parent's, and makes its own.
    pub(super) fn get() -> Result<&'static Starter, StartError> {
        let old = STARTER.load(Ordering::Acquire);
        // SAFETY: a starter is leaked when it is published, so the reference holds for ever.
        let known = unsafe { old.as_ref() };
        let pid = std::process::id();
        if let Some(starter) = known.filter(|starter| starter.pid == pid) {
            return Ok(starter);
        }
        let slots = Arc::new(Slots::create()?);
        let (zygote, made) = (Mutex::new(None), AtomicU32::new(0));
        let new = Box::into_raw(Box::new(Starter { pid, slots, zygote, made }));
        match STARTER.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // The parent's zygote serves the parent only: close our end, unless the fork caught
                // another thread in the middle of a start.
                if let Some(mut link) = known.and_then(|known| known.zygote.try_lock().ok()) {
                    *link = None;
                }
                super::oom::begin();
                // SAFETY: just published, and leaked.
                Ok(unsafe { &*new })
            }
            Err(winner) => {
                // SAFETY: `new` was never published. The winner is a thread of this process, and its
                // starter is leaked.
                unsafe {
                    drop(Box::from_raw(new));
                    Ok(&*winner)
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.zygote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the zygote start a process; executes a zygote where there is none that fits.
    pub(super) fn start(&self, request: Request) -> Result<Started, StartError> {
        let mut made = None;
        let started = self.start_by(request, &mut made);
        if let Some(pid) = made {
            // Without a lock: whoever hears of it may start processes.
            news::zygote(pid, self.made.fetch_add(1, Ordering::Relaxed) > 0);
        }
        started
    }

    fn start_by(&self, request: Request, made: &mut Option<u32>) -> Result<Started, StartError> {
        sweep_zygotes();
        let mut held = self.lock();
        let mut known = take_seen();
        let executable = executable::chosen();
        // A zygote that dies right now or does not fit any more costs another attempt, and so does a state
        // that has changed; more in a row have a reason.
        for _ in 0..4 {
            let link = match &*held {
                Some(link) if link.executable != executable => {
                    link.dismiss();
                    *held = None;
                    continue;
                }
                Some(link) if link.has_arena || crate::memory::arena().is_err() => link.clone(),
                Some(link) => {
                    // The arena could not be made before, and exists now.
                    link.dismiss();
                    *held = None;
                    continue;
                }
                None => match Link::execute(&self.slots, executable.clone())? {
                    Some(link) => {
                        *made = Some(link.pid);
                        held.insert(Arc::new(link)).clone()
                    }
                    None => continue,
                },
            };
            let spare = if request.execute { None } else { link.take_spare() };
            let slot = spare.as_ref().map_or_else(|| self.slots.take(), |spare| Ok(spare.slot))?;
            // A slot stays taken where a process may still look into it.
            let mut unused = spare.is_none();
            let error = match link.start(&self.slots, slot, spare, &request, known.take()) {
                Ok((pid, pidfd)) => {
                    // An executed process is none of them, so it says nothing about how many are of use.
                    if !request.execute {
                        link.pool().started();
                        link.ask_for_spares();
                    }
                    return Ok(Started { pid, pidfd, slot, link });
                }
                Err(Failure::Error(error)) => error,
                Err(Failure::Unclear(error)) => {
                    unused = false;
                    if matches!(error, StartError::NoAnswer { .. }) {
                        *held = None;
                        link.pool().dismiss(&self.slots, true);
                        link.retire();
                    }
                    error
                }
                Err(Failure::Changed(now)) => {
                    self.slots.give_back(slot, false);
                    known = Some(now);
                    continue;
                }
                Err(Failure::Cold) => {
                    self.slots.give_back(slot, false);
                    continue;
                }
                Err(Failure::Outdated | Failure::Gone) => {
                    self.slots.give_back(slot, false);
                    *held = None;
                    link.dismiss();
                    continue;
                }
            };
            self.slots.give_back(slot, unused);
            if unused && is_scarcity(&error) && link.spend_spares() {
                continue;
            }
            return Err(error);
        }
        let reason = "zygotes are killed, or this process' rights change, all the time".into();
        Err(StartError::Handshake { seconds: PATIENCE.as_secs(), reason })
    }

    /// Makes the zygote by forking, if that is sound, at the beginning of the program.
    pub(super) fn begin(&self) {
        let mut held = self.lock();
        if held.is_none() && executable::chosen().is_none() {
            *held = Link::fork(&self.slots).ok().flatten().map(Arc::new);
        }
    }

    /// Has the zygote keep as many spares as are wanted, and makes one for that.
    pub(super) fn warm_up(&self) -> Result<(), StartError> {
        let mut held = self.lock();
        if let Some(link) = held.take_if(|link| link.is_gone()) {
            link.dismiss();
        }
        match &*held {
            Some(link) if warm::is_unwanted() => link.end_spares(),
            Some(link) => {
                link.pool().sweep(&self.slots);
                link.ask_for_spares();
            }
            None if warm::is_unwanted() => {}
            None => {
                // Whoever killed it did not want it to be kept warm.
                if let Some(link) = Link::execute(&self.slots, executable::chosen())? {
                    held.insert(Arc::new(link)).ask_for_spares();
                }
            }
        }
        Ok(())
    }

    /// Lets go of the zygote, in a fork of the process that it serves.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }
}

/// What is to be started.
pub(super) struct Request<'a> {
    pub(super) target: Wanted<'a>,
    pub(super) args: &'a [u8],
    pub(super) names: &'a Names,
    pub(super) places: &'a Places,
    pub(super) overrides: &'a Overrides,
    pub(super) execute: bool,
}

/// A process that was started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) slot: u32,
    pub(super) link: Arc<Link>,
}

/// Whether a start failed since there is not enough of something.
fn is_scarcity(error: &StartError) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    matches!(
        source.and_then(io::Error::raw_os_error),
        Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}
