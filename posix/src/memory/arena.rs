//! The arena of a process tree: one sealed memfd, mapped once at its full, sparse size.
//!
//! - Made by the first process that needs it. Its children get the descriptor and [`adopt`] it; a fork inherits it.
//! - The file is sealed against shrinking, growing and further seals: nobody who holds it can pull pages away under
//!   another's feet by cutting it.
//! - Growing happens in place: the address space is reserved, pages are allocated before they are used, so that a full
//!   machine is an error and never a SIGBUS. Freed chunks go back by punching holes.
//! - With the last process of the tree the memory is gone: it has no name.
//!
//! Beside it each process can have a private one, for what its threads share: the same region and the same handles, over
//! anonymous memory. A fork has a copy of it, in which its parent is dead. What lies there does not travel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use memmap2::{Advice, MmapOptions, MmapRaw};
use procession_core::region::{
    Member, Membership, Memory, MemoryFull, Options, Region, RegionError, Setting, Sweep,
};
use procession_core::sys::atomic::{AtomicU64, Ordering};
use procession_core::sys::{Fences, Scope, liveness, register_fences};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::MemoryError;
use super::limits;
use crate::process::wire::above_standard;

/// How the arena of this tree is made.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// Address space to reserve, in bytes: the most that the arena can ever hold. Default 64 GiB, less where the limits
    /// of the process say so. At most 2³⁷.
    pub reserve: Option<u64>,
    /// Memory that may be used, in bytes. Default: nine tenths of the machine's or the control group's.
    pub budget: Option<u64>,
    /// How many processes may be attached at a time, 1 to 4095. Default 1023.
    pub participants: Option<u32>,
    /// How sleepers and wakers see each other. Default: asymmetric where the kernel can, else full fences.
    pub fences: Option<Fences>,
}

impl Config {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

static CONFIG: OnceLock<Config> = OnceLock::new();
static ARENA: OnceLock<Arena> = OnceLock::new();
static PRIVATE: OnceLock<Arena> = OnceLock::new();

/// Says how the arena is to be made. Call it before anything shared is made, in the first process of the tree.
///
/// # Errors
/// [`MemoryError::Exists`] if the arena exists, or was configured before.
pub fn configure(config: Config) -> Result<(), MemoryError> {
    if ARENA.get().is_some() {
        return Err(MemoryError::Exists);
    }
    CONFIG.set(config).map_err(|_| MemoryError::Exists)
}

/// The arena of this process tree; made now if nobody has needed it before.
///
/// # Errors
/// [`MemoryError`] if it cannot be made.
///
/// ```
/// let arena = procession_posix::memory::arena()?;
/// assert!(arena.used()? < 512 * 1024);
/// # Ok::<(), procession_posix::memory::MemoryError>(())
/// ```
#[inline]
pub fn arena() -> Result<&'static Arena, MemoryError> {
    match ARENA.get() {
        Some(arena) => Ok(arena),
        None => make(),
    }
}

#[cold]
fn make() -> Result<&'static Arena, MemoryError> {
    let _turn = turn();
    if let Some(arena) = ARENA.get() {
        return Ok(arena);
    }
    Ok(settle(Arena::create(CONFIG.get().copied().unwrap_or_default())?))
}

/// The memory of this process alone; made now if nobody has needed it before.
///
/// # Errors
/// [`MemoryError`] if it cannot be made.
pub(crate) fn private() -> Result<&'static Arena, MemoryError> {
    if let Some(arena) = PRIVATE.get() {
        return Ok(arena);
    }
    let _turn = turn();
    if let Some(arena) = PRIVATE.get() {
        return Ok(arena);
    }
    let arena = Arena::create_private()?;
    Ok(PRIVATE.get_or_init(|| arena))
}

/// One at a time makes or adopts the arena: attaching declares earlier lives of this process dead, and must not meet the
/// life that another thread has just begun.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A thread that panicked here left nothing halfway.
    MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes the memory behind this descriptor the arena of this process: what a child does before anything else.
