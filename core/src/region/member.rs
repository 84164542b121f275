//! Who I am in a region: the tag under which this process claims, and what it needs to judge others.
//!
//! The tag lies in a word of its own. With the feature `std` that word is in a page that fork wipes
//! (`MADV_WIPEONFORK`): a child reads zero, which means "not attached", joins anew at its first claim, and
//! recognises guards that it has inherited as its parent's. Without `std` the word lies in the [`Membership`], and
//! a program that forks has to join anew by itself.
//!
//! (Children that share their parent's memory, as after vfork, share its tag: they must not touch the region.)

// Not the model's: what one process knows for itself is no shared access.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::participants::{JoinError, Participants, Verdict};
use super::tag::{Short, Tag};
use crate::sys::atomic::AtomicU64 as SharedU64;
use crate::sys::spin::Patience;
use crate::sys::{Fences, Scope};

/// How often a failing `try_` asks the kernel about an owner, at most, in milliseconds.
#[cfg(not(loom))]
const ASK_EVERY: u64 = 1;
/// The pid namespace of this process is not known yet.
const NOT_ASKED: u64 = u64::MAX;
/// How often the memory map of an owner is read, at most, in milliseconds: the witness of exec.
#[cfg(not(loom))]
const READ_MAPS_EVERY: u64 = 1000;
/// For how many owners, or objects, at a time a process remembers when it asked.
#[cfg(not(loom))]
const REMEMBERED: usize = 64;
/// How many bits tell them apart.
#[cfg(not(loom))]
const KEY_BITS: u32 = 22;

/// Erases what the dead have claimed in a region's objects.
pub trait Sweep: Sync {
    /// Visits every object once. `false`: not possible now; claims of the dead may still stand.
    fn sweep(&self) -> bool;
}

/// What a process has to know of a region before it can take part.
#[derive(Clone, Copy)]
pub struct Setting<'r> {
    /// The table of those who take part.
    pub participants: Participants<'r>,
    /// Who may sleep on the region's words.
    pub scope: Scope,
    /// How sleepers and wakers see each other.
    pub fences: Fences,
    /// Where sleepers say that they keep watch; may be empty.
    pub sentries: &'r [SharedU64],
    /// Device and inode of the file behind the memory: by these the memory map of a process shows whether it
    /// still has the region. `None` for memory without a file.
    pub backing: Option<(u64, u64)>,
    /// Erases dead claims before a row's short generation comes round. Without, rows are retired instead.
    pub sweeper: Option<&'r dyn Sweep>,
}

/// A process that takes part in a region, for people to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    #[cfg(not(loom))]
    name: [u8; super::participants::NAME],
}

impl Who {
    /// Its name, as far as it fits into 16 bytes; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        #[cfg(loom)]
        return "";
        #[cfg(not(loom))]
        {
            let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
            let name = &self.name[..end];
            // A name that was cut within a character, or damaged: as much as is text.
            core::str::from_utf8(name).unwrap_or_else(|error| {
                core::str::from_utf8(&name[..error.valid_up_to()]).unwrap_or("")
            })
        }
    }
}

impl core::fmt::Display for Who {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            "" => write!(f, "process {}", self.pid),
            name => write!(f, "{name} (process {})", self.pid),
        }
    }
}

impl core::fmt::Debug for Who {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// A process one of whose threads sleeps at an eventcount, for people to read.
#[cfg(not(loom))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sleeper {
    /// Which process.
    pub who: Who,
    /// For how long, to some milliseconds.
    pub waited: core::time::Duration,
}

#[cfg(not(loom))]
impl core::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} for {:?}", self.who, self.waited)
    }
}

/// A process's seat in a region: created once for a process and a region, shared by all threads.
///
/// Dropping it does not free the row of the table: only death does, since guards may live on.
pub struct Membership<'r> {
    setting: Setting<'r>,
    namespace: AtomicU64,
    patience: Patience,
    /// The name that others see, written into the row at each joining.
    #[cfg(not(loom))]
    name: [AtomicU64; 2],
    /// `milliseconds 42 | key 22`: when a try at which object asked, and when whose memory map was read. One place for all
    /// would let one that is asked about again and again keep the others from being looked at.
    #[cfg(not(loom))]
    asked: [AtomicU64; REMEMBERED],
    #[cfg(not(loom))]
    maps_read: [AtomicU64; REMEMBERED],
    #[cfg(not(loom))]
    hints: super::block::Hints,
    #[cfg(all(feature = "std", not(loom)))]
    tag: &'static AtomicU32,
    #[cfg(not(all(feature = "std", not(loom))))]
    tag: AtomicU32,
}

