//! Where the log and the store meet: the flow from records to rows, and the handle through which the faces see it.
//!
//! ```text
//! log ──RecordBatch──▶ Partition ──Apply──▶ Shard{Aggregate…} ──Delta──▶ Writer ──commit──▶ RocksDB ──▶ reads
//!                          ▲                                               │
//!                          └──────── positions, by watch ◀─────────────────┘
//!
//! supervision:  Supervisor ─▶ Topic ─▶ Partition ─▶ Shard ─▶ Aggregate;   Partition ─▶ Writer
//! ```
//!
//! * [`plan`], [`handle`]: what a node is told, and how it is seen. Plain data.
//! * [`start`](fn@start), [`opening`]: from a plan to a running node. [`supervisor`], [`topic`]: the upper levels of supervision.
//! * [`inheritance`]: what a topic goes on under when its definitions have changed.
//! * [`partition`]: drains, deals, collects. [`credit`]: what bounds it. [`board`]: what it hears from below.
//! * [`shard`]: folds. [`aggregate`], [`residents`]: what it folds into. [`progress`]: how it is seen to hang.
//! * [`interleave`]: what a test does to the steps of all that.
//! * [`writer`]: commits. [`flusher`]: makes durable. [`retry`]: when to try again. [`meter`]: counts.
//! * [`serving`]: the definitions and generations that serve a topic at one moment.
//! * [`node`], [`reads`]: answers. [`waiting`]: until they are as new as asked. [`admin`]: what an operator may ask.
//! * [`replay`]: building every view again, beside live.
//! * [`travel`]: rows as they were, and whether live is what its records give.

pub mod admin;
pub mod aggregate;
pub mod board;
pub mod credit;
pub mod flusher;
pub mod handle;
pub mod inheritance;
pub mod interleave;
pub mod meter;
pub mod node;
pub mod opening;
pub mod partition;
pub mod plan;
pub mod progress;
pub mod reads;
pub mod replay;
pub mod residents;
pub mod retry;
pub mod serving;
pub mod shard;
mod start;
pub mod supervisor;
pub mod topic;
pub mod travel;
pub mod waiting;
pub mod writer;

pub use start::start;
