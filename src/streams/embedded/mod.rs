//! The embedded log: durable, partitioned and time-indexed, in the same process, in a RocksDB of its own.
//!
//! Here the log *is* the source of truth, so its write-ahead log is on, and an append answers once it is as durable as
//! [`Fsync`] says. It behaves as Kafka does where Segno can see it: the same partition for the same key, timestamps
//! from the event or from the append, look-ups by time that find the smallest offset at or after it, retention that
//! moves the start. In one point it is simpler: offsets have no gaps, so a missing record is damage and is reported.
//!
//! * `keys`, `codec`: the bytes on disk. * `store`: RocksDB, the lock, the format. * `wal`: damage that RocksDB overlooks. * `partition`: what is in memory.
//! * `append`: group commit. * `reader`, `times`, `volume`, `retention`, `keeper`: as they are called.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Appended, Error, Log, Prefetch, Reader, Result, TimeLookup, TopicInfo, Volume, Watermarks};
use crate::position::{PartitionId, Position, Timestamp, TopicPartition};
use crate::record::NewRecord;

mod append;
mod catalog;
mod codec;
mod keeper;
mod keys;
mod partition;
mod reader;
mod retention;
mod store;
#[cfg(test)]
mod tests;
mod times;
mod volume;
mod wal;

pub use catalog::MAX_PARTITIONS;
pub use retention::Removed;

use append::Queue;
use keeper::Stop;
use partition::Topic;
use store::Store;

/// When an append is on the disk itself, not only with the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged: survives a power cut. Concurrent appends share one fsync.
    Always,
    /// At the latest this much later: a power cut takes at most so much. A crash of the process takes nothing.
    Interval(Duration),
    /// When the operating system sees fit. A crash of the process takes nothing.
    Never,
}

/// Where the timestamps of a topic's records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// From the event; the time of the append if it has none.
    Create,
    /// From this machine's clock at the append, always.
    Append,
}

/// Upper bound of [`EmbeddedOptions::max_record_bytes`].
const MAX_RECORD_BYTES: usize = 256 << 20;

/// How to open an embedded log; [`EmbeddedOptions::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The log's own directory; made when it is not there.
    pub dir: PathBuf,
    /// Partitions of a topic that is created without saying how many.
    pub default_partitions: u32,
    pub fsync: Fsync,
    /// How long records are kept; `None` is for ever.
    pub retention_time: Option<Duration>,
    /// Bytes of keys, values and headers that each partition keeps at least; `None` is all.
    pub retention_bytes: Option<u64>,
    /// Memory for block cache and memtables together.
    pub cache_bytes: usize,
    /// The largest record: bytes of key, value and headers.
    pub max_record_bytes: usize,
    /// Records in a block of the time index: how many a look-up by time reads at most, and the grain of retention.
    pub index_records: u32,
}

impl EmbeddedOptions {
    /// 4 partitions, fsync always, unlimited retention, 64 MiB of memory, records up to 1 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        EmbeddedOptions {
            dir: dir.into(),
            default_partitions: 4,
            fsync: Fsync::Always,
            retention_time: None,
            retention_bytes: None,
            cache_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            index_records: 4096,
        }
    }
}

/// An open embedded log. Dropping it closes it, too.
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    options: EmbeddedOptions,
    cluster: String,
    /// `None` once closed.
    store: RwLock<Option<Arc<Store>>>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    queue: Queue,
    /// Held by whoever changes a partition: the leader of an append, or retention.
    writing: Mutex<()>,
    closed: AtomicBool,
    /// Why nothing can be appended any more.
    failed: OnceLock<Error>,
    unsynced: AtomicBool,
    stop: Stop,
}

impl Embedded {
    /// Opens the log, or makes one. [`Error::InUse`] when somebody has it open, [`Error::Newer`] when a newer program
    /// wrote it.
    pub fn open(options: EmbeddedOptions) -> Result<Embedded> {
        keeper::check(&options)?;
        let store = Store::open(&options.dir, options.cache_bytes)?;
        let cluster = catalog::cluster(&store)?;
        let topics = catalog::load(&store, clock())?;
        let inner = Arc::new(Inner {
            options,
            cluster,
            store: RwLock::new(Some(Arc::new(store))),
            topics: RwLock::new(topics),
            queue: Queue::default(),
            writing: Mutex::new(()),
            closed: AtomicBool::new(false),
            failed: OnceLock::new(),
            unsynced: AtomicBool::new(false),
            stop: Stop::new(),
        });
        keeper::start(&inner)?;
        Ok(Embedded { inner })
    }

