//! What a test can do to a log in memory. Scripts name things that exist; a script that does not is a wrong test, and
//! panics.

use super::partition::Partition;
use super::{Memory, Topic, clock};
use crate::position::{Offset, Position, TopicPartition};
use crate::record::NewRecord;
use crate::streams::Error;

impl Memory {
    /// Makes a topic, or makes it anew: a topic of that name loses its records, and its readers end with
    /// [`Error::TopicMissing`], as after a deletion and a creation in Kafka.
    pub fn create_topic(&self, name: &str, partitions: u32) {
        assert!(partitions > 0, "topic `{name}` needs a partition");
        let mut state = self.lock();
        state.wake_all();
        state.made += 1;
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let made = state.made;
        state.topics.insert(name.into(), Topic { made, partitions, turn: 0, compacted: Some(false) });
    }

    pub fn delete_topic(&self, name: &str) {
        let mut state = self.lock();
        state.wake_all();
        state.topics.remove(name);
    }

    /// What the log says from now on when it is asked whether the topic is compacted; `None`: it may not tell. No record
    /// goes by it.
    pub fn set_compacted(&self, name: &str, compacted: Option<bool>) {
        match self.lock().topic(name) {
            Ok(topic) => topic.compacted = compacted,
            Err(e) => panic!("the script names a topic that is not there: {e}"),
        }
    }

    /// From now on this is another cluster.
    pub fn set_cluster(&self, cluster: &str) {
        self.lock().cluster = cluster.into();
    }

    /// Appends one record at an offset of the script's choice, at or after the end.
    pub fn append_at(&self, at: &TopicPartition, offset: Offset, record: NewRecord) {
        self.script(at, |partition| {
            partition.push(Some(offset), record, clock());
        });
    }

    /// Uses up offsets without a record, as the marker of a transaction and aborted records do.
    pub fn push_gap(&self, at: &TopicPartition, offsets: u64) {
        self.script(at, |partition| partition.push_gap(offsets));
    }

    /// Moves the start of the partition up to `position`, as retention does.
    pub fn truncate_before(&self, at: &TopicPartition, position: Position) {
        self.script(at, |partition| partition.truncate_before(position));
    }

    /// The next `times` drains of the partition fail with `error`; no record is lost by it.
    pub fn fail_drains(&self, at: &TopicPartition, times: usize, error: &Error) {
        self.script(at, |partition| partition.faults.drains.extend(std::iter::repeat_n(error.clone(), times)));
    }

    /// The next `times` requests for watermarks fail with `error`.
    pub fn fail_watermarks(&self, times: usize, error: &Error) {
        self.lock().watermark_faults.extend(std::iter::repeat_n(error.clone(), times));
    }

    /// The next `times` look-ups by time fail with `error`.
    pub fn fail_lookups(&self, times: usize, error: &Error) {
        self.lock().lookup_faults.extend(std::iter::repeat_n(error.clone(), times));
    }

    /// The next `times` appends fail with `error`, before their first record.
    pub fn fail_appends(&self, times: usize, error: &Error) {
        self.lock().append_faults.extend(std::iter::repeat_n(error.clone(), times));
    }

    /// Holds back what is at or after `position`, until [`Memory::release`]: the ends say that it is there, but no
    /// reader gets it. A slow network, or a partition whose leader is gone.
    pub fn hold_at(&self, at: &TopicPartition, position: Position) {
        self.script(at, |partition| partition.faults.held_at = Some(position.0));
    }

    /// Holds back the whole partition: it is stuck until [`Memory::release`].
    pub fn stick(&self, at: &TopicPartition) {
        self.hold_at(at, Position::ZERO);
    }

    /// Lets readers have what was held back, and wakes them.
    pub fn release(&self, at: &TopicPartition) {
        self.script(at, |partition| partition.faults.held_at = None);
    }

    /// Drains of the partition hand over at most `records`, whatever is asked for; `None` ends it.
    pub fn shorten_drains(&self, at: &TopicPartition, records: Option<usize>) {
        self.script(at, |partition| partition.faults.short = records);
    }

    fn script(&self, at: &TopicPartition, act: impl FnOnce(&mut Partition)) {
        let mut state = self.lock();
        match state.partition(at) {
            Ok(partition) => {
                act(partition);
                partition.wake();
            }
            Err(e) => panic!("the script names a partition that is not there: {e}"),
        }
    }
}
