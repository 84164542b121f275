//! Large messages from one process to another, as fast as it goes.

use crate::Result;
use crate::harness::Timing;
use crate::two;

/// How many bytes a large message has.
pub const LARGE: usize = 1 << 20;

/// So many messages go before the shot: who forks has its pages to fault in.
const WARM: u64 = 64;

/// The sender is given each number and its message; the receiver has the number and room for the message, which it fills or
/// replaces.
pub fn flow(
    ops: u64,
    send: impl Fn(u64, &[u8]) -> Result<()>,
    receive: impl Fn(u64, &mut Vec<u8>) -> Result<()>,
) -> Result<Timing> {
    let numbers = [0..WARM, WARM..WARM + ops];
    let finish = two::processes(vec![
        Box::new(|gate| {
            let mut message = vec![1; LARGE];
            let mut one = |number| {
                stamp(&mut message, number);
                send(number, &message)
            };
            let [mut first, mut then] = numbers.clone();
            first.try_for_each(&mut one)?;
            gate.start();
            then.try_for_each(one)?;
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            let mut message = vec![1; LARGE];
            let mut one = |number| {
                receive(number, &mut message)?;
                match message.len() {
                    LARGE => check(&message, number),
                    length => Err(format!("a message of {length} bytes came").into()),
                }
            };
            let [mut first, mut then] = numbers.clone();
            first.try_for_each(&mut one)?;
            gate.start();
            then.try_for_each(one)?;
            gate.stop();
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}

/// Writes the number to the front and to the end of a message.
pub fn stamp(message: &mut [u8], number: u64) {
    let bytes = number.to_ne_bytes();
    message[..8].copy_from_slice(&bytes);
    let end = message.len() - 8;
    message[end..].copy_from_slice(&bytes);
}

/// That it is the message of this number.
pub fn check(message: &[u8], number: u64) -> Result<()> {
    let bytes = number.to_ne_bytes();
    if message.starts_with(&bytes) && message.ends_with(&bytes) {
        Ok(())
    } else {
        Err(format!("another message came instead of {number}").into())
    }
}
