//! A worker at one chunk: its inputs read one by one, the answers laid behind them.

use std::any::Any;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use procession_core::pool::{Lease, Worker};
use procession_core::region::{Block, Member, Tag};
use procession_core::sys::{coarse_nanos, nanos};
use serde::Serialize;

use super::bulk::size_of_number;
use super::encode::{encode, size_of_encoded, to_vec};
use super::wire::{
    AWAY, Away, BEGUN, CELL_ROOM, HEAD, Head, MARK, Out, Sort, Trouble, UNTIMED, begun,
    read_mark_of,
};
use super::work::{Name, Work};
use crate::channel::luggage::{ITEM, Luggage, Packing};
use crate::memory::{Arena, DecodeError};

/// Kept free at the end of the room: there is always room for a further answer, if it lies elsewhere.
pub(super) const RESERVE: usize = MARK + AWAY;

/// What a worker brings along to each chunk.
pub(super) struct Tools {
    arena: &'static Arena,
    me: Member<'static>,
    /// Who the worker is: a child that its function forks is not.
    tag: Tag,
    /// Where the board lies in the arena.
    board: u64,
    /// What was asked for last: mostly it is the same again.
    known: Option<(Name, &'static Work)>,
}

impl Tools {
    /// `None` for who has no name in the arena.
    pub(super) fn new(arena: &'static Arena, board: u64) -> Option<Self> {
        let me = arena.member();
        Some(Tools { arena, me, tag: me.current_tag()?, board, known: None })
    }

    #[inline]
    fn is_worker(&self) -> bool {
        self.me.is(self.tag)
    }

    fn find(&mut self, name: Name) -> Option<&'static Work> {
        if let Some((known, work)) = self.known
            && known == name
        {
            return Some(work);
        }
        let work = Work::find(name)?;
        self.known = Some((name, work));
        Some(work)
    }
}

/// One chunk in the hand of a worker.
pub(super) struct Desk<'d> {
    tools: &'d Tools,
    lease: &'d Lease<'static>,
    /// Copies of the inputs that are still to be done.
    inputs: &'d [u8],
    /// What goes along with them: each that is decoded takes its piece.
    _luggage: Option<Luggage>,
    out: Out<'d>,
    /// So many items are answered, of so many.
    done: u32,
    count: u32,
    /// An item is under way.
    busy: bool,
    /// There is no room for more answers, or no more items are to be done.
    full: bool,
    /// The last answer was a long one.
    long: bool,
}

/// What became of a chunk.
pub(super) struct Served {
    /// How many items were answered.
    pub(super) items: u32,
    /// Whether the owner still wanted it. If not, this worker is to end.
    pub(super) wanted: bool,
}

/// Does a chunk, but no more than `most` items of it.
pub(super) fn serve(
    tools: &mut Tools,
    worker: &Worker<'static>,
    lease: Lease<'static>,
    scratch: &mut Vec<u8>,
    most: u32,
) -> Served {
    let payload = lease.payload();
    // SAFETY: the payload begins with a head, and is at a multiple of 16; any bytes are one. A copy: what is checked is what is used.
    let mut head = unsafe { payload.cast::<Head>().read_volatile() };
    let exact = head.nanos != UNTIMED;
    let started = if exact { nanos() } else { coarse_nanos() };
    worker.note_since(started);
    if head.nanos == BEGUN {
        // SAFETY: the payload is that of a cell. Relaxed: the number stands for itself.
        unsafe { begun(payload) }.store(started, Ordering::Relaxed);
    }
    let work = tools.find(Name { offset: head.work, check: head.name });
    let tools = &*tools;
    let number = u64::from(lease.ticket().number());
    let room = Room::of(head.place, payload, tools.arena, tools.board, number);
    let Some(room) = room.filter(|room| room.read(&head, scratch)) else {
        // Damaged: given back with nothing answered, which says so.
        return Served { items: 0, wanted: lease.finish() };
    };
    let names = usize::from(head.luggage) * ITEM;
    let (inputs, names) = scratch.split_at(scratch.len() - names);
    let luggage = (!names.is_empty()).then(|| Luggage::take(names, tools.board, number));
    let all = room.bytes - scratch.len();
    let items = {
        // SAFETY: the room is this worker's by its lease, and what lies behind the inputs is written by it alone.
        let out = unsafe { Out::new(room.at.add(scratch.len()), all) };
        let count = u32::from(head.count).min(most);
        let mut desk = Desk {
            tools,
            lease: &lease,
            inputs,
            _luggage: luggage,
            out,
            done: 0,
            count,
            busy: false,
            full: all < RESERVE,
            long: false,
        };
        match work {
            Some(work) => work.run(&mut desk),
            None => desk.refuse_all(),
        }
        head.written = (all - desk.out.left()) as u32;
        desk.done
    };
    if !tools.is_worker() {
        return Served { items: 0, wanted: false };
    }
    if exact {
        head.nanos = u32::try_from(nanos().saturating_sub(started)).unwrap_or(u32::MAX);
    }
    // SAFETY: as above; only what a worker says is written.
    unsafe {
        let to = payload.cast::<Head>().as_ptr();
        (&raw mut (*to).written).write(head.written);
        (&raw mut (*to).nanos).write(head.nanos);
    }
    Served { items, wanted: lease.finish() }
}

