//! Replays on a stage: real nodes, real stores, a log that is scripted in memory, embedded, or a real Kafka broker. Tests
//! carry the names of the laws that they check.

mod change;
#[path = "../common/mod.rs"]
mod common;
mod copy;
mod drama;
mod fix;
mod halt;
mod identity;
mod jobs;
mod lineage;
mod logs;
mod moody;
mod oracle;
mod pins;
mod plans;
mod pure;
mod refuse;
mod resume;
mod stage;
mod switch;
mod tape;
mod two;
mod unmixed;
mod views;
