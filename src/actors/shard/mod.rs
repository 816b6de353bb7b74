//! A shard: the actor that runs aggregates of one partition, usually many, exactly one for a cell that is set apart.
//!
//! * [`core`]: applies slices of batches to resident aggregates.
//! * `activate`: brings the aggregates of a slice into memory.
//! * `aside`: what happens to a record that is not applied.
//! * `collect`: hands changed rows over, once per commit.
//! * [`held`]: which cells hold events, by the store.
//! * `redrive`: applies the waiting events of one cell, with retries.
//! * [`actor`]: the ractor shell around them.

pub mod activate;
pub mod actor;
mod aside;
mod collect;
pub mod core;
pub mod held;
pub mod redrive;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use super::board::{Board, Cell};
use super::meter::Meter;
use super::plan::{Policy, RetryOptions};
use super::residents::key_hash;
use crate::position::{Offset, TopicPartition};
use crate::record::{RecordBatch, RecordRef};
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

/// Records of one batch as a shard folds them: those that a slice picks, or all of a range.
#[derive(Clone, Copy)]
struct Records<'a> {
    batch: &'a RecordBatch,
    /// The slice's indexes with the hashes of the keys; `None`: `from` and those that follow it.
    picked: Option<(&'a [u32], &'a [u64])>,
    from: usize,
    len: usize,
}

impl<'a> Records<'a> {
    pub fn of_slice(slice: &'a Slice) -> Self {
        let picked = Some((&*slice.indexes, &*slice.hashes));
        Records { batch: &slice.batch, picked, from: 0, len: slice.indexes.len() }
    }

    pub fn of_range(batch: &'a RecordBatch, range: Range<usize>) -> Self {
        Records { batch, picked: None, from: range.start, len: range.len() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, i: usize) -> RecordRef<'a> {
        self.batch.get(self.picked.map_or(self.from + i, |(indexes, _)| indexes[i] as usize))
    }

    /// The hash of the key of the record at `i`.
    pub fn hash(&self, i: usize, key: &[u8]) -> u64 {
        self.picked.map_or_else(|| key_hash(key), |(_, hashes)| hashes[i])
    }
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
