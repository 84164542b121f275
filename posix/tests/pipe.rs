//! Pipes, as their users meet them: between threads and between processes, by whatever way their ends travel.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

#[path = "support/bound.rs"]
mod bound;

use std::time::{Duration, Instant};

use bound::Bound;
use procession_posix::Descriptor;
use procession_posix::channel::{
    Connection, JoinableQueue, LifoQueue, Pipe, PipeOptions, Queue, QueueOptions, Receiver,
    RecvError, SendError, Sender, pipe,
};
use procession_posix::process::{Process, StartMethod};
use procession_posix::sync::{Event, wait_any_timeout};

const LONG: Duration = Duration::from_secs(60);
/// How soon a death is noticed at most, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

fn assert_ends<T: serde::de::DeserializeOwned + std::fmt::Debug>(receiver: &Receiver<T>) {
    let start = Instant::now();
    let end = receiver.recv_timeout(LONG);
    assert!(matches!(end, Err(RecvError::Eof)), "{end:?}");
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
}

fn assert_open<T: serde::de::DeserializeOwned + std::fmt::Debug>(receiver: &Receiver<T>) {
    let more = receiver.recv_timeout(Duration::from_millis(120));
    assert!(matches!(more, Err(RecvError::TimedOut)), "{more:?}");
}

