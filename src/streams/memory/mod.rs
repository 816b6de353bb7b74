//! A log in memory that a test scripts, while readers run: gaps, truncation, topics made anew, and faults.
//!
//! It keeps the same contract as the real ones. A [`Memory`] is a handle: clones are the same log. What scripts can do
//! is in `script`, the records are in `partition`, and `reader` reads them.
//!
//! ```
//! use segno::position::TopicPartition;
//! use segno::record::NewRecord;
//! use segno::streams::{Log, memory::Memory};
//!
//! let log = Memory::new();
//! log.create_topic("orders", 2);
//! log.append("orders", vec![NewRecord { key: Some(b"a".to_vec()), ..NewRecord::default() }])?;
//! log.push_gap(&TopicPartition::new("orders", 0), 3); // as a transaction's marker leaves one
//! # Ok::<(), segno::streams::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Appended, Error, Log, Prefetch, Reader, Result, TimeLookup, TopicInfo, Volume, Watermarks, murmur2};
use crate::position::{Offset, PartitionId, Position, Timestamp, TopicPartition};
use crate::record::NewRecord;

mod partition;
mod reader;
mod script;
#[cfg(test)]
mod tests;

use partition::Partition;
use reader::MemoryReader;

/// The largest record, as in Kafka's default: bytes of key, value and headers.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// A scripted log in memory. Cloning it gives another handle to the same log.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

struct State {
    cluster: String,
    topics: BTreeMap<String, Topic>,
    closed: bool,
    /// Errors that the next calls answer, oldest first.
    append_faults: Vec<Error>,
    watermark_faults: Vec<Error>,
    lookup_faults: Vec<Error>,
    /// Tells a topic from one of the same name that was made after it was deleted.
    made: u64,
}

struct Topic {
    made: u64,
    partitions: Vec<Partition>,
    turn: u32,
    /// What [`Log::compacted`] answers.
    compacted: Option<bool>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Memory {
    /// An empty log of the cluster `memory`.
    pub fn new() -> Memory {
        let state = State {
            cluster: "memory".into(),
            topics: BTreeMap::new(),
            closed: false,
            append_faults: Vec::new(),
            watermark_faults: Vec::new(),
            lookup_faults: Vec::new(),
            made: 0,
        };
        Memory { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_open(&self) -> Result<()> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    fn topic(&mut self, name: &str) -> Result<&mut Topic> {
        self.topics.get_mut(name).ok_or_else(|| Error::TopicMissing { log: "memory", topic: name.into() })
    }

    fn partition(&mut self, at: &TopicPartition) -> Result<&mut Partition> {
        self.topic(&at.topic)?.partition(at)
    }

    fn wake_all(&mut self) {
        self.topics.values_mut().flat_map(|topic| &mut topic.partitions).for_each(Partition::wake);
    }
}

impl Topic {
    fn partition(&mut self, at: &TopicPartition) -> Result<&mut Partition> {
        self.partitions.get_mut(at.partition.0 as usize).ok_or_else(|| Error::PartitionMissing { at: at.clone() })
    }

    fn choose(&mut self, record: &NewRecord) -> u32 {
        let partitions = self.partitions.len() as u32;
        match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => murmur2::partition_of(key, partitions),
            (None, None) => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % partitions
            }
        }
    }
}

/// The next error of a script, if there is one.
fn take_fault(faults: &mut Vec<Error>) -> Result<()> {
    if faults.is_empty() { Ok(()) } else { Err(faults.remove(0)) }
}

fn size_of(record: &NewRecord) -> usize {
    let header = |(name, value): &(String, Option<Vec<u8>>)| 8 + name.len() + value.as_ref().map_or(0, Vec::len);
    record.key.as_ref().map_or(0, Vec::len)
        + record.value.as_ref().map_or(0, Vec::len)
        + record.headers.iter().map(header).sum::<usize>()
}

/// Milliseconds since 1970 by this machine's clock.
fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Log for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn topic(&self, topic: &str) -> Result<TopicInfo> {
        let mut state = self.lock();
        state.check_open()?;
        let partitions = state.topic(topic)?.partitions.len() as u32;
        Ok(TopicInfo { name: topic.into(), cluster: state.cluster.clone(), partitions })
    }

    fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks> {
        let mut state = self.lock();
        state.check_open()?;
        take_fault(&mut state.watermark_faults)?;
        Ok(state.partition(at)?.watermarks())
    }

    fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<Vec<(PartitionId, TimeLookup)>> {
        let mut state = self.lock();
        state.check_open()?;
        take_fault(&mut state.lookup_faults)?;
        let name: Arc<str> = topic.into();
        let topic = state.topic(topic)?;
        let mut look_up = |id: &PartitionId| {
            let at = TopicPartition { topic: name.clone(), partition: *id };
            Ok((*id, topic.partition(&at)?.position_at(time)))
        };
        partitions.iter().map(&mut look_up).collect()
    }

    fn volume(&self, at: &TopicPartition, from: Position, to: Position) -> Result<Volume> {
        let mut state = self.lock();
        state.check_open()?;
        Ok(state.partition(at)?.volume(from, to))
    }

    fn compacted(&self, topic: &str) -> Result<Option<bool>> {
        let mut state = self.lock();
        state.check_open()?;
        Ok(state.topic(topic)?.compacted)
    }

    fn readers(
        &self,
        topic: &str,
        starts: &[(PartitionId, Position)],
        _prefetch: Prefetch,
    ) -> Result<Vec<Box<dyn Reader>>> {
        let mut state = self.lock();
        state.check_open()?;
        let name: Arc<str> = topic.into();
        let topic = state.topic(topic)?;
        let mut open = |(id, start): &(PartitionId, Position)| {
            let at = TopicPartition { topic: name.clone(), partition: *id };
            let made = topic.made;
            let partition = topic.partition(&at)?;
            partition.check_range(&at, *start)?;
            let reader = MemoryReader::new(self.clone(), at, made, *start, partition);
            Ok(Box::new(reader) as Box<dyn Reader>)
        };
        starts.iter().map(&mut open).collect()
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>> {
        let mut state = self.lock();
        state.check_open()?;
        take_fault(&mut state.append_faults)?;
        let name: Arc<str> = topic.into();
        let topic = state.topic(topic)?;
        let mut placed = Vec::with_capacity(records.len());
        for (index, record) in records.into_iter().enumerate() {
            let refuse = |source| Err(Error::Refused { index, source: Box::new(source) });
            let bytes = size_of(&record);
            if bytes > MAX_RECORD_BYTES {
                return refuse(Error::TooLarge { bytes, max: MAX_RECORD_BYTES });
            }
            let at = TopicPartition { topic: name.clone(), partition: PartitionId(topic.choose(&record)) };
            if let Err(missing) = topic.partition(&at) {
                return refuse(missing);
            }
            placed.push((at, record));
        }
        let now = clock();
        let append = |(at, record): (TopicPartition, NewRecord)| {
            let offset: Offset = topic.partition(&at)?.push(None, record, now);
            Ok(Appended { partition: at.partition, offset })
        };
        let appended = placed.into_iter().map(append).collect();
        state.wake_all();
        appended
    }

    fn close(&self, _within: Duration) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_all();
    }
}
