//! The participant table: who is attached, under which tag, and whether the kernel says that it lives.
//!
//! One row a process, 64 bytes:
//!
//! ```text
//! claim: u64   pid 22 | state 2 | generation 18; behind it birth and pid namespace
//! left:  u64   LEFT | generation, once the process has said that it ends in order
//! and for people to read: name, which eventcount one of its threads sleeps at, and since when
//! FREE(g) → JOINING(g+1, pid) → LIVE(g+1, pid) → DEAD(g+1, pid) → JOINING(g+2, pid') → …
//! ```
//!
//! - FREE → JOINING and DEAD → JOINING: the newcomer, by one compare-and-swap that writes its own pid.
//! - JOINING → LIVE: the newcomer, by compare-and-swap, once birth and namespace stand beside the claim. If that
//!   fails somebody took it for dead, and it starts over: a row that is joining holds no claims yet.
//! - JOINING → DEAD, LIVE → DEAD: whoever has asked the kernel and heard that the process is gone.
//!
//! No exit handler frees a row: sibling threads may still run behind it. Rows are given out in turn, the one that
//! was free longest first. A row whose short generation (8 bits) is about to come round is given out only after a
//! sweep of all objects has erased what its earlier lives had claimed; a row whose long generation (18 bits) is used up is retired.
//!
//! Nobody gets stuck: every step is one compare-and-swap, tried for at most two rounds of the table.

use super::tag::{GENERATION_BITS, SHORT_GENERATION_BITS, Short, Tag};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use crate::sys::liveness::{self, Life, Verdict as Kernel};

const PID_SHIFT: u32 = GENERATION_BITS + 2;
const STATE_SHIFT: u32 = GENERATION_BITS;
const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

/// The most rows that a table can have, row 0 (nobody) included.
pub const MOST_ROWS: usize = 1 << super::tag::INDEX_BITS;

/// One row of the table, as it lies in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Participant {
    claim: AtomicU64,
    birth: AtomicU64,
    namespace: AtomicU64,
    left: AtomicU64,
    #[cfg(not(loom))]
    sleeps_at: AtomicU64,
    #[cfg(not(loom))]
    since: AtomicU64,
    #[cfg(not(loom))]
    name: [AtomicU64; NAME_WORDS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Participant>() == 64);

/// How many bytes of a process's name others can see.
#[cfg(not(loom))]
pub(crate) const NAME: usize = 16;
#[cfg(not(loom))]
const NAME_WORDS: usize = NAME / size_of::<u64>();
/// Marks a row whose process has said that it ends in order.
const LEFT: u64 = 1 << 63;

impl Participant {
    /// A row that nobody has used. All zero, as fresh memory is.
    #[cfg(any(loom, test))]
    pub fn fresh() -> Self {
        Self {
            claim: AtomicU64::new(0),
            birth: AtomicU64::new(0),
            namespace: AtomicU64::new(0),
            left: AtomicU64::new(0),
            #[cfg(not(loom))]
            sleeps_at: AtomicU64::new(0),
            #[cfg(not(loom))]
            since: AtomicU64::new(0),
            #[cfg(not(loom))]
            name: [const { AtomicU64::new(0) }; NAME_WORDS],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Joining,
    Live,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Claim {
    pid: u32,
    state: State,
    generation: u32,
}

impl Claim {
    fn read(word: u64) -> Self {
        let state = match word >> STATE_SHIFT & 3 {
            0 => State::Free,
            1 => State::Joining,
            2 => State::Live,
            _ => State::Dead,
        };
        Self { pid: (word >> PID_SHIFT) as u32, state, generation: (word & GENERATION) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.pid) << PID_SHIFT
            | (self.state as u64) << STATE_SHIFT
            | u64::from(self.generation)
    }
}

/// What is known of a claimer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs or is stopped; or it cannot be asked, and counts as living.
    Alive,
    /// It is gone, and all that it had stored is visible to the caller.
    Dead,
    /// No such row: the word that named it is damaged.
    Corrupt,
}

/// Why a process cannot take part in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// All rows belong to living processes, or wait for a sweep.
    #[error(
        "the region's table of participants is full: {rows} processes are attached; \
         end some, or create the region with more rows"
    )]
    TableFull {
        /// How many rows the table has for processes.
        rows: usize,
    },
}