///
/// # Errors
/// [`MemoryError::Exists`] if this process has one already; `Region` if it is none, or was made by another build.
pub fn adopt(file: OwnedFd) -> Result<&'static Arena, MemoryError> {
    let _turn = turn();
    if ARENA.get().is_some() {
        return Err(MemoryError::Exists);
    }
    Ok(settle(Arena::attach(file)?))
}

/// Under which name the others of the tree see this process; in an arena that it has, and in one that it will have.
pub(crate) fn name_process(name: &str) {
    *own_name() = Some(name.to_owned());
    if let Some(arena) = existing() {
        arena.member().set_name(name);
    }
}

fn own_name() -> std::sync::MutexGuard<'static, Option<String>> {
    static NAME: std::sync::Mutex<Option<String>> = std::sync::Mutex::new(None);
    // A thread that panicked here left nothing halfway.
    NAME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes it the arena of this process.
fn settle(arena: Arena) -> &'static Arena {
    let arena = ARENA.get_or_init(|| arena);
    arena.member().set_name(own_name().as_deref().unwrap_or("MainProcess"));
    arena
}

/// The arena, if this process has one already; none is made.
pub(crate) fn existing() -> Option<&'static Arena> {
    ARENA.get()
}

/// The memory of a tree of processes.
pub struct Arena {
    region: Region<'static>,
    backing: &'static Backing,
    seat: Membership<'static>,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("region", &self.region).finish_non_exhaustive()
    }
}

struct Backing {
    /// `None`: anonymous memory of this process.
    file: Option<OwnedFd>,
    map: MmapRaw,
    budget: AtomicU64,
}

impl Memory for Backing {
    fn commit(&self, offset: u64, bytes: u64) -> Result<(), MemoryFull> {
        // Anonymous memory comes page by page, as it is touched.
        let Some(file) = &self.file else { return Ok(()) };
        let full = |errno: Errno| MemoryFull { bytes, errno: errno.raw_os_error() };
        let used = used(file).map_err(full)?;
        if used.saturating_add(bytes) > self.budget.load(Ordering::Relaxed) {
            return Err(full(Errno::NOSPC));
        }
        loop {
            match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(full(errno)),
            }
        }
    }

    fn release(&self, offset: u64, bytes: u64) {
        let Some(file) = &self.file else {
            self.wipe(offset, bytes);
            return;
        };
        // A hole that cannot be punched costs memory, nothing else.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(file, hole, offset, bytes);
    }
}

fn used(file: &OwnedFd) -> Result<u64, Errno> {
    rustix::fs::fstat(file).map(|stat| (stat.st_blocks as u64).saturating_mul(512))
}

fn system(call: &'static str) -> impl FnOnce(Errno) -> MemoryError {
    move |errno| MemoryError::System { call, error: errno.into() }
}

