//! Replay: every view built again from any time, beside live, compared with it, and switched in one decision.
//!
//! * [`words`]: what is asked, planned and seen.
//! * [`since`]: reads "since when". [`cut`]: which position that is in each partition. [`plan`](mod@plan): what a replay
//!   would do, or why it cannot be done; `standing`, `base`, `disk` and `trial` are its parts.
//! * [`record`], [`job`], [`jobs`]: a job, durable and in memory, and all of them. `actions`: cancel, resume, approve.
//!   [`footing`]: what a job stands on.
//! * [`drive`]: from phase to phase. [`build`]: makes the new generations. [`worker`], [`rebuild`], [`gate`]: fill them.
//!   [`governor`]: holds them back for live's sake.
//! * [`verify`]: compares with live; `differences`: row by row. [`cutover`]: switches; `barrier`: live meanwhile.
//!   [`rollback`]: the way back.
//! * [`snapshots`]: when they are taken and thrown away. [`admin`]: answers the operator.

mod actions;
pub mod admin;
mod barrier;
mod base;
pub mod build;
pub mod cut;
pub mod cutover;
mod differences;
mod disk;
pub mod drive;
pub mod footing;
pub mod gate;
pub mod governor;
pub mod job;
pub mod jobs;
pub mod plan;
pub mod rebuild;
pub mod record;
pub mod rollback;
pub mod since;
pub mod snapshots;
mod standing;
mod trial;
pub mod verify;
pub mod words;
pub mod worker;
