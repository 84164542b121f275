//! Behaviour by behaviour what the published tests of crossbeam-channel ask of a bounded channel, asked of `Queue`: between
//! threads, and between processes.
//!
//! `cargo test --test channels`. The modules are named after the files there, and what is in them after the tests; the tests
//! themselves are written anew. What differs:
//!
//! - A queue has no ends of its own that could be dropped: it is closed. So "disconnected" is closed here; what happens when all
//!   of one side are gone is asked of a pipe.
//! - There is no capacity of zero, at which sender and receiver meet; one is the smallest.
//! - Nobody sleeps to be later than others: they wait until the others are asleep.

mod array;
mod ends;
mod golang;
mod mpsc;
mod setting;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::process::ExitCode;

use setting::Setting;

/// A test for each of these behaviours, in both settings.
macro_rules! behaviours {
    ($($module:ident: $($name:ident)*;)*) => {
        &[$($(
            (
                concat!(stringify!($module), "::", stringify!($name), "::threads"),
                || $module::$name(Setting::Threads),
            ),
            (
                concat!(stringify!($module), "::", stringify!($name), "::processes"),
                || $module::$name(Setting::Processes),
            ),
        )*)*]
    };
}

fn main() -> ExitCode {
    support::run(behaviours! {
        array:
            smoke capacity len_empty_full try_recv recv recv_timeout try_send send send_timeout
            send_timeout_nonfull_expired send_after_disconnect recv_after_disconnect len
            disconnect_wakes_sender disconnect_wakes_receiver disconnect_is_heard_at_once
            room_and_objects_are_heard_of_at_once spsc mpmc stress_oneshot stress_iter
            stress_timeout_two_threads drops linearizable recv_in_send channel_through_channel
            panic_on_drop;
        mpsc:
            smoke drop_full drop_full_shared smoke_shared recv_timeout smoke_threads smoke_port_gone
            port_gone_concurrent port_gone_concurrent_shared smoke_chan_gone chan_gone_concurrent
            stress stress_recv_timeout_two_threads stress_recv_timeout_shared stress_shared
            send_and_recv_from_outside no_runtime oneshot_close_first oneshot_send_port_close
            oneshot_recv_chan_close oneshot_send_then_recv oneshot_try_send oneshot_try_recv
            oneshot_try_recv_closed_with_data oneshot_peek oneshot_multi_task
            oneshot_multi_thread_close_stress oneshot_multi_thread_send_close_stress
            oneshot_multi_thread_recv_close_stress oneshot_multi_thread_send_recv_stress
            stream_send_recv_stress recv_timeout_upgrade recv_a_lot shared_recv_timeout
            shared_chan_stress nested_recv_iter recv_iter_break recv_try_iter recv_into_iter
            try_recv_states destroy_when_sender_still_active issue_32114 send1 send2 send3 send4
            try_send1 try_send2 try_send3 issue_15761;
        golang:
            asynch_fifo synch_fifo goroutines nonblock sieve1 zerosize chan_blocks chan_closed
            chan_order nonblock_recv_race multi_consumer chan chan1 closedchan race_chan;
        ends:
            send_after_disconnect recv_after_disconnect disconnect_wakes_sender
            disconnect_wakes_receiver death_wakes smoke_shared_port_gone port_gone_concurrent
            chan_gone_concurrent oneshot_multi_thread_close_stress
            oneshot_multi_thread_send_close_stress oneshot_multi_thread_recv_close_stress
            try_recv_states issue_32114 channel_through_channel ends_on_their_way;
    })
}