impl Arena {
    fn create(config: Config) -> Result<Self, MemoryError> {
        let mut size = config.reserve.unwrap_or_else(limits::reserve) & !0xFFFF;
        let budget = config.budget.unwrap_or_else(limits::budget);
        // Making the file larger than that is a deadly signal.
        let allowed = limits::largest_file();
        if size > allowed {
            return Err(MemoryError::Limits { allowed, needed: size });
        }
        let backing = loop {
            if size < limits::LEAST {
                return Err(MemoryError::Limits { allowed: size, needed: limits::LEAST });
            }
            let file = new_file(size)?;
            match Backing::map(file, size, budget) {
                Err(MemoryError::System { error, .. })
                    if config.reserve.is_none()
                        && error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) =>
                {
                    size /= 2;
                }
                answer => break answer?,
            }
        };
        let options = Options {
            participants: config.participants.unwrap_or(1023).clamp(1, 4095),
            fences: config.fences.unwrap_or_else(able_fences),
            scope: Scope::Shared,
            id: new_id()?,
            limit: budget,
        };
        backing.keep_if(|backing| {
            // SAFETY: the file was made just now, is mapped as long as the region is used and known to nobody else; its
            // pages read as zero.
            Ok(unsafe { Region::create(backing.base(), size, options, backing)? })
        })
    }

    fn create_private() -> Result<Self, MemoryError> {
        let mut size = limits::reserve();
        let backing = loop {
            match Backing::map_anonymous(size) {
                Ok(backing) => break backing,
                Err(_) if size / 2 >= limits::LEAST => size = (size / 2) & !0xFFFF,
                Err(error) => return Err(error),
            }
        };
        let options = Options {
            participants: 1,
            fences: able_fences(),
            scope: Scope::Private,
            id: new_id()?,
            limit: u64::MAX,
        };
        backing.keep_if(|backing| {
            // SAFETY: anonymous memory that was mapped just now for good, reads as zero, and is known to nobody else.
            Ok(unsafe { Region::create(backing.base(), size, options, backing)? })
        })
    }

    fn attach(file: OwnedFd) -> Result<Self, MemoryError> {
        let size = rustix::fs::fstat(&file).map_err(system("fstat"))?.st_size as u64;
        let seals = rustix::fs::fcntl_get_seals(&file)
            .map_err(|errno| MemoryError::NoMemory { error: errno.into() })?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(MemoryError::Unsealed);
        }
        Backing::map(file, size, 0)?.keep_if(|backing| {
            // SAFETY: the file is mapped as long as the region is used, and sealed: what is mapped stays.
            let region = unsafe { Region::attach(backing.base(), size, backing)? };
            if region.scope() != Scope::Shared {
                // Else everybody would take everybody else for dead.
                let value = region.scope() as u64;
                return Err(RegionError::Damaged { field: "scope", value }.into());
            }
            backing.budget.store(region.limit(), Ordering::Relaxed);
            region.participants().bury_earlier_lives(liveness::myself());
            Ok(region)
        })
    }

    fn seated(region: Region<'static>, backing: &'static Backing) -> Self {
        let sweeper: &'static Sweeper = Box::leak(Box::new(Sweeper(region)));
        let seat = Membership::prepare(backing.setting(&region, Some(sweeper)));
        Self { region, backing, seat }
    }

    /// The descriptor of the memory: whoever gets it can [`adopt`] it. It is closed on exec. Memory of one process has none;
    /// that of a tree, which [`arena`] gives out, has one.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.backing.file.as_ref().map(AsFd::as_fd)
    }

    /// Whether it is memory of this process alone.
    pub(crate) fn is_private(&self) -> bool {
        self.backing.file.is_none()
    }

    /// The region that it holds.
    #[must_use]
    pub fn region(&self) -> &Region<'static> {
        &self.region
    }

    /// Who this process is in it. Joins at the first claim, not here.
    #[inline]
    #[must_use]
    pub fn member(&'static self) -> Member<'static> {
        self.seat.member()
    }

    /// A number that no other arena in sight has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.region.id()
    }

    /// How many bytes of memory it takes at present. One system call. Memory of one process is not counted: 0.
    ///
    /// # Errors
    /// `System`, if the file cannot be asked.
    pub fn used(&self) -> Result<u64, MemoryError> {
        self.backing.file.as_ref().map_or(Ok(0), used).map_err(system("fstat"))
    }

    /// Frees what dead processes have left behind: in queues that nobody uses, and blocks that they had in hand. It is
    /// done by itself where somebody is blocked by it, or before a name is used again.
    pub fn sweep(&self) {
        sweep(&self.region, &self.seat);
    }
}

impl Backing {
    fn map(file: OwnedFd, size: u64, budget: u64) -> Result<Self, MemoryError> {
        let call = "mmap";
        let map = usize::try_from(size)
            .map_err(|_| std::io::Error::from(Errno::OVERFLOW))
            .and_then(|length| MmapOptions::new().len(length).no_reserve_swap().map_raw(&file))
            .map_err(|error| MemoryError::System { call, error })?;
        // An abort would write the sparse file's whole size into its core file.
        map.advise(Advice::DontDump)
            .map_err(|error| MemoryError::System { call: "madvise(MADV_DONTDUMP)", error })?;
        Ok(Self { file: Some(file), map, budget: AtomicU64::new(budget) })
    }

