//! Queues of objects and of plain data in their less usual calls, between threads of one process. What deaths do to them, the
//! death matrix asks.

use std::time::{Duration, Instant};

use procession_posix::channel::{GetError, PodQueue, PutError, Queue};

const SOON: Duration = Duration::from_secs(60);

/// Short ones, ones in blocks, and some larger than a chunk.
fn text(number: usize) -> String {
    let length = [3, 600, 40, 33_000][number % 4];
    format!("{number}:{}", "x".repeat(length))
}

#[test]
fn many_at_once_arrive_in_order_whatever_their_size() {
    let queue = Queue::<String>::bounded(50).unwrap();
    let texts: Vec<_> = (0..200).map(text).collect();
    let got = std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(queue.put_many_timeout(&texts, SOON).unwrap(), 200));
        let mut got = Vec::new();
        while got.len() < 200 {
            got.extend(queue.get_many_timeout(70, SOON).unwrap());
        }
        got
    });
    assert_eq!(got, texts);
    assert!(queue.empty() && queue.lost() == 0);
}

#[test]
fn what_does_not_fit_is_told_and_put_later() {
    let queue = Queue::<u32>::bounded(3).unwrap();
    assert_eq!(queue.put_many_nowait([1, 2, 3, 4, 5]).unwrap(), 3);
    assert!(matches!(queue.put_many_nowait([4, 5]), Err(PutError::Full)));
    assert!(matches!(
        queue.put_many_timeout([4, 5], Duration::from_millis(5)),
        Err(PutError::TimedOut)
    ));
    assert_eq!(queue.put_many([0; 0]).unwrap(), 0);
    assert_eq!(queue.get_many(2).unwrap(), [1, 2]);
    assert!(queue.get_many(0).unwrap().is_empty());
    assert_eq!(queue.drain().unwrap(), [3]);
    assert!(queue.drain().unwrap().is_empty());
    assert!(matches!(queue.get_many_nowait(2).unwrap_err().error, GetError::Empty));
    queue.close();
    assert!(matches!(queue.put_many([1]), Err(PutError::Closed)));
    assert!(matches!(queue.get_many(1).unwrap_err().error, GetError::Closed));
}

#[test]
fn one_that_is_too_large_keeps_back_only_itself_and_those_behind_it() {
    let queue = procession_posix::channel::QueueOptions::bounded(10).largest_object(100);
    let queue = queue.create::<String>().unwrap();
    let objects = ["a".to_string(), "x".repeat(200), "b".to_string()];
    assert_eq!(queue.put_many(&objects).unwrap(), 1);
    assert!(matches!(queue.put_many(&objects[1..]), Err(PutError::TooLarge { .. })));
    assert_eq!(queue.put_many(&objects[2..]).unwrap(), 1);
    assert_eq!(queue.drain().unwrap(), ["a", "b"]);
}

#[test]
fn a_peek_leaves_it_there() {
    for number in 0..4 {
        let queue = Queue::<String>::bounded(2).unwrap();
        assert!(matches!(queue.peek_nowait(), Err(GetError::Empty)));
        queue.put_many([text(number), text(number + 1)]).unwrap();
        assert_eq!((queue.peek().unwrap(), queue.peek().unwrap()), (text(number), text(number)));
        assert_eq!(queue.qsize(), 2);
        assert_eq!(queue.get().unwrap(), text(number));
        assert_eq!(queue.peek().unwrap(), text(number + 1));
    }
}

