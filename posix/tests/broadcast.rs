//! Broadcasts between real processes, which also die.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::os::fd::AsFd;
use std::time::Duration;

use procession_posix::channel::{
    Broadcast, BroadcastOptions, PublishError, Queue, ReceiveError, RecvError, RoleError, Sender,
    Subscriber, pipe,
};
use procession_posix::process::{Child, Process};
use procession_posix::ready::Readiness;
use procession_posix::sync::{Event, wait_any_timeout};

/// Nobody waits so long, unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// An object whose bytes follow from its number: short ones, and some that lie in blocks.
fn report(number: u64) -> (u64, String) {
    let length = if number % 5 == 4 { 3000 } else { 10 };
    (number, String::from((b'a' + (number % 26) as u8) as char).repeat(length))
}

/// Receives until the end. Which was the first, how many came, how many were missed.
fn follow(subscriber: Subscriber<(u64, String)>, ready: Event) -> (u64, u64, u64) {
    ready.set();
    let (mut first, mut next, mut got, mut missed) = (None, None, 0, 0);
    loop {
        match subscriber.recv_timeout(LONG) {
            Ok(object) => {
                assert_eq!(object, report(object.0));
                assert!(next.is_none_or(|next| next == object.0), "{next:?}, then {}", object.0);
                first.get_or_insert(object.0);
                next = Some(object.0 + 1);
                got += 1;
            }
            Err(ReceiveError::Missed { count }) => {
                next = next.map(|next| next + count);
                missed += count;
            }
            Err(ReceiveError::Closed) => return (first.unwrap_or(0), got, missed),
            Err(error) => panic!("{error}"),
        }
    }
}

fn follower(cast: &Broadcast<(u64, String)>) -> Child<(u64, u64, u64)> {
    let ready = Event::new().unwrap();
    // The original stays until the copy has arrived: nothing is overwritten before.
    let original = cast.subscribe().unwrap();
    let copy = cast.subscribe().unwrap();
    let child = Process::new(follow, (copy, ready.clone())).daemon(true).start().unwrap();
    assert!(ready.wait_timeout(LONG));
    drop(original);
    child
}

#[test]
fn every_process_gets_everything() {
    alone!(every_process_gets_everything);
    let cast = Broadcast::blocking(8).unwrap();
    let children: Vec<_> = (0..3).map(|_| follower(&cast)).collect();
    let publisher = cast.publisher().unwrap();
    for number in 0..500 {
        publisher.publish_timeout(&report(number), LONG).unwrap();
    }
    publisher.close();
    for child in children {
        assert_eq!(child.join_timeout(LONG).unwrap(), (0, 500, 0));
    }
    assert_eq!(cast.subscribers(), 0);
}

#[test]
fn who_is_too_slow_knows_how_much_it_has_missed() {
    alone!(who_is_too_slow_knows_how_much_it_has_missed);
    let cast = Broadcast::losing(8).unwrap();
    let children: Vec<_> = (0..2).map(|_| follower(&cast)).collect();
    let publisher = cast.publisher().unwrap();
    for number in 0..5000 {
        publisher.publish(&report(number)).unwrap();
    }
    publisher.close();
    for child in children {
        let (_, got, missed) = child.join_timeout(LONG).unwrap();
        assert_eq!(got + missed, 5000);
        assert!(got >= 8, "the last are there for all");
    }
}

/// Receives one, and then nothing more.
fn stall(subscriber: Subscriber<(u64, String)>, ready: Event) {
    subscriber.recv_timeout(LONG).unwrap();
    ready.set();
    std::thread::sleep(LONG * 2);
}

#[test]
fn a_subscriber_that_is_killed_holds_nobody_up() {
    alone!(a_subscriber_that_is_killed_holds_nobody_up);
    let cast = Broadcast::blocking(4).unwrap();
    let publisher = cast.publisher().unwrap();
    let ready = Event::new().unwrap();
    let mine = cast.subscribe().unwrap();
    let args = (cast.subscribe().unwrap(), ready.clone());
    let child = Process::new(stall, args).daemon(true).start().unwrap();
    publisher.publish(&report(0)).unwrap();
    assert!(ready.wait_timeout(LONG));
    // It has received one of five: the publisher waits for it, asleep.
    for number in 1..5 {
        publisher.publish_timeout(&report(number), LONG).unwrap();
        assert_eq!(mine.recv().unwrap(), report(number - 1));
    }
    assert!(matches!(publisher.try_publish(&report(5)), Err(PublishError::Full)));
    let killer = std::thread::spawn(move || child.kill());
    for number in 5..20 {
        publisher.publish_timeout(&report(number), LONG).unwrap();
        assert_eq!(mine.recv().unwrap(), report(number - 1));
    }
    killer.join().unwrap().unwrap();
    assert_eq!(cast.subscribers(), 1);
}

/// Publishes so many, and then stays.
fn announce(cast: Broadcast<(u64, String)>, count: u64, ready: Event) {
    let publisher = cast.publisher().unwrap();
    for number in 0..count {
        publisher.publish(&report(number)).unwrap();
    }
    ready.set();
    std::thread::sleep(LONG * 2);
}

