//! Every key and row encoding of the store, in one place. Numbers that tag a kind of key are append only: a number that
//! was once used keeps its meaning for ever.
//!
//! All numbers are big-endian, so that byte order is number order.

use crate::position::{Offset, Timestamp, TopicPartition};
use crate::state::codec::{Bytes, Malformed};
use crate::state::delta::ViewTag;

/// Family `state`: the rows of the views.
pub const STATE: &str = "state";
/// Family `rollup`: tables across aggregates.
pub const ROLLUP: &str = "rollup";
/// Family `parked`: records that were set aside.
pub const PARKED: &str = "parked";
/// Family `outbox`: effects on their way out.
pub const OUTBOX: &str = "outbox";
/// Family `meta`: what the generation is, and how far it is.
pub const META: &str = "meta";
/// All families of a generation beside RocksDB's own `default`, which stays empty.
pub const FAMILIES: [&str; 5] = [STATE, ROLLUP, PARKED, OUTBOX, META];

/// The format byte at the head of a stored row.
pub const ROW_FORMAT: u8 = 1;
/// Bytes of a stored row before its JSON: format, offset, timestamp.
pub const ROW_HEADER: usize = 1 + 8 + 8;

/// Bytes of a stored row key before the record key: the view tag.
pub const ROW_KEY_PREFIX: usize = 2;

const HELD: u8 = 1;
const DEAD: u8 = 2;

const META_FORMAT: u8 = 1;
const META_IDENTITY: u8 = 2;
const META_VIEW: u8 = 3;
const META_POSITION: u8 = 4;
const META_TOTALS: u8 = 5;
const META_DURABILITY: u8 = 6;
const META_BEGAN: u8 = 7;
const META_LINEAGE: u8 = 8;

const CONTROL_FORMAT: u8 = 1;
const CONTROL_LIVE: u8 = 2;
const CONTROL_BUILT: u8 = 3;
const CONTROL_JOB: u8 = 4;
const CONTROL_NEXT_JOB: u8 = 5;

/// Writes the stored key of a row: view tag, record key.
pub fn row_key(view: ViewTag, key: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&view.0.to_be_bytes());
    into.extend_from_slice(key);
}

/// Takes a stored row key apart.
pub fn split_row_key(stored: &[u8]) -> Option<(ViewTag, &[u8])> {
    let (tag, key) = stored.split_first_chunk::<2>()?;
    Some((ViewTag(u16::from_be_bytes(*tag)), key))
}

/// Writes what stands before the JSON in a stored row: the offset and the timestamp of the last event that was folded.
pub fn row_value_header(offset: Offset, timestamp: Timestamp, into: &mut Vec<u8>) {
    into.push(ROW_FORMAT);
    into.extend_from_slice(&offset.0.to_be_bytes());
    into.extend_from_slice(&timestamp.0.to_be_bytes());
}

/// A row as it lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRow<'a> {
    /// Of the last event that was folded into the row.
    pub offset: Offset,
    /// Of the same event, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// What `Row::encode` wrote.
    pub json: &'a [u8],
}

impl<'a> StoredRow<'a> {
    /// Reads a stored row value.
    pub fn parse(stored: &'a [u8]) -> Result<StoredRow<'a>, Malformed> {
        let mut bytes = Bytes::new("row", stored);
        bytes.version(ROW_FORMAT)?;
        let offset = Offset(bytes.u64()?);
        let timestamp = Timestamp(bytes.i64()?);
        Ok(StoredRow { offset, timestamp, json: bytes.rest() })
    }
}

/// What a key of the `parked` family says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedKey<'a> {
    /// A waiting or parked record of one aggregate.
    Held { view: ViewTag, key: &'a [u8], offset: Offset },
    /// A dead record.
    Dead { offset: Offset, view: ViewTag },
}

impl ParkedKey<'_> {
    /// The record's.
    pub fn offset(&self) -> Offset {
        match self {
            ParkedKey::Held { offset, .. } | ParkedKey::Dead { offset, .. } => *offset,
        }
    }
}

