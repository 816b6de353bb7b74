//! Replays on a stage: real nodes, real stores, a scripted log. Tests carry the names of the laws that they check.

mod change;
mod copy;
mod drama;
mod fix;
mod halt;
mod identity;
mod jobs;
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
