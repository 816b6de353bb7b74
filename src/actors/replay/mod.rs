//! Replay: every view built again from any time, beside live, compared with it, and switched in one decision.
//!
//! * [`words`]: what is asked, planned and seen.
//! * [`rebuild`]: folds a partition of the log into a new generation. [`gate`]: how fast, and whether at all.

pub mod gate;
pub mod rebuild;
pub mod words;