fn is_broken<T: serde::Serialize>(sender: &Sender<T>, object: &T) -> bool {
    // What fits into the pipe may still be taken.
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        match sender.send_timeout(object, LONG) {
            Ok(()) => {}
            Err(SendError::BrokenPipe) => return true,
            Err(error) => panic!("{error}"),
        }
    }
    false
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order() {
    let (one, other) = Pipe::duplex().unwrap();
    let sizes = [0, 1, 40, 104, 105, 1000, 40_000, 100_000, 1 << 20, 5 << 20];
    let echo = std::thread::spawn(move || {
        let mut buffer = vec![0; 5 << 20];
        loop {
            match other.recv_bytes_into(&mut buffer) {
                Ok(bytes) => other.send_bytes(&buffer[..bytes]).unwrap(),
                Err(RecvError::Eof) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for (turn, &size) in sizes.iter().chain(&sizes).enumerate() {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + turn) as u8).collect();
        one.send_bytes(&bytes).unwrap();
        assert!(
            one.recv_bytes_until(procession_posix::sync::Deadline::after(LONG)).unwrap() == bytes
        );
    }
    drop(one);
    echo.join().unwrap();
}

#[test]
fn each_form_has_its_answer() {
    let (reader, writer) = PipeOptions::new().messages(2).largest_message(1000).simplex().unwrap();
    assert!(reader.readable() && !reader.writable() && !writer.readable() && writer.writable());
    assert!(matches!(reader.send(&1), Err(SendError::ReadOnly)));
    assert!(matches!(writer.recv::<u8>(), Err(RecvError::WriteOnly)));
    assert!(matches!(reader.try_recv::<u8>(), Err(RecvError::Empty)));
    let short = Duration::from_millis(20);
    assert!(matches!(reader.recv_timeout::<u8>(short), Err(RecvError::TimedOut)));
    assert!(!reader.poll(Duration::ZERO).unwrap() && !reader.poll(short).unwrap());
    writer.send(&1u8).unwrap();
    assert!(reader.poll(Duration::ZERO).unwrap() && reader.poll(LONG).unwrap());
    writer.try_send("text").unwrap();
    assert!(matches!(writer.try_send(&3u8), Err(SendError::Full)));
    assert!(matches!(writer.send_timeout(&3u8, short), Err(SendError::TimedOut)));
    let large = vec![1u8; 2000];
    let refused = writer.try_send(&large);
    assert!(matches!(refused, Err(SendError::TooLarge { bytes: 2002, largest: 1000 })));
    assert_eq!(reader.recv::<u8>().unwrap(), 1);
    // No such object: it is gone, and the connection as good as before.
    assert!(matches!(reader.recv::<[u64; 9]>(), Err(RecvError::Decode { .. })));
    writer.send_bytes(b"").unwrap();
    assert_eq!(reader.recv_bytes().unwrap(), b"");
    writer.send_bytes(&[7; 500]).unwrap();
    let too_long = reader.recv_bytes_max(499);
    assert!(matches!(too_long, Err(RecvError::TooLong { bytes: 500, most: 499 })));
    let mut buffer = [0; 499];
    match reader.recv_bytes_into(&mut buffer) {
        Err(RecvError::BufferTooShort { message, room: 499 }) => assert_eq!(message, [7; 500]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        reader.recv_bytes_max_until(9, procession_posix::sync::Deadline::NOW),
        Err(RecvError::Empty)
    ));
    for error in [PipeOptions::new().messages(0).duplex(), PipeOptions::new().holders(0).duplex()] {
        assert!(error.is_err());
    }
}

#[test]
fn closing_is_told_to_both_sides() {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let second = sender.clone();
    sender.send(&1).unwrap();
    sender.close();
    sender.close();
    // A clone is the same end.
    assert!(sender.is_closed() && second.is_closed());
    assert!(matches!(second.send(&2), Err(SendError::Closed)));
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(receiver.poll(LONG).unwrap(), "the end is readiness");
    assert!(matches!(receiver.recv(), Err(RecvError::Eof)));
    assert!(matches!(receiver.try_recv(), Err(RecvError::Eof)));
    receiver.close();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(matches!(receiver.poll(LONG), Err(RecvError::Closed)));

    let (sender, receiver) = pipe::<u32>().unwrap();
    drop(receiver);
    assert!(matches!(sender.send(&1), Err(SendError::BrokenPipe)));
    let (one, other) = Pipe::duplex().unwrap();
    other.close();
    assert!(other.closed() && !one.closed());
    assert!(matches!(one.send(&1), Err(SendError::BrokenPipe)));
    assert!(matches!(one.recv::<u32>(), Err(RecvError::Eof)));
}

#[test]
fn who_sleeps_is_told() {
    // The other end is closed; and this end is, by another thread.
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (full, other) = PipeOptions::new().messages(1).typed::<u32>().unwrap();
    let (own, _kept) = pipe::<u32>().unwrap();
    let mine = {
        let (_sender, receiver) = pipe::<u32>().unwrap();
        receiver
    };
    assert!(matches!(mine.recv(), Err(RecvError::Eof)));
    full.send(&1).unwrap();
    let (kept, waits) = pipe::<u32>().unwrap();
    let closer = waits.clone();
    std::thread::scope(|threads| {
        let ended = threads.spawn(|| receiver.recv());
        let broken = threads.spawn(|| full.send(&2));
        let shut = threads.spawn(|| waits.recv());
        std::thread::sleep(Duration::from_millis(30));
        drop(sender);
        drop(other);
        closer.close();
        assert!(matches!(ended.join().unwrap(), Err(RecvError::Eof)));
        assert!(matches!(broken.join().unwrap(), Err(SendError::BrokenPipe)));
        assert!(matches!(shut.join().unwrap(), Err(RecvError::Closed)));
    });
    drop((own, kept));
}

fn hold_sender(_kept: Sender<u32>, ready: Event) {
    ready.set();
    std::thread::sleep(LONG);
}

fn hold_receiver(_kept: Receiver<u32>, ready: Event) {
    ready.set();
    std::thread::sleep(LONG);
}

#[test]
fn the_death_of_the_last_is_told_to_who_sleeps() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let (sender, receiver) = pipe::<u32>().unwrap();
        let ready = Event::new().unwrap();
        let child = Process::new(hold_sender, (sender, ready.clone())).method(method);
        let child = Bound(child.start().unwrap());
        ready.wait();
        assert_open(&receiver);
        let sleeper = std::thread::spawn(move || assert_ends(&receiver));
        std::thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        sleeper.join().unwrap();

        let (sender, receiver) = PipeOptions::new().messages(1).typed::<u32>().unwrap();
        let ready = Event::new().unwrap();
        let child = Process::new(hold_receiver, (receiver, ready.clone())).method(method);
        let child = Bound(child.start().unwrap());
        ready.wait();
        sender.send(&1).unwrap();
        let sleeper = std::thread::spawn(move || assert!(is_broken(&sender, &2)));
        std::thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        sleeper.join().unwrap();
    }
}

fn count_up(out: Sender<u32>, most: u32) {
    (0..most).for_each(|number| out.send(&number).unwrap());
}

fn pass_on(numbers: Receiver<u32>, out: Sender<u32>) -> u32 {
    numbers.iter().map(|number| out.send(&(number.unwrap() + 1)).unwrap()).count() as u32
}

