//! What tests/mpsc.rs asks of a channel and of a bounded one. What it asks of a selection is in the module on that.

use std::time::{Duration, Instant};

use procession::Queue;

use crate::array::SHORT;
use crate::setting::{Bed, Setting, make};
use crate::support::LONG;
use crate::support::Word;
use crate::support::carrier::{Carrier, No, Wait};

/// As "unbounded": more than any of these puts.
const ROOMY: usize = 1 << 14;
const CAPACITIES: [usize; 3] = [1, 2, ROOMY];

pub fn smoke(setting: Setting) {
    for capacity in CAPACITIES {
        let queue = make(capacity);
        queue.give(&1);
        setting.run([&|| assert_eq!(queue.receive(), 1)]);
    }
}

pub fn drop_full(setting: Setting) {
    // A queue that is dropped with something in it, by whoever made it.
    setting.run([&|| {
        let queue = make(1);
        queue.give(&Box::new(1));
    }]);
}

pub fn drop_full_shared(setting: Setting) {
    setting.run([&|| {
        let queue = make(1);
        drop(queue.clone());
        drop(queue.clone());
        queue.give(&Box::new(1));
    }]);
}

pub fn smoke_shared(setting: Setting) {
    let queue = make(1);
    setting.run([&|| {
        queue.give(&1);
        assert_eq!(queue.receive(), 1);
        let other = queue.clone();
        other.give(&2);
        assert_eq!(queue.receive(), 2);
    }]);
}

pub fn recv_timeout(setting: Setting) {
    let queue = make(1);
    setting.run([&|| {
        assert_eq!(queue.fetch(Wait::For(SHORT)), Err(No::TimedOut));
        queue.give(&1);
        assert_eq!(queue.fetch(Wait::For(SHORT)), Ok(1));
    }]);
}

pub fn smoke_threads(setting: Setting) {
    for capacity in CAPACITIES {
        let queue = make(capacity);
        setting.run([&|| queue.give(&1), &|| assert_eq!(queue.receive(), 1)]);
    }
}

pub fn smoke_port_gone(setting: Setting) {
    let queue = make(1);
    let other = queue.clone();
    setting.run([&|| queue.close()]);
    drop(queue);
    assert_eq!(other.offer(&1, Wait::Endless), Err(No::Closed));
}

/// One takes an object and closes; `puts` go on until then.
fn port_gone(setting: Setting, puts: &(dyn Fn(&Queue<i32>) -> bool + Sync)) {
    for capacity in [1, 2] {
        let queue = make(capacity);
        setting.run([
            &|| {
                queue.receive();
                queue.close();
            },
            &|| while puts(&queue) {},
        ]);
    }
}

pub fn port_gone_concurrent(setting: Setting) {
    port_gone(setting, &|queue| queue.offer(&1, Wait::Endless).is_ok());
}

pub fn port_gone_concurrent_shared(setting: Setting) {
    port_gone(setting, &|queue| {
        let other = queue.clone();
        queue.offer(&1, Wait::Endless).is_ok() && other.offer(&1, Wait::Endless).is_ok()
    });
}

pub fn smoke_chan_gone(setting: Setting) {
    let queue = make::<()>(1);
    let other = queue.clone();
    drop(other);
    setting.run([&|| queue.close()]);
    assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
}

pub fn chan_gone_concurrent(setting: Setting) {
    for capacity in CAPACITIES {
        let queue = make(capacity);
        setting.run([
            &|| {
                queue.give(&1);
                queue.give(&1);
                queue.close();
            },
            &|| while queue.fetch(Wait::Endless) == Ok(1) {},
        ]);
    }
}

pub fn stress(setting: Setting) {
    const COUNT: usize = 10_000;
    for capacity in CAPACITIES {
        let queue = make(capacity);
        setting.run([&|| (0..COUNT).for_each(|_| queue.give(&1)), &|| {
            (0..COUNT).for_each(|_| assert_eq!(queue.receive(), 1));
        }]);
    }
}

