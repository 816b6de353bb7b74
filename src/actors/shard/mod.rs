//! A shard: the actor that runs aggregates of one partition, usually many, exactly one for a cell that is set apart.
//!
//! * [`core`]: applies slices of batches to resident aggregates.
//! * `activate`: brings the aggregates of a slice into memory.
//! * `aside`: what happens to a record that is not applied.
//! * `collect`: hands changed rows over, once per commit.
//! * `redrive`: applies the waiting events of one cell, with retries.
//! * [`actor`]: the ractor shell around them.

pub mod activate;
pub mod actor;
mod aside;
mod collect;
pub mod core;
pub mod redrive;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use super::board::{Board, Cell};
use super::meter::Meter;
use super::plan::{Policy, RetryOptions};
use crate::position::{Offset, TopicPartition};
use crate::record::RecordBatch;
use crate::state::{Delta, Generation, ViewTag};
use crate::streams::decode::Decoder;
use crate::views::Definitions;

/// What all shards of a partition share.
pub struct Setting {
    pub at: TopicPartition,
    pub definitions: Definitions,
    /// The views' numbers in the generation, in the order of `definitions`.
    pub tags: Vec<ViewTag>,
    pub decoder: Decoder,
    pub policy: Policy,
    pub retry: RetryOptions,
    pub generation: Arc<Generation>,
    pub board: Arc<Board>,
    pub meter: Meter,
    /// Estimated bytes of resident aggregates that one shard may keep after a commit.
    pub residency: usize,
    /// Newest committed epoch; the writer raises it.
    pub committed: AtomicU64,
    /// Resident aggregates of all shards.
    pub resident: AtomicI64,
}

/// The records of one batch that one shard applies.
#[derive(Clone)]
pub struct Slice {
    pub batch: Arc<RecordBatch>,
    /// Which records of the batch, rising.
    pub indexes: Vec<u32>,
    /// The hash of each one's key, as `residents::key_hash`.
    pub hashes: Vec<u64>,
}

/// An event whose fold ran over its time limit: it is not to be folded in company again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub view: usize,
    pub offset: Offset,
}

/// What a shard gives the writer at a collect.
#[derive(Debug, Default)]
pub struct Handover {
    pub delta: Delta,
    /// Cells whose first waiting event is in `delta`: once that is committed they get a shard of their own.
    pub waiting: Vec<Cell>,
}
