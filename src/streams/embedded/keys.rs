//! How the embedded log lays out its keys. Everything that decides an order on disk is in this file.
//!
//! Two column families. `records` holds nothing but records, so that their keys are dense and old ones can be dropped
//! as whole files: `topic id u32, partition u32, offset u64`. `default` holds all else; each of its keys begins with a
//! [`Tag`]. All numbers are big-endian, so that the bytes sort as the numbers do.
//!
//! A tag, once given, is never given to something else, and a new kind of entry takes the next free one.

use std::array::TryFromSliceError;

/// The column family of the records; the other one is RocksDB's own `default`.
pub(super) const RECORDS: &str = "records";

/// What an entry of the `default` family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// `tag` → the cluster's id, as text.
    Cluster = 1,
    /// `tag, name` → [`TopicEntry`].
    Topic = 2,
    /// `tag, topic id, partition` → [`StartEntry`].
    Start = 3,
    /// `tag, topic id, partition, end of the block` → [`BlockEntry`].
    Block = 4,
}

/// A partition as the keys name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub topic: u32,
    pub partition: u32,
}

impl Slot {
    fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.topic.to_be_bytes());
        bytes[4..].copy_from_slice(&self.partition.to_be_bytes());
        bytes
    }
}

pub(super) fn cluster_key() -> [u8; 1] {
    [Tag::Cluster as u8]
}

/// The prefix of all topics.
pub(super) fn topics_prefix() -> [u8; 1] {
    [Tag::Topic as u8]
}

pub(super) fn topic_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(Tag::Topic as u8);
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn start_key(slot: Slot) -> [u8; 9] {
    let mut key = [Tag::Start as u8; 9];
    key[1..].copy_from_slice(&slot.bytes());
    key
}

/// The entry of the block that ends at `end` (the position after its last record).
pub(super) fn block_key(slot: Slot, end: u64) -> [u8; 17] {
    let mut key = [Tag::Block as u8; 17];
    key[1..9].copy_from_slice(&slot.bytes());
    key[9..].copy_from_slice(&end.to_be_bytes());
    key
}

/// The end of the block that a key of [`block_key`] names.
pub(super) fn block_end(key: &[u8]) -> Option<u64> {
    if key.len() != 17 || key[0] != Tag::Block as u8 {
        return None;
    }
    read_u64(key, 9)
}

pub(super) fn record_key(slot: Slot, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&slot.bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a key of [`record_key`].
pub(super) fn record_offset(key: &[u8]) -> Option<u64> {
    (key.len() == 16).then(|| read_u64(key, 8)).flatten()
}

/// What the log remembers of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicEntry {
    pub id: u32,
    pub partitions: u32,
    /// 0: the record's own time; 1: the time of the append.
    pub timestamps: u8,
}

impl TopicEntry {
    pub fn encode(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.partitions.to_be_bytes());
        bytes[8] = self.timestamps;
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 9 {
            return None;
        }
        Some(TopicEntry { id: read_u32(bytes, 0)?, partitions: read_u32(bytes, 4)?, timestamps: bytes[8] })
    }
}

/// Where a partition begins, once retention has taken something from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StartEntry {
    pub start: u64,
    /// Bytes that the partition had taken in before `start`, as [`BlockEntry::bytes`] counts.
    pub bytes: u64,
}

impl StartEntry {
    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.start.to_be_bytes());
        out[8..].copy_from_slice(&self.bytes.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 16 {
            return None;
        }
        Some(StartEntry { start: read_u64(bytes, 0)?, bytes: read_u64(bytes, 8)? })
    }
}

/// What the index knows of a complete block of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockEntry {
    /// The greatest timestamp in the block.
    pub newest: i64,
    /// Bytes that the partition had taken in from its first record ever to the end of this block.
    pub bytes: u64,
    /// When the last record of the block was appended, by this machine's clock.
    pub appended: i64,
}

impl BlockEntry {
    pub fn encode(self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.newest.to_be_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_be_bytes());
        out[16..].copy_from_slice(&self.appended.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 24 {
            return None;
        }
        let number = |at| read_u64(bytes, at).map(|n| n as i64);
        Some(BlockEntry { newest: number(0)?, bytes: read_u64(bytes, 8)?, appended: number(16)? })
    }
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let part: Result<[u8; 8], TryFromSliceError> = bytes.get(at..at + 8)?.try_into();
    part.ok().map(u64::from_be_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let part: Result<[u8; 4], TryFromSliceError> = bytes.get(at..at + 4)?.try_into();
    part.ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_what_they_were_in_format_1() {
        assert_eq!([Tag::Cluster as u8, Tag::Topic as u8, Tag::Start as u8, Tag::Block as u8], [1, 2, 3, 4]);
        let slot = Slot { topic: 0x0102, partition: 3 };
        assert_eq!(record_key(slot, 4), [0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(block_key(slot, 4), [4, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(start_key(slot), [3, 0, 0, 1, 2, 0, 0, 0, 3]);
        assert_eq!(topic_key("ab"), [2, b'a', b'b']);
    }

    #[test]
    fn an_entry_of_another_length_is_no_entry() {
        assert_eq!(TopicEntry::decode(&[0; 8]), None);
        assert_eq!(StartEntry::decode(&[0; 17]), None);
        assert_eq!(BlockEntry::decode(&[]), None);
        assert_eq!(record_offset(&[0; 15]), None);
        assert_eq!(block_end(&[0; 17]), None, "the tag is another one");
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_numbers_do(
            a in (any::<u32>(), any::<u32>(), any::<u64>()),
            b in (any::<u32>(), any::<u32>(), any::<u64>()),
        ) {
            let key = |(topic, partition, offset)| record_key(Slot { topic, partition }, offset);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(record_offset(&key(a)), Some(a.2));
            let block = |(topic, partition, end)| block_key(Slot { topic, partition }, end);
            prop_assert_eq!(block(a).cmp(&block(b)), a.cmp(&b));
            prop_assert_eq!(block_end(&block(a)), Some(a.2));
        }

        #[test]
        fn entries_survive_the_round_trip(id: u32, partitions: u32, timestamps: u8, n: u64, bytes: u64, t: i64, u: i64) {
            let topic = TopicEntry { id, partitions, timestamps };
            prop_assert_eq!(TopicEntry::decode(&topic.encode()), Some(topic));
            let start = StartEntry { start: n, bytes };
            prop_assert_eq!(StartEntry::decode(&start.encode()), Some(start));
            let block = BlockEntry { newest: t, bytes, appended: u };
            prop_assert_eq!(BlockEntry::decode(&block.encode()), Some(block));
        }
    }
}
