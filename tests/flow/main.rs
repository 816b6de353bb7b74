//! The flow on a stage: real actors, a real store, a scripted log. Tests carry the names of the laws that they check.

mod failures;
mod laws;
mod oracle;
mod own_shards;
mod rebuild;
mod records;
mod stage;
mod way_back;
mod workshop;