#[test]
fn a_chain_of_processes_ends_by_itself() {
    alone!(a_chain_of_processes_ends_by_itself);
    let (first, next) = pipe().unwrap();
    let (last, results) = pipe().unwrap();
    let source = Bound(Process::new(count_up, (first, 1000)).start().unwrap());
    let middle = Bound(Process::new(pass_on, (next, last)).start().unwrap());
    let sum: u32 = results.iter().map(Result::unwrap).sum();
    assert_eq!(sum, (1..=1000).sum());
    assert_eq!(middle.join_timeout(LONG).unwrap(), 1000);
    source.join_timeout(LONG).unwrap();
}

fn refused_last(_kept: Sender<u32>, _nothing: Refuses) {}

/// Travels, and is refused where it arrives.
struct Refuses;

impl serde::Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for Refuses {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::process::abort();
    }
}

fn refused_first(_nothing: Refuses, _kept: Sender<u32>) {}

#[test]
fn what_a_process_did_not_decode_goes_back() {
    alone!(what_a_process_did_not_decode_goes_back);
    let (sender, receiver) = pipe::<u32>().unwrap();
    let child = Bound(Process::new(refused_first, (Refuses, sender)).start().unwrap());
    assert_ends(&receiver);
    assert!(child.join_timeout(LONG).is_err());

    let (sender, receiver) = pipe::<u32>().unwrap();
    let child = Bound(Process::new(refused_last, (sender, Refuses)).start().unwrap());
    assert_ends(&receiver);
    assert!(child.join_timeout(LONG).is_err());
}

#[test]
fn an_end_in_a_queue_is_the_queues() {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let queue = Queue::bounded(4).unwrap();
    queue.put(&(1u8, sender)).unwrap();
    // Its sender holds it no more, and it is not lost.
    assert_open(&receiver);
    let (_, sender): (u8, Sender<u32>) = queue.get().unwrap();
    sender.send(&7).unwrap();
    assert_eq!(receiver.recv().unwrap(), 7);
    // Several copies, in a long object, and one that is put without being got.
    let many: Vec<_> = (0..40).map(|_| sender.clone()).collect();
    let queue = Queue::bounded(4).unwrap();
    queue.put(&("long".repeat(100), many)).unwrap();
    queue.put(&(String::new(), vec![sender])).unwrap();
    let (_, many) = queue.get().unwrap();
    for (number, sender) in (0..).zip(&many) {
        sender.send(&number).unwrap();
        assert_eq!(receiver.recv().unwrap(), number);
    }
    drop(many);
    assert_open(&receiver);
    // With the queue goes what is in it.
    drop(queue);
    assert_ends(&receiver);
}

#[test]
fn an_end_in_a_store_is_the_stores() {
    for text in [String::new(), "long".repeat(100)] {
        // At most once: with the copy goes its hold.
        let (sender, receiver) = pipe::<u32>().unwrap();
        let pile = LifoQueue::bounded(4).unwrap();
        pile.put(&(sender, text.clone())).unwrap();
        assert_open(&receiver);
        // Who looks has a copy of its own.
        drop(pile.peek().unwrap());
        assert_open(&receiver);
        let (sender, _) = pile.get().unwrap();
        sender.send(&1).unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
        drop(sender);
        assert_ends(&receiver);

        // At least once: it is in the store until it is done, however often it is taken.
        let (sender, receiver) = pipe::<u32>().unwrap();
        let tasks = JoinableQueue::with(QueueOptions::bounded(4).at_least_once()).unwrap();
        tasks.put(&(sender, text)).unwrap();
        drop(tasks.take().unwrap());
        assert_open(&receiver);
        let task = tasks.take().unwrap();
        task.0.send(&2).unwrap();
        assert_eq!(receiver.recv().unwrap(), 2);
        let (sender, _) = task.done();
        assert_open(&receiver);
        drop(sender);
        assert_ends(&receiver);
    }
}

