//! What a generation's `meta` family says: what it is, which definitions made it, how far it is, and the totals.

use serde::{Deserialize, Serialize};

use crate::position::{Offset, Position, Timestamp, TopicPartition};
use crate::state::codec::{Bytes, Malformed, put_slice};
use crate::state::delta::{Books, Fingerprint, ViewTag};

/// The format of a generation.
pub const FORMAT: u32 = 1;

/// The version byte of each record below.
const RECORD: u8 = 1;

/// Where a generation's records come from. A generation answers for no other log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub at: TopicPartition,
    /// As the log calls itself.
    pub cluster: String,
    /// Partitions of the topic: another number means that keys have moved.
    pub partitions: u32,
}

impl Identity {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut into = vec![RECORD];
        put_slice(&mut into, self.at.topic.as_bytes());
        into.extend_from_slice(&self.at.partition.0.to_be_bytes());
        put_slice(&mut into, self.cluster.as_bytes());
        into.extend_from_slice(&self.partitions.to_be_bytes());
        into
    }

    pub(crate) fn decode(stored: &[u8]) -> Result<Identity, Malformed> {
        let mut bytes = Bytes::new("identity", stored);
        bytes.version(RECORD)?;
        let at = TopicPartition::new(bytes.text()?, bytes.u32()?);
        let identity = Identity { at, cluster: bytes.text()?.to_owned(), partitions: bytes.u32()? };
        bytes.end()?;
        Ok(identity)
    }
}

/// A view as a generation knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredView {
    pub tag: ViewTag,
    pub name: String,
    pub version: u32,
    /// The definition that made the rows.
    pub text: String,
    /// The hash of the text.
    pub fingerprint: u128,
    /// The position at which the configuration no longer had it: it has seen nothing from there on.
    pub left_at: Option<Position>,
}

impl StoredView {
    /// The stored form; the tag is in the key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut into = vec![RECORD];
        put_slice(&mut into, self.name.as_bytes());
        into.extend_from_slice(&self.version.to_be_bytes());
        put_slice(&mut into, self.text.as_bytes());
        into.extend_from_slice(&self.fingerprint.to_be_bytes());
        into.push(self.left_at.is_some().into());
        into.extend_from_slice(&self.left_at.unwrap_or_default().0.to_be_bytes());
        into
    }

    pub(crate) fn decode(tag: ViewTag, stored: &[u8]) -> Result<StoredView, Malformed> {
        let mut bytes = Bytes::new("view", stored);
        bytes.version(RECORD)?;
        let name = bytes.text()?.to_owned();
        let version = bytes.u32()?;
        let text = bytes.text()?.to_owned();
        let fingerprint = bytes.u128()?;
        let left = bytes.u8()? != 0;
        let position = Position(bytes.u64()?);
        bytes.end()?;
        Ok(StoredView { tag, name, version, text, fingerprint, left_at: left.then_some(position) })
    }
}

/// Where a generation's rows were last taken over from other definitions: the generation in which that happened and the
/// position of the base. Zero and zero when it never did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub generation: u64,
    pub position: Position,
}

impl Lineage {
    /// Every row is a fold by the generation's own definitions, from where its history begins.
    pub fn is_whole(self) -> bool {
        self == Lineage::default()
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut into = vec![RECORD];
        into.extend_from_slice(&self.generation.to_be_bytes());
        into.extend_from_slice(&self.position.0.to_be_bytes());
        into
    }

    pub(crate) fn decode(stored: &[u8]) -> Result<Lineage, Malformed> {
        let mut bytes = Bytes::new("lineage", stored);
        bytes.version(RECORD)?;
        let lineage = Lineage { generation: bytes.u64()?, position: Position(bytes.u64()?) };
        bytes.end()?;
        Ok(lineage)
    }
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub position: Position,
    pub last: Option<Fingerprint>,
}

