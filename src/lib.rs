//! Segno folds Kafka topics into exact, queryable, crash-safe views, and can play the log again from any timestamp.
//!
//! # The map, in reading order
//!
//! * [`position`], [`record`], [`event`], [`fault`]: the words. Numbers of a log, bytes of a record, a decoded record,
//!   whose turn it is when something fails.
//! * [`views`]: folds. The `View` trait, declarative views; pure.
//! * [`streams`]: the log side. One contract, three logs: Kafka, embedded, memory.
//! * [`state`]: the store side. RocksDB, commits, reads; knows neither logs nor actors.
//! * [`actors`]: where both meet. Supervision, flow, credits, retries.
//! * `api`, `cli`: the faces.

pub mod actors;
pub mod event;
pub mod fault;
pub mod position;
pub mod record;
pub mod state;
pub mod streams;
pub mod views;
