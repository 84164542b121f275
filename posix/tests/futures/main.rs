//! Executors, futures, `wait` and `as_completed`: one suite over all executors, and what only some of them can.

mod any;
#[path = "../support/gone.rs"]
mod gone;
mod par_map;
mod processes;
mod tasks;
mod threads;
mod waits;
mod working;

/// Makes a test of each of these functions of a module.
macro_rules! tests {
    ($make:expr; $suite:ident: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::$suite::$name(&$make);
        })*
    };
}

macro_rules! any {
    ($make:expr) => {
        tests!($make; any:
            tasks_have_results
            a_panic_is_its_own_tasks_error
            maps_keep_the_order_and_errors_their_place
            maps_take_their_inputs_lazily
            sizes_of_zero_are_errors
            callbacks_run_in_order
            many_futures_are_waited_for
            after_shutdown_nothing_is_taken
            a_map_that_is_under_way_does_not_hold_up_a_shutdown
            threads_share_an_executor
        );

        #[test]
        fn callbacks_may_call_anything() {
            crate::any::callbacks_may_call_anything(std::sync::Arc::new($make));
        }
    };
}

macro_rules! with_workers {
    ($make:expr, $workers:expr) => {
        any!($make);
        tests!($make; working:
            waiting_has_deadlines
            the_first_that_is_over_ends_a_wait
            maps_have_a_timeout
            futures_can_be_awaited
        );

        #[test]
        fn what_is_queued_can_be_cancelled() {
            crate::working::what_is_queued_can_be_cancelled(&$make, $workers);
        }

        #[test]
        fn shutdown_can_cancel_what_is_queued() {
            crate::working::shutdown_can_cancel_what_is_queued(&$make, $workers);
        }

        #[test]
        fn shutdown_without_waiting_finishes_all() {
            crate::working::shutdown_without_waiting_finishes_all($make);
        }

        #[test]
        fn dropping_waits_in_a_panic_too() {
            crate::working::dropping_waits_in_a_panic_too($make);
        }

        #[test]
        fn after_a_shutdown_dropping_does_not_wait() {
            crate::working::after_a_shutdown_dropping_does_not_wait($make);
        }

        #[test]
        fn dropping_waits_for_all() {
            crate::working::dropping_waits_for_all($make);
        }
    };
}

mod inline {
    use procession_posix::futures::InlineExecutor;
    any!(InlineExecutor::new());
}

mod single_thread {
    use procession_posix::futures::SingleThreadExecutor;
    with_workers!(SingleThreadExecutor::new().unwrap(), 1);
}

mod over_threads {
    use procession_posix::futures::ThreadPoolExecutor;
    with_workers!(ThreadPoolExecutor::builder().max_workers(2).build().unwrap(), 2);
}

mod over_processes {
    with_workers!(crate::processes::processes(2), 2);
}