/// Writes the part of a held record's key that all records of one aggregate share.
pub fn held_prefix(view: ViewTag, key: &[u8], into: &mut Vec<u8>) {
    into.push(HELD);
    into.extend_from_slice(&view.0.to_be_bytes());
    into.extend_from_slice(&(key.len() as u32).to_be_bytes());
    into.extend_from_slice(key);
}

/// Writes the key of a waiting or parked record: in the order of offsets within its aggregate.
pub fn held_key(view: ViewTag, key: &[u8], offset: Offset, into: &mut Vec<u8>) {
    held_prefix(view, key, into);
    into.extend_from_slice(&offset.0.to_be_bytes());
}

/// Writes the key of a dead record: in the order of offsets.
pub fn dead_key(offset: Offset, view: ViewTag, into: &mut Vec<u8>) {
    into.push(DEAD);
    into.extend_from_slice(&offset.0.to_be_bytes());
    into.extend_from_slice(&view.0.to_be_bytes());
}

/// The first and the last kind of the `parked` family's keys, as range bounds.
pub const HELD_RANGE: (&[u8], &[u8]) = (&[HELD], &[HELD + 1]);
/// The bounds of dead records.
pub const DEAD_RANGE: (&[u8], &[u8]) = (&[DEAD], &[DEAD + 1]);

