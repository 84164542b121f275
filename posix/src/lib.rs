//! Memory, processes and channels of procession on Linux.
