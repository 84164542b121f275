//! Pools, over processes and over threads: one suite, included once for each, which differ in one `use` line.

#[macro_use]
#[path = "../support/alone.rs"]
mod alone;
mod tasks;

macro_rules! suite {
    ($($part:ident = $file:literal)*) => {
        $(mod $part {
            include!($file);
        })*
    };
}

macro_rules! suites {
    ($($module:ident: $pool:path;)*) => {
        $(mod $module {
            use $pool as Pool;

            suite! {
                ends = "suite/ends.rs"
                maps = "suite/maps.rs"
                results = "suite/results.rs"
                terms = "suite/terms.rs"
            }
        })*
    };
}

suites! {
    processes: procession_posix::pool::Pool;
    threads: procession_posix::thread::Pool;
}
