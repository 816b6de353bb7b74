//! What shards hand to the writer: changed rows, held and dead records, digests and books, ready to be written.
//!
//! A [`Delta`] keeps the encoded bytes of all its rows in one buffer. Several deltas of one partition make one
//! [`Commit`], and a commit is one `WriteBatch`: all of it or none of it (law *Atomic*).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::position::{Offset, Position, Timestamp};
use crate::record::RecordRef;

/// Which view of the generation a row belongs to: the view's number in the generation's `meta` family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewTag(pub u16);

impl ViewTag {
    /// Stands for "every view of the topic" where a record never became an event.
    pub const ALL: ViewTag = ViewTag(u16::MAX);
}

/// Why a record was set aside. Stored as its number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Reason {
    NullKey = 1,
    NullValue = 2,
    KeyTooLarge = 3,
    Undecodable = 4,
    UnknownType = 5,
    VersionTooNew = 6,
    Rejected = 7,
    /// The fold said "try again" until the attempts were used up, or is still being tried.
    Transient = 8,
    /// The fold panicked.
    Panicked = 9,
    /// The fold ran over its time limit.
    Overran = 10,
    /// Queued behind an earlier event of the same aggregate.
    Behind = 11,
    /// The row in the store cannot be decoded by the view.
    RowUnreadable = 12,
}

impl Reason {
    pub const ALL: [Reason; 12] = [
        Reason::NullKey,
        Reason::NullValue,
        Reason::KeyTooLarge,
        Reason::Undecodable,
        Reason::UnknownType,
        Reason::VersionTooNew,
        Reason::Rejected,
        Reason::Transient,
        Reason::Panicked,
        Reason::Overran,
        Reason::Behind,
        Reason::RowUnreadable,
    ];

    /// The word used in metrics, JSON and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::NullKey => "null-key",
            Reason::NullValue => "null-value",
            Reason::KeyTooLarge => "key-too-large",
            Reason::Undecodable => "undecodable",
            Reason::UnknownType => "unknown-type",
            Reason::VersionTooNew => "version-too-new",
            Reason::Rejected => "rejected",
            Reason::Transient => "transient",
            Reason::Panicked => "panicked",
            Reason::Overran => "overran",
            Reason::Behind => "behind",
            Reason::RowUnreadable => "row-unreadable",
        }
    }

    pub fn from_number(number: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// Where a held record stands. Stored as its number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Standing {
    /// Will be applied as soon as its aggregate can: before anything newer, after a restart too.
    Waiting = 1,
    /// Stays until somebody decides: its aggregate could not apply it, or it queues behind one that was not applied.
    Parked = 2,
    /// Set aside alone; later events of its aggregate go on.
    Dead = 3,
}

/// A record that was set aside, with everything needed to apply it later or to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub view: ViewTag,
    pub standing: Standing,
    pub reason: Reason,
    /// The reason in words; at most 1 KiB.
    pub detail: String,
    pub attempts: u32,
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// As `RecordRef::packed_headers` gives them.
    pub headers: Vec<u8>,
}

/// A change of the `parked` family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldChange {
    /// Stores or replaces the record.
    Put(Held),
    /// The waiting or parked record has been applied or decided upon.
    Remove { view: ViewTag, key: Vec<u8>, offset: Offset },
}

/// The account of a view: `consumed = applied + skipped + waiting + parked + dead` (law *Accounted*).
///
/// As a total each number is non-negative; as a change it may be negative (a waiting event that is applied moves from
/// one column to another).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    pub consumed: i64,
    pub applied: i64,
    /// By a decision on record: the view's definition does not care for the type, or a policy says `skip`.
    pub skipped: i64,
    pub waiting: i64,
    pub parked: i64,
    pub dead: i64,
}

impl Books {
    /// True when every record has gone somewhere.
    pub fn balanced(&self) -> bool {
        self.consumed == self.applied + self.skipped + self.waiting + self.parked + self.dead
    }

    /// Counts one record more (or less) in the column of `standing`.
    pub fn held(&mut self, standing: Standing, by: i64) {
        match standing {
            Standing::Waiting => self.waiting += by,
            Standing::Parked => self.parked += by,
            Standing::Dead => self.dead += by,
        }
    }
}

impl AddAssign for Books {
    fn add_assign(&mut self, other: Books) {
        self.consumed += other.consumed;
        self.applied += other.applied;
        self.skipped += other.skipped;
        self.waiting += other.waiting;
        self.parked += other.parked;
        self.dead += other.dead;
    }
}

/// How a view's digest, row count and books change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewChange {
    /// Added modulo 2^128.
    pub digest: u128,
    pub rows: i64,
    pub books: Books,
}

impl AddAssign for ViewChange {
    fn add_assign(&mut self, other: ViewChange) {
        self.digest = self.digest.wrapping_add(other.digest);
        self.rows += other.rows;
        self.books += other.books;
    }
}

/// Where a changed row is in the buffer.
#[derive(Clone, Debug)]
struct RowSlot {
    /// For [`Rows::sort`]: eight bytes of the key as a number.
    order: u64,
    start: usize,
    /// Where the key ends and the value begins.
    middle: usize,
    /// [`GONE`] removes the row.
    end: usize,
}

