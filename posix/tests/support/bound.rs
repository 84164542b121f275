//! A process that ends with its test.

use procession_posix::process::Child;

/// Kills what it holds when the test ends, however it ends.
pub struct Bound<R>(pub Child<R>);

impl<R> std::ops::Deref for Bound<R> {
    type Target = Child<R>;
    fn deref(&self) -> &Child<R> {
        &self.0
    }
}

impl<R> Drop for Bound<R> {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}
