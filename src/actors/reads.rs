//! Reading views: one row, or pages of rows, over the generations of a topic. The daemon and the offline commands share
//! it, so that both give the same answers.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::actors::handle::{Page, ReadError, Reading, Row};
use crate::position::{PartitionId, PositionVector};
use crate::state::{self, Generation, ViewTag};
use crate::streams::murmur2;

/// The most rows of one page.
pub const LIST_MAX: usize = 1000;

/// Rows that are fetched from the store in one go.
const CHUNK: usize = 32;

/// A page ends early when its rows are this many bytes.
const PAGE_BYTES: usize = 8 << 20;

/// The positions that readers see now.
fn position(topic: &str, generations: &[Arc<Generation>]) -> PositionVector {
    let mut vector = PositionVector::new(topic);
    for generation in generations {
        vector.raise(generation.at().partition, generation.applied());
    }
    vector
}

/// The row of `key`. It is looked for first where Kafka's default partitioner puts the key, then everywhere else,
/// for a producer may partition as it likes. `generations` has all partitions of the topic, in order.
pub fn get(
    topic: &str,
    generations: &[Arc<Generation>],
    view: &str,
    key: &[u8],
) -> Result<Reading<Option<Row>>, ReadError> {
    let mut at = position(topic, generations);
    let home = murmur2::partition_of(key, generations.len().max(1) as u32) as usize;
    let (before, from_home) = generations.split_at(home.min(generations.len()));
    for generation in from_home.iter().chain(before) {
        let read = generation.snapshot_read();
        let partition = generation.at().partition;
        at.positions.insert(partition, read.position().map_err(failed)?);
        if let Some(row) = read.get(tag(generation, view)?, key).map_err(failed)? {
            let value = Some(to_row(key.to_vec(), partition, row)?);
            return Ok(Reading { value, position: at });
        }
    }
    Ok(Reading { value: None, position: at })
}

/// Up to `limit` rows whose keys begin with `prefix`: ordered by key within a partition, partition after partition.
/// A page of large rows may be shorter.
pub fn list(
    topic: &str,
    generations: &[Arc<Generation>],
    view: &str,
    prefix: &[u8],
    cursor: Option<&str>,
    limit: usize,
) -> Result<Reading<Page>, ReadError> {
    if limit == 0 || limit > LIST_MAX {
        return Err(ReadError::TooLarge { what: "the limit", found: limit, max: LIST_MAX });
    }
    let mut at = position(topic, generations);
    let mut cursor = match cursor {
        Some(text) => Cursor::parse(text, view, prefix, generations)?,
        None => Cursor { partition: PartitionId(0), after: None },
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut bytes = 0;
    let first = generations.partition_point(|generation| generation.at().partition < cursor.partition);
    for generation in &generations[first..] {
        let partition = generation.at().partition;
        if partition != cursor.partition {
            cursor = Cursor { partition, after: None };
        }
        let (read, tag) = (generation.snapshot_read(), tag(generation, view)?);
        at.positions.insert(partition, read.position().map_err(failed)?);
        loop {
            if rows.len() >= limit || bytes >= PAGE_BYTES {
                return Ok(Reading {
                    value: Page { rows, next: Some(cursor.text(view, prefix, generations)) },
                    position: at,
                });
            }
            let chunk = CHUNK.min(limit - rows.len());
            let page = read.list(tag, prefix, cursor.after.as_deref(), chunk).map_err(failed)?;
            for (key, row) in page.rows {
                bytes += key.len() + row.json.len();
                rows.push(to_row(key, partition, row)?);
            }
            match page.next {
                Some(after) => cursor.after = Some(after),
                None => break,
            }
        }
    }
    Ok(Reading { value: Page { rows, next: None }, position: at })
}

fn tag(generation: &Generation, view: &str) -> Result<ViewTag, ReadError> {
    match generation.views().iter().find(|stored| stored.name == view) {
        Some(stored) => Ok(stored.tag),
        None => Err(ReadError::Store(format!("{} has no view `{view}`", generation.at()))),
    }
}

pub(super) fn to_row(key: Vec<u8>, partition: PartitionId, row: state::Row) -> Result<Row, ReadError> {
    let unreadable = |reason: String| {
        ReadError::Store(format!(
            "partition {partition}, key \"{}\": the row is not JSON: {reason}",
            key.escape_ascii()
        ))
    };
    let json = String::from_utf8(row.json).map_err(|error| unreadable(error.to_string()))?;
    let json = RawValue::from_string(json).map_err(|error| unreadable(error.to_string()))?;
    Ok(Row { key, partition, offset: row.offset, timestamp: row.timestamp, json })
}

fn failed(error: state::Error) -> ReadError {
    ReadError::Store(error.to_string())
}

/// Where a list goes on: in this partition, behind this key.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    partition: PartitionId,
    after: Option<Vec<u8>>,
}

