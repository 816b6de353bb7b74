//! Replays on a stage: real nodes, real stores, a scripted log. Tests carry the names of the laws that they check.

mod change;
mod drama;
mod fix;
mod identity;
mod jobs;
mod oracle;
mod plans;
mod pure;
mod refuse;
mod stage;
mod tape;
mod unmixed;
mod views;
