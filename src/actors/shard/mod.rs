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
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use super::board::{Board, Cell};
use super::meter::Meter;
use super::plan::{Policy, RetryOptions};
use super::residents::key_hash;
use crate::position::{Offset, Position, TopicPartition};
use crate::record::{RecordBatch, RecordRef};
use crate::state::{Delta, Generation, Reason, ViewTag};
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
    /// Resident aggregates of all shards that run. Those that were given up count on in a number of their own.
    pub resident: Mutex<Arc<AtomicI64>>,
}

impl Setting {
    /// The number of resident aggregates that the shards count in which run now.
    pub fn residents(&self) -> Arc<AtomicI64> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to count anew, for shards that are to start.
    pub fn count_residents_anew(&self) {
        *self.resident.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }
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

/// What is not to be folded in company again, after the shards were started anew because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// An event whose fold ran over its time limit.
    Fold { view: usize, offset: Offset },
    /// A row that the view could not write, after events below `below` that were folded into it.
    Row { cell: Cell, below: Position, why: String },
}

impl Suspect {
    /// Whether everything that it was suspected for lies below the position.
    pub fn is_past(&self, position: Position) -> bool {
        match self {
            Suspect::Fold { offset, .. } => position.is_past(*offset),
            Suspect::Row { below, .. } => *below <= position,
        }
    }

    /// Why this event is not to be tried in company, if it is not.
    pub fn of(&self, view: usize, record: RecordRef<'_>) -> Option<(Reason, String)> {
        match self {
            Suspect::Fold { view: of, offset } if *of == view && *offset == record.offset => {
                Some((Reason::Overran, "the fold ran over its time limit".to_owned()))
            }
            Suspect::Row { cell, below, why }
                if cell.view == view && record.key == Some(&*cell.key) && below.is_past(record.offset) =>
            {
                Some((Reason::Panicked, why.clone()))
            }
            _ => None,
        }
    }
}

/// A row that has changed and cannot be handed over: its view cannot write it, or could not put it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritable {
    pub cell: Cell,
    pub why: String,
}

/// What a shard gives the writer at a collect.
#[derive(Debug, Default)]
pub struct Handover {
    pub delta: Delta,
    /// Cells whose first waiting event is in `delta`: once that is committed they get a shard of their own.
    pub waiting: Vec<Cell>,
}