#[test]
fn a_publisher_that_is_killed_leaves_its_role_and_what_it_has_published() {
    alone!(a_publisher_that_is_killed_leaves_its_role_and_what_it_has_published);
    let cast = Broadcast::blocking(16).unwrap();
    let mine = cast.subscribe().unwrap();
    let ready = Event::new().unwrap();
    let args = (cast.clone(), 6, ready.clone());
    let child = Process::new(announce, args).daemon(true).start().unwrap();
    assert!(ready.wait_timeout(LONG));
    assert!(matches!(cast.publisher(), Err(RoleError::Taken { pid }) if pid == child.pid()));
    assert_eq!(cast.who_publishes().unwrap().pid, child.pid());
    child.kill().unwrap();
    assert!(child.join_timeout(LONG).is_err(), "it was killed");
    let publisher = cast.publisher().unwrap();
    publisher.publish(&report(6)).unwrap();
    for number in 0..7 {
        assert_eq!(mine.recv_timeout(LONG).unwrap(), report(number));
    }
    assert!(matches!(mine.try_recv(), Err(ReceiveError::Empty)));
}

#[test]
fn a_subscriber_travels_and_keeps_its_place() {
    let cast = Broadcast::blocking(8).unwrap();
    let publisher = cast.publisher().unwrap();
    let first = cast.subscribe().unwrap();
    for number in 0..4 {
        publisher.publish(&report(number)).unwrap();
    }
    assert_eq!(first.recv().unwrap(), report(0));
    let post = Queue::bounded(2).unwrap();
    post.put(&first).unwrap();
    assert_eq!(first.recv().unwrap(), report(1));
    let second: Subscriber<(u64, String)> = post.get().unwrap();
    assert_eq!(second.lag(), 3);
    assert_eq!((second.recv().unwrap(), second.recv().unwrap()), (report(1), report(2)));
    // Nobody holds its place on the way.
    post.put(&second).unwrap();
    drop((first, second));
    for number in 4..20 {
        publisher.publish(&report(number)).unwrap();
    }
    let late = post.get().unwrap();
    assert!(matches!(late.recv(), Err(ReceiveError::Missed { count }) if count >= 9));
    assert!(late.recv().unwrap().0 >= 12);
    assert!(late.lag() <= 7);
}

#[test]
fn long_objects_leave_no_memory_behind() {
    let options = BroadcastOptions::blocking(2).largest_object(100_000);
    let cast: Broadcast<Vec<u8>> = options.create().unwrap();
    let (publisher, mine) = (cast.publisher().unwrap(), cast.subscribe().unwrap());
    let arena = procession_posix::memory::arena().unwrap();
    let mut before = None;
    for round in 0..100u8 {
        publisher.publish(&vec![round; 90_000]).unwrap();
        assert_eq!(mine.recv().unwrap(), vec![round; 90_000]);
        if round == 10 {
            before = Some(arena.used().unwrap());
        }
    }
    assert!(arena.used().unwrap() <= before.unwrap() + (4 << 20));
    let large = publisher.publish(&vec![0; 200_000]);
    assert!(matches!(large, Err(PublishError::TooLarge { largest: 100_000, .. })));
    publisher.publish(&vec![1]).unwrap();
    assert_eq!(mine.recv().unwrap(), [1]);
}

#[test]
fn it_can_be_waited_for_with_other_things() {
    let (cast, stop) = (Broadcast::losing(4).unwrap(), Event::new().unwrap());
    let (publisher, mine) = (cast.publisher().unwrap(), cast.subscribe().unwrap());
    assert_eq!(wait_any_timeout(&[&stop, &mine], Duration::from_millis(1)), None);
    publisher.publish(&1u8).unwrap();
    assert_eq!(wait_any_timeout(&[&stop, &mine], LONG), Some(1));
    assert_eq!(mine.recv().unwrap(), 1);
    assert_eq!(wait_any_timeout(&[&stop, &mine], Duration::from_millis(1)), None);
    let ready = Readiness::of(&mine.news()).unwrap();
    publisher.publish(&2).unwrap();
    assert_eq!(wait_any_timeout(&[&stop, &ready.as_fd()], LONG), Some(1));
    assert_eq!(mine.recv().unwrap(), 2);
    publisher.close();
    assert_eq!(wait_any_timeout(&[&stop, &mine], LONG), Some(1));
}

#[test]
fn what_is_no_object_of_the_type_is_told() {
    let cast = Broadcast::<u64>::losing(4).unwrap();
    let post = Queue::bounded(1).unwrap();
    post.put(&cast).unwrap();
    let handle = postcard::to_stdvec(&cast).unwrap();
    assert!(postcard::from_bytes::<Broadcast<u64>>(&handle).is_ok());
    assert!(postcard::from_bytes::<Broadcast<i8>>(&handle).is_err());
    assert!(postcard::from_bytes::<Queue<u64>>(&handle).is_err());
}

#[test]
fn ends_of_pipes_arrive_at_everybody() {
    let cast = Broadcast::losing(2).unwrap();
    let (first, second) = (cast.subscribe().unwrap(), cast.subscribe().unwrap());
    let publisher = cast.publisher().unwrap();
    let (sender, receiver) = pipe::<u32>().unwrap();
    publisher.publish(&Some(sender)).unwrap();
    // Each has one of its own; the original is gone.
    for (subscriber, number) in [(&first, 1), (&second, 2)] {
        let sender: Option<Sender<u32>> = subscriber.recv_timeout(LONG).unwrap();
        sender.unwrap().send(&number).unwrap();
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), number);
    }
    publisher.publish(&None).unwrap();
    publisher.publish(&None).unwrap();
    // Its place is used for another: nobody has it any more.
    assert!(matches!(receiver.recv_timeout(LONG), Err(RecvError::Eof)));
}
