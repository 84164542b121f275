//! What all three files ask of a channel one side of which is gone, asked of a pipe, whose ends are counted: each party has its
//! own, and drops it, or dies with it.

use std::time::Instant;

use procession::channel::{PipeOptions, Receiver, Sender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::array::SHORT;
use crate::setting::{Bed, Setting};
use crate::support::carrier::{No, Wait, recv, send};
use crate::support::{Child, LONG, Word, sleep_forever};

fn make<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    PipeOptions::new().messages(capacity).typed().unwrap()
}

/// An end on its way to a party, which takes it once. It is this process's no more.
struct Parcel(Vec<u8>);

impl Parcel {
    fn of<E: Serialize>(end: E) -> Parcel {
        Parcel(postcard::to_stdvec(&end).unwrap())
    }

    fn open<E: DeserializeOwned>(&self) -> E {
        postcard::from_bytes(&self.0).unwrap()
    }
}

const ALL: [Wait; 4] = [Wait::Endless, Wait::Not, Wait::For(LONG), Wait::Until(LONG)];

pub fn send_after_disconnect(setting: Setting) {
    let (sender, receiver) = make(100);
    for object in 1..=3 {
        sender.send(&object).unwrap();
    }
    let other = sender.clone();
    drop(receiver);
    let sender = Parcel::of(sender);
    setting.run([&|| {
        let sender: Sender<i32> = sender.open();
        for wait in ALL {
            assert_eq!(send(&sender, &4, wait), Err(No::Closed));
        }
    }]);
    assert_eq!(send(&other, &4, Wait::Endless), Err(No::Closed));
}

pub fn recv_after_disconnect(setting: Setting) {
    let (sender, receiver) = make(100);
    for object in 1..=4 {
        sender.send(&object).unwrap();
    }
    drop(sender);
    let receiver = Parcel::of(receiver);
    setting.run([&|| {
        let receiver: Receiver<i32> = receiver.open();
        for (object, wait) in (1..).zip(ALL) {
            assert_eq!(recv(&receiver, wait), Ok(object));
        }
        for wait in ALL {
            assert_eq!(recv(&receiver, wait), Err(No::Closed));
        }
    }]);
}

pub fn disconnect_wakes_sender(setting: Setting) {
    for wait in [Wait::Endless, Wait::For(LONG)] {
        let (sender, receiver) = make::<()>(1);
        let (sender, receiver, bed) = (Parcel::of(sender), Parcel::of(receiver), Bed::new());
        setting.run([
            &|| {
                let sender: Sender<()> = sender.open();
                assert_eq!(send(&sender, &(), wait), Ok(()));
                bed.lie_down();
                assert_eq!(send(&sender, &(), wait), Err(No::Closed));
            },
            &|| {
                let receiver: Receiver<()> = receiver.open();
                bed.wait();
                drop(receiver);
            },
        ]);
    }
}

pub fn disconnect_wakes_receiver(setting: Setting) {
    for wait in [Wait::Endless, Wait::For(LONG)] {
        let (sender, receiver) = make::<()>(1);
        let (sender, receiver, bed) = (Parcel::of(sender), Parcel::of(receiver), Bed::new());
        setting.run([
            &|| {
                let receiver: Receiver<()> = receiver.open();
                bed.lie_down();
                assert_eq!(recv(&receiver, wait), Err(No::Closed));
            },
            &|| {
                let sender: Sender<()> = sender.open();
                bed.wait();
                drop(sender);
            },
        ]);
    }
}

