//! What shards hand to the writer: changed rows, held and dead records, digests and books, ready to be written.
//!
//! A [`Delta`] keeps the encoded bytes of all its rows in one buffer. Several deltas of one partition make one
//! [`Commit`], and a commit is one `WriteBatch`: all of it or none of it (law *Atomic*).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::position::{Offset, Position, Timestamp};
use crate::record::RecordRef;
use crate::state::rows::Rows;

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
