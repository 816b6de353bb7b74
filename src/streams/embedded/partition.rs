//! What the embedded log keeps in memory of a topic and its partitions, and how it finds that again on disk.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::codec;
use super::keys::{self, Slot, StartEntry, TopicEntry};
use super::store::{Store, damaged};
use super::times::Block;
use super::{Timestamps, times};
use crate::position::{Position, TopicPartition};
use crate::streams::{Error, Result, Watermarks};

pub(super) struct Topic {
    pub name: Arc<str>,
    pub timestamps: Timestamps,
    /// A partition whose end cannot be read is an error to whoever asks for it, and to nobody else.
    partitions: Vec<Result<Arc<Partition>>>,
    /// Counts records without a key, which take turns.
    turn: AtomicU32,
}

impl Topic {
    /// Builds the topic from what is on disk.
    pub fn load(store: &Store, name: &str, entry: TopicEntry, now: i64) -> Result<Topic> {
        let name: Arc<str> = name.into();
        let timestamps = Timestamps::from_byte(entry.timestamps).ok_or_else(|| Error::Storage {
            reason: format!("topic `{name}`: its entry names the unknown kind of timestamp {}", entry.timestamps),
        })?;
        let partitions = (0..entry.partitions)
            .map(|partition| Partition::load(store, &name, Slot { topic: entry.id, partition }, now).map(Arc::new))
            .inspect(|partition| {
                if let Err(e) = partition {
                    tracing::error!(topic = %name, error = %e, "a partition of the embedded log is damaged");
                }
            })
            .collect();
        Ok(Topic { name, timestamps, partitions, turn: AtomicU32::new(0) })
    }

    pub fn count(&self) -> u32 {
        self.partitions.len() as u32
    }

    pub fn partition(&self, partition: u32) -> Result<&Arc<Partition>> {
        match self.partitions.get(partition as usize) {
            Some(loaded) => loaded.as_ref().map_err(Error::clone),
            None => Err(Error::PartitionMissing { at: TopicPartition::new(self.name.clone(), partition) }),
        }
    }

    /// The partitions that are not damaged.
    pub fn sound(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(|loaded| loaded.as_ref().ok())
    }

    /// The partition of the next record without a key.
    pub fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.count()
    }
}

/// One partition. Readers need only the two ends; the rest belongs to whoever is writing.
pub(super) struct Partition {
    pub at: TopicPartition,
    pub slot: Slot,
    start: AtomicU64,
    end: AtomicU64,
    tail: Mutex<Tail>,
    readers: Mutex<Vec<Weak<Notify>>>,
}

/// Where the next record goes.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// The next offset, which is `Partition::end` once the write is durable.
    pub next: u64,
    /// The block that is still growing.
    pub block: Block,
    /// Bytes taken in since the partition's first record ever.
    pub bytes: u64,
}

impl Partition {
    /// The next offset comes from the records themselves (or from the start that retention stored with its deletion),
    /// never from a counter beside them.
    fn load(store: &Store, topic: &Arc<str>, slot: Slot, now: i64) -> Result<Partition> {
        let at = TopicPartition::new(topic.clone(), slot.partition);
        let start = match store.get(&keys::start_key(slot))? {
            None => StartEntry::default(),
            Some(bytes) => StartEntry::decode(&bytes)
                .ok_or_else(|| Error::Storage { reason: format!("{at}: its start entry cannot be read") })?,
        };
        let next = store.last_offset(&at, slot)?.map_or(0, |last| last + 1).max(start.start);
        let (indexed, bytes) = match times::last_block(store, &at, slot, next)? {
            Some((end, entry)) if end > start.start => (end, entry.bytes),
            _ => (start.start, start.bytes),
        };
        let mut tail = Tail { next, block: Block::new(), bytes };
        store.scan(&at, slot, indexed..next, |offset, stored| {
            let record = codec::parse(stored).map_err(|why| damaged(&at, offset, &why))?;
            let size = codec::size_of_stored(stored);
            tail.block.add(record.timestamp, size, now);
            tail.bytes += size as u64;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Partition {
            at,
            slot,
            start: AtomicU64::new(start.start),
            end: AtomicU64::new(next),
            tail: Mutex::new(tail),
            readers: Mutex::new(Vec::new()),
        })
    }

    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    /// The position after the last durable record.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub fn watermarks(&self) -> Watermarks {
        // The start is read first: it only rises, and never above an end that was read later.
        let start = Position(self.start());
        Watermarks { start, end: Position(self.end()) }
    }

    pub fn out_of_range(&self, position: Position) -> Error {
        let Watermarks { start, end } = self.watermarks();
        Error::OutOfRange { at: self.at.clone(), position, start, end }
    }

    pub fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows records up to `end` to the readers, and wakes them.
    pub fn publish_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
        self.wake();
    }

    /// Called *before* records below `start` are deleted: a reader that misses a record then also sees why.
    pub fn publish_start(&self, start: u64) {
        self.start.store(start, Ordering::Release);
    }

    pub fn add_reader(&self, ready: &Arc<Notify>) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(ready));
    }

    pub fn wake(&self) {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for ready in readers.iter().filter_map(Weak::upgrade) {
            ready.notify_one();
        }
    }
}
