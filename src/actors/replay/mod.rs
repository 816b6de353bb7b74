//! Replay: every view built again from any time, beside live, compared with it, and switched in one decision.
//!
//! * [`words`]: what is asked, planned and seen.
//! * [`admin`]: what the node answers an operator.

mod admin;
pub mod words;
