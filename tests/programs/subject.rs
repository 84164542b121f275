//! What the programs are run on.

use std::time::{Duration, Instant};

use procession::Queue;
use serde::{Deserialize, Serialize};

use crate::model::{Op, Patience, Reply};
use crate::support::LONG;
use crate::support::carrier::{Carrier, No, Wait};
use crate::support::letters::Letter;

/// How long a call waits that waits for a short time.
const SHORT: Duration = Duration::from_millis(2);

/// A queue of some kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Subject {
    Queue(Queue<Letter>),
}

impl Subject {
    /// The same, as another process has it: by a handle that has travelled.
    pub fn travelled(&self) -> Subject {
        let bytes = postcard::to_stdvec(self).unwrap();
        postcard::from_bytes(&bytes).unwrap()
    }

    /// Calls it.
    pub fn perform(&self, op: &Op) -> Reply {
        let Subject::Queue(queue) = self;
        match op {
            Op::Put { number, bytes, wait } => {
                let letter = Letter::new(0, *number, *bytes);
                done(patiently(*wait, |wait| queue.offer(&letter, wait)))
            }
            Op::Get { wait } => match patiently(*wait, |wait| queue.fetch(wait)) {
                Ok(letter) if letter.is_whole() => Reply::Got(letter.number),
                Ok(letter) => Reply::Error(format!("a torn one: {letter:?}")),
                Err(no) => no.into(),
            },
            Op::Size => Reply::Size(queue.qsize(), queue.empty(), queue.full()),
            Op::Close => {
                queue.close();
                Reply::Done
            }
        }
    }
}

/// Calls with this patience; "busy" is no answer, but a reason to ask again.
fn patiently<R>(patience: Patience, call: impl Fn(Wait) -> Result<R, No>) -> Result<R, No> {
    let wait = match patience {
        Patience::None => Wait::Not,
        Patience::Some => Wait::For(SHORT),
    };
    let deadline = Instant::now() + LONG;
    loop {
        match call(wait) {
            Err(No::Busy) if Instant::now() < deadline => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

fn done(answer: Result<(), No>) -> Reply {
    answer.map_or_else(Reply::from, |()| Reply::Done)
}

impl From<No> for Reply {
    fn from(no: No) -> Reply {
        match no {
            No::NotNow => Reply::NotNow,
            No::TimedOut => Reply::TimedOut,
            No::Closed => Reply::Closed,
            no => Reply::Error(format!("{no:?}")),
        }
    }
}
