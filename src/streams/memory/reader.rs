//! Reads one partition of the log in memory.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Memory;
use super::partition::Partition;
use crate::position::{PartitionId, Position, TopicPartition};
use crate::record::RecordBatch;
use crate::streams::{Error, Limit, Reader, Result};

pub(super) struct MemoryReader {
    log: Memory,
    at: TopicPartition,
    /// Which of the topics of this name it reads.
    made: u64,
    position: Position,
    ready: Arc<Notify>,
}

impl MemoryReader {
    pub fn new(log: Memory, at: TopicPartition, made: u64, position: Position, partition: &mut Partition) -> Self {
        let ready = Arc::new(Notify::new());
        partition.add_reader(&ready);
        MemoryReader { log, at, made, position, ready }
    }

    /// Works on the partition as long as it is the one that was opened.
    fn with<T>(&self, act: impl FnOnce(&mut Partition) -> Result<T>) -> Result<T> {
        let mut state = self.log.lock();
        state.check_open()?;
        let topic = state.topic(&self.at.topic)?;
        if topic.made != self.made {
            return Err(Error::TopicMissing { log: "memory", topic: self.at.topic.to_string() });
        }
        act(topic.partition(&self.at)?)
    }
}

impl Reader for MemoryReader {
    fn partition(&self) -> PartitionId {
        self.at.partition
    }

    fn position(&self) -> Position {
        self.position
    }

    fn drain(&mut self, limit: Limit) -> Result<RecordBatch> {
        let batch = self.with(|partition| partition.drain(&self.at, self.position, limit))?;
        self.position = batch.end();
        Ok(batch)
    }

    fn ready(&self) -> Arc<Notify> {
        self.ready.clone()
    }

    fn end(&self) -> Position {
        self.with(|partition| Ok(partition.watermarks().end)).unwrap_or(self.position)
    }
}