impl core::fmt::Debug for Membership<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Membership")
            .field("tag", &self.member().current_tag())
            .finish_non_exhaustive()
    }
}

impl<'r> Membership<'r> {
    /// Joins now: takes a row of the table. Some system calls.
    ///
    /// # Errors
    /// [`JoinError::TableFull`] when all rows belong to living processes.
    pub fn join(setting: Setting<'r>) -> Result<Self, JoinError> {
        let seat = Self::prepare(setting);
        seat.member().tag()?;
        Ok(seat)
    }

    /// Gets ready to join at the first claim: a process that never claims anything takes no row.
    #[must_use]
    pub fn prepare(setting: Setting<'r>) -> Self {
        #[cfg(not(loom))]
        if setting.fences == Fences::Asymmetric {
            // Whoever attached has registered before; a refusal shows at the first sleep, which then slices.
            let _ = crate::sys::register_fences();
        }
        Self {
            setting,
            namespace: AtomicU64::new(NOT_ASKED),
            patience: Patience::new(),
            #[cfg(not(loom))]
            name: [const { AtomicU64::new(0) }; 2],
            #[cfg(not(loom))]
            asked: [const { AtomicU64::new(0) }; REMEMBERED],
            #[cfg(not(loom))]
            maps_read: [const { AtomicU64::new(0) }; REMEMBERED],
            #[cfg(not(loom))]
            hints: super::block::Hints::default(),
            #[cfg(all(feature = "std", not(loom)))]
            tag: super::wiped::word(),
            #[cfg(not(all(feature = "std", not(loom))))]
            tag: AtomicU32::new(0),
        }
    }

    /// The seat as it is passed to every call.
    #[inline]
    #[must_use]
    pub fn member(&self) -> Member<'_> {
        #[cfg(all(feature = "std", not(loom)))]
        let tag = self.tag;
        #[cfg(not(all(feature = "std", not(loom))))]
        let tag = &self.tag;
        Member { tag, seat: self }
    }
}

/// Who I am in a region: what every call takes. Two words; copy it freely within the process.
#[derive(Clone, Copy, Debug)]
pub struct Member<'r> {
    tag: &'r AtomicU32,
    seat: &'r Membership<'r>,
}

impl<'r> Member<'r> {
    /// My tag; joins if this process has none yet, which a forked child does at its first claim. One load, else
    /// some system calls.
    ///
    /// # Errors
    /// [`JoinError::TableFull`] when this process has to join and all rows belong to living processes.
    #[inline]
    pub fn tag(self) -> Result<Tag, JoinError> {
        // Relaxed: the word is this process's own, and says nothing about other memory.
        match Tag::from_own(self.tag.load(Ordering::Relaxed)) {
            Some(tag) => Ok(tag),
            None => self.rejoin(),
        }
    }

    /// Whether `tag` is that of this process: not so for a tag that a forked child has inherited. One load.
    #[inline]
    #[must_use]
    pub fn is(self, tag: Tag) -> bool {
        self.tag.load(Ordering::Relaxed) == tag.bits()
    }

    /// My tag, if this process has one already.
    #[inline]
    #[must_use]
    pub fn current_tag(self) -> Option<Tag> {
        Tag::from_own(self.tag.load(Ordering::Relaxed))
    }