impl Progress {
    /// Writes the stored form.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.push(RECORD);
        into.extend_from_slice(&self.position.0.to_be_bytes());
        into.push(self.last.is_some().into());
        if let Some(last) = self.last {
            into.extend_from_slice(&last.offset.0.to_be_bytes());
            into.extend_from_slice(&last.timestamp.0.to_be_bytes());
            into.extend_from_slice(&last.hash.to_be_bytes());
        }
    }

    pub fn decode(stored: &[u8]) -> Result<Progress, Malformed> {
        let mut bytes = Bytes::new("position", stored);
        bytes.version(RECORD)?;
        let position = Position(bytes.u64()?);
        let last = match bytes.u8()? {
            0 => None,
            _ => Some(Fingerprint {
                offset: Offset(bytes.u64()?),
                timestamp: Timestamp(bytes.i64()?),
                hash: bytes.u64()?,
            }),
        };
        bytes.end()?;
        Ok(Progress { position, last })
    }
}

/// What a view holds: its digest, its rows and its account, all as of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewTotals {
    pub view: ViewTag,
    /// The sum of `digest::row` over the rows, modulo 2^128.
    pub digest: u128,
    pub rows: i64,
    pub books: Books,
}

impl ViewTotals {
    pub(crate) fn zero(view: ViewTag) -> ViewTotals {
        ViewTotals { view, digest: 0, rows: 0, books: Books::default() }
    }

    /// Writes the stored form; the tag is in the key.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.push(RECORD);
        into.extend_from_slice(&self.digest.to_be_bytes());
        let Books { consumed, applied, skipped, waiting, parked, dead } = self.books;
        for number in [self.rows, consumed, applied, skipped, waiting, parked, dead] {
            into.extend_from_slice(&number.to_be_bytes());
        }
    }

    pub(crate) fn decode(view: ViewTag, stored: &[u8]) -> Result<ViewTotals, Malformed> {
        let mut bytes = Bytes::new("totals", stored);
        bytes.version(RECORD)?;
        let totals = ViewTotals {
            view,
            digest: bytes.u128()?,
            rows: bytes.i64()?,
            books: Books {
                consumed: bytes.i64()?,
                applied: bytes.i64()?,
                skipped: bytes.i64()?,
                waiting: bytes.i64()?,
                parked: bytes.i64()?,
                dead: bytes.i64()?,
            },
        };
        bytes.end()?;
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn identities_round_trip(topic in "[a-z.]{1,20}", partition: u32, cluster: String, partitions: u32) {
            let identity = Identity { at: TopicPartition::new(topic, partition), cluster, partitions };
            prop_assert_eq!(Identity::decode(&identity.encode()).unwrap(), identity);
        }

        #[test]
        fn views_round_trip(tag: u16, name: String, version: u32, text: String, fingerprint: u128, left in option::of(any::<u64>())) {
            let view = StoredView { tag: ViewTag(tag), name, version, text, fingerprint, left_at: left.map(Position) };
            prop_assert_eq!(StoredView::decode(view.tag, &view.encode()).unwrap(), view);
        }

        #[test]
        fn progress_round_trips(position: u64, last in option::of(any::<(u64, i64, u64)>())) {
            let last = last.map(|(o, t, hash)| Fingerprint { offset: Offset(o), timestamp: Timestamp(t), hash });
            let progress = Progress { position: Position(position), last };
            let mut stored = Vec::new();
            progress.encode(&mut stored);
            prop_assert_eq!(Progress::decode(&stored).unwrap(), progress);
        }

        #[test]
        fn totals_round_trip(view: u16, digest: u128, n: [i64; 7]) {
            let [rows, consumed, applied, skipped, waiting, parked, dead] = n;
            let books = Books { consumed, applied, skipped, waiting, parked, dead };
            let totals = ViewTotals { view: ViewTag(view), digest, rows, books };
            let mut stored = Vec::new();
            totals.encode(&mut stored);
            prop_assert_eq!(ViewTotals::decode(totals.view, &stored).unwrap(), totals);
        }

        #[test]
        fn no_bytes_break_a_decoder(bytes: Vec<u8>) {
            let view = ViewTag(0);
            let _ = (Identity::decode(&bytes).is_ok(), StoredView::decode(view, &bytes).is_ok());
            let _ = (Progress::decode(&bytes).is_ok(), ViewTotals::decode(view, &bytes).is_ok());
        }
    }
}