/// The participant table of a region, seen by one process.
#[derive(Clone, Copy, Debug)]
pub struct Participants<'r> {
    rows: &'r [Participant],
    next: &'r AtomicU32,
    deaths: &'r AtomicU32,
}

impl<'r> Participants<'r> {
    /// A view of a table. At most [`MOST_ROWS`] rows are used. `next` is where the search for a row starts,
    /// `deaths` counts the rows that were found dead.
    #[must_use]
    pub fn new(rows: &'r [Participant], next: &'r AtomicU32, deaths: &'r AtomicU32) -> Self {
        Self { rows: &rows[..rows.len().min(MOST_ROWS)], next, deaths }
    }

    /// How many deaths have been noticed in this region so far; wraps.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        // Acquire meets the Release in `bury`: who sees the count sees the verdicts.
        self.deaths.load(Ordering::Acquire)
    }

    /// Takes a row for this process. `sweep` erases all dead claims in the region and says whether it could;
    /// it is called when a row's short generation is about to come round.
    pub(crate) fn join(
        &self,
        #[cfg(not(loom))] me: Life,
        #[cfg(loom)] pid: u32,
        sweep: &mut dyn FnMut() -> bool,
    ) -> Result<Tag, JoinError> {
        #[cfg(not(loom))]
        let pid = me.pid;
        let most = self.rows.len().saturating_sub(1) as u32;
        let mut refused = false;
        // The second round asks the kernel about rows that look alive.
        for ask in [false, true] {
            for _ in 0..most {
                // Relaxed: only where to start looking.
                let index = 1 + self.next.fetch_add(1, Ordering::Relaxed) % most;
                let row = &self.rows[index as usize];
                // Acquire: the sweep below must see what the dead had claimed.
                let word = row.claim.load(Ordering::Acquire);
                let mut old = Claim::read(word);
                if ask && matches!(old.state, State::Joining | State::Live) {
                    self.ask(row, word);
                    old = Claim::read(row.claim.load(Ordering::Acquire));
                }
                if !matches!(old.state, State::Free | State::Dead) {
                    continue;
                }
                let generation = old.generation + 1;
                if generation >> GENERATION_BITS != 0 {
                    continue;
                }
                if generation.is_multiple_of(1 << SHORT_GENERATION_BITS) {
                    // Anew for each row: it may have died since the last one. A refusal holds for this call.
                    refused = refused || !sweep();
                    if refused {
                        continue;
                    }
                }
                let new = Claim { pid, state: State::Joining, generation };
                // AcqRel: the row's last life is over before this one begins.
                if row
                    .claim
                    .compare_exchange(old.word(), new.word(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_err()
                {
                    continue;
                }
                #[cfg(not(loom))]
                {
                    row.birth.store(me.birth, Ordering::Relaxed);
                    row.namespace.store(me.namespace, Ordering::Relaxed);
                }
                let live = Claim { state: State::Live, ..new };
                // Release: who sees LIVE sees birth and namespace.
                if row
                    .claim
                    .compare_exchange(new.word(), live.word(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                    && let Some(tag) = Tag::new(index, generation)
                {
                    // Who finds the tag anywhere finds the row behind it. Meets the read-modify-write in `judge`.
                    fence(Ordering::SeqCst);
                    return Ok(tag);
                }
            }
        }
        Err(JoinError::TableFull { rows: most as usize })
    }

    /// Whether the process behind `tag` is dead; `namespace` is the asker's own pid namespace.
    ///
    /// With it: whether the kernel was asked and said that this very process, of the same pid namespace, lives.
    pub(crate) fn verdict(&self, tag: Tag, namespace: u64) -> (Verdict, bool) {
        self.judge(tag.index(), namespace, |generation| generation == tag.generation())
    }

    /// The same by the short form.
    pub(crate) fn verdict_short(&self, tag: Short, namespace: u64) -> (Verdict, bool) {
        let mask = (1 << SHORT_GENERATION_BITS) - 1;
        self.judge(tag.index(), namespace, |generation| generation & mask == tag.generation())
    }

    fn judge(&self, index: u32, namespace: u64, same: impl Fn(u32) -> bool) -> (Verdict, bool) {
        let Some(row) = self.rows.get(index as usize) else { return (Verdict::Corrupt, false) };
        // Acquire meets the Release of `bury`, and of the next life's JOINING: who hears "dead" sees all that the
        // dead had stored.
        let mut word = row.claim.load(Ordering::Acquire);
        if !same(Claim::read(word).generation) {
            // Another life has the row, or this is an old value of it: tags travel in relaxed words too, so the
            // caller may know the tag before it sees the row of its owner. A read-modify-write sees the newest.
            word = row.claim.fetch_or(0, Ordering::AcqRel);
        }
        let claim = Claim::read(word);
        if !same(claim.generation) {
            return (Verdict::Dead, false);
        }
        match claim.state {
            // A tag of this generation exists only after JOINING.
            State::Free => (Verdict::Corrupt, false),
            State::Dead => (Verdict::Dead, false),
            #[cfg(not(loom))]
            State::Joining | State::Live => match liveness_of(row, claim, namespace) {
                Kernel::Dead if self.bury(row, word) => (Verdict::Dead, false),
                Kernel::Alive => (Verdict::Alive, claim.state == State::Live),
                // It cannot be asked, or its row has just moved on: the next look tells.
                Kernel::Dead | Kernel::Unknown => (Verdict::Alive, false),
            },
            #[cfg(loom)]
            State::Joining | State::Live => {
                let _ = namespace;
                (Verdict::Alive, false)
            }
        }
    }

    /// Whether the process behind `tag` is dead as far as is written down. Two loads at most, no system call; `false` says nothing.
    pub(crate) fn is_known_dead(&self, tag: Tag) -> bool {
        self.rows.get(tag.index() as usize).is_some_and(|row| {
            // Acquire meets the Release of `bury`, as in `judge`.
            let claim = Claim::read(row.claim.load(Ordering::Acquire));
            claim.generation > tag.generation()
                || claim.generation == tag.generation() && claim.state == State::Dead
        })
    }

    /// Notes that the process behind `tag`, the caller's own, is about to end in order.
    pub(crate) fn leave(&self, tag: Tag) {
        if let Some(row) = self.rows.get(tag.index() as usize) {
            // Release meets the Acquire in `has_left`.
            row.left.store(LEFT | u64::from(tag.generation()), Ordering::Release);
        }
    }

    /// Whether the process behind `tag` has said that it ends in order. `true` also if a later process in its row has: then
    /// nobody can tell.
    pub(crate) fn has_left(&self, tag: Tag) -> bool {
        // The generations of a row only grow.
        self.rows.get(tag.index() as usize).is_some_and(|row| {
            row.left.load(Ordering::Acquire) >= LEFT | u64::from(tag.generation())
        })
    }

    /// Writes the name that others see in the row of the caller.
    #[cfg(not(loom))]
    pub(crate) fn name(&self, tag: Tag, name: [u64; NAME_WORDS]) {
        if let Some(row) = self.rows.get(tag.index() as usize) {
            // Relaxed, here and below: for people to read.
            for (word, part) in row.name.iter().zip(name) {
                word.store(part, Ordering::Relaxed);
            }
        }
    }

    /// The name in the row behind a tag.
    #[cfg(not(loom))]
    pub(crate) fn name_of(&self, tag: Tag) -> [u64; NAME_WORDS] {
        let row = self.rows.get(tag.index() as usize);
        row.map_or([0; NAME_WORDS], |row| {
            core::array::from_fn(|part| row.name[part].load(Ordering::Relaxed))
        })
    }

    /// Notes in the caller's row at which eventcount it sleeps, by its key and tag; 0: at none.
    #[cfg(not(loom))]
    pub(crate) fn sleeps(&self, tag: Tag, at: u64, since: u64) {
        if let Some(row) = self.rows.get(tag.index() as usize) {
            row.since.store(since, Ordering::Relaxed);
            row.sleeps_at.store(at, Ordering::Relaxed);
        }
    }

    /// Who sleeps at the eventcount with this key, as far as is noted, and since when.
    #[cfg(not(loom))]
    pub(crate) fn sleepers(self, key: u64) -> impl Iterator<Item = (Tag, u64)> + 'r {
        self.rows.iter().enumerate().skip(1).filter_map(move |(index, row)| {
            let at = row.sleeps_at.load(Ordering::Relaxed);
            let claim = Claim::read(row.claim.load(Ordering::Relaxed));
            let tag = Tag::new(index as u32, claim.generation)?;
            let here = at == key << 30 | u64::from(tag.bits()) && claim.state == State::Live;
            here.then(|| (tag, row.since.load(Ordering::Relaxed)))
        })
    }

    /// The pid behind a tag, while the row still belongs to it.
    pub(crate) fn pid(&self, tag: Tag) -> Option<u32> {
        // Relaxed: for people to read.
        let claim = Claim::read(self.rows.get(tag.index() as usize)?.claim.load(Ordering::Relaxed));
        (claim.generation == tag.generation() && claim.pid != 0).then_some(claim.pid)
    }

    /// The tag whose short form this is, if the row still belongs to it.
    pub(crate) fn lengthen(&self, tag: Short) -> Option<Tag> {
        // Relaxed: whoever uses the answer compares it again.
        let claim = Claim::read(self.rows.get(tag.index() as usize)?.claim.load(Ordering::Relaxed));
        Tag::new(tag.index(), claim.generation).filter(|long| long.short() == tag)
    }

    fn ask(&self, row: &Participant, word: u64) {
        #[cfg(not(loom))]
        {
            let namespace = liveness::myself().namespace;
            if liveness_of(row, Claim::read(word), namespace) == Kernel::Dead {
                self.bury(row, word);
            }
        }
        #[cfg(loom)]
        let _ = (row, word);
    }

    /// Writes the kernel's verdict down, for all to see; whether it stands there now.
    fn bury(&self, row: &Participant, word: u64) -> bool {
        let dead = Claim { state: State::Dead, ..Claim::read(word) }.word();
        // Release: the kernel's answer came after the dead one's last store.
        match row.claim.compare_exchange(word, dead, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.deaths.fetch_add(1, Ordering::Release);
                true
            }
            // Somebody else wrote it; or it was joining, and is not what was asked about.
            Err(now) => now == dead,
        }
    }

    /// Declares the owner of `tag` dead. For those who know it from the kernel by other ways: a parent that has
    /// reaped its child, a process that has lost its memory by exec, a model.
    ///
    /// Only ever call this for a process that can store to the region no more.
    pub fn declare_dead(&self, tag: Tag) {
        let Some(row) = self.rows.get(tag.index() as usize) else { return };
        let word = row.claim.load(Ordering::Acquire);
        let claim = Claim::read(word);
        if claim.generation == tag.generation()
            && matches!(claim.state, State::Joining | State::Live)
        {
            self.bury(row, word);
        }
    }

    /// Declares earlier lives of the process `me` dead: a process that has just called exec has none of the memory
    /// that they knew. Call it before the first [`join`](super::Membership::join) after an exec.
    #[cfg(not(loom))]
    pub fn bury_earlier_lives(&self, me: Life) {
        for row in self.rows.iter().skip(1) {
            let word = row.claim.load(Ordering::Acquire);
            let claim = Claim::read(word);
            if claim.state == State::Live
                && claim.pid == me.pid
                && row.birth.load(Ordering::Relaxed) == me.birth
                && row.namespace.load(Ordering::Relaxed) == me.namespace
            {
                self.bury(row, word);
            }
        }
    }

    /// Whether any process lives, besides that of the tag `own`.
    #[cfg(not(loom))]
    pub(crate) fn somebody_lives(&self, own: Option<Tag>, namespace: u64) -> bool {
        let own = own.map(|tag| tag.index() as usize);
        (1..self.rows.len()).filter(|&index| Some(index) != own).any(|index| {
            // Acquire: as in `judge`.
            let claim = Claim::read(self.rows[index].claim.load(Ordering::Acquire));
            matches!(claim.state, State::Joining | State::Live)
                && self.judge(index as u32, namespace, |_| true).0 == Verdict::Alive
        })
    }

    /// How many processes are attached as far as is known; no kernel is asked.
    #[must_use]
    pub fn attached(&self) -> usize {
        let live = |row: &&Participant| {
            Claim::read(row.claim.load(Ordering::Relaxed)).state == State::Live
        };
        self.rows.iter().skip(1).filter(live).count()
    }
}

#[cfg(not(loom))]
fn liveness_of(row: &Participant, claim: Claim, namespace: u64) -> Kernel {
    let life = match claim.state {
        // Birth and namespace are visible with LIVE, see `join`.
        State::Live => Life {
            pid: claim.pid,
            birth: row.birth.load(Ordering::Relaxed),
            namespace: row.namespace.load(Ordering::Relaxed),
        },
        // They may not stand there yet. The pid alone may err, which costs the newcomer a second try.
        _ => Life { pid: claim.pid, birth: liveness::UNKNOWN_BIRTH, namespace },
    };
    liveness::probe(life, namespace)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    struct Table {
        rows: Vec<Participant>,
        next: AtomicU32,
        deaths: AtomicU32,
    }

    impl Table {
        fn new(rows: usize) -> Self {
            let rows = (0..=rows).map(|_| Participant::fresh()).collect();
            Self { rows, next: AtomicU32::new(0), deaths: AtomicU32::new(0) }
        }

        fn view(&self) -> Participants<'_> {
            Participants::new(&self.rows, &self.next, &self.deaths)
        }
    }

    #[test]
    fn a_full_table_says_so_and_a_dead_row_is_used_again() {
        let table = Table::new(2);
        let me = liveness::myself();
        let first = table.view().join(me, &mut || true).unwrap();
        let second = table.view().join(me, &mut || true).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.view().join(me, &mut || true), Err(JoinError::TableFull { rows: 2 }));
        table.view().declare_dead(first);
        assert_eq!(table.view().verdict(first, me.namespace).0, Verdict::Dead);
        assert_eq!(table.view().deaths(), 1);
        let third = table.view().join(me, &mut || true).unwrap();
        assert_eq!(third.index(), first.index());
        assert_eq!(third.generation(), first.generation() + 1);
        assert_eq!(table.view().verdict(first, me.namespace).0, Verdict::Dead);
        assert_eq!(table.view().verdict(third, me.namespace).0, Verdict::Alive);
    }

    #[test]
    fn the_short_generation_comes_round_only_after_a_sweep() {
        let table = Table::new(1);
        let me = liveness::myself();
        let mut sweeps = 0;
        let mut tags = Vec::new();
        for _ in 0..600 {
            let tag = table
                .view()
                .join(me, &mut || {
                    sweeps += 1;
                    true
                })
                .unwrap();
            table.view().declare_dead(tag);
            tags.push(tag);
        }
        assert_eq!(sweeps, 600 / 256);
        assert_eq!(tags[0].short(), tags[256].short());
        assert_ne!(tags[0], tags[256]);
        // Without a sweep the row stays where it is.
        let table = Table::new(1);
        for _ in 0..255 {
            let tag = table.view().join(me, &mut || false).unwrap();
            table.view().declare_dead(tag);
        }
        assert!(table.view().join(me, &mut || false).is_err());
    }

    #[test]
    fn a_row_whose_generations_are_used_up_is_retired() {
        let table = Table::new(1);
        let me = liveness::myself();
        let last = Claim { pid: 1, state: State::Dead, generation: (1 << GENERATION_BITS) - 1 };
        table.rows[1].claim.store(last.word(), Ordering::Relaxed);
        assert!(table.view().join(me, &mut || true).is_err());
    }

    #[test]
    fn a_tag_that_was_never_given_out_is_corrupt() {
        let table = Table::new(2);
        let namespace = liveness::myself().namespace;
        assert_eq!(table.view().verdict(Tag::new(9, 1).unwrap(), namespace).0, Verdict::Corrupt);
        assert_eq!(table.view().verdict(Tag::new(1, 0).unwrap(), namespace).0, Verdict::Corrupt);
    }

    #[test]
    fn a_process_buries_what_it_was_before_exec() {
        let table = Table::new(2);
        let me = liveness::myself();
        let before = table.view().join(me, &mut || true).unwrap();
        table.view().bury_earlier_lives(me);
        assert_eq!(table.view().verdict(before, me.namespace).0, Verdict::Dead);
    }
}
