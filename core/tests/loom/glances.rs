//! What looks at the slot queue before taking, takes more than one, or ends it: peeks, claims with a condition, the latest,
//! shutting down, and the repair of whole batches.

use procession_core::queue::{PopError, PushError};
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::slots::{
    assert_in_order, assert_usable, drain, items, pop_some, push_all, queue, spawn, victim,
};
use crate::world::{Process, explore, explore_deaths};

/// The item of a ticket in these models: one producer puts them in order.
const FIRST: u32 = 10;

#[test]
fn a_peek_shows_the_item_of_its_ticket() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(1);
        let own = Process::new();
        let start = queue.queue().next_ticket();
        let putter = spawn(&queue, |queue, me| push_all(queue, me, 1, 2));
        let taker = spawn(&queue, |queue, me| pop_some(queue, me, 2));
        let mut last = 0;
        for _ in 0..2 {
            let seen = queue.queue().peek_with(own.me(), Deadline::NOW, |&item, ticket| {
                (item, ticket.wrapping_sub(start) as u32)
            });
            match seen {
                Ok((item, turn)) => {
                    assert_eq!(item, FIRST + turn, "of another turn");
                    assert!(item >= last, "{item} after {last}");
                    last = item;
                }
                Err(PopError::Empty | PopError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
        }
        putter.join().unwrap();
        assert_eq!(taker.join().unwrap(), [10, 11]);
    });
}

#[test]
fn who_peeks_passes_its_wake_on() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(2);
        let own = Process::new();
        let taker = spawn(&queue, |queue, me| queue.pop(me));
        let peeker = spawn(&queue, |queue, me| queue.peek(me));
        queue.queue().push(own.me(), 10).unwrap();
        assert_eq!(taker.join().unwrap(), Ok(10));
        queue.queue().push(own.me(), 11).unwrap();
        assert!(matches!(peeker.join().unwrap(), Ok(10 | 11)));
        assert_eq!(drain(queue.queue(), own.me()), [11]);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_peeker_sleeps_beside_an_item() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        let queue = queue(1);
        let own = Process::new();
        let peeker = spawn(&queue, |queue, me| queue.peek(me));
        queue.queue().push(own.me(), 10).unwrap();
        assert_eq!(peeker.join().unwrap(), Ok(10));
    });
}

#[test]
fn what_one_does_not_like_is_there_for_another() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(1);
        let own = Process::new();
        let putter = spawn(&queue, |queue, me| push_all(queue, me, 1, 2));
        let fussy = spawn(&queue, |queue, me| {
            let claim = queue.start_pop_if(me, Deadline::NOW, |&item| item == 11);
            claim.ok().flatten().map(|claim| {
                let item = queue.claimed(&claim);
                queue.finish_pop(me, claim);
                item
            })
        });
        let mut taken = vec![queue.queue().pop(own.me()).unwrap()];
        assert_eq!(taken, [10], "the other one takes no 10");
        putter.join().unwrap();
        taken.extend(fussy.join().unwrap());
        taken.extend(drain(queue.queue(), own.me()));
        assert_eq!(taken, [10, 11]);
    });
}

#[test]
fn the_latest_leaves_nothing_out() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(2);
        let own = Process::new();
        let putter = spawn(&queue, |queue, me| {
            push_all(queue, me, 1, 3);
            queue.close(me);
        });
        let taker = spawn(&queue, |queue, me| queue.try_pop(me));
        let (mut passed, mut seen) = (0, Vec::new());
        loop {
            match queue.queue().pop_latest(own.me(), Deadline::NEVER) {
                Ok((item, over)) => {
                    passed += over;
                    seen.push(item);
                }
                Err(PopError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        putter.join().unwrap();
        let other = Vec::from_iter(taker.join().unwrap());
        assert_in_order(&seen);
        assert_eq!(seen.len() + passed + other.len(), 3, "{seen:?} {passed} {other:?}");
    });
}

#[test]
fn shutting_down_wakes_all_and_leaves_the_rest_to_a_drain() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(1);
        let own = Process::new();
        let putter = spawn(&queue, |queue, me| {
            items(1, 3).take_while(|&item| queue.push(me, item).is_ok()).collect::<Vec<_>>()
        });
        let taker = spawn(&queue, |queue, me| {
            let mut taken = Vec::new();
            loop {
                match queue.pop(me) {
                    Ok(item) => taken.push(item),
                    Err(PopError::Closed) => return taken,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        queue.queue().shutdown(own.me(), true);
        let (put, mut taken) = (putter.join().unwrap(), taker.join().unwrap());
        assert_eq!(queue.queue().try_pop(own.me()), Err(PopError::Closed));
        assert_eq!(queue.queue().try_push(own.me(), 9), Err(PushError::Closed));
        while queue.queue().drain(own.me(), |item| taken.push(item)).is_ok() {}
        assert_eq!(taken, put);
    });
}

// Deaths.

#[test]
fn who_shuts_down_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        push_all(queue.queue(), own.me(), 1, 1);
        let dying = victim(&queue, fuel, |queue, me, _| queue.shutdown(me, true));
        let put = queue.queue().try_push(own.me(), 11);
        assert!(matches!(put, Ok(()) | Err(PushError::Closed)), "{put:?}");
        let deeds = dying.join().unwrap();
        // Half closed at most: who comes next ends it.
        queue.queue().shutdown(own.me(), true);
        assert_eq!(queue.queue().try_pop(own.me()), Err(PopError::Closed));
        let mut left = Vec::new();
        while queue.queue().drain(own.me(), |item| left.push(item)).is_ok() {}
        assert_eq!(left, [10, 11][..1 + usize::from(put.is_ok())]);
        !deeds.survived
    });
}

