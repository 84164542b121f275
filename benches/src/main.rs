//! The scoreboard.
fn main() {}
