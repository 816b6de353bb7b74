//! The topics of an embedded log, and its name.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};

use rocksdb::WriteBatch;
use xxhash_rust::xxh3::xxh3_128;

use super::keys::{self, TopicEntry};
use super::partition::Topic;
use super::store::Store;
use super::{Inner, Timestamps, clock};
use crate::streams::{Error, Result, TopicInfo};

/// The most partitions of a topic: each costs memory and a look at the disk when the log is opened.
pub const MAX_PARTITIONS: u32 = 10_000;

impl Timestamps {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Timestamps::Create),
            1 => Some(Timestamps::Append),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Timestamps::Create => 0,
            Timestamps::Append => 1,
        }
    }
}

/// The cluster id: random, made once.
pub(super) fn cluster(store: &Store) -> Result<String> {
    if let Some(bytes) = store.get(&keys::cluster_key())? {
        return String::from_utf8(bytes)
            .map_err(|_| Error::Storage { reason: format!("{}: the cluster id is not text", store.path()) });
    }
    // `RandomState` is seeded by the operating system; clock and process keep two machines with a weak seed apart.
    let seed = |n: u8| RandomState::new().hash_one((n, clock(), std::process::id()));
    let id = xxh3_128(format!("{:x}{:x}{}", seed(0), seed(1), store.path()).as_bytes());
    let id = format!("{id:032x}");
    let mut batch = WriteBatch::default();
    batch.put(keys::cluster_key(), id.as_bytes());
    store.write(batch, true)?;
    Ok(id)
}

/// All topics, with their partitions as the records on disk say.
pub(super) fn load(store: &Store, now: i64) -> Result<BTreeMap<Arc<str>, Arc<Topic>>> {
    let broken = |why: &dyn std::fmt::Display| Error::Storage {
        reason: format!("{}: the list of topics cannot be read: {why}", store.path()),
    };
    let prefix = keys::topics_prefix();
    let mut topics = BTreeMap::new();
    let mut entries = store.entries(prefix.to_vec()..vec![prefix[0] + 1]);
    while let Some((key, value)) = entries.item() {
        let name = std::str::from_utf8(&key[1..]).map_err(|e| broken(&e))?;
        let entry = TopicEntry::decode(value).ok_or_else(|| broken(&format!("`{name}` is malformed")))?;
        let topic = Topic::load(store, name, entry, now)?;
        topics.insert(topic.name.clone(), Arc::new(topic));
        entries.next();
    }
    entries.status().map_err(|e| broken(&e))?;
    Ok(topics)
}

/// Kafka's rule for the names of topics.
fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = if name.is_empty() || name == "." || name == ".." {
        "this cannot be a topic's name"
    } else if name.len() > 249 {
        "a topic's name has at most 249 characters"
    } else if !name.chars().all(legal) {
        "a topic's name has only the characters a–z, A–Z, 0–9, `.`, `_` and `-`"
    } else {
        return Ok(());
    };
    Err(Error::Topic { topic: name.into(), reason: wrong.into() })
}

impl Inner {
    pub(super) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned().ok_or_else(|| Error::TopicMissing { log: "embedded", topic: name.into() })
    }

    pub(super) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn info(&self, topic: &Topic) -> TopicInfo {
        TopicInfo { name: topic.name.to_string(), cluster: self.cluster.clone(), partitions: topic.count() }
    }

    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        timestamps: Timestamps,
    ) -> Result<TopicInfo> {
        let wrong = |reason: String| Error::Topic { topic: name.into(), reason };
        check_name(name)?;
        let wanted = partitions.unwrap_or(self.options.default_partitions);
        if wanted == 0 || wanted > MAX_PARTITIONS {
            return Err(wrong(format!("it can have 1 to {MAX_PARTITIONS} partitions, not {wanted}")));
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            let have = topic.count();
            if partitions.is_some_and(|wanted| wanted != have) {
                return Err(wrong(format!(
                    "it has {have} partitions and cannot be given {wanted}, for keys would change theirs: keep \
                     {have}, or use a topic of another name"
                )));
            }
            if topic.timestamps != timestamps {
                return Err(wrong(format!(
                    "its timestamps are `{:?}` and cannot become `{timestamps:?}`: keep them, or use a topic of \
                     another name",
                    topic.timestamps
                )));
            }
            return Ok(self.info(topic));
        }
        self.check_sound()?;
        let store = self.store()?;
        let id = next_topic_id(&store)?;
        let entry = TopicEntry { id, partitions: wanted, timestamps: timestamps.byte() };
        let mut batch = WriteBatch::default();
        batch.put(keys::topic_key(name), entry.encode());
        store.write(batch, true).inspect_err(|e| self.fail(e))?;
        let topic = Arc::new(Topic::load(&store, name, entry, clock())?);
        topics.insert(topic.name.clone(), topic.clone());
        Ok(self.info(&topic))
    }
}

/// One more than the greatest id given so far; the topics themselves say what that is.
fn next_topic_id(store: &Store) -> Result<u32> {
    let prefix = keys::topics_prefix();
    let mut entries = store.entries(prefix.to_vec()..vec![prefix[0] + 1]);
    let mut next = 1;
    while let Some((_, value)) = entries.item() {
        let entry = TopicEntry::decode(value)
            .ok_or_else(|| Error::Storage { reason: format!("{}: a topic's entry is malformed", store.path()) })?;
        next = next.max(entry.id + 1);
        entries.next();
    }
    entries.status().map_err(|e| Error::Storage { reason: format!("{}: {e}", store.path()) })?;
    Ok(next)
}
