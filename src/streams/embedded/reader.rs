//! Reads one partition of the embedded log forward. It reads ahead of nobody: a drain copies what it hands over from
//! RocksDB's buffers into the batch, once, and keeps nothing.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Inner;
use super::codec;
use super::partition::Partition;
use super::store::damaged;
use crate::position::{Offset, PartitionId, Position, Timestamp};
use crate::record::RecordBatch;
use crate::streams::{Limit, Reader, Result};

/// Room that a batch is given before the first record is read; it grows beyond it when it must.
const MAX_ROOM_RECORDS: usize = 1 << 16;
const MAX_ROOM_BYTES: usize = 16 << 20;

pub(super) struct PartitionReader {
    log: Arc<Inner>,
    partition: Arc<Partition>,
    position: Position,
    ready: Arc<Notify>,
    /// Bytes of a record, as the last batch had them: how much room the next batch needs.
    usual_size: usize,
}

impl PartitionReader {
    pub fn new(log: Arc<Inner>, partition: Arc<Partition>, position: Position) -> Self {
        let ready = Arc::new(Notify::new());
        partition.add_reader(&ready);
        PartitionReader { log, partition, position, ready, usual_size: 256 }
    }

    fn read(&mut self, end: u64, limit: Limit) -> Result<RecordBatch> {
        let from = self.position.0;
        let until = end.min(from.saturating_add(limit.records as u64));
        let most = limit.bytes.min(RecordBatch::MOST_BYTES);
        let records = (until - from) as usize;
        let slots = records.min(MAX_ROOM_RECORDS);
        let room = most.min(MAX_ROOM_BYTES).min(slots.saturating_mul(self.usual_size + self.usual_size / 8));
        let mut batch = RecordBatch::with_capacity(self.position, slots, room);
        let at = &self.partition.at;
        let store = self.log.store()?;
        store.scan(at, self.partition.slot, from..until, |offset, stored| {
            if !batch.is_empty() && batch.bytes() + codec::size_of_stored(stored) > most {
                return Ok(ControlFlow::Break(()));
            }
            let record = codec::decode(stored).map_err(|why| damaged(at, offset, &why))?;
            batch.push(Offset(offset), Timestamp(record.timestamp), record.key, record.value, |into| {
                into.extend_from_slice(record.headers);
            });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(batch)
    }
}

impl Reader for PartitionReader {
    fn partition(&self) -> PartitionId {
        self.partition.at.partition
    }

    fn position(&self) -> Position {
        self.position
    }

    fn drain(&mut self, limit: Limit) -> Result<RecordBatch> {
        self.log.check_open()?;
        let end = self.partition.end();
        let batch = if self.position.0 < end && limit.records > 0 {
            self.read(end, limit)
        } else {
            Ok(RecordBatch::new(self.position))
        };
        // Asked after the read: if retention took records away under it, that is what the reader has to hear.
        if self.position.0 < self.partition.start() {
            return Err(self.partition.out_of_range(self.position));
        }
        let batch = batch?;
        if !batch.is_empty() {
            self.position = batch.end();
            self.usual_size = batch.bytes() / batch.len() + 1;
        }
        Ok(batch)
    }

    fn ready(&self) -> Arc<Notify> {
        self.ready.clone()
    }

    fn end(&self) -> Position {
        Position(self.partition.end())
    }
}
