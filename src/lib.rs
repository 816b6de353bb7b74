//! Segno folds Kafka topics into exact, queryable, crash-safe views, and can play the log again from any timestamp.
//!
//! # The map, in reading order
//!
//! * [`position`], [`moment`], [`record`], [`event`], [`fault`]: the words. Numbers of a log, times, bytes of a record, a
//!   decoded record, whose turn it is when something fails.
//! * [`views`]: folds. The `View` trait, declarative views; pure.
//! * [`streams`]: the log side. One contract, three logs: Kafka, embedded, memory.
//! * [`state`]: the store side. RocksDB, commits, reads; knows neither logs nor actors.
//! * [`actors`]: where both meet. Supervision, flow, credits, retries.
//! * [`config`], [`intake`], [`telemetry`]: settings, JSON on its way in, logs and metrics.
//! * [`api`], [`cli`]: the faces. [`App`]: a program of one's own with the whole command line.

pub mod actors;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod event;
pub mod fault;
pub mod intake;
pub mod moment;
pub mod position;
pub mod record;
pub mod state;
pub mod streams;
pub mod telemetry;
pub mod views;

pub use app::App;
