//! What is put to the test: a file for each family, and the toys on which the matrix is tried.

mod atomic;
mod attach;
mod barrier;
mod block;
mod board;
mod broadcast;
mod buffer;
mod condition;
mod event;
mod ground;
mod items;
mod latch;
mod lock;
mod once;
mod pipe;
mod pool;
mod queue;
mod rlock;
mod rwlock;
mod semaphore;
mod seqlock;
mod slot;
mod spsc;
mod store;
mod toys;

use crate::engine::operation::Operation;

pub use toys::toys;

/// All operations, in the order of the table.
pub fn operations() -> Vec<Operation> {
    let families = [
        lock::operations(),
        latch::operations(),
        semaphore::operations(),
        event::operations(),
        rwlock::operations(),
        seqlock::operations(),
        atomic::operations(),
        rlock::operations(),
        condition::operations(),
        barrier::operations(),
        once::operations(),
        attach::operations(),
        slot::operations(),
        spsc::operations(),
        block::operations(),
        queue::operations(),
        buffer::operations(),
        broadcast::operations(),
        store::operations(),
        pipe::operations(),
        board::operations(),
        pool::operations(),
    ];
    families.into_iter().flatten().collect()
}
