//! Replay: every view built again from any time, beside live, compared with it, and switched in one decision.
//!
//! * [`words`]: what is asked, planned and seen.
//! * [`since`]: reads "since when". [`cut`]: which position that is in each partition. [`plan`](mod@plan): what a replay
//!   would do, or why it cannot be done; `standing`, `base` and `disk` are its parts.

mod base;
pub mod cut;
mod disk;
pub mod plan;
pub mod since;
mod standing;
pub mod words;