#[test]
fn what_is_not_sent_or_not_decoded_goes_back() {
    // The queue is full.
    let (sender, receiver) = pipe::<u32>().unwrap();
    let queue = Queue::bounded(1).unwrap();
    queue.put(&None).unwrap();
    assert!(queue.put_nowait(&Some(sender.clone())).is_err());
    // It is too long for the first attempt at encoding.
    let (_, other) = pipe::<(String, Sender<u32>)>().unwrap();
    drop(other);
    let (ways, _) = pipe::<(Sender<u32>, String)>().unwrap();
    assert!(matches!(ways.send(&(sender.clone(), "x".repeat(500))), Err(SendError::BrokenPipe)));
    drop(sender);
    assert_ends(&receiver);
    // It is taken as something else, and as bytes.
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (reader, writer) = Pipe::simplex().unwrap();
    writer.send(&sender).unwrap();
    writer.send(&sender).unwrap();
    drop(sender);
    assert_open(&receiver);
    assert!(matches!(reader.recv::<[u64; 20]>(), Err(RecvError::Decode { .. })));
    assert_open(&receiver);
    reader.recv_bytes().unwrap();
    assert_ends(&receiver);
    // It is one end, and not the other, nor of this type.
    let (sender, _receiver) = pipe::<u32>().unwrap();
    writer.send(&sender).unwrap();
    assert!(matches!(reader.recv::<Receiver<u32>>(), Err(RecvError::Decode { .. })));
    writer.send(&sender).unwrap();
    assert!(matches!(reader.recv::<Sender<u64>>(), Err(RecvError::Decode { .. })));
}

#[test]
fn an_end_in_a_pipe_that_nobody_reads_is_nobodys() {
    alone!(an_end_in_a_pipe_that_nobody_reads_is_nobodys);
    // The reading end is dropped before and after it was sent, and dies with its process.
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (reader, writer) = Pipe::simplex().unwrap();
    writer.send(&sender).unwrap();
    drop(sender);
    assert_open(&receiver);
    drop(reader);
    assert_ends(&receiver);

    let (sender, receiver) = pipe::<u32>().unwrap();
    let (carrier, reader) = pipe::<Sender<u32>>().unwrap();
    let ready = Event::new().unwrap();
    let child = Process::new(hold_carrier, (reader, ready.clone()));
    let child = Bound(child.start().unwrap());
    ready.wait();
    carrier.send(&sender).unwrap();
    drop(sender);
    assert_open(&receiver);
    child.kill().unwrap();
    // Nobody looks at the carrier but who waits for the end.
    assert_ends(&receiver);
}

fn hold_carrier(_kept: Receiver<Sender<u32>>, ready: Event) {
    ready.set();
    std::thread::sleep(LONG);
}

fn answer(requests: Receiver<(u32, Sender<u32>)>) -> u32 {
    let answered = requests.iter().map(|request| {
        let (question, reply) = request.unwrap();
        reply.send(&(question * question)).unwrap();
    });
    answered.count() as u32
}

#[test]
fn a_reply_can_be_sent_to_who_asked_and_leaves_nothing_behind() {
    alone!(a_reply_can_be_sent_to_who_asked_and_leaves_nothing_behind);
    let (ask, requests) = pipe().unwrap();
    let child = Bound(Process::new(answer, (requests,)).start().unwrap());
    let usage = || procession_posix::memory::arena().unwrap().region().usage();
    let mut before = 0;
    for question in 0..1000u32 {
        let (reply, answer) = pipe().unwrap();
        ask.send(&(question, reply)).unwrap();
        assert_eq!(answer.recv_timeout(LONG).unwrap(), question * question);
        assert_ends(&answer);
        if question == 500 {
            before = usage().shared;
        }
    }
    drop(ask);
    assert_eq!(child.join_timeout(LONG).unwrap(), 1000);
    // Other tests run beside this one.
    let after = usage().shared;
    assert!(after < before + 200, "{before} objects, then {after}");
}

fn write_much(out: Connection, who: u8) {
    for turn in 0..200u32 {
        let mut bytes = vec![who; 40_000];
        bytes[..4].copy_from_slice(&turn.to_le_bytes());
        out.send_bytes(&bytes).unwrap();
    }
}

#[test]
fn several_writers_of_one_end_tear_and_merge_nothing() {
    alone!(several_writers_of_one_end_tear_and_merge_nothing);
    let (reader, writer) = Pipe::simplex().unwrap();
    let writers: Vec<_> = (0..3u8)
        .map(|who| Bound(Process::new(write_much, (writer.clone(), who)).start().unwrap()))
        .collect();
    drop(writer);
    let mut next = [0u32; 3];
    loop {
        let bytes = match reader.recv_bytes() {
            Ok(bytes) => bytes,
            Err(RecvError::Eof) => break,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(bytes.len(), 40_000);
        let who = bytes[4];
        assert!(bytes[4..].iter().all(|&byte| byte == who));
        assert_eq!(bytes[..4], next[usize::from(who)].to_le_bytes());
        next[usize::from(who)] += 1;
    }
    assert_eq!(next, [200; 3]);
    writers.iter().for_each(|writer| writer.join_timeout(LONG).unwrap());
}

#[test]
fn descriptors_go_along() {
    let (reader, writer) = Pipe::simplex().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    writer.send_fd(&write).unwrap();
    let ours = reader.recv_fd().unwrap();
    drop((write, ours));
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut { read }, &mut text).unwrap();
    // One that could not be sent is closed: the pipe ends.
    let (read, write) = std::io::pipe().unwrap();
    drop(reader);
    let refused = writer.send(&Descriptor::from(write));
    assert!(matches!(refused, Err(SendError::BrokenPipe)));
    std::io::Read::read_to_end(&mut { read }, &mut text).unwrap();
    assert!(text.is_empty());
}

