//! What a replay would do, and law *Refuse*: each way in which a correct one cannot be had, with its words.

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod kafka;
mod random;
mod rules;
mod stage;