impl Cursor {
    const FORMAT: u8 = 2;

    /// Bytes before the key: format, what was asked, of which generations, partition, whether there is a key.
    const HEAD: usize = 22;

    fn text(&self, view: &str, prefix: &[u8], generations: &[Arc<Generation>]) -> String {
        self.encode(asked(view, prefix), set(generations))
    }

    fn encode(&self, asked: u64, set: u64) -> String {
        let mut bytes = vec![Cursor::FORMAT];
        bytes.extend_from_slice(&asked.to_be_bytes());
        bytes.extend_from_slice(&set.to_be_bytes());
        bytes.extend_from_slice(&self.partition.0.to_be_bytes());
        bytes.push(u8::from(self.after.is_some()));
        bytes.extend_from_slice(self.after.as_deref().unwrap_or_default());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &str, view: &str, prefix: &[u8], generations: &[Arc<Generation>]) -> Result<Cursor, ReadError> {
        Cursor::decode(text, asked(view, prefix), set(generations))
    }

    fn decode(text: &str, asked: u64, set: u64) -> Result<Cursor, ReadError> {
        let bad = |why: &str| ReadError::BadCursor(why.to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("it is not a cursor"))?;
        let (head, key) = bytes.split_first_chunk::<{ Cursor::HEAD }>().ok_or_else(|| bad("it is too short"))?;
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&head[from..from + 8]);
            u64::from_be_bytes(eight)
        };
        let (format, has_key) = (head[0], head[21]);
        if format != Cursor::FORMAT || has_key > 1 {
            return Err(bad("it is of another format"));
        }
        if number(1) != asked {
            return Err(bad("it belongs to another view or prefix"));
        }
        if number(9) != set {
            return Err(bad("the rows that it goes through were replaced by a cut-over; start the list again"));
        }
        let partition = PartitionId(u32::from_be_bytes([head[17], head[18], head[19], head[20]]));
        Ok(Cursor { partition, after: (has_key == 1).then(|| key.to_vec()) })
    }
}

/// Names a set of generations: a list goes through one of them.
fn set(generations: &[Arc<Generation>]) -> u64 {
    let numbers: Vec<u8> = generations.iter().flat_map(|generation| generation.number().to_be_bytes()).collect();
    xxh3_64(&numbers)
}

/// Ties a cursor to what was listed.
fn asked(view: &str, prefix: &[u8]) -> u64 {
    let mut bytes = view.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(prefix);
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(partition: u32, after: Option<Vec<u8>>, asked: u64, set: u64) {
            let cursor = Cursor { partition: PartitionId(partition), after };
            let text = cursor.encode(asked, set);
            assert_eq!(Cursor::decode(&text, asked, set).unwrap(), cursor);
            assert!(Cursor::decode(&text, !asked, set).is_err());
            assert!(Cursor::decode(&text, asked, !set).is_err());
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String) {
            let _ = Cursor::decode(&text, 0, 0);
        }
    }
}