/// Where inputs and answers lie.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) at: NonNull<u8>,
    pub(super) bytes: usize,
}

impl Room {
    /// The block at `place`, if it is tied to this ticket of the board; 0: what is left of the cell's payload.
    pub(super) fn of(
        place: u64,
        payload: NonNull<u8>,
        arena: &Arena,
        board: u64,
        ticket: u64,
    ) -> Option<Room> {
        if place == 0 {
            // SAFETY: the head lies within the payload.
            return Some(Room { at: unsafe { payload.add(HEAD) }, bytes: CELL_ROOM });
        }
        let bytes = arena.region().queued(place, board, ticket).ok()?.capacity;
        let at = arena.region().bytes(place, bytes, 1).ok()?;
        Some(Room { at, bytes: usize::try_from(bytes).ok()? })
    }

    /// Copies the inputs out, and the names behind them; false if they do not lie in the room.
    fn read(&self, head: &Head, to: &mut Vec<u8>) -> bool {
        let names = usize::from(head.luggage) * ITEM;
        (head.length as usize).checked_add(names).is_some_and(|length| self.copy_out(0, length, to))
    }

    /// Copies `length` bytes from `at` on to the empty `to`; false if they do not lie in the room, or there is no memory.
    pub(super) fn copy_out(&self, at: usize, length: usize, to: &mut Vec<u8>) -> bool {
        to.clear();
        if at > self.bytes || length > self.bytes - at || to.try_reserve(length).is_err() {
            return false;
        }
        // SAFETY: the bytes lie in the room, by the check, and there is space for them. A copy before it is looked at: another process
        // might write to it.
        unsafe {
            to.as_mut_ptr().copy_from_nonoverlapping(self.at.as_ptr().add(at), length);
            to.set_len(length);
        }
        true
    }
}

