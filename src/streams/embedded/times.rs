//! The time index: which position a timestamp means.
//!
//! Kafka's answer to "where is T" is the smallest offset whose timestamp is at or after T, and timestamps may come in
//! any order. The records of a partition are therefore cut into blocks, and each complete block leaves an entry with
//! the greatest timestamp in it, written together with its last record. The first block whose greatest timestamp
//! reaches T holds the answer, or the still growing block at the end does; within it the records themselves are read.
//! The entries also carry the sizes that retention needs. A block's end is its key, so a start that retention has
//! moved into the middle of a block does no harm: only records that are still there are looked at.

use std::ops::ControlFlow;

use super::codec;
use super::keys::{self, BlockEntry, Slot};
use super::partition::Partition;
use super::store::{Store, damaged};
use crate::position::{Position, Timestamp, TopicPartition};
use crate::streams::{Error, Result, TimeLookup};

/// Bytes after which a block is complete, however few records it has.
const BLOCK_BYTES: u64 = 1 << 20;

/// The block that the next record goes into.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub records: u64,
    pub bytes: u64,
    /// The greatest timestamp; meaningless while there are no records.
    pub newest: i64,
    /// When its last record was appended.
    pub appended: i64,
}

impl Block {
    pub fn new() -> Block {
        Block { records: 0, bytes: 0, newest: i64::MIN, appended: i64::MIN }
    }

    pub fn add(&mut self, timestamp: i64, size: usize, now: i64) {
        self.records += 1;
        self.bytes += size as u64;
        self.newest = self.newest.max(timestamp);
        self.appended = now;
    }

    pub fn is_complete(&self, block_records: u32) -> bool {
        self.records >= u64::from(block_records) || self.bytes >= BLOCK_BYTES
    }

    /// The entry of this block, for a partition that has taken in `total` bytes up to its end.
    pub fn entry(&self, total: u64) -> BlockEntry {
        BlockEntry { newest: self.newest, bytes: total, appended: self.appended }
    }
}

/// Visits the complete blocks that end after `after` and at or before `until`, in order, until `visit` breaks.
pub(super) fn blocks(
    store: &Store,
    at: &TopicPartition,
    slot: Slot,
    after: u64,
    until: u64,
    mut visit: impl FnMut(u64, BlockEntry) -> Result<ControlFlow<()>>,
) -> Result<()> {
    if until <= after {
        return Ok(());
    }
    let range = keys::block_key(slot, after + 1).to_vec()..keys::block_key(slot, until + 1).to_vec();
    let mut entries = store.entries(range);
    while let Some((key, value)) = entries.item() {
        let (end, entry) = read(at, key, value)?;
        if visit(end, entry)?.is_break() {
            return Ok(());
        }
        entries.next();
    }
    entries.status().map_err(|e| unreadable(at, &e))
}

/// The last complete block that ends at or before `until`.
pub(super) fn last_block(
    store: &Store,
    at: &TopicPartition,
    slot: Slot,
    until: u64,
) -> Result<Option<(u64, BlockEntry)>> {
    let first = keys::block_key(slot, 0).to_vec();
    let mut entries = store.entries(first.clone()..keys::block_key(slot, u64::MAX).to_vec());
    entries.seek_for_prev(keys::block_key(slot, until));
    match entries.item() {
        Some((key, value)) if key >= &first[..] => read(at, key, value).map(Some),
        _ => entries.status().map(|()| None).map_err(|e| unreadable(at, &e)),
    }
}

fn read(at: &TopicPartition, key: &[u8], value: &[u8]) -> Result<(u64, BlockEntry)> {
    let end = keys::block_end(key).ok_or_else(|| unreadable(at, &"a key is malformed"))?;
    let entry = BlockEntry::decode(value).ok_or_else(|| unreadable(at, &format!("the entry at {end} is malformed")))?;
    Ok((end, entry))
}

fn unreadable(at: &TopicPartition, why: &dyn std::fmt::Display) -> Error {
    Error::Storage { reason: format!("{at}: the time index cannot be read: {why}") }
}

/// The first position of `partition` whose record is at or after `time`.
pub(super) fn position_at(store: &Store, partition: &Partition, time: Timestamp) -> Result<TimeLookup> {
    let (at, slot) = (&partition.at, partition.slot);
    // The end is taken before the look-up: what is appended meanwhile is after it, for whoever resumes there.
    let end = partition.end();
    loop {
        let start = partition.start();
        let found = first_at(store, at, slot, start, end, time);
        // Retention may have taken what was about to be read; then the answer is one for the new start.
        if partition.start() == start {
            let end = end.max(start);
            return Ok(match found? {
                Some((offset, timestamp)) => {
                    TimeLookup::Found { position: Position(offset), timestamp: Some(Timestamp(timestamp)) }
                }
                None => TimeLookup::AtEnd { position: Position(end) },
            });
        }
    }
}

fn first_at(
    store: &Store,
    at: &TopicPartition,
    slot: Slot,
    start: u64,
    end: u64,
    time: Timestamp,
) -> Result<Option<(u64, i64)>> {
    let mut from = start;
    let mut found = None;
    blocks(store, at, slot, start, end, |block_end, entry| {
        if entry.newest >= time.0 {
            found = scan(store, at, slot, from, block_end, time)?;
        }
        from = block_end;
        Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    match found {
        Some(_) => Ok(found),
        None => scan(store, at, slot, from, end, time),
    }
}

fn scan(
    store: &Store,
    at: &TopicPartition,
    slot: Slot,
    from: u64,
    to: u64,
    time: Timestamp,
) -> Result<Option<(u64, i64)>> {
    let mut found = None;
    store.scan(at, slot, from..to, |offset, stored| {
        let record = codec::decode(stored).map_err(|why| damaged(at, offset, &why))?;
        if record.timestamp < time.0 {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some((offset, record.timestamp));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}