#[test]
fn peeks_beside_a_stream_see_whole_objects_in_order() {
    let queue = Queue::<(usize, String)>::bounded(4).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|n| queue.put_timeout(&(n, text(n)), SOON).unwrap()));
        let peeker = scope.spawn(|| {
            let mut last = 0;
            loop {
                match queue.peek_timeout(SOON) {
                    Ok((number, object)) => {
                        assert!(number >= last && object == text(number));
                        last = number;
                    }
                    Err(GetError::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for number in 0..2000 {
            assert_eq!(queue.get_timeout(SOON).unwrap().0, number);
        }
        queue.shutdown(true);
        peeker.join().unwrap();
    });
}

#[test]
fn the_latest_comes_with_the_number_of_those_before_it() {
    let queue = Queue::<String>::bounded(10).unwrap();
    queue.put_many((0..7).map(text)).unwrap();
    assert_eq!(queue.get_latest().unwrap(), (text(6), 6));
    assert!(matches!(queue.get_latest_nowait(), Err(GetError::Empty)));
    queue.put(&text(1)).unwrap();
    assert_eq!(queue.get_latest_timeout(SOON).unwrap(), (text(1), 0));
}

#[test]
fn shutting_down_at_once_ends_those_who_wait_and_frees_what_was_there() {
    let queue = Queue::<String>::bounded(5).unwrap();
    let empty = Queue::<String>::bounded(5).unwrap();
    queue.put_many((0..5).map(text)).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| queue.put_timeout(&text(6), SOON));
        let taker = scope.spawn(|| empty.get_timeout(SOON));
        queue.shutdown(true);
        empty.shutdown(true);
        assert!(matches!(putter.join().unwrap(), Err(PutError::Closed)));
        assert!(matches!(taker.join().unwrap(), Err(GetError::Closed)));
    });
    assert!(started.elapsed() < SOON / 2);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(queue.empty() && queue.is_closed());
    // Graceful: what is there can be got.
    let queue = Queue::<u8>::bounded(5).unwrap();
    queue.put(&1).unwrap();
    queue.shutdown(false);
    assert!(matches!(queue.put(&2), Err(PutError::Closed)));
    assert_eq!(queue.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1]);
}

#[test]
fn iterators_end_where_they_should() {
    let queue = Queue::<u8>::bounded(5).unwrap();
    queue.put_many([1, 2]).unwrap();
    assert_eq!(queue.try_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
    queue.put_many([3, 4]).unwrap();
    queue.close();
    assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(queue.try_iter().count(), 0);
}

#[test]
fn plain_items_travel_with_the_same_calls() {
    let queue = PodQueue::<[u16; 3]>::bounded(5).unwrap();
    let item = |n| [n, n + 1, n + 2];
    assert!(matches!(queue.peek_nowait(), Err(GetError::Empty)));
    assert_eq!(queue.put_many_nowait(&[item(0), item(1), item(2)]).unwrap(), 3);
    queue.put_timeout(item(3), SOON).unwrap();
    assert_eq!((queue.qsize(), queue.full(), queue.empty()), (4, false, false));
    assert_eq!(queue.peek().unwrap(), item(0));
    let mut room = [[0; 3]; 2];
    assert_eq!(queue.get_many_into(&mut room).unwrap(), 2);
    assert_eq!(room, [item(0), item(1)]);
    assert_eq!(queue.get_latest().unwrap(), (item(3), 1));
    assert_eq!(queue.put_many_nowait(&[item(7); 9]).unwrap(), 5);
    assert!(matches!(queue.put_nowait(item(1)), Err(PutError::Full)));
    assert_eq!(queue.get_many(3).unwrap(), [item(7); 3]);
    assert_eq!(queue.try_iter().count(), 2);
    queue.put(item(1)).unwrap();
    queue.shutdown(true);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert_eq!((queue.qsize(), queue.lost()), (0, 0));
    assert!(PodQueue::<u8>::bounded(0).is_err());
}

#[test]
fn a_queue_of_plain_items_travels_through_a_queue_and_knows_its_type() {
    let post = Queue::<PodQueue<u64>>::bounded(1).unwrap();
    let queue = PodQueue::<u64>::bounded(4).unwrap();
    post.put(&queue).unwrap();
    let same = post.get().unwrap();
    same.put(42).unwrap();
    assert_eq!(queue.get().unwrap(), 42);
    // The same handle, decoded as a queue of other items of the same size.
    #[derive(serde::Serialize, serde::Deserialize)]
    enum Either {
        Right(PodQueue<u64>),
        Wrong(PodQueue<i64>),
    }
    let bytes = postcard::to_stdvec(&Either::Right(queue)).unwrap();
    let mut other = bytes.clone();
    other[0] = 1;
    assert!(matches!(postcard::from_bytes(&bytes).unwrap(), Either::Right(_)));
    assert!(postcard::from_bytes::<Either>(&other).is_err());
}