/// As the two above, but the other side is killed: asleep, or awake with its end in hand.
pub fn death_wakes(setting: Setting) {
    // Threads die with their process.
    if setting == Setting::Threads {
        return;
    }
    for sends in [true, false] {
        for asleep in [true, false] {
            let (sender, receiver) = make::<u64>(1);
            if sends {
                sender.send(&0).unwrap();
            }
            let there = Word::new();
            let (mine, its) = match sends {
                true => (Parcel::of(sender), Parcel::of(receiver)),
                false => (Parcel::of(receiver), Parcel::of(sender)),
            };
            let waiter = Child::start(|| {
                let answer = match sends {
                    true => send(&mine.open::<Sender<u64>>(), &1, Wait::Endless),
                    false => recv(&mine.open::<Receiver<u64>>(), Wait::Endless).map(drop),
                };
                assert_eq!(answer, Err(No::Closed));
            });
            let victim = Child::start(|| {
                let _end: Box<dyn std::any::Any> = match sends {
                    true => Box::new(its.open::<Receiver<u64>>()),
                    false => Box::new(its.open::<Sender<u64>>()),
                };
                there.count();
                match asleep {
                    true => sleep_forever(),
                    false => loop {
                        std::hint::spin_loop();
                    },
                }
            });
            there.wait();
            waiter.falls_asleep();
            let begin = Instant::now();
            victim.kill();
            waiter.finish();
            // Some milliseconds; the machine may be busy.
            assert!(begin.elapsed() < LONG / 4, "{:?}", begin.elapsed());
        }
    }
}

pub fn smoke_shared_port_gone(setting: Setting) {
    let (sender, receiver) = make::<u64>(2);
    let ends = [receiver.clone(), receiver.clone(), receiver].map(Parcel::of);
    // As long as one of several is there, it is not gone.
    let (sender, gone) = (Parcel::of(sender), Word::new());
    setting.with_crowd(
        3,
        &|number| {
            let end: Receiver<u64> = ends[number].open();
            gone.wait_for(number as u64);
            assert_eq!(recv(&end, Wait::For(LONG)), Ok(number as u64));
            drop(end);
            gone.count();
        },
        &[&|| {
            let sender: Sender<u64> = sender.open();
            for number in 0..3 {
                gone.wait_for(number);
                assert_eq!(send(&sender, &number, Wait::Not), Ok(()));
            }
            gone.wait_for(3);
            assert_eq!(send(&sender, &3, Wait::Not), Err(No::Closed));
        }],
    );
}

pub fn port_gone_concurrent(setting: Setting) {
    for capacity in [1, 2, 1000] {
        let (sender, receiver) = make::<i32>(capacity);
        let senders = [sender.clone(), sender].map(Parcel::of);
        let receiver = Parcel::of(receiver);
        setting.with_crowd(
            2,
            &|number| {
                let sender: Sender<i32> = senders[number].open();
                while send(&sender, &1, Wait::Endless) == Ok(()) {}
            },
            &[&|| {
                let receiver: Receiver<i32> = receiver.open();
                assert_eq!(recv(&receiver, Wait::Endless), Ok(1));
            }],
        );
    }
}

pub fn chan_gone_concurrent(setting: Setting) {
    for capacity in [1, 2, 1000] {
        let (sender, receiver) = make::<i32>(capacity);
        let senders = [sender.clone(), sender].map(Parcel::of);
        let receiver = Parcel::of(receiver);
        setting.with_crowd(
            2,
            &|number| {
                let sender: Sender<i32> = senders[number].open();
                (0..100).for_each(|_| sender.send(&1).unwrap());
            },
            &[&|| {
                let receiver: Receiver<i32> = receiver.open();
                let count = receiver.iter().map(Result::unwrap).count();
                assert_eq!(count, 200);
            }],
        );
    }
}

pub fn oneshot_multi_thread_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(200) {
        let (sender, receiver) = make::<i32>(1);
        let (sender, receiver) = (Parcel::of(sender), Parcel::of(receiver));
        setting.run([&|| drop(sender.open::<Sender<i32>>()), &|| {
            drop(receiver.open::<Receiver<i32>>());
        }]);
    }
}

pub fn oneshot_multi_thread_send_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(300) {
        let (sender, receiver) = make::<i32>(1);
        let (sender, receiver) = (Parcel::of(sender), Parcel::of(receiver));
        setting.run([&|| drop(receiver.open::<Receiver<i32>>()), &|| {
            let answer = send(&sender.open(), &1, Wait::Endless);
            assert!(matches!(answer, Ok(()) | Err(No::Closed)), "{answer:?}");
        }]);
    }
}

