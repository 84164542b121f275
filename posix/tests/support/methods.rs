//! Tests that run under each way to start.

/// Makes a test of each of these functions, which runs it under each method. A test has two threads, so for `Fork`
/// it runs in a process that has one.
macro_rules! under_each_method {
    ($($name:ident)*) => {
        mod each_method {
            use procession_posix::process::{Process, StartMethod};
            use crate::support::{Bound, LONG};

            const TESTS: &[(&str, fn(StartMethod))] = &[$((stringify!($name), super::$name)),*];

            fn run_forking(test: usize) {
                TESTS[test].1(StartMethod::Fork);
            }

            $(#[test]
            fn $name() {
                super::$name(StartMethod::Zygote);
                super::$name(StartMethod::Spawn);
                let test = TESTS.iter().position(|(name, _)| *name == stringify!($name)).unwrap();
                let alone = Process::new(run_forking, (test,)).method(StartMethod::Zygote);
                Bound(alone.name("alone").start().unwrap()).join_timeout(LONG).unwrap();
            })*
        }
    };
}
