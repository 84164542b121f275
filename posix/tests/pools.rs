//! Pools, over processes and over threads.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

mod processes {
    use procession_posix::pool::Pool;

    include!("support/pool_suite.rs");
}

mod threads {
    use procession_posix::thread::Pool;

    include!("support/pool_suite.rs");
}
