use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn one_outcome_wins_and_is_taken_once() {
    let promise = Promise::new(None);
    assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::TimedOut)));
    assert!(promise.begin() && !promise.begin() && promise.is_running());
    assert!(!promise.cancel());
    assert!(promise.finish(Ok(5)) && !promise.finish(Ok(6)));
    assert!(promise.is_done() && !promise.is_running() && !promise.is_cancelled());
    assert_eq!(promise.result(Deadline::NOW).unwrap(), 5);
    assert_eq!(promise.clone().take(Deadline::NOW).unwrap(), 5);
    assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Taken)));
    assert!(matches!(promise.result(Deadline::NOW), Err(TaskError::Taken)));
}

#[test]
fn what_nobody_began_is_cancelled_and_the_error_stays() {
    let promise = Promise::<()>::new(None);
    assert!(promise.cancel() && promise.cancel() && promise.is_cancelled());
    assert!(!promise.begin() && !promise.finish(Ok(())));
    for _ in 0..2 {
        assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Cancelled)));
    }
}

#[test]
fn callbacks_run_in_order_and_see_the_result_before_it_is_taken() {
    let promise = Promise::new(None);
    let (said, heard) = mpsc::channel();
    for i in 0..3 {
        let said = said.clone();
        promise.add_callback(move |promise| {
            let say = |outcome: &Outcome<_>| said.send((i, *outcome.as_ref().unwrap())).unwrap();
            promise.lend(Deadline::NOW, say).unwrap();
            assert!(i != 1, "a callback that panics");
        });
    }
    let inside = said.clone();
    promise.add_callback(move |promise| {
        let late = inside.clone();
        promise.add_callback(move |promise| {
            assert!(promise.lend(Deadline::NOW, |_| ()).is_err(), "taken by now");
            late.send((9, 0)).unwrap();
        });
        inside.send((8, promise.result(Deadline::NOW).unwrap())).unwrap();
        inside.send((8, promise.take(Deadline::NOW).unwrap())).unwrap();
    });
    promise.finish(Ok(7));
    let got: Vec<_> = heard.try_iter().collect();
    assert_eq!(got, [(0, 7), (1, 7), (2, 7), (8, 7), (8, 7), (9, 0)]);
    assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Taken)));
    let (said, heard) = mpsc::channel();
    promise.add_callback(move |_| said.send(()).unwrap());
    heard.try_recv().unwrap();
}

#[test]
fn who_takes_waits_for_a_callback_that_runs() {
    let promise = Promise::new(None);
    let (begun, begins) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    promise.add_callback(move |promise| {
        let show = |_: &Outcome<_>| {
            begun.send(()).unwrap();
            wait.recv_timeout(SOON).unwrap();
        };
        promise.lend(Deadline::NOW, show).unwrap();
    });
    let maker = promise.clone();
    let maker = std::thread::spawn(move || maker.finish(Ok(String::from("a"))));
    begins.recv_timeout(SOON).unwrap();
    assert!(promise.is_done());
    let soon = Deadline::after(Duration::from_millis(5));
    assert!(matches!(promise.take(soon), Err(TaskError::TimedOut)));
    assert!(matches!(promise.result(soon), Err(TaskError::TimedOut)));
    go.send(()).unwrap();
    assert_eq!(promise.take(Deadline::after(SOON)).unwrap(), "a");
    assert!(maker.join().unwrap());
}

#[test]
fn a_waker_is_woken_once() {
    struct Count(AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(count.clone());
    let promise = Promise::new(None);
    assert!(promise.add_waker(&waker) && promise.add_waker(&waker));
    promise.finish(Ok(()));
    assert!(!promise.add_waker(&waker));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

/// Runs it in a thread, which must come to its end.
fn in_time(what: &str, action: impl FnOnce() + Send + 'static) {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        action();
        let _ = said.send(());
    });
    heard.recv_timeout(SOON).expect(what);
}

/// A result that asks for the promise of it while it is copied.
struct Asking(Arc<OnceLock<Promise<Asking>>>);

impl Clone for Asking {
    fn clone(&self) -> Self {
        let promise = self.0.get().unwrap();
        assert!(promise.is_ok() && promise.error().is_none());
        assert!(matches!(promise.take(Deadline::NEVER), Err(TaskError::Taken)));
        assert!(matches!(promise.result(Deadline::NEVER), Err(TaskError::Taken)));
        Asking(self.0.clone())
    }
}

#[test]
fn a_result_that_is_copied_may_ask_for_its_promise() {
    in_time("a copy that asks", || {
        let promise = Promise::new(None);
        let place = Arc::new(OnceLock::new());
        assert!(place.set(promise.clone()).is_ok());
        promise.finish(Ok(Asking(place)));
        assert!(promise.result(Deadline::NEVER).is_ok());
        assert!(promise.take(Deadline::NEVER).is_ok());
    });
}

#[test]
fn wakers_may_ask_for_the_promise_while_they_are_copied_and_dropped() {
    use std::task::{RawWaker, RawWakerVTable};
    fn ask(promise: *const ()) {
        // SAFETY: the test made it of a promise, which it leaked.
        let promise = unsafe { &*promise.cast::<Promise<()>>() };
        promise.is_running();
    }
    fn raw(promise: *const ()) -> RawWaker {
        static CALLS: RawWakerVTable = RawWakerVTable::new(
            |promise| {
                ask(promise);
                raw(promise)
            },
            ask,
            ask,
            ask,
        );
        RawWaker::new(promise, &CALLS)
    }
    in_time("a waker that asks", || {
        let promise: &Promise<()> = Box::leak(Box::new(Promise::new(None)));
        // SAFETY: its calls need nothing but the promise, which stays.
        let waker = unsafe { Waker::from_raw(raw(std::ptr::from_ref(promise).cast())) };
        assert!(promise.add_waker(&waker) && promise.add_waker(&waker));
        promise.remove_waker(&waker);
        assert!(promise.add_waker(&waker));
        promise.finish(Ok(()));
        assert!(!promise.add_waker(&waker));
    });
}