    /// Makes a topic; does nothing when there is one just like it. With `None` partitions, a new topic gets
    /// [`EmbeddedOptions::default_partitions`], and an old one may have any number. A different topic of that name is
    /// [`Error::Topic`]: partitions cannot be added, for keys would change theirs.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: impl Into<Option<u32>>,
        timestamps: Timestamps,
    ) -> Result<TopicInfo> {
        self.inner.create_topic(name, partitions.into(), timestamps)
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.inner.all_topics().iter().map(|topic| self.inner.info(topic)).collect()
    }

    /// Where a topic's timestamps come from.
    pub fn timestamps(&self, topic: &str) -> Result<Timestamps> {
        Ok(self.inner.topic(topic)?.timestamps)
    }

    /// Applies the retention limits as if it were `now`; a thread does it once a minute by the clock.
    pub fn enforce_retention(&self, now: Timestamp) -> Result<Vec<Removed>> {
        self.inner.enforce_retention(now)
    }

    /// Drops all records of a partition below `position`, as Kafka's DeleteRecords does.
    pub fn truncate_before(&self, at: &TopicPartition, position: Position) -> Result<()> {
        self.inner.truncate_before(at, position)
    }
}

impl Log for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn topic(&self, topic: &str) -> Result<TopicInfo> {
        self.inner.check_open()?;
        let topic = self.inner.topic(topic)?;
        Ok(self.inner.info(&topic))
    }

    fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks> {
        self.inner.check_open()?;
        Ok(self.inner.topic(&at.topic)?.partition(at.partition.0)?.watermarks())
    }

    fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<Vec<(PartitionId, TimeLookup)>> {
        let store = self.inner.store()?;
        let topic = self.inner.topic(topic)?;
        let look_up = |id: &PartitionId| Ok((*id, times::position_at(&store, topic.partition(id.0)?, time)?));
        partitions.iter().map(look_up).collect()
    }

    fn volume(&self, at: &TopicPartition, from: Position, to: Position) -> Result<Volume> {
        let store = self.inner.store()?;
        let topic = self.inner.topic(&at.topic)?;
        volume::between(&store, topic.partition(at.partition.0)?, from, to)
    }

    /// Never: retention takes whole stretches from the beginning, and nothing else.
    fn compacted(&self, topic: &str) -> Result<Option<bool>> {
        self.inner.check_open()?;
        self.inner.topic(topic)?;
        Ok(Some(false))
    }

    fn readers(
        &self,
        topic: &str,
        starts: &[(PartitionId, Position)],
        _prefetch: Prefetch,
    ) -> Result<Vec<Box<dyn Reader>>> {
        self.inner.check_open()?;
        let topic = self.inner.topic(topic)?;
        let open = |(id, position): &(PartitionId, Position)| {
            let partition = topic.partition(id.0)?;
            let Watermarks { start, end } = partition.watermarks();
            if *position < start || *position > end {
                return Err(partition.out_of_range(*position));
            }
            let reader = reader::PartitionReader::new(self.inner.clone(), partition.clone(), *position);
            Ok(Box::new(reader) as Box<dyn Reader>)
        };
        starts.iter().map(open).collect()
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>> {
        self.inner.append(topic, records)
    }

    fn close(&self, within: Duration) {
        self.inner.close(within);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.inner.close(Duration::ZERO);
    }
}

impl Inner {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn store(&self) -> Result<Arc<Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    /// Refuses to write after a failed write.
    fn check_sound(&self) -> Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(e) => Err(Error::Storage {
                reason: format!("an earlier write failed; make room or repair the disk, then open the log again: {e}"),
            }),
        }
    }

    fn fail(&self, e: &Error) {
        if !matches!(e, Error::Closed) {
            // The first failure is the one that tells why.
            let _ = self.failed.set(e.clone());
        }
    }

    fn mark_unsynced(&self) {
        self.unsynced.store(true, Ordering::Release);
    }

    fn take_unsynced(&self) -> bool {
        self.unsynced.swap(false, Ordering::AcqRel)
    }

    /// New calls are refused at once; those that are under way finish, and the last one closes RocksDB.
    fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.closed.store(true, Ordering::Release);
        self.stop.set();
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        for topic in self.all_topics() {
            topic.sound().for_each(|partition| partition.wake());
        }
        let Some(store) = store else { return };
        while Arc::strong_count(&store) > 1 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if Arc::strong_count(&store) > 1 {
            tracing::warn!(path = store.path(), "the embedded log is still in use; its last user will close it");
        }
    }
}

/// Milliseconds since 1970 by this machine's clock.
fn clock() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