    #[cold]
    fn rejoin(self) -> Result<Tag, JoinError> {
        let setting = &self.seat.setting;
        let mut sweep = || setting.sweeper.is_some_and(Sweep::sweep);
        #[cfg(not(loom))]
        let tag = {
            let me = crate::sys::liveness::myself();
            self.seat.namespace.store(me.namespace, Ordering::Relaxed);
            match setting.scope {
                Scope::Shared => setting.participants.join(me, &mut sweep)?,
                // Private memory has one participant; a forked child has a copy, in which its parent is dead.
                Scope::Private => match Tag::new(1, me.pid) {
                    Some(tag) => tag,
                    None => return Err(JoinError::TableFull { rows: 0 }),
                },
            }
        };
        #[cfg(loom)]
        let tag = setting.participants.join(1, &mut sweep)?;
        // Two threads may join at the same time: one tag is kept, the other claims nothing and is declared dead.
        // Release: who sees the tag sees the namespace beside it.
        match self.tag.compare_exchange(0, tag.bits(), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                #[cfg(not(loom))]
                self.participants().name(tag, self.own_name());
                Ok(tag)
            }
            Err(kept) => {
                setting.participants.declare_dead(tag);
                Tag::from_bits(kept).ok_or(JoinError::TableFull { rows: 0 })
            }
        }
    }

    /// Whether `owner` is dead. Its own process is not; others cost up to 4 µs of system calls.
    #[must_use]
    pub fn verdict(self, owner: Tag) -> Verdict {
        if self.is(owner) {
            return Verdict::Alive;
        }
        if self.seat.setting.scope == Scope::Private {
            return self.verdict_in_private(|mine| mine == owner);
        }
        let namespace = self.namespace();
        let (verdict, sure) = self.participants().verdict(owner, namespace);
        if sure && self.has_lost_its_memory(owner) {
            self.participants().declare_dead(owner);
            return Verdict::Dead;
        }
        verdict
    }

    /// The same for the short form.
    #[must_use]
    pub fn verdict_short(self, owner: Short) -> Verdict {
        if self.current_tag().map(Tag::short) == Some(owner) {
            return Verdict::Alive;
        }
        if self.seat.setting.scope == Scope::Private {
            return self.verdict_in_private(|mine| mine.short() == owner);
        }
        let namespace = self.namespace();
        let (verdict, sure) = self.participants().verdict_short(owner, namespace);
        if sure
            && let Some(tag) = self.participants().lengthen(owner)
            && self.has_lost_its_memory(tag)
        {
            self.participants().declare_dead(tag);
            return Verdict::Dead;
        }
        verdict
    }

    /// Whether `owner` is known to be dead, without asking anybody: some loads. `false` says nothing.
    #[must_use]
    pub(crate) fn is_known_dead(self, owner: Tag) -> bool {
        if self.is(owner) {
            return false;
        }
        if self.seat.setting.scope == Scope::Private {
            return self.verdict_in_private(|mine| mine == owner) == Verdict::Dead;
        }
        self.participants().is_known_dead(owner)
    }

    /// Memory of one process: every tag but its own is that of a parent from before a fork. All seats of the process have the
    /// same one, and this one may have none yet.
    #[cold]
    fn verdict_in_private(self, own: impl Fn(Tag) -> bool) -> Verdict {
        if self.tag().is_ok_and(own) { Verdict::Alive } else { Verdict::Dead }
    }

    /// The process behind a tag, if its row still belongs to it. Some loads; nobody asks whether it lives.
    #[must_use]
    pub fn who(self, tag: Tag) -> Option<Who> {
        #[cfg(loom)]
        return self.participants().pid(tag).map(|pid| Who { pid });
        #[cfg(not(loom))]
        {
            let (pid, words) = match self.seat.setting.scope {
                Scope::Shared => (self.participants().pid(tag)?, self.participants().name_of(tag)),
                // Memory of one process. The tag is made of its pid, which may be too long for it.
                Scope::Private if self.is(tag) => {
                    (crate::sys::liveness::own_pid(), self.own_name())
                }
                Scope::Private => (tag.generation(), self.own_name()),
            };
            let mut name = [0; super::participants::NAME];
            for (part, word) in name.chunks_exact_mut(8).zip(words) {
                part.copy_from_slice(&word.to_le_bytes());
            }
            Some(Who { pid, name })
        }
    }

    /// Names this process for others to read, in errors and in what `Debug` shows: at most 16 bytes of it. A forked child has
    /// the name too, until it gives itself another.
    ///
    /// ```
    /// use procession_core::region::Membership;
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// me.set_name("teller-1");
    /// assert_eq!(me.who(me.tag()?).unwrap().name(), "teller-1");
    /// # Ok::<(), procession_core::region::JoinError>(())
    /// ```
    #[cfg(not(loom))]
    pub fn set_name(self, name: &str) {
        let bytes = name.as_bytes();
        for (index, word) in self.seat.name.iter().enumerate() {
            let mut part = [0; 8];
            let rest = bytes.get(index * 8..).unwrap_or(&[]);
            let length = rest.len().min(8);
            part[..length].copy_from_slice(&rest[..length]);
            word.store(u64::from_le_bytes(part), Ordering::Relaxed);
        }
        if let Some(tag) = self.current_tag() {
            self.participants().name(tag, self.own_name());
        }
    }

    #[cfg(not(loom))]
    fn own_name(self) -> [u64; 2] {
        core::array::from_fn(|part| self.seat.name[part].load(Ordering::Relaxed))
    }

    /// Whether no other process that takes part in the region lives: as of about now, and 4 µs for each that does.
    #[cfg(not(loom))]
    #[must_use]
    pub fn is_alone(self) -> bool {
        let own = self.current_tag();
        let namespace = self.namespace();
        !self.participants().somebody_lives(own, namespace)
    }

    /// Says that this process is about to end in order: nobody who counts on it has to take its end for a failure. Call it
    /// when nothing of it will use the region any more; nothing is released by it.
    pub fn leave(self) {
        if let Some(tag) = self.current_tag() {
            self.participants().leave(tag);
        }
    }

    /// Whether the process behind `tag` has [said so](Self::leave). Also if nobody can tell any more: a later process in
    /// its row of the table has.
    #[must_use]
    pub fn has_left(self, tag: Tag) -> bool {
        self.participants().has_left(tag)
    }

    /// The pid namespace in which this process counts.
    fn namespace(self) -> u64 {
        // A forked child that has not joined yet may count in another one than its parent, in which it would take the living for
        // dead. Acquire meets the Release in `rejoin`.
        let inherited = self.tag.load(Ordering::Acquire) == 0;
        let known = self.seat.namespace.load(Ordering::Relaxed);
        #[cfg(loom)]
        let _ = inherited;
        #[cfg(not(loom))]
        if known == NOT_ASKED || inherited {
            let asked = crate::sys::liveness::namespace();
            self.seat.namespace.store(asked, Ordering::Relaxed);
            return asked;
        }
        known
    }

    /// Whether a living process no longer maps the region: it has called exec. Asked once a second at most for each, and
    /// only if the kernel has just said that it lives, and under this pid: else the map would be somebody else's.
    fn has_lost_its_memory(self, owner: Tag) -> bool {
        #[cfg(not(loom))]
        if let Some((device, inode)) = self.seat.setting.backing
            && self.may_read_maps(owner)
            && let Some(pid) = self.participants().pid(owner)
        {
            return crate::sys::liveness::still_maps(pid, device, inode) == Some(false)
                // The pid may have been given to another process since the verdict, which is dead news too; a
                // row that has moved on is none of ours.
                && self.participants().pid(owner) == Some(pid);
        }
        let _ = owner;
        false
    }

    #[cfg(not(loom))]
    fn may_read_maps(self, owner: Tag) -> bool {
        due(&self.seat.maps_read, owner.index() as usize, READ_MAPS_EVERY)
    }

    /// Whether a failing `try_` may ask the kernel about who is in the way at `object` now: at most once a millisecond for
    /// each object, so that a loop of tries recovers and still costs next to no system calls.
    #[must_use]
    pub fn may_ask<T>(self, object: *const T) -> bool {
        #[cfg(loom)]
        {
            // A model asks whenever it may: its clock stands still.
            let _ = object;
            true
        }
        #[cfg(not(loom))]
        due(&self.seat.asked, object.addr() >> 2, ASK_EVERY)
    }

    /// The table of those who take part.
    #[inline]
    #[must_use]
    pub fn participants(self) -> Participants<'r> {
        self.seat.setting.participants
    }

    /// Who may sleep on the region's words.
    #[inline]
    #[must_use]
    pub fn scope(self) -> Scope {
        self.seat.setting.scope
    }

    /// How sleepers and wakers see each other.
    #[inline]
    #[must_use]
    pub fn fences(self) -> Fences {
        self.seat.setting.fences
    }

    /// Where this process found blocks last.
    #[cfg(not(loom))]
    pub(in crate::region) fn hints(self) -> &'r super::block::Hints {
        &self.seat.hints
    }

    /// How patient the spinners of this process are.
    #[must_use]
    pub fn patience(self) -> &'r Patience {
        &self.seat.patience
    }

    pub(crate) fn sentries(self) -> &'r [SharedU64] {
        self.seat.setting.sentries
    }
}

/// Whether `every` milliseconds have passed since this last said yes for `key`. Keys share places, and one that has lost
/// its place may ask: nobody is kept from asking by somebody else's questions.
#[cfg(not(loom))]
fn due(table: &[AtomicU64; REMEMBERED], key: usize, every: u64) -> bool {
    let key = (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - KEY_BITS);
    let last = &table[key as usize % REMEMBERED];
    let now = crate::sys::coarse_nanos() / 1_000_000;
    // Relaxed: estimates. A lost race means that another thread asks.
    let before = last.load(Ordering::Relaxed);
    let recent = now.saturating_sub(before >> KEY_BITS) < every;
    let same = before & ((1 << KEY_BITS) - 1) == key;
    !(same && recent)
        && last
            .compare_exchange(before, now << KEY_BITS | key, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}