impl<'a> ParkedKey<'a> {
    /// Reads a key of the `parked` family.
    pub fn parse(stored: &'a [u8]) -> Result<ParkedKey<'a>, Malformed> {
        let mut bytes = Bytes::new("parked key", stored);
        let parsed = match bytes.u8()? {
            HELD => {
                let view = ViewTag(bytes.u16()?);
                let key = bytes.slice()?;
                ParkedKey::Held { view, key, offset: Offset(bytes.u64()?) }
            }
            DEAD => ParkedKey::Dead { offset: Offset(bytes.u64()?), view: ViewTag(bytes.u16()?) },
            kind => return Err(bytes.bad(format!("kind {kind} is unknown"))),
        };
        bytes.end()?;
        Ok(parsed)
    }
}

/// The key of the generation's format version.
pub fn meta_format() -> [u8; 1] {
    [META_FORMAT]
}

/// The key of the generation's identity.
pub fn meta_identity() -> [u8; 1] {
    [META_IDENTITY]
}

/// The key under which a view is described; without its last two bytes, the prefix of all of them.
pub fn meta_view(view: ViewTag) -> [u8; 3] {
    tagged(META_VIEW, view)
}

/// The range of all view descriptions.
pub const META_VIEWS: (&[u8], &[u8]) = (&[META_VIEW], &[META_VIEW + 1]);

/// The key of position and fingerprint.
pub fn meta_position() -> [u8; 1] {
    [META_POSITION]
}

/// The key of a view's digest, row count and books.
pub fn meta_totals(view: ViewTag) -> [u8; 3] {
    tagged(META_TOTALS, view)
}

/// The key of the durability under which the generation was last written.
pub fn meta_durability() -> [u8; 1] {
    [META_DURABILITY]
}

/// The key of the position below which the generation has seen nothing; absent when that is 0.
pub fn meta_began() -> [u8; 1] {
    [META_BEGAN]
}

/// The key of where rows were last taken over from other definitions; absent when none ever were.
pub fn meta_lineage() -> [u8; 1] {
    [META_LINEAGE]
}

/// The view tag at the end of a `meta_view` or `meta_totals` key.
pub fn meta_tag(stored: &[u8]) -> Option<ViewTag> {
    let (_, tag) = stored.split_first_chunk::<1>()?;
    Some(ViewTag(u16::from_be_bytes(tag.try_into().ok()?)))
}

fn tagged(kind: u8, view: ViewTag) -> [u8; 3] {
    let [high, low] = view.0.to_be_bytes();
    [kind, high, low]
}

/// The control store's key of its format version.
pub fn control_format() -> [u8; 1] {
    [CONTROL_FORMAT]
}

/// The control store's key of a partition's live generation.
pub fn control_live(at: &TopicPartition, into: &mut Vec<u8>) {
    control_partition(CONTROL_LIVE, at, into);
}

/// The range of all live generations in the control store.
pub const CONTROL_LIVES: (&[u8], &[u8]) = (&[CONTROL_LIVE], &[CONTROL_LIVE + 1]);

/// Reads a key that [`control_live`] wrote.
pub fn parse_control_live(stored: &[u8]) -> Result<TopicPartition, Malformed> {
    let mut bytes = Bytes::new("control key", stored);
    let at = parse_partition(CONTROL_LIVE, "a live generation", &mut bytes)?;
    bytes.end()?;
    Ok(at)
}

/// The control store's key of a generation that has a number of its own and is neither live nor previous.
pub fn control_built(at: &TopicPartition, number: u64, into: &mut Vec<u8>) {
    control_partition(CONTROL_BUILT, at, into);
    into.extend_from_slice(&number.to_be_bytes());
}

/// The range of all such generations in the control store.
pub const CONTROL_BUILTS: (&[u8], &[u8]) = (&[CONTROL_BUILT], &[CONTROL_BUILT + 1]);

/// Reads a key that [`control_built`] wrote.
pub fn parse_control_built(stored: &[u8]) -> Result<(TopicPartition, u64), Malformed> {
    let mut bytes = Bytes::new("control key", stored);
    let at = parse_partition(CONTROL_BUILT, "a generation beside the live one", &mut bytes)?;
    let number = bytes.u64()?;
    bytes.end()?;
    Ok((at, number))
}

/// The control store's key of a job.
pub fn control_job(id: u64) -> [u8; 9] {
    let mut key = [CONTROL_JOB; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The range of all jobs in the control store.
pub const CONTROL_JOBS: (&[u8], &[u8]) = (&[CONTROL_JOB], &[CONTROL_JOB + 1]);

/// Reads a key that [`control_job`] wrote.
pub fn parse_control_job(stored: &[u8]) -> Result<u64, Malformed> {
    let mut bytes = Bytes::new("control key", stored);
    match bytes.u8()? {
        CONTROL_JOB => {}
        kind => return Err(bytes.bad(format!("kind {kind} is not a job"))),
    }
    let id = bytes.u64()?;
    bytes.end()?;
    Ok(id)
}

/// The control store's key of the number that the next job gets.
pub fn control_next_job() -> [u8; 1] {
    [CONTROL_NEXT_JOB]
}

fn control_partition(kind: u8, at: &TopicPartition, into: &mut Vec<u8>) {
    into.push(kind);
    into.extend_from_slice(&(at.topic.len() as u32).to_be_bytes());
    into.extend_from_slice(at.topic.as_bytes());
    into.extend_from_slice(&at.partition.0.to_be_bytes());
}

fn parse_partition(kind: u8, what: &str, bytes: &mut Bytes<'_>) -> Result<TopicPartition, Malformed> {
    match bytes.u8()? {
        found if found == kind => {}
        found => return Err(bytes.bad(format!("kind {found} is not {what}"))),
    }
    let topic = bytes.text()?;
    Ok(TopicPartition::new(topic, bytes.u32()?))
}

/// The first key after all keys that start with `prefix`, or `None` when there is no such key.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut bound = prefix[..=last].to_vec();
    bound[last] += 1;
    Some(bound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut into = Vec::new();
        write(&mut into);
        into
    }

    /// The numbers on disk. A change here is a change of the format.
    #[test]
    fn the_tags_are_what_they_were() {
        assert_eq!(written(|b| row_key(ViewTag(258), b"k", b)), b"\x01\x02k");
        assert_eq!(written(|b| row_value_header(Offset(1), Timestamp(-1), b)), {
            let mut want = vec![1, 0, 0, 0, 0, 0, 0, 0, 1];
            want.extend([255; 8]);
            want
        });
        let held = written(|b| held_key(ViewTag(3), b"k", Offset(9), b));
        assert_eq!(held, [1, 0, 3, 0, 0, 0, 1, b'k', 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(written(|b| dead_key(Offset(9), ViewTag(3), b)), [2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 3]);
        assert_eq!((meta_format(), meta_identity(), meta_position(), meta_durability()), ([1], [2], [4], [6]));
        assert_eq!((meta_began(), meta_lineage()), ([7], [8]));
        assert_eq!((meta_view(ViewTag(7)), meta_totals(ViewTag(7))), ([3, 0, 7], [5, 0, 7]));
        assert_eq!(control_format(), [1]);
        let live = written(|b| control_live(&TopicPartition::new("ab", 5), b));
        assert_eq!(live, [2, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 5]);
        let built = written(|b| control_built(&TopicPartition::new("ab", 5), 9, b));
        assert_eq!(built, [3, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!((control_job(9), control_next_job()), ([4, 0, 0, 0, 0, 0, 0, 0, 9], [5]));
    }

    #[test]
    fn a_bound_lies_after_its_prefix() {
        assert_eq!(after_prefix(b"a"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    proptest! {
        #[test]
        fn row_keys_round_trip_in_order(a: (u16, Vec<u8>), b: (u16, Vec<u8>)) {
            let [x, y] = [&a, &b].map(|(tag, key)| written(|into| row_key(ViewTag(*tag), key, into)));
            prop_assert_eq!(split_row_key(&x), Some((ViewTag(a.0), a.1.as_slice())));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn rows_round_trip(offset: u64, timestamp: i64, json: Vec<u8>) {
            let (offset, timestamp) = (Offset(offset), Timestamp(timestamp));
            let mut stored = written(|into| row_value_header(offset, timestamp, into));
            prop_assert_eq!(stored.len(), ROW_HEADER);
            stored.extend_from_slice(&json);
            prop_assert_eq!(StoredRow::parse(&stored).unwrap(), StoredRow { offset, timestamp, json: &json });
        }

        #[test]
        fn parked_keys_round_trip(view: u16, key: Vec<u8>, offset: u64) {
            let (view, offset) = (ViewTag(view), Offset(offset));
            let held = written(|into| held_key(view, &key, offset, into));
            prop_assert_eq!(ParkedKey::parse(&held).unwrap(), ParkedKey::Held { view, key: &key, offset });
            prop_assert!(held.as_slice() >= HELD_RANGE.0 && held.as_slice() < HELD_RANGE.1);
            let dead = written(|into| dead_key(offset, view, into));
            prop_assert_eq!(ParkedKey::parse(&dead).unwrap(), ParkedKey::Dead { offset, view });
            prop_assert!(dead.as_slice() >= DEAD_RANGE.0 && dead.as_slice() < DEAD_RANGE.1);
        }

        #[test]
        fn control_keys_round_trip(topic in "[a-z.]{1,20}", partition: u32, number: u64) {
            let at = TopicPartition::new(topic, partition);
            let stored = written(|into| control_live(&at, into));
            prop_assert_eq!(parse_control_live(&stored).unwrap(), at.clone());
            let stored = written(|into| control_built(&at, number, into));
            prop_assert!(stored.as_slice() >= CONTROL_BUILTS.0 && stored.as_slice() < CONTROL_BUILTS.1);
            prop_assert_eq!(parse_control_built(&stored).unwrap(), (at, number));
            prop_assert_eq!(parse_control_job(&control_job(number)).unwrap(), number);
        }

        #[test]
        fn meta_tags_round_trip(view: u16) {
            prop_assert_eq!(meta_tag(&meta_view(ViewTag(view))), Some(ViewTag(view)));
            prop_assert_eq!(meta_tag(&meta_totals(ViewTag(view))), Some(ViewTag(view)));
        }

        #[test]
        fn no_bytes_break_a_parser(bytes: Vec<u8>) {
            let _ = (ParkedKey::parse(&bytes).is_ok(), StoredRow::parse(&bytes).is_ok(), parse_control_live(&bytes).is_ok());
            let _ = (parse_control_built(&bytes).is_ok(), parse_control_job(&bytes).is_ok());
        }
    }
}