pub fn oneshot_multi_thread_recv_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(300) {
        let (sender, receiver) = make::<i32>(1);
        let (sender, receiver) = (Parcel::of(sender), Parcel::of(receiver));
        setting.run([&|| drop(sender.open::<Sender<i32>>()), &|| {
            let receiver: Receiver<i32> = receiver.open();
            assert_eq!(recv(&receiver, Wait::Endless), Err(No::Closed));
        }]);
    }
}

pub fn try_recv_states(setting: Setting) {
    let (objects, object) = make::<i32>(1);
    let (objects, object, turn) = (Parcel::of(objects), Parcel::of(object), Word::new());
    setting.run([
        &|| {
            let sender: Sender<i32> = objects.open();
            turn.wait_for(1);
            sender.send(&1).unwrap();
            turn.set(2);
            turn.wait_for(3);
            drop(sender);
            turn.set(4);
        },
        &|| {
            let receiver: Receiver<i32> = object.open();
            assert_eq!(recv(&receiver, Wait::Not), Err(No::NotNow));
            turn.set(1);
            turn.wait_for(2);
            assert_eq!(recv(&receiver, Wait::Not), Ok(1));
            assert_eq!(recv(&receiver, Wait::For(SHORT)), Err(No::TimedOut));
            turn.set(3);
            turn.wait_for(4);
            assert_eq!(recv(&receiver, Wait::Not), Err(No::Closed));
        },
    ]);
}

pub fn issue_32114(setting: Setting) {
    let (sender, receiver) = make::<i32>(1);
    drop(receiver);
    let sender = Parcel::of(sender);
    setting.run([&|| {
        let sender: Sender<i32> = sender.open();
        for _ in 0..2 {
            assert_eq!(send(&sender, &123, Wait::Endless), Err(No::Closed));
        }
    }]);
}

/// The receiving end of the next pipe.
#[derive(Serialize, Deserialize)]
struct Link(Receiver<Link>);

pub fn channel_through_channel(setting: Setting) {
    const COUNT: usize = 200;
    let (sender, receiver) = make::<Link>(1);
    let (sender, receiver) = (Parcel::of(sender), Parcel::of(receiver));
    setting.run([
        &|| {
            let mut sender: Sender<Link> = sender.open();
            for _ in 0..COUNT {
                let (next, end) = make(1);
                sender.send(&Link(end)).unwrap();
                sender = next;
            }
        },
        &|| {
            let mut receiver: Receiver<Link> = receiver.open();
            for _ in 0..COUNT {
                receiver = recv(&receiver, Wait::Endless).unwrap().0;
            }
            // The last one's sender is gone.
            assert!(matches!(recv(&receiver, Wait::Endless), Err(No::Closed)));
        },
    ]);
}

/// Ends on their way, in a message that nobody has received yet, count.
pub fn ends_on_their_way(setting: Setting) {
    let (sender, receiver) = make::<u64>(1);
    let (letters, letter) = make::<Sender<u64>>(1);
    letters.send(&sender).unwrap();
    drop((sender, letters));
    let (receiver, letter, bed) = (Parcel::of(receiver), Parcel::of(letter), Bed::new());
    setting.run([
        &|| {
            let receiver: Receiver<u64> = receiver.open();
            assert_eq!(recv(&receiver, Wait::For(SHORT)), Err(No::TimedOut));
            bed.lie_down();
            assert_eq!(recv(&receiver, Wait::Endless), Ok(7));
            assert_eq!(recv(&receiver, Wait::Endless), Err(No::Closed));
        },
        &|| {
            let letter: Receiver<Sender<u64>> = letter.open();
            bed.wait();
            let sender = recv(&letter, Wait::Endless).unwrap();
            sender.send(&7).unwrap();
            assert!(matches!(recv(&letter, Wait::Endless), Err(No::Closed)));
        },
    ]);
    // Nobody has received it, and nobody will.
    let (sender, receiver) = make::<u64>(1);
    let (letters, letter) = make::<Sender<u64>>(1);
    letters.send(&sender).unwrap();
    drop((sender, letters, letter));
    let receiver = Parcel::of(receiver);
    setting.run([&|| {
        let receiver: Receiver<u64> = receiver.open();
        assert_eq!(recv(&receiver, Wait::For(LONG)), Err(No::Closed));
    }]);
}
