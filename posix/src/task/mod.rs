//! What pools, executors and their callers agree on: tasks, what becomes of them, and who runs them. No process and no
//! thread is made here.
//!
//! ```text
//! a face (Pool, an executor, a flow) --- Submit / SubmitMany ---> a crew (processes or threads)
//! a sink (a promise, a flow)         <------- deliver ----------  whoever collects
//! ```
//!
//! Nobody collects by profession: whoever waits for a result helps its crew, which hands out all that has been answered,
//! also to others. Only if something must happen though nobody waits (a callback, a waker, a map in the background), the
//! crew's own thread, the courier, collects.

mod call;
mod caught;
mod chosen;
mod crew;
mod error;
pub mod flow;
pub mod gate;
mod options;
mod promise;
mod sink;
mod statistics;
mod terms;

pub use call::{Call, CallOnce};
pub(crate) use caught::{caught, quietly};
pub use chosen::Chosen;
pub(crate) use chosen::choices;
pub use crew::{Calls, Crew, PoolState, Prepare, Start, Submit, SubmitMany, TaskId};
pub use error::{Part, PoolError, TaskError, Which};
pub use options::{Options, WorkerInfo};
pub use promise::{Driven, Promise, Source};
pub use sink::{Outcome, Results, Run, Sink};
pub(crate) use statistics::Counters;
pub use statistics::{Latency, Statistics};
pub use terms::{Retry, Terms};