    fn map_anonymous(size: u64) -> Result<Self, MemoryError> {
        let map = usize::try_from(size)
            .map_err(|_| std::io::Error::from(Errno::OVERFLOW))
            .and_then(|length| MmapOptions::new().len(length).no_reserve_swap().map_anon())
            .map_err(|error| MemoryError::System { call: "mmap", error })?;
        Ok(Self { file: None, map: map.into(), budget: AtomicU64::new(u64::MAX) })
    }

    /// Gives pages of anonymous memory back; they read as zero from now on.
    fn wipe(&self, offset: u64, bytes: u64) {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.map.len() as u64);
        if !inside {
            return;
        }
        // SAFETY: the range lies within the mapping, and whoever releases it has nothing there any more.
        let given_back = unsafe {
            rustix::mm::madvise(
                self.map.as_mut_ptr().add(offset as usize).cast(),
                bytes as usize,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
        // What was not given back costs memory, nothing else.
        let _ = given_back;
    }

    /// Keeps the memory for good if `enter` makes a region of it; else unmaps it and closes the file.
    fn keep_if(
        self,
        enter: impl FnOnce(&'static Self) -> Result<Region<'static>, MemoryError>,
    ) -> Result<Arena, MemoryError> {
        let kept = Box::into_raw(Box::new(self));
        // SAFETY: it was just made, and is taken back below only if nobody has a reference any more.
        let backing: &'static Self = unsafe { &*kept };
        match enter(backing) {
            Ok(region) => Ok(Arena::seated(region, backing)),
            Err(error) => {
                // SAFETY: no region came of it, and an error refers to nothing: the references are gone.
                drop(unsafe { Box::from_raw(kept) });
                Err(error)
            }
        }
    }

    fn base(&self) -> std::ptr::NonNull<u8> {
        // A mapping never starts at zero.
        std::ptr::NonNull::new(self.map.as_mut_ptr()).unwrap_or(std::ptr::NonNull::dangling())
    }

    fn setting(
        &self,
        region: &Region<'static>,
        sweeper: Option<&'static dyn Sweep>,
    ) -> Setting<'static> {
        let file = self.file.as_ref().and_then(|file| rustix::fs::fstat(file).ok());
        let backing = file.map(|stat| (stat.st_dev, stat.st_ino));
        Setting { backing, sweeper, ..region.setting() }
    }
}

/// How sleepers and wakers see each other here, at best.
fn able_fences() -> Fences {
    if register_fences() { Fences::Asymmetric } else { Fences::Full }
}

fn new_id() -> Result<u64, MemoryError> {
    let mut id = [0; 8];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(system("getrandom"))?;
    Ok(u64::from_ne_bytes(id))
}

fn new_file(size: u64) -> Result<OwnedFd, MemoryError> {
    let name = c"procession";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // A kernel before 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        answer => answer,
    }
    .map(above_standard)
    .map_err(system("memfd_create"))?;
    rustix::fs::ftruncate(&file, size).map_err(system("ftruncate"))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(system("fcntl(F_ADD_SEALS)"))?;
    Ok(file)
}

/// Erases the claims of the dead before their names are given out again.
struct Sweeper(Region<'static>);

impl Sweep for Sweeper {
    fn sweep(&self) -> bool {
        // The one who asks has no name yet, and needs none to give back what was the dead's.
        let seat = Membership::prepare(Setting { sweeper: None, ..self.0.setting() });
        sweep(&self.0, &seat)
    }
}

fn sweep(region: &Region<'static>, seat: &Membership<'static>) -> bool {
    crate::channel::sweep(region, seat.member())
}
