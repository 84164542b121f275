//! The forms of a call that may wait.

/// As long as it takes, not at all, for a time: three names for a call that waits until a deadline. `$does` says what it does.
macro_rules! waits {
    ($until:ident as $plain:ident, $nowait:ident, $timeout:ident
     ($($argument:ident: $type:ty),*) -> $answer:ty, $does:literal) => {
        #[doc = concat!($does, " Waits as long as it takes.")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($until), "`](Self::", stringify!($until), "), except `TimedOut`.")]
        pub fn $plain(&self $(, $argument: $type)*) -> $answer {
            self.$until($($argument,)* procession_core::sys::Deadline::NEVER)
        }

        #[doc = concat!($does, " Does not wait.")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($until), "`](Self::", stringify!($until), ") with a deadline that is past.")]
        pub fn $nowait(&self $(, $argument: $type)*) -> $answer {
            self.$until($($argument,)* procession_core::sys::Deadline::NOW)
        }

        #[doc = concat!($does, " Waits for at most `timeout`.")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($until), "`](Self::", stringify!($until), ").")]
        pub fn $timeout(&self $(, $argument: $type)*, timeout: std::time::Duration) -> $answer {
            self.$until($($argument,)* procession_core::sys::Deadline::after(timeout))
        }
    };
}

pub(crate) use waits;
