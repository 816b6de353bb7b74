//! The store against a model, against crashes, against damage, against use by two, and against the wrong log.

mod checks;
mod compare;
mod damage;
mod harness;
mod kill;
mod laws;
mod model;
mod shadows;
mod sharing;
mod snapshot_damage;
mod snapshot_kill;
mod snapshots;
mod switch_seen;
mod switching;
