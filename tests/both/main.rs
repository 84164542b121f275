//! One source over processes and over threads: which of both, one `use` line says.

#[macro_use]
#[path = "../../posix/tests/support/alone.rs"]
mod alone;

mod threads;

macro_rules! over {
    ($world:ident: use $($prelude:ident)::*) => {
        mod $world {
            use $($prelude)::*::*;

            include!("suite.rs");
        }
    };
}

over!(processes_suite: use procession::prelude);
over!(threads_suite: use procession::thread::prelude);
