//! Messages through a pipe: small ones there and back, large ones as fast as it goes.

use procession::{Pipe, memory};

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::settle;
use crate::peers::python::Python;
use crate::peers::{copy, socket};
use crate::rows::flow::flow;
use crate::rows::turns::{BYTES, Pace, exchange};

const SOCKETS: &str = "a pair of Unix sockets";

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "pipe.rtt.64",
            peer: SOCKETS,
            target: 0.1,
            note: "there and back between two processes; ours spins before it sleeps, the peer spins on sockets that do not block",
            run: |plan| there_and_back(plan, Pace::AtOnce),
        },
        Row {
            name: "pipe.rtt.64.sleeping",
            peer: SOCKETS,
            target: 1.1,
            note: "there and back between two processes, each asleep on its CPU when the message is sent",
            run: |plan| there_and_back(plan, Pace::Asleep),
        },
        Row {
            name: "pipe.bandwidth.1m",
            peer: "one memcpy in, one out",
            target: 1.3,
            note: "ours between two processes, the peer in one thread",
            run: |plan| duel(plan.longer(), ours_large, copy::in_and_out),
        },
        Row {
            name: "pipe.bandwidth.1m.two",
            peer: "one memcpy in, one out, at once",
            target: 1.3,
            note: "two processes on both sides; the peer copies in and out at the same time, and is no pipe",
            run: |plan| duel(plan.longer(), ours_large, copy::between_two),
        },
        Row {
            name: "pipe.python.1m",
            peer: "multiprocessing.Pipe",
            target: 0.3,
            note: "two processes on both sides; a new vector or bytes object for each message",
            run: python,
        },
    ]
}

fn there_and_back(plan: Plan, pace: Pace) -> Result<Duel> {
    duel(plan, |ops| ours(pace, ops), |ops| socket::there_and_back(pace, ops))
}

fn python(plan: Plan) -> Result<Duel> {
    let mut python = Python::pipe()?;
    duel(plan.longer(), ours_large_anew, |ops| python.run(ops))
}

fn ours(pace: Pace, ops: u64) -> Result<Timing> {
    let (first, second) = Pipe::duplex()?;
    let ends = [first, second];
    let settle = || settle(memory::arena()?.member());
    let send = |i: usize, message: &[u8; BYTES]| Ok(ends[i].send_bytes(message)?);
    let receive = |i: usize, room: &mut [u8; BYTES]| Ok(ends[i].recv_bytes_into(room)?);
    exchange(pace, ops, settle, send, receive)
}

fn ours_large(ops: u64) -> Result<Timing> {
    let (receiver, sender) = Pipe::simplex()?;
    let receive = |_, room: &mut Vec<u8>| {
        let length = receiver.recv_bytes_into(room)?;
        room.truncate(length);
        Ok(())
    };
    flow(ops, |_, message| Ok(sender.send_bytes(message)?), receive)
}

fn ours_large_anew(ops: u64) -> Result<Timing> {
    let (receiver, sender) = Pipe::simplex()?;
    let receive = |_, room: &mut Vec<u8>| {
        *room = receiver.recv_bytes()?;
        Ok(())
    };
    flow(ops, |_, message| Ok(sender.send_bytes(message)?), receive)
}
