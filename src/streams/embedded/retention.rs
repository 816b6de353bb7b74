//! Retention: dropping the oldest blocks of a partition by age or by size, like Kafka drops segments.
//!
//! * By age: a block goes when its newest timestamp is older than the limit. One record from the future keeps its
//!   block, and all after it, as it does in Kafka. Records without a timestamp (−1) age from their append.
//! * By size: a block goes when what is left of the partition without it is still at least the limit.
//!
//! The new start of the partition and the deletion are one write, so no crash comes between them.

use std::ops::ControlFlow;
use std::sync::PoisonError;

use rocksdb::WriteBatch;

use super::keys::{self, StartEntry};
use super::partition::Partition;
use super::store::Store;
use super::times::{self, Block};
use super::{Fsync, Inner};
use crate::position::{Position, Timestamp, TopicPartition};
use crate::streams::{Error, Result};

/// What retention took from one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub at: TopicPartition,
    /// The first position before, and now: the records between them are gone.
    pub from: Position,
    pub start: Position,
    /// Bytes of keys, values and headers of what went.
    pub bytes: u64,
}

impl Inner {
    /// Drops what the limits no longer keep; `now` is the time that ages are measured at.
    pub(super) fn enforce_retention(&self, now: Timestamp) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        if self.options.retention_time.is_none() && self.options.retention_bytes.is_none() {
            return Ok(removed);
        }
        for topic in self.all_topics() {
            for partition in topic.sound() {
                // Held for one partition at a time, so that appends wait for one deletion at most.
                let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
                self.check_sound()?;
                let store = self.store()?;
                let old = self.old_start(&store, partition)?;
                let new = self.new_start(&store, partition, old, now)?;
                removed.extend(self.move_start(&store, partition, old, new)?);
            }
        }
        Ok(removed)
    }

    /// Drops the records of a partition below `position`, whatever the limits say.
    pub(super) fn truncate_before(&self, at: &TopicPartition, position: Position) -> Result<()> {
        let topic = self.topic(&at.topic)?;
        let partition = topic.partition(at.partition.0)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sound()?;
        let store = self.store()?;
        let old = self.old_start(&store, partition)?;
        if position.0 > partition.end() {
            return Err(partition.out_of_range(position));
        }
        // Within a block, the bytes before the new start are those of the last complete block below it: an estimate
        // that is at most a block too low, in a number that only retention by size looks at.
        let mut new = StartEntry { start: position.0, bytes: old.bytes };
        times::blocks(&store, at, partition.slot, old.start, position.0, |_, entry| {
            new.bytes = entry.bytes;
            Ok(ControlFlow::Continue(()))
        })?;
        self.move_start(&store, partition, old, new).map(|_| ())
    }

    fn old_start(&self, store: &Store, partition: &Partition) -> Result<StartEntry> {
        let broken = || Error::Storage { reason: format!("{}: its start entry cannot be read", partition.at) };
        match store.get(&keys::start_key(partition.slot))? {
            None => Ok(StartEntry::default()),
            Some(bytes) => StartEntry::decode(&bytes).ok_or_else(broken),
        }
    }

    fn new_start(&self, store: &Store, partition: &Partition, old: StartEntry, now: Timestamp) -> Result<StartEntry> {
        let limits = &self.options;
        let oldest =
            limits.retention_time.map(|time| now.0.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)));
        let expired = |newest: i64, appended: i64| {
            let age = if newest < 0 { appended } else { newest };
            oldest.is_some_and(|oldest| age < oldest)
        };
        let tail = partition.tail().clone();
        let mut new = old;
        let mut kept = false;
        times::blocks(store, &partition.at, partition.slot, old.start, tail.next, |end, entry| {
            let rest = tail.bytes.saturating_sub(entry.bytes);
            let too_much = limits.retention_bytes.is_some_and(|most| rest >= most);
            if !expired(entry.newest, entry.appended) && !too_much {
                kept = true;
                return Ok(ControlFlow::Break(()));
            }
            new = StartEntry { start: end, bytes: entry.bytes };
            Ok(ControlFlow::Continue(()))
        })?;
        if !kept && tail.block.records > 0 && expired(tail.block.newest, tail.block.appended) {
            new = StartEntry { start: tail.next, bytes: tail.bytes };
        }
        Ok(new)
    }

    fn move_start(
        &self,
        store: &Store,
        partition: &Partition,
        old: StartEntry,
        new: StartEntry,
    ) -> Result<Option<Removed>> {
        if new.start <= old.start {
            return Ok(None);
        }
        let mut batch = WriteBatch::default();
        batch.put(keys::start_key(partition.slot), new.encode());
        partition.publish_start(new.start);
        let sync = self.options.fsync != Fsync::Never;
        store.drop_below(batch, partition.slot, new.start, sync).inspect_err(|e| self.fail(e))?;
        {
            let mut tail = partition.tail();
            if new.start >= tail.next {
                tail.block = Block::new();
                tail.bytes = tail.bytes.max(new.bytes);
            }
        }
        // Whoever stands below the new start has to hear of it.
        partition.wake();
        Ok(Some(Removed {
            at: partition.at.clone(),
            from: Position(old.start),
            start: Position(new.start),
            bytes: new.bytes.saturating_sub(old.bytes),
        }))
    }
}
