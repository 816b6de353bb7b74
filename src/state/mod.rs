//! The store side: RocksDB. Knows neither logs nor actors.

mod delta;

pub use delta::{Books, Commit, Delta, Fingerprint, Held, HeldChange, Reason, Rows, Standing, ViewChange, ViewTag};