/// Stands for the end of a value where the row goes away.
const GONE: usize = usize::MAX;

impl RowSlot {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.middle]
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        (self.end != GONE).then(|| &bytes[self.middle..self.end])
    }
}

/// Changed rows, with the encoded bytes of all of them in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    slots: Vec<RowSlot>,
}

impl Rows {
    /// Number of changed rows.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `rows` more, of about `bytes` each with their keys.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.slots.reserve(rows);
        self.bytes.reserve(rows * bytes);
    }

    /// Adds a changed row. `key` and `value` write the stored forms (`state::keys`); answers what they wrote.
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) -> (&[u8], &[u8]) {
        let written = self.try_put(key, |into| {
            value(into);
            Ok::<_, std::convert::Infallible>(())
        });
        match written {
            Ok(written) => written,
            Err(never) => match never {},
        }
    }

    /// [`Rows::put`] with a value that may fail to be written; then nothing is added.
    pub fn try_put<E>(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(&[u8], &[u8]), E> {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        if let Err(error) = value(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.slots.push(RowSlot { order: 0, start, middle, end: self.bytes.len() });
        Ok(self.bytes[start..].split_at(middle - start))
    }

    /// Adds a row that goes away.
    pub fn remove(&mut self, key: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        self.slots.push(RowSlot { order: 0, start, middle: self.bytes.len(), end: GONE });
    }

    /// Sorts by stored key: a sorted write costs RocksDB's skip list 40 % less.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let Some(first) = self.slots.first().map(|row| row.key(bytes)) else { return };
        let alike = |row: &RowSlot| row.key(bytes).iter().zip(first).take_while(|(a, b)| a == b).count();
        let shared = self.slots.iter().map(alike).min().unwrap_or(0);
        // The eight bytes behind what all keys share tell most of them apart, without a look at the keys themselves,
        // which lie all over the buffer.
        for row in &mut self.slots {
            let mut eight = [0; 8];
            row.key(bytes)[shared..].iter().zip(&mut eight).for_each(|(byte, place)| *place = *byte);
            row.order = u64::from_be_bytes(eight);
        }
        self.slots
            .sort_unstable_by(|a, b| a.order.cmp(&b.order).then_with(|| a.key(bytes).cmp(b.key(bytes))));
    }

    /// The rows as `(stored key, stored value)`, in the order of the last [`Rows::sort`].
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.slots.iter().map(|row| (row.key(&self.bytes), row.value(&self.bytes)))
    }
}

/// The changes of one shard since its last delta.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    pub rows: Rows,
    pub held: Vec<HeldChange>,
    /// Indexed like the generation's views.
    pub views: Vec<ViewChange>,
}

impl Delta {
    pub fn new(views: usize) -> Self {
        Delta { views: vec![ViewChange::default(); views], ..Delta::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.held.is_empty() && self.views.iter().all(|v| *v == ViewChange::default())
    }

    /// Number of changed rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the changed rows.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// The rows and one view's change, to be filled side by side.
    pub fn split(&mut self, view: usize) -> (&mut Rows, &mut ViewChange) {
        (&mut self.rows, &mut self.views[view])
    }

    /// [`Rows::put`].
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) -> (&[u8], &[u8]) {
        self.rows.put(key, value)
    }

    /// [`Rows::remove`].
    pub fn remove(&mut self, key: impl FnOnce(&mut Vec<u8>)) {
        self.rows.remove(key);
    }

    /// [`Rows::sort`].
    pub fn sort(&mut self) {
        self.rows.sort();
    }

    /// [`Rows::iter`].
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter()
    }
}

/// Tells a log that lost or replaced records from the one that was read: the last record's coordinates and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub offset: Offset,
    pub timestamp: Timestamp,
    /// xxh3-64 over the record's key and value.
    pub hash: u64,
}

impl Fingerprint {
    /// Of a record as a log shows it.
    pub fn of(record: &RecordRef<'_>) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        // The key's length keeps a byte from moving between key and value unseen.
        hash.update(&record.key.map_or(u64::MAX, |key| key.len() as u64).to_le_bytes());
        hash.update(record.key.unwrap_or_default());
        hash.update(record.value.unwrap_or_default());
        Fingerprint { offset: record.offset, timestamp: record.timestamp, hash: hash.digest() }
    }
}

/// Everything that one `WriteBatch` changes in a partition's generation.
#[derive(Clone, Debug)]
pub struct Commit {
    /// One per shard, each sorted; no stored key occurs in two of them.
    pub deltas: Vec<Delta>,
    /// The generation's position afterwards. Not lower than before (law *Forward*); equal when only held records move.
    pub position: Position,
    /// Of the last record below `position`; `None` leaves the stored one.
    pub last: Option<Fingerprint>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_sorted_by_their_keys(
            shared in proptest::collection::vec(any::<u8>(), 0..20),
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 0..14), 0..40),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| [&*shared, &*key].concat()).collect();
            let mut rows = Rows::default();
            for key in keys.iter().rev() {
                rows.put(|into| into.extend_from_slice(key), |_| {});
            }
            rows.sort();
            prop_assert_eq!(rows.iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>(), keys);
        }
    }
}