pub fn stress_recv_timeout_two_threads(setting: Setting) {
    const COUNT: usize = 100;
    let (queue, moment) = (make(1), Duration::from_millis(2));
    setting.run([
        &|| {
            for round in 0..COUNT {
                if round % 2 == 0 {
                    std::thread::sleep(moment * 2);
                }
                queue.give(&1);
            }
            queue.close();
        },
        &|| {
            let mut count = 0;
            loop {
                match queue.fetch(Wait::For(moment)) {
                    Ok(one) => count += one,
                    Err(No::TimedOut) => {}
                    Err(No::Closed) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(count, COUNT);
        },
    ]);
}

pub fn stress_recv_timeout_shared(setting: Setting) {
    const PARTIES: usize = 50;
    let (queue, left) = (make(1), Word::new());
    left.set(PARTIES as u64);
    let count = || {
        let mut count = 0;
        loop {
            match queue.fetch(Wait::For(Duration::from_millis(1))) {
                Ok(one) => count += one,
                Err(No::TimedOut) => {}
                Err(No::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(count, PARTIES);
    };
    setting.with_crowd(
        PARTIES,
        &|number| {
            std::thread::sleep(Duration::from_millis(number as u64 * 2));
            queue.give(&1);
            // The last one closes.
            if left.add(u64::MAX) == 1 {
                queue.close();
            }
        },
        &[&count],
    );
}

pub fn stress_shared(setting: Setting) {
    const COUNT: usize = 3000;
    const PARTIES: usize = 8;
    for capacity in CAPACITIES {
        let queue = make(capacity);
        let take = || (0..COUNT * PARTIES).for_each(|_| assert_eq!(queue.receive(), 1));
        let put = |_| (0..COUNT).for_each(|_| queue.give(&1));
        setting.with_crowd(PARTIES, &put, &[&take]);
        assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
    }
}

pub fn send_and_recv_from_outside(setting: Setting) {
    let (start, ones) = (make(1), make(40));
    setting.run([
        &|| {
            start.give(&());
            (0..40).for_each(|_| assert_eq!(ones.receive(), 1));
        },
        &|| {
            start.receive();
            (0..40).for_each(|_| ones.give(&1));
        },
    ]);
}

pub fn no_runtime(setting: Setting) {
    let (there, back) = (make(1), make(1));
    setting.run([
        &|| {
            assert_eq!(there.receive(), 1);
            back.give(&2);
        },
        &|| {
            there.give(&1);
            assert_eq!(back.receive(), 2);
        },
    ]);
}

pub fn oneshot_close_first(setting: Setting) {
    let queue = make::<i32>(1);
    setting.run([&|| queue.close()]);
    queue.close();
    assert!(queue.is_closed());
}

pub fn oneshot_send_port_close(setting: Setting) {
    let queue = make(1);
    setting.run([&|| queue.close()]);
    setting.run([&|| assert_eq!(queue.offer(&Box::new(0), Wait::Endless), Err(No::Closed))]);
}

pub fn oneshot_recv_chan_close(setting: Setting) {
    let queue = make::<i32>(1);
    setting.run([&|| queue.close()]);
    setting.run([&|| assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed))]);
}

pub fn oneshot_send_then_recv(setting: Setting) {
    let queue = make(1);
    setting.run([&|| queue.give(&Box::new(10))]);
    setting.run([&|| assert_eq!(*queue.receive(), 10)]);
}

pub fn oneshot_try_send(setting: Setting) {
    let queue = make(1);
    setting.run([&|| assert_eq!(queue.offer(&10, Wait::Not), Ok(()))]);
    setting.run([&|| assert_eq!(queue.receive(), 10)]);
    queue.close();
    setting.run([&|| assert_eq!(queue.offer(&10, Wait::Not), Err(No::Closed))]);
}

pub fn oneshot_try_recv(setting: Setting) {
    let queue = make(1);
    queue.give(&10);
    setting.run([&|| assert_eq!(queue.fetch(Wait::Not), Ok(10))]);
    queue.close();
    setting.run([&|| assert_eq!(queue.fetch(Wait::Not), Err(No::Closed))]);
}

pub fn oneshot_try_recv_closed_with_data(setting: Setting) {
    let queue = make(1);
    queue.give(&10);
    queue.close();
    setting.run([&|| {
        assert_eq!(queue.fetch(Wait::Not), Ok(10));
        assert_eq!(queue.fetch(Wait::Not), Err(No::Closed));
    }]);
}

pub fn oneshot_peek(setting: Setting) {
    let queue = make(1);
    let expect = |answer: Result<i32, No>| {
        setting.run([&|| assert_eq!(queue.fetch(Wait::Not), answer)]);
    };
    expect(Err(No::NotNow));
    queue.give(&10);
    expect(Ok(10));
    expect(Err(No::NotNow));
    queue.close();
    expect(Err(No::Closed));
    expect(Err(No::Closed));
}

pub fn oneshot_multi_task(setting: Setting) {
    // First who gets, then who puts, or closes.
    for object in [Some(10), None] {
        let (queue, bed) = (make(1), Bed::new());
        setting.run([
            &|| {
                bed.lie_down();
                assert_eq!(queue.fetch(Wait::Endless), object.map(Box::new).ok_or(No::Closed));
            },
            &|| {
                bed.wait();
                match object {
                    Some(object) => queue.give(&Box::new(object)),
                    None => queue.close(),
                }
            },
        ]);
    }
}

pub fn oneshot_multi_thread_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(200) {
        let queue = make::<i32>(1);
        setting.crowd(2, &|_| queue.close());
        assert!(queue.is_closed());
    }
}

pub fn oneshot_multi_thread_send_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(500) {
        let (queue, put) = (make(1), Word::new());
        setting.run([&|| queue.close(), &|| match queue.offer(&1, Wait::Endless) {
            Ok(()) => put.set(1),
            answer => assert_eq!(answer, Err(No::Closed)),
        }]);
        // What was acknowledged is there.
        assert_eq!(queue.fetch(Wait::Not).is_ok(), put.get() == 1);
        assert_eq!(queue.fetch(Wait::Not), Err(No::Closed));
    }
}

pub fn oneshot_multi_thread_recv_close_stress(setting: Setting) {
    for _ in 0..setting.rounds(500) {
        let queue = make::<i32>(1);
        let get = || assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
        setting.run([&get, &|| queue.close(), &get]);
    }
}

pub fn oneshot_multi_thread_send_recv_stress(setting: Setting) {
    for _ in 0..setting.rounds(500) {
        let queue = make(1);
        setting.run([&|| queue.give(&Box::new(10)), &|| assert_eq!(*queue.receive(), 10)]);
    }
}

pub fn stream_send_recv_stress(setting: Setting) {
    const STEPS: u64 = 10;
    for _ in 0..setting.rounds(50) {
        let (queue, put, got) = (make(1), Word::new(), Word::new());
        // Each step by somebody else, one after the other.
        setting.crowd(2 * STEPS as usize, &|number| {
            let step = number as u64 / 2;
            let count = if number % 2 == 0 { put } else { got };
            count.wait_for(step);
            match number % 2 {
                0 => queue.give(&Box::new(step)),
                _ => assert_eq!(*queue.receive(), step),
            }
            count.count();
        });
    }
}

pub fn recv_timeout_upgrade(setting: Setting) {
    let queue = make::<()>(1);
    let _other = queue.clone();
    setting.run([&|| {
        let begin = Instant::now();
        assert_eq!(queue.fetch(Wait::For(SHORT)), Err(No::TimedOut));
        assert!(begin.elapsed() >= SHORT);
    }]);
}

pub fn recv_a_lot(setting: Setting) {
    const COUNT: usize = 10_000;
    let queue = make(COUNT);
    setting.run([&|| {
        (0..COUNT).for_each(|_| queue.offer(&(), Wait::Not).unwrap());
        (0..COUNT).for_each(|_| queue.fetch(Wait::Not).unwrap());
    }]);
}

pub fn shared_recv_timeout(setting: Setting) {
    const PARTIES: usize = 5;
    for capacity in CAPACITIES {
        let queue = make(capacity);
        let get = || (0..PARTIES).for_each(|_| queue.receive());
        setting.with_crowd(PARTIES, &|_| queue.give(&()), &[&get]);
        assert_eq!(queue.fetch(Wait::For(SHORT)), Err(No::TimedOut));
        queue.give(&());
        assert_eq!(queue.fetch(Wait::For(LONG)), Ok(()));
    }
}

pub fn shared_chan_stress(setting: Setting) {
    for capacity in CAPACITIES {
        let parties = setting.rounds(200);
        let queue = make(capacity);
        let get = || (0..parties).for_each(|_| queue.receive());
        setting.with_crowd(parties, &|_| queue.give(&()), &[&get]);
    }
}

pub fn nested_recv_iter(setting: Setting) {
    let (queue, total) = (make(1), make(1));
    setting.run([&|| total.give(&queue.iter().map(Result::unwrap).sum::<i32>()), &|| {
        for object in [3, 1, 2] {
            queue.give(&object);
        }
        queue.close();
        assert_eq!(total.receive(), 6);
    }]);
}

pub fn recv_iter_break(setting: Setting) {
    let (queue, counts) = (make(4), make(1));
    setting.run([
        &|| {
            let mut count = 0;
            for object in &queue {
                let object = object.unwrap();
                if count >= 3 {
                    break;
                }
                count += object;
            }
            counts.give(&count);
        },
        &|| {
            (0..4).for_each(|_| queue.give(&2));
            queue.close();
            assert_eq!(counts.receive(), 4);
        },
    ]);
    // The one that ended it was got.
    assert_eq!(queue.qsize(), 1);
}

pub fn recv_try_iter(setting: Setting) {
    let (requests, responses) = (make(2), make::<i32>(2));
    setting.run([
        &|| {
            let mut count = 0;
            while count < 6 {
                requests.give(&());
                count += responses.receive();
                count += std::iter::from_fn(|| responses.try_receive().ok()).sum::<i32>();
            }
            assert_eq!(count, 6);
            requests.close();
        },
        &|| requests.iter().for_each(|_| responses.give(&2)),
    ]);
}

pub fn recv_into_iter(setting: Setting) {
    let queue = make(2);
    queue.give(&1);
    queue.give(&2);
    queue.close();
    setting.run([&|| {
        let mut objects = (&queue).into_iter().map(Result::unwrap);
        assert_eq!([objects.next(), objects.next(), objects.next()], [Some(1), Some(2), None]);
        // And it stays at its end.
        assert_eq!(objects.next(), None);
    }]);
}

pub fn try_recv_states(setting: Setting) {
    let (objects, there, back) = (make(1), make(1), make(1));
    setting.run([
        &|| {
            there.receive();
            objects.give(&1);
            back.give(&());
            there.receive();
            objects.close();
            back.give(&());
        },
        &|| {
            assert_eq!(objects.fetch(Wait::Not), Err(No::NotNow));
            there.give(&());
            back.receive();
            assert_eq!(objects.fetch(Wait::Not), Ok(1));
            assert_eq!(objects.fetch(Wait::Not), Err(No::NotNow));
            there.give(&());
            back.receive();
            assert_eq!(objects.fetch(Wait::Not), Err(No::Closed));
        },
    ]);
}

pub fn destroy_when_sender_still_active(setting: Setting) {
    let (queue, back, bed) = (make(1), make(1), Bed::new());
    setting.run([
        &|| {
            let mine = queue.clone();
            bed.lie_down();
            mine.receive();
            drop(mine);
            back.give(&());
        },
        &|| {
            bed.wait();
            let other = queue.clone();
            other.give(&());
            back.receive();
            // The other one has gone, the queue has not.
            other.give(&());
            assert_eq!(other.fetch(Wait::Not), Ok(()));
        },
    ]);
}

pub fn issue_32114(setting: Setting) {
    let queue = make(1);
    queue.close();
    setting.run([&|| {
        for _ in 0..2 {
            assert_eq!(queue.offer(&123, Wait::Endless), Err(No::Closed));
        }
    }]);
}

pub fn send1(setting: Setting) {
    let queue = make(1);
    setting.run([&|| assert_eq!(queue.receive(), 1), &|| {
        assert_eq!(queue.offer(&1, Wait::Endless), Ok(()));
    }]);
}

pub fn send2(setting: Setting) {
    let (queue, bed) = (make(1), Bed::new());
    queue.give(&0);
    setting.run([
        &|| {
            bed.wait();
            queue.close();
        },
        &|| {
            bed.lie_down();
            assert_eq!(queue.offer(&1, Wait::Endless), Err(No::Closed));
        },
    ]);
}

pub fn send3(setting: Setting) {
    let queue = make(1);
    assert_eq!(queue.offer(&1, Wait::Endless), Ok(()));
    setting.run([&|| queue.close(), &|| {
        assert_eq!(queue.offer(&1, Wait::Endless), Err(No::Closed));
    }]);
}

pub fn send4(setting: Setting) {
    let (queue, done) = (make(1), make(2));
    let beds = [(); 2].map(|()| Bed::new());
    queue.give(&0);
    let all = || {
        beds.iter().for_each(|bed| bed.wait());
        queue.close();
        done.receive();
        done.receive();
    };
    setting.with_crowd(
        2,
        &|number| {
            beds[number].lie_down();
            assert_eq!(queue.offer(&1, Wait::Endless), Err(No::Closed));
            done.give(&());
        },
        &[&all],
    );
}

pub fn try_send1(setting: Setting) {
    // Nobody is there to take it: a queue of one keeps it, and refuses the next.
    let queue = make(1);
    setting.run([&|| {
        assert_eq!(queue.offer(&1, Wait::Not), Ok(()));
        assert_eq!(queue.offer(&1, Wait::Not), Err(No::NotNow));
    }]);
}

pub fn try_send2(setting: Setting) {
    let queue = make(1);
    setting.run([&|| assert_eq!(queue.offer(&1, Wait::Not), Ok(()))]);
    setting.run([&|| assert_eq!(queue.offer(&1, Wait::Not), Err(No::NotNow))]);
}

pub fn try_send3(setting: Setting) {
    let queue = make(1);
    assert_eq!(queue.offer(&1, Wait::Not), Ok(()));
    setting.run([&|| queue.close()]);
    // Closed says more than full.
    setting.run([&|| assert_eq!(queue.offer(&1, Wait::Not), Err(No::Closed))]);
}

pub fn issue_15761(setting: Setting) {
    for _ in 0..setting.rounds(200) {
        let (there, back) = (make(3), make(3));
        setting.run([
            &|| {
                there.receive();
                assert_eq!(back.offer(&(), Wait::Not), Ok(()));
            },
            &|| {
                assert_eq!(there.offer(&(), Wait::Not), Ok(()));
                back.receive();
            },
        ]);
    }
}
