//! An argument and a result that do something at a stage of their way.

use procession::sync::Atomic;
use rustix::process::{Signal, getpid, kill_process};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The status with which [`Deed::Exit`] leaves.
pub const STATUS: i32 = 3;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Deed {
    /// The process kills itself.
    Crash,
    /// It leaves.
    Exit,
    /// It panics.
    Panic,
    /// An error is returned: what is on its way cannot be encoded, or decoded; or the function has no result.
    Fail,
}

pub const DEEDS: [Deed; 4] = [Deed::Crash, Deed::Exit, Deed::Panic, Deed::Fail];

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// The argument is encoded, by the caller.
    Sent,
    /// The argument is decoded, by the worker.
    Decoded,
    /// The function runs.
    Run,
    /// The result is encoded, by the worker.
    Answered,
    /// The result is decoded, by the caller.
    Collected,
}

/// Goes through all stages, and may do something at one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Charge {
    pub number: u64,
    pub deed: Option<(Deed, Stage)>,
}

impl Charge {
    /// One that does no harm.
    pub fn harmless(number: u64) -> Charge {
        Charge { number, deed: None }
    }

    fn comes_to(self, stage: Stage) -> Result<(), &'static str> {
        match self.deed {
            Some((deed, at)) if at == stage => match deed {
                Deed::Crash => {
                    kill_process(getpid(), Signal::KILL).unwrap();
                    unreachable!("nobody survives SIGKILL");
                }
                Deed::Exit => std::process::exit(STATUS),
                Deed::Panic => panic!("as it was to"),
                Deed::Fail => Err("as it was to"),
            },
            _ => Ok(()),
        }
    }
}

/// What goes over, without a deed.
type Plain = (u64, Option<(Deed, Stage)>);

impl Serialize for Charge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.comes_to(Stage::Sent).map_err(S::Error::custom)?;
        (self.number, self.deed).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Charge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Charge, D::Error> {
        let (number, deed) = Plain::deserialize(deserializer)?;
        let charge = Charge { number, deed };
        charge.comes_to(Stage::Decoded).map_err(D::Error::custom)?;
        Ok(charge)
    }
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer(pub Charge);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.comes_to(Stage::Answered).map_err(S::Error::custom)?;
        (self.0.number, self.0.deed).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Answer, D::Error> {
        let (number, deed) = Plain::deserialize(deserializer)?;
        let charge = Charge { number, deed };
        charge.comes_to(Stage::Collected).map_err(D::Error::custom)?;
        Ok(Answer(charge))
    }
}

/// The function of all these tasks.
pub fn carry(charge: Charge) -> Result<Answer, String> {
    charge.comes_to(Stage::Run)?;
    Ok(Answer(charge))
}

/// Says which process runs it, and then does nothing until somebody ends it.
pub fn stay(pid: Atomic<u32>) {
    pid.store(std::process::id(), std::sync::atomic::Ordering::SeqCst);
    pid.notify_all();
    crate::support::sleep_forever()
}