#[test]
fn pipes_are_waited_for_together() {
    let (sender, receiver) = PipeOptions::new().messages(1).typed::<u32>().unwrap();
    let (one, other) = Pipe::duplex().unwrap();
    let short = Duration::from_millis(10);
    assert_eq!(wait_any_timeout(&[&receiver, &one], short), None);
    assert_eq!(wait_any_timeout(&[&sender], short), Some(0), "there is room");
    sender.send(&1).unwrap();
    assert_eq!(wait_any_timeout(&[&sender], short), None, "there is none");
    assert_eq!(wait_any_timeout(&[&one, &receiver], LONG), Some(1));
    receiver.recv().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(short);
            drop(other);
        });
        assert_eq!(wait_any_timeout(&[&receiver, &one], LONG), Some(1), "the end is readiness");
    });
}

/// An object with an end in it, as short as can be or too long for a place.
type Parcel = (Sender<u32>, Vec<u8>);

#[test]
fn ends_are_delivered_again_with_what_they_are_in() {
    for padding in [0, 500] {
        let queue = JoinableQueue::with(QueueOptions::unbounded().at_least_once()).unwrap();
        let (sender, receiver) = pipe().unwrap();
        let parcel: Parcel = (sender, vec![7; padding]);
        queue.put(&parcel).unwrap();
        drop(parcel);
        for turn in 1..4 {
            let delivery = queue.take_timeout(LONG).unwrap();
            assert_eq!((delivery.deliveries(), delivery.1.len()), (turn, padding));
            delivery.0.send(&turn).unwrap();
            assert_eq!(receiver.recv_timeout(LONG).unwrap(), turn);
            drop(delivery);
            assert_open(&receiver);
        }
        let (sender, _) = queue.take_timeout(LONG).unwrap().done();
        assert_open(&receiver);
        drop(sender);
        assert_ends(&receiver);
    }
}

#[test]
fn an_end_stays_in_an_object_that_was_looked_at() {
    for padding in [0, 500] {
        let queue = LifoQueue::unbounded().unwrap();
        let (sender, receiver) = pipe().unwrap();
        let parcel: Parcel = (sender, vec![7; padding]);
        queue.put(&parcel).unwrap();
        drop(parcel);
        for turn in 0..3 {
            queue.peek_timeout(LONG).unwrap().0.send(&turn).unwrap();
            assert_eq!(receiver.recv_timeout(LONG).unwrap(), turn);
            assert_open(&receiver);
        }
        let (sender, _) = queue.get_timeout(LONG).unwrap();
        sender.send(&9).unwrap();
        drop(sender);
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), 9);
        assert_ends(&receiver);
    }
}

fn read_to_the_end(receiver: Receiver<u32>) -> usize {
    receiver.iter().count()
}

#[test]
fn an_end_whose_process_died_over_its_arguments_is_missed_while_its_starter_waits_for_another() {
    alone!(
        an_end_whose_process_died_over_its_arguments_is_missed_while_its_starter_waits_for_another
    );
    let (sender, receiver) = pipe().unwrap();
    let reader = Bound(Process::new(read_to_the_end, (receiver,)).start().unwrap());
    let _writer = Bound(Process::new(refused_first, (Refuses, sender)).start().unwrap());
    assert_eq!(reader.join_timeout(LONG).unwrap(), 0);
}

#[test]
fn a_forked_child_that_finds_no_room_takes_nothing_for_the_end() {
    let (sender, receiver) = PipeOptions::new().holders(1).typed::<u32>().unwrap();
    // SAFETY: the child touches memory only, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let crowded = matches!(sender.try_send(&1), Err(SendError::Crowded { most: 1 }))
            && matches!(receiver.try_recv(), Err(RecvError::Crowded { most: 1 }));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!crowded)) };
    }
    let mut status = 0;
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    sender.send(&2).unwrap();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), 2);
}
