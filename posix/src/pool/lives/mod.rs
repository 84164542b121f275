//! The lives of a pool's workers, and of the pool.
//!
//! ```text
//! who makes the pool   starts the first workers, by any start method, and hires the supervisor
//! supervisor           asleep in poll on its workers' pidfds and a bell; awake: buries the dead, carries out orders, ends what is overdue,
//!                      starts who is missing, rests
//! others               write down an order and ring the bell; wait, if at all, for `over` only
//! ```
//!
//! What is to be done is decided by the [`roster`], which knows no process; here it is done. The supervisor is an attendant, see there:
//! asleep it holds nothing, so the process may be forked meanwhile. It cannot fork the process itself, since a fork is for the thread that
//! asks for it alone: in a pool whose first workers were forked those who come later are made by the zygote.
//!
//! No lock is shared with a worker. The locks here are held for a few instructions, never while anything is waited for, started or killed:
//! so nobody waits for a worker that is dead, busy, or stopped.
//!
//! ```text
//! close       no tasks any more. When the last task is over, `finish`: all leave by themselves
//! terminate   all leave after their present item; who is still there after a grace is killed
//! broken      as terminated, with a cause
//! over        the last worker is buried: whoever joins is woken
//! ```
//!
//! The end of this process, in order, terminates its pools and does not wait here: workers are daemons, and daemons are ended there. If
//! it ends in another way, they are killed as all daemons are. In a fork of this process a pool is nobody's: nothing is done there.

mod death;
mod floor;
mod hire;
mod roster;
mod supervisor;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use procession_core::pool::{Life, State};
use procession_core::sys::Deadline;

pub(crate) use death::{Death, Leaving};
pub(crate) use floor::{Floor, Seen};
pub(crate) use hire::{Habits, Hire, Limits, Post};
use roster::{Roster, Rules};
use supervisor::{Bell, Supervisor};

use crate::process::{Child, Finalizer, finalizer};
use crate::signal::Signal;
use crate::task::PoolError;
