//! Tests under [`StartMethod::Fork`]: it needs a starter with one thread, and a test has two.

use std::time::Duration;

use procession_posix::process::{Process, StartMethod, Target, start_method};

/// At the beginning of a test that starts processes by whatever method is the default: where they are forked, the rest of
/// it runs in a process that has one thread. A test that has threads of its own when it starts a process says so, by naming
/// another method for that.
macro_rules! alone {
    ($test:ident) => {
        if crate::alone::run($test) {
            return;
        }
    };
}

/// Where starts fork, this runs `test` to its end in a process that has one thread, and is `true`. Elsewhere, and in that
/// process, it does nothing and is `false`.
pub fn run(test: impl Target<(), Output = ()>) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    if start_method() != StartMethod::Fork || threads == 1 {
        return false;
    }
    let child = Process::new(test, ()).name("alone").method(StartMethod::Zygote).start().unwrap();
    let end = child.join_timeout(Duration::from_secs(120));
    let _ = child.kill();
    end.unwrap();
    true
}