impl<'d> Desk<'d> {
    /// The encoded input of the next item. `number`: how many bytes it has if it is a number.
    #[inline(always)]
    pub(super) fn next(&mut self, number: Option<usize>) -> Option<&'d [u8]> {
        loop {
            if self.done == self.count || self.full {
                return None;
            }
            let Some((sort, from, to)) = read_mark_of(self.inputs, number) else {
                self.trouble(&Trouble::Arguments("the chunk is damaged".into()));
                continue;
            };
            let bytes = &self.inputs[from..to];
            self.inputs = &self.inputs[to..];
            if sort == Sort::Plain {
                self.busy = true;
                return Some(bytes);
            }
            if self.out.without(RESERVE).fits(0) && self.out.put_marked(Sort::Void, &[]) {
                self.answered();
            } else {
                self.full = true;
            }
        }
    }

    /// Lays down the result of the present item.
    #[inline(always)]
    pub(super) fn answer<R: Serialize>(&mut self, result: &R) {
        if !self.tools.is_worker() {
            return self.abandon();
        }
        let number = size_of_number::<R>();
        let mut long = self.long;
        let packing = number.is_none().then(Packing::begin);
        let mut out = self.out.without(RESERVE);
        let encoded = out.encode_next(result, number, &mut long);
        let luggage = packing.and_then(Packing::end);
        self.long = long;
        match encoded {
            Ok(()) if luggage.is_none() => {
                self.out.advance(&out, RESERVE);
                self.answered();
            }
            Ok(()) | Err(postcard::Error::SerializeBufferFull) => {
                // It is encoded once more: what was listed goes back.
                drop(luggage);
                self.answer_away(result);
            }
            Err(error) => self.trouble(&Trouble::Result(error.to_string())),
        }
    }

    /// The arguments of the present item do not decode.
    #[cold]
    pub(super) fn refuse(&mut self, error: &DecodeError) {
        self.trouble(&Trouble::Arguments(error.to_string()));
    }

    /// The function of the present item panicked, or what encodes its result.
    #[cold]
    pub(super) fn panicked(&mut self, panic: Box<dyn Any + Send>) {
        let words = crate::process::words_of(panic);
        if !self.tools.is_worker() {
            return self.abandon();
        }
        // Else it was answered before: a value of it panicked when it was dropped, which the panic hook has reported.
        if self.busy {
            self.trouble(&Trouble::Panicked {
                pid: std::process::id(),
                message: words.message,
                location: words.location,
                backtrace: words.backtrace,
            });
        }
    }

    fn refuse_all(&mut self) {
        while self.next(None).is_some() {
            let message = "the worker's program has no such function: it is of another build, or the function is of a library \
                           that was loaded later";
            self.trouble(&Trouble::Arguments(message.into()));
        }
    }

    #[inline(always)]
    fn answered(&mut self) {
        self.busy = false;
        self.done += 1;
        self.lease.answered(self.done);
    }

    /// This is a child that the function has forked, and that came back from it: nothing here is its own.
    #[cold]
    fn abandon(&mut self) {
        (self.full, self.busy) = (true, false);
    }

    /// The present item has no result.
    #[cold]
    fn trouble(&mut self, trouble: &Trouble) {
        // There is nothing in it that does not encode.
        let encoded = postcard::to_stdvec(trouble).unwrap_or_default();
        let laid = self.out.without(RESERVE).fits(encoded.len())
            && self.out.put_marked(Sort::Trouble, &encoded);
        if !laid {
            let sent = self.lay_away(encoded.len() as u64, 0, true, |out| out.put(&encoded));
            if sent.is_err() {
                // Without words, which says enough.
                self.out.put_marked(Sort::Trouble, &[]);
                self.full = true;
            }
        }
        self.answered();
    }

    /// Lays a result into a block of its own.
    #[cold]
    fn answer_away<R: Serialize + ?Sized>(&mut self, result: &R) {
        let packing = Packing::begin();
        let sent = match size_of_encoded(result) {
            Err(error) => Err(Trouble::Result(error.to_string())),
            Ok(bytes) => match packing.end() {
                None => {
                    let mut error = None;
                    let sent = self.lay_away(bytes, 0, false, |out| {
                        let before = out.left();
                        let written = encode(result, out);
                        error = written.as_ref().err().map(ToString::to_string);
                        // As many as were counted before: else it is another object each time.
                        written.is_ok() && before - out.left() == bytes as usize
                    });
                    match (sent, error) {
                        (Err(_), Some(error)) => Err(Trouble::Result(error)),
                        (sent, _) => sent,
                    }
                }
                Some(counted) => {
                    drop(counted);
                    self.answer_with_luggage(result)
                }
            },
        };
        match sent {
            Ok(()) => self.answered(),
            Err(trouble) => self.trouble(&trouble),
        }
    }

    fn answer_with_luggage<R: Serialize + ?Sized>(&mut self, result: &R) -> Result<(), Trouble> {
        let packing = Packing::begin();
        let encoded = to_vec(result).map_err(|error| Trouble::Result(error.to_string()))?;
        let mut luggage = packing.end().unwrap_or_default();
        let names = luggage.as_bytes().to_vec();
        let ends = u16::try_from(luggage.ends())
            .map_err(|_| Trouble::Result("more ends of pipes than one result can hold".into()))?;
        let number = u64::from(self.lease.ticket().number());
        luggage.send(self.tools.board, number);
        self.lay_away(encoded.len() as u64, ends, false, |out| out.put(&encoded) && out.put(&names))
    }

    /// Lays an answer of so many bytes, and names of luggage behind it, into a block of its own, and says here where that is.
    fn lay_away(
        &mut self,
        bytes: u64,
        luggage: u16,
        trouble: bool,
        fill: impl FnOnce(&mut Out<'_>) -> bool,
    ) -> Result<(), Trouble> {
        let no_room = |message: String| Trouble::NoRoom { bytes, message };
        let all = bytes + u64::from(luggage) * ITEM as u64;
        let length = u32::try_from(bytes)
            .map_err(|_| no_room("no result can be larger than 4 GiB".into()))?;
        let mut held = Held::new(self.tools.arena, self.tools.me, all)
            .map_err(|error| no_room(error.to_string()))?;
        let changing = "it is of another size each time that it is encoded";
        let filled = held.out().is_some_and(|mut out| fill(&mut out));
        if !filled {
            return Err(Trouble::Result(changing.into()));
        }
        let away = Away { place: held.block.offset, length, luggage, trouble: u16::from(trouble) };
        let number = u64::from(self.lease.ticket().number());
        if !held.hand_over(self.tools.board, number) {
            return Err(no_room("its block is gone: the shared memory is damaged".into()));
        }
        // Into the reserve, if nothing else is left.
        self.out.put_marked(Sort::Away, bytemuck::bytes_of(&away));
        self.full = self.out.left() < RESERVE;
        Ok(())
    }
}