#[test]
fn who_peeks_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        push_all(queue.queue(), own.me(), 1, 1);
        let dying = victim(&queue, fuel, |queue, me, done| done.extend(queue.peek(me)));
        push_all(queue.queue(), own.me(), 2, 1);
        assert_eq!(queue.queue().pop(own.me()), Ok(10));
        let deeds = dying.join().unwrap();
        assert!(deeds.done.iter().all(|item| [10, 20].contains(item)));
        assert_eq!(drain(queue.queue(), own.me()), [20]);
        assert_eq!(queue.queue().lost(), 0);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn who_takes_the_latest_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let queue = queue(4);
        let own = Process::new();
        push_all(queue.queue(), own.me(), 1, 3);
        let dying = victim(&queue, fuel, |queue, me, done| {
            let (item, passed) = queue.pop_latest(me, Deadline::NEVER).unwrap();
            done.extend([item, passed as u32]);
        });
        push_all(queue.queue(), own.me(), 2, 1);
        let mut taken = Vec::from_iter(queue.queue().try_pop(own.me()));
        let deeds = dying.join().unwrap();
        taken.extend(drain(queue.queue(), own.me()));
        assert_in_order(&taken);
        let missing = 4 - taken.len() as u64;
        assert!(queue.queue().lost() <= missing, "{} of {missing}", queue.queue().lost());
        if let [_, passed] = deeds.done[..] {
            assert_eq!(missing, 1 + u64::from(passed));
        }
        if deeds.survived {
            assert_eq!(queue.queue().lost(), 0);
        }
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

/// With so much fuel a claim of three places dies with the claim made and nothing published.
const CLAIMED_THREE: u32 = 5;

#[test]
fn who_frees_a_dead_batch_of_a_producer_may_die_too() {
    for marked in [false, true] {
        explore_deaths(1, move |fuel| {
            let queue = queue(4);
            let (own, first) = (Process::new(), Process::new());
            let died = first.live(CLAIMED_THREE, |me| {
                queue.queue().push_many(me, Deadline::NEVER, &[10, 11, 12])
            });
            assert!(died.is_none());
            assert_eq!(queue.queue().len(), 3);
            if marked {
                // The next claim makes the dead one show in its last slot.
                push_all(queue.queue(), own.me(), 2, 1);
            }
            let dying = victim(&queue, fuel, |queue, me, done| done.extend(queue.try_pop(me)));
            let mut taken = Vec::from_iter(queue.queue().try_pop(own.me()));
            let deeds = dying.join().unwrap();
            taken.extend(&deeds.done);
            taken.extend(drain(queue.queue(), own.me()));
            let put: &[u32] = if marked { &[20] } else { &[] };
            assert!(taken == put || taken.is_empty() && !deeds.survived, "{taken:?}");
            assert_usable(queue.queue(), own.me());
            !deeds.survived
        });
    }
}

#[test]
fn who_frees_a_dead_batch_of_a_consumer_may_die_too() {
    for marked in [false, true] {
        explore_deaths(1, move |fuel| {
            let queue = queue(4);
            let (own, first) = (Process::new(), Process::new());
            push_all(queue.queue(), own.me(), 1, 4);
            let died = first
                .live(CLAIMED_THREE, |me| queue.queue().pop_many(me, Deadline::NEVER, &mut [0; 3]));
            assert!(died.is_none());
            assert_eq!(queue.queue().len(), 1);
            if marked {
                assert_eq!(queue.queue().pop(own.me()), Ok(13));
            }
            // The places of the batch are in the way of both.
            let dying = victim(&queue, fuel, |queue, me, done| {
                done.extend(queue.try_push(me, 20).map(|()| 20));
            });
            let mut put = Vec::from_iter(queue.queue().try_push(own.me(), 30).map(|()| 30));
            let deeds = dying.join().unwrap();
            put.extend(&deeds.done);
            let mut taken = drain(queue.queue(), own.me());
            if !marked {
                assert_eq!(taken.remove(0), 13);
            }
            taken.retain(|item| deeds.survived || *item != 20);
            put.retain(|item| deeds.survived || *item != 20);
            taken.sort_unstable();
            put.sort_unstable();
            assert_eq!(taken, put);
            // A second death between a place and its count: that one place.
            let lost = queue.queue().lost();
            assert!(lost == 3 || lost < 3 && !deeds.survived, "{lost}");
            assert_usable(queue.queue(), own.me());
            !deeds.survived
        });
    }
}