/// A block in this process's hand; dropping it gives it back.
pub(super) struct Held {
    arena: &'static Arena,
    me: Member<'static>,
    pub(super) block: Block,
    mine: bool,
}

impl Held {
    /// A block of so many bytes.
    pub(super) fn new(
        arena: &'static Arena,
        me: Member<'static>,
        bytes: u64,
    ) -> Result<Self, procession_core::region::AllocError> {
        let region = arena.region();
        // Once more without what the dead have left in carriers.
        let block = region.allocate_message(me, bytes).or_else(|_| {
            arena.sweep();
            region.allocate_message(me, bytes)
        })?;
        Ok(Held { arena, me, block, mine: true })
    }

    /// The block of an answer, or of inputs, that was tied to a ticket.
    pub(super) fn take(
        arena: &'static Arena,
        me: Member<'static>,
        place: u64,
        board: u64,
        ticket: u64,
    ) -> Option<Self> {
        let block = arena.region().take_over(me, place, board, ticket).ok()?;
        Some(Held { arena, me, block, mine: true })
    }

    /// How many bytes it takes.
    pub(super) fn size(&self) -> u64 {
        self.block.capacity
    }

    /// All of it, to be written.
    pub(super) fn out(&mut self) -> Option<Out<'_>> {
        let room = self.room()?;
        // SAFETY: the block is this process's own.
        Some(unsafe { Out::new(room.at, room.bytes) })
    }

    pub(super) fn room(&self) -> Option<Room> {
        let Block { offset, capacity } = self.block;
        let at = self.arena.region().bytes(offset, capacity, 1).ok()?;
        Some(Room { at, bytes: usize::try_from(capacity).ok()? })
    }

    /// Ties it to a ticket; false if it is not this process's own any more.
    pub(super) fn hand_over(&mut self, board: u64, ticket: u64) -> bool {
        let done = self.arena.region().hand_over(self.me, self.block, board, ticket).is_ok();
        self.mine &= !done;
        done
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.mine {
            let _ = self.arena.region().free_message(self.me, self.block);
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends memory of this thread to copy into; what is called within gets other memory.
pub(super) fn with_scratch<T>(to: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let result = to(&mut scratch);
    let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    result
}
